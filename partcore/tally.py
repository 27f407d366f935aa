"""What is measured of an attack while its batches run, apart from the attack itself."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from domain.results import AttackEvidence
from partcore.attacks import Attempt
from partcore.attacks.project import Ball
from partcore.objectives import margin

SILENT = 1e-3
"""An image that was broken and is now right by a margin over this was broken in silence; under it,
rounding in batches of another size explains the difference."""


class Counted:
    """A network that counts the images it is shown."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self.passes = 0

    def __call__(self, x: Tensor) -> Tensor:
        """Return logits, (N, classes)."""
        self.passes += len(x)
        logits: Tensor = self._model(x)
        return logits


@dataclass
class Measures:
    """Numbers of one attack so far."""

    largest: float = 0.0
    lowest: float = 1.0
    highest: float = 0.0
    finite: bool = True
    moved: int = 0
    zero_gradients: int = 0
    attacked: int = 0
    silent: int = 0
    passes: int = 0
    seconds: float = 0.0


@dataclass
class Tally:
    """Where one attack stands, image by image."""

    broken: Tensor
    """(N,) bool."""
    margin: Tensor
    """z_y - max other at the attack's last point, (N,), negative once broken; NaN if untouched."""
    kept: Tensor
    """x_adv of the first images, (<= 64, C, H, W)."""
    ball: Ball
    measures: Measures = field(default_factory=Measures)

    @torch.no_grad()
    def note(
        self,
        logits_of: Counted,
        x: Tensor,
        y: Tensor,
        index: Tensor,
        attempt: Attempt,
        *,
        first: bool,
    ) -> None:
        """Predict and measure x_adv again; only a prediction says that an image is broken.

        index: (n,) places of the batch among all images, on the CPU. first: whether every image is
        attacked for the first time.
        """
        x_adv, m = attempt.x_adv, self.measures
        distance = self.ball.distance(x_adv, x)
        m.finite &= bool(torch.isfinite(x_adv).all())
        m.largest = max(m.largest, distance.max().item())
        m.lowest = min(m.lowest, x_adv.min().item())
        m.highest = max(m.highest, x_adv.max().item())
        lead = -margin(logits_of(x_adv), y)
        if first:
            m.moved += int((distance > 0).sum())
            m.zero_gradients += int(attempt.zero_gradient.sum())
            m.attacked += len(index)
        m.silent += int((attempt.broken & (lead > SILENT)).sum())
        self.broken[index] = (lead < 0).cpu()
        self.margin[index] = lead.float().cpu()
        shown = index < len(self.kept)
        self.kept[index[shown]] = x_adv[shown.to(x_adv.device)].cpu()

    def evidence(self) -> AttackEvidence:
        """Return the measurements; zeros when there was nothing to attack."""
        m = self.measures
        count = max(1, m.attacked)
        return AttackEvidence(
            max_abs_delta=m.largest,
            moved_fraction=m.moved / count,
            lowest_pixel=m.lowest,
            highest_pixel=m.highest,
            finite=m.finite,
            zero_gradient_fraction=m.zero_gradients / count,
            silent_successes=m.silent,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return what :meth:`restored` needs beside the numbers."""
        broken = self.broken.to(torch.uint8)
        return {"broken": broken, "margin": self.margin, "kept": self.kept}

    def numbers(self) -> dict[str, object]:
        """Return the numbers of :meth:`restored`."""
        return asdict(self.measures)

    @classmethod
    def restored(
        cls, tensors: Mapping[str, Tensor], numbers: Mapping[str, float], ball: Ball
    ) -> "Tally":
        """Return the tally that was saved."""
        return cls(
            broken=tensors["broken"].bool(),
            margin=tensors["margin"],
            kept=tensors["kept"],
            ball=ball,
            measures=Measures(**numbers),  # type: ignore[arg-type]
        )
