"""LayerCAM (Jiang et al., IEEE TIP 2021, https://ieeexplore.ieee.org/document/9462463)."""

from dataclasses import dataclass

from torch import Tensor

from partcore.cams.readout import Readout


@dataclass(frozen=True)
class LayerCam:
    """L_ij = sum_k ReLU(dy_c/dA_k,ij) A_k,ij: every cell weighted by its own positive gradient."""

    def __call__(self, readout: Readout) -> Tensor:
        """Return (N, h, w)."""
        return (readout.gradient().relu() * readout.features).sum(dim=1).relu()
