"""What an experiment is given beside its spec."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from partcore.ranks import ALONE, Ranks


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Environment:
    """Places, device and clock of one attempt."""

    work: Path
    """Folder the experiment writes to; file names in events are relative to it."""
    data_root: Path
    device: str = "cpu"
    """`cpu` or `cuda:0`."""
    threads: int = 1
    """CPU threads of PyTorch; part of what decides the bits of a result."""
    resume: bool = False
    """Continue from `checkpoints/last.safetensors` (and its `best` beside it) in ``work``."""
    source_checkpoint: Path | None = None
    """For `evaluate` and `visualise`: the weights."""
    surrogates: Path | None = None
    """Folder of the weights that transfer attacks are made on, each under its ``Source.key``."""
    checkpoint_requested: Callable[[], bool] = _never
    """Asked after each step; True asks for a checkpoint there."""
    ranks: Ranks = ALONE
    """Which of several processes that train together this is."""
    clock: Callable[[], float] = time.monotonic
    """Seconds, for throughput only."""


def configure(environment: Environment) -> None:
    """Pin threads and ask for deterministic algorithms, for this whole interpreter."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(environment.threads)
    # What torch.use_deterministic_algorithms(True) does, less its import of the compiler: 1.8 s.
    torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
