"""HiResCAM (Draelos and Carin, 2020, https://arxiv.org/abs/2011.08891)."""

from dataclasses import dataclass

from torch import Tensor

from partcore.cams.readout import Readout


@dataclass(frozen=True)
class HiResCam:
    """L_ij = ReLU(sum_k dy_c/dA_k,ij A_k,ij): the gradient is not averaged over cells."""

    def __call__(self, readout: Readout) -> Tensor:
        """Return (N, h, w)."""
        return (readout.gradient() * readout.features).sum(dim=1).relu()
