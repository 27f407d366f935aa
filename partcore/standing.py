"""An unfinished evaluation on disk: what attacks found, and where the one under way stopped."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from domain import spec as s
from domain.errors import CheckpointInvalid
from domain.events import CheckpointSaved
from domain.results import AttackResult, StageResult
from partcore import checkpoint
from partcore.attacks.project import Ball
from partcore.tally import Tally

FILE = "checkpoints/partial.safetensors"


@dataclass(frozen=True)
class Outcome:
    """One attack, image by image."""

    result: AttackResult
    correct: Tensor
    """(N,) bool, in order of id; wrong when clean is wrong here."""
    kept: Tensor | None = None
    """x_adv of the first images, (<= 64, C, H, W); None for clean."""
    margin: Tensor | None = None
    """z_y - max other where the attack ended, (N,); NaN where it had nothing to attack."""


@dataclass
class UnderWay:
    """The attack that runs."""

    label: str
    tally: Tally
    stage: int = 0
    left: Tensor | None = None
    """Places of the images the stage has still to attack; None before it began."""
    stages: list[StageResult] = field(default_factory=list)


@dataclass
class Standing:
    """All that an interrupted evaluation needs to go on to the same outcomes."""

    key: str
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    under_way: UnderWay | None = None
    made_on: list[dict[str, Any]] = field(default_factory=list)
    """The kinds of machine it ran on, in order."""

    def save(self, work: Path) -> CheckpointSaved:
        """Write everything to ``work``. Raises DiskFull."""
        tensors: dict[str, Tensor] = {}
        for i, outcome in enumerate(self.outcomes.values()):
            tensors |= checkpoint.prefixed(f"outcome/{i}", _tensors(outcome))
        metadata: dict[str, Any] = {
            "key": self.key,
            "results": [o.result.model_dump(mode="json") for o in self.outcomes.values()],
        }
        if (now := self.under_way) is not None:
            left = torch.zeros(0, dtype=torch.long) if now.left is None else now.left
            tensors |= checkpoint.prefixed("now", now.tally.tensors() | {"left": left})
            metadata["now"] = {
                "label": now.label,
                "stage": now.stage,
                "begun": now.left is not None,
                "numbers": now.tally.numbers(),
                "stages": [stage.model_dump(mode="json") for stage in now.stages],
            }
        saved = checkpoint.save(
            work / FILE, tensors, {"partial": metadata, "made_on": self.made_on}
        )
        return CheckpointSaved(
            file=FILE, role="partial", sha256=saved.sha256, size=saved.size, epoch=0, step=0
        )

    @classmethod
    def read(cls, work: Path, key: str, balls: Mapping[str, Ball]) -> "Standing":
        """Return what ``work`` holds of this very evaluation; an empty one where it holds none.

        balls: the geometry of each attack by label.
        """
        try:
            tensors, metadata = checkpoint.load(work / FILE)
        except (FileNotFoundError, CheckpointInvalid):
            return cls(key)
        partial: Any = metadata.get("partial", {})
        if partial.get("key") != key:
            return cls(key)
        outcomes = {}
        for i, found in enumerate(partial["results"]):
            result = AttackResult.model_validate(found)
            own = checkpoint.under(tensors, f"outcome/{i}")
            outcomes[result.label] = Outcome(
                result, own["correct"].bool(), own.get("kept"), own.get("margin")
            )
        standing = cls(key, outcomes, made_on=metadata.get("made_on", []))
        if (now := partial.get("now")) is not None:
            own = checkpoint.under(tensors, "now")
            standing.under_way = UnderWay(
                label=now["label"],
                tally=Tally.restored(own, now["numbers"], balls[now["label"]]),
                stage=now["stage"],
                left=own["left"] if now["begun"] else None,
                stages=[StageResult.model_validate(stage) for stage in now["stages"]],
            )
        return standing


def made_on(work: Path) -> list[dict[str, Any]]:
    """Return the kinds of machine that the evaluation in ``work`` ran on; none without one."""
    try:
        _, metadata = checkpoint.load(work / FILE)
    except (FileNotFoundError, CheckpointInvalid):
        return []
    found: list[dict[str, Any]] = metadata.get("made_on", [])
    return found


def key(
    spec: s.EvaluationSpec,
    *,
    seed: int,
    model_sha256: str,
    data_sha256: str,
    surrogates_sha256: Mapping[str, str],
) -> str:
    """Return what must be equal for attacks' outcomes to be those of the same evaluation."""
    deciding = spec.model_dump(
        mode="json", exclude={"batch_size", "budget_passes", "budget_seconds", "corruptions"}
    )
    text = json.dumps(
        [deciding, seed, model_sha256, data_sha256, dict(surrogates_sha256)], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _tensors(outcome: Outcome) -> dict[str, Tensor]:
    tensors = {"correct": outcome.correct.to(torch.uint8)}
    if outcome.kept is not None:
        tensors["kept"] = outcome.kept
    if outcome.margin is not None:
        tensors["margin"] = outcome.margin
    return tensors
