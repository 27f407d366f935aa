"""From weights, and what is to be shown of them, to what a drawing needs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from domain import spec as s
from domain.pictures import STEPS, Budget, FigureSpec, caption, headings, panels
from partcore import build, evaluation, figures
from partcore.attacks import InnerPgd, uniform_in_ball
from partcore.budgets import pixel_budget, with_mean
from partcore.cams import Combiner, Readout, read
from partcore.methods import prediction
from partcore.models import CamClassifier
from partcore.modes import evaluating, frozen
from partcore.randomness import Randomness


@dataclass(frozen=True)
class Painter:
    """A network and what it has beside its weights."""

    model: CamClassifier
    classes: Sequence[str]
    generator: Randomness
    learned: Combiner | None = None
    """The ensemble's weights, where training learned them."""

    def picture(self, figure: FigureSpec, x: Tensor, y: Tensor, *, setting: str) -> figures.Picture:
        """Attack images as a figure says; return its panels' values, on the CPU.

        x: (N, C, H, W) in [0, 1]; y: (N,). setting: what the caption begins with.
        """
        epsilon: Tensor | float = float(figure.epsilon)
        stages: list[Tensor] = []
        with evaluating(self.model), frozen(self.model):
            if figure.budget is not None:
                stages = [stage.detach() for stage in self._stages(figure.budget, x, y)]
                epsilon = stages[-1]
            attack = InnerPgd(step_size=float(figure.epsilon) / 4, num_steps=STEPS)
            x_adv = attack(self.model, x, y, epsilon, generator=self.generator)
            before, after = (evaluation.predict(self.model, images) for images in (x, x_adv))
        low = figure.epsilon if figure.budget is None else figure.budget.low
        return figures.Picture(
            panels=panels(figure),
            headings=headings(figure),
            x=x.cpu(),
            values=[_one_channel(stage).cpu() for stage in stages],
            x_adv=x_adv.cpu(),
            truth=self._names(y),
            predicted=self._names(before),
            predicted_adv=self._names(after),
            radii=(float(low), float(figure.epsilon)),
            caption=f"{setting}. {caption(figure)}",
        )

    def _names(self, labels: Tensor) -> list[str]:
        return [self.classes[label] for label in labels.tolist()]

    def _stages(self, budget: Budget, x: Tensor, y: Tensor) -> Iterator[Tensor]:
        """Yield what each panel between the image and the perturbation shows, radii last.

        As :class:`partcore.methods.Budget` goes from maps to radii, with every step in between.
        """
        heat = x.new_zeros(x[:, 0].shape)
        if budget.reads_maps:
            readout = self._readout(budget.cam, x, float(budget.high), y)
            for name in budget.cam.members:
                member = budget.cam.model_copy(update={"members": (name,), **_ALONE})
                heat = build.ensemble(member, 1.0)(readout)
                yield heat
            if len(budget.cam.members) > 1:
                heat = build.ensemble(budget.cam, 1.0, self.learned)(readout)
                yield heat
        mask = build.mask(budget.mask, 1.0)(heat)
        yield mask
        if (control := build.control(budget.control)) is not None:
            mask = control(mask, generator=self.generator)
            yield mask
        if budget.mean_mask is not None:
            mask = with_mean(mask, budget.mean_mask)
            yield mask
        yield pixel_budget(mask, epsilon_high=float(budget.high), epsilon_low=float(budget.low))

    def _readout(self, cam: s.CamSpec, x: Tensor, epsilon: float, y: Tensor) -> Readout:
        """Read the network where the method reads it, for the class it explains."""
        at = x if cam.read_at == "image" else uniform_in_ball(x, epsilon, self.generator)
        readout = read(self.model, at, y)
        if cam.target == "label":
            return readout
        return replace(readout, y=prediction(self.model, readout.features).argmax(dim=1))


_ALONE = {"combine": "mean", "weights": None}
"""A member by itself."""


def _one_channel(values: Tensor) -> Tensor:
    """(N, H, W), the mean over colours where they differ."""
    return values if values.ndim == 3 else values.mean(dim=1)


def one_a_class(labels: Tensor, count: int) -> Tensor:
    """Return ``count`` places of ``labels`` going round the classes, the first of each first."""
    turn = torch.zeros(len(labels), dtype=torch.long)
    for label in set(labels.tolist()):
        members = (labels == label).nonzero()[:, 0]
        turn[members] = torch.arange(len(members))
    return torch.argsort(turn * 10_000 + labels, stable=True)[:count]
