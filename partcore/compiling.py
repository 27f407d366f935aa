"""``torch.compile`` and CUDA graphs for the attacked network, or the reason why not."""

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Compilation = Literal["off", "default", "cuda-graphs"]


@dataclass(frozen=True)
class Compiled:
    """A module to run, and why it is not a compiled one, if it is not."""

    module: nn.Module
    refused: str | None = None


def compiled(module: nn.Module, x: Tensor, how: Compilation) -> Compiled:
    """Compile ``module`` and try it on ``x``, forward and backward; fall back with a reason."""
    if how == "off":
        return Compiled(module)
    if how == "cuda-graphs" and x.device.type != "cuda":
        return Compiled(module, f"CUDA graphs need a GPU, and this is a {x.device.type}")
    # Tells the compiler too, which :func:`partcore.environment.configure` leaves unimported.
    torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled())
    candidate = copy.copy(module)
    try:
        candidate.compile(mode="reduce-overhead" if how == "cuda-graphs" else "default")
        _try(candidate, x)
    # what compilers raise derives from RuntimeError; the system's own errors from OSError
    except (RuntimeError, OSError, ImportError, AssertionError) as error:
        lines = str(error).strip().splitlines()
        return Compiled(module, lines[0] if lines else type(error).__name__)
    return Compiled(candidate)


def _try(candidate: nn.Module, x: Tensor) -> None:
    leaf = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(candidate(leaf).sum(), leaf)
    if not torch.isfinite(gradient).all():
        raise RuntimeError("the compiled network's gradient is not finite")
