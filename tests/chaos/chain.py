"""The chain of hashes that stands for a training run: what each step must have computed."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

CHECKPOINT_EVERY, STEP_SECONDS = 7, 0.04
LAST = "checkpoints/last.safetensors"
SERIES = "train/loss"
PADDING = bytes(20_000)


@dataclass(frozen=True)
class State:
    """What a network would be: the hash of all steps so far."""

    step: int
    digest: str

    @classmethod
    def first(cls, seed: int) -> Self:
        """Before the first step."""
        return cls(0, hashlib.sha256(str(seed).encode()).hexdigest())

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read what :meth:`bytes` wrote."""
        step, digest = file.read_bytes()[: -len(PADDING)].decode().split()
        return cls(int(step), digest)

    def following(self) -> Self:
        """One step later."""
        told = f"{self.digest} {self.step}".encode()
        return type(self)(self.step + 1, hashlib.sha256(told).hexdigest())

    @property
    def loss(self) -> float:
        """What the step reports."""
        return int(self.digest[:8], 16) / 2**32

    def bytes(self) -> bytes:
        """A checkpoint."""
        return f"{self.step} {self.digest}".encode() + PADDING


def final_weights(state: State) -> bytes:
    """What a run leaves behind in the end."""
    return b"weights " + state.bytes()


def undisturbed(seed: int, steps: int) -> tuple[str, list[float]]:
    """Return the sha256 of the final weights and the loss of every step."""
    state, losses = State.first(seed), []
    for _ in range(steps):
        losses.append(state.loss)
        state = state.following()
    return hashlib.sha256(final_weights(state)).hexdigest(), losses
