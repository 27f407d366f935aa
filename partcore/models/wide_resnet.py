"""Wide residual networks (Zagoruyko and Komodakis, 2016, https://arxiv.org/abs/1605.07146).

In TRADES' form, without dropout, and without its ``sub_block1``, which no forward pass ever used.
With ten classes WRN-28-10 has 36,479,194 parameters and WRN-34-10 has 46,160,474.
"""

from torch import Generator, Tensor

from partcore.models.classifier import Builder, CamClassifier, assemble
from partcore.models.pre_activation import Stage, pre_activation_body

STEM = 16


def wide_resnet(depth: int, widen: int) -> Builder:
    """Return the builder of WRN-depth-widen.

    Its CAM grid is a quarter of the image's side (8x8 of 32x32). Raises ValueError unless depth is
    6 n + 4, n blocks a stage.
    """
    blocks, rest = divmod(depth - 4, 6)
    if rest or blocks < 1:
        raise ValueError(f"a WideResNet has 6 n + 4 layers, not {depth}")
    stages = tuple(Stage(STEM * widen * 2**i, 2 if i else 1) for i in range(3))

    def build(
        *, channels: int, classes: int, mean: Tensor, std: Tensor, generator: Generator
    ) -> CamClassifier:
        return assemble(
            pre_activation_body(channels, stem=STEM, stages=stages, blocks=blocks),
            width=stages[-1].width,
            classes=classes,
            mean=mean,
            std=std,
            generator=generator,
        )

    return build


wrn_28_10 = wide_resnet(28, 10)
wrn_34_10 = wide_resnet(34, 10)
