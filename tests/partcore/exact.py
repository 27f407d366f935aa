"""When two numbers count as equal, on whatever CPU they were computed.

An equality of formulas is tested in float64 to 1e-9: seven digits more than any vector unit, order
of a sum or fused multiply-add can take away, and far less than a wrong term would leave. Where
float32 or less is what is tested, the bound counts roundings; it is never read off a machine.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from partcore.training import Trainer

EQUAL = {"atol": 1e-9, "rtol": 1e-9}
"""For ``torch.testing.assert_close`` of formulas in float64."""


def rounding(operations: int, *, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> float:
    """Return how far so many roundings, one upon the other, can take a number of size ``scale``.

    n u / (1 - n u), u half an ulp of 1 (Higham, Accuracy and Stability, Lemma 3.1).
    """
    total = operations * torch.finfo(dtype).eps / 2
    return scale * total / (1 - total)


@contextmanager
def package_in_float64() -> Iterator[None]:
    """Let the grad-cam package, which rounds to float32 here and there, compute in float64."""
    from pytorch_grad_cam.utils import image, svd_on_activations

    wide = SimpleNamespace(**{**vars(np), "float32": np.float64})
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # what torch.Tensor(list) makes, in its Score-CAM
    try:
        with pytest.MonkeyPatch.context() as patch:
            for module in (image, svd_on_activations):
                patch.setattr(module, "np", wide)
            yield
    finally:
        torch.set_default_dtype(before)


def in_float64(trainer: Trainer) -> Trainer:
    """Return it with its weights in float64; the images it is fed must be too."""
    trainer.model.double()
    if trainer.average is not None:
        trainer.average.model.double()
    return trainer
