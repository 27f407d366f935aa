"""What it saves to attack survivors alone, on a network trained against attacks."""

import argparse
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.paired import measure, median, ratio
from benchmarks.progress import say
from benchmarks.table import at_most, heading, machine, ratio_line
from domain import spec as s
from partcore.attacks.project import input_gradient, step_linf
from partcore.audit_selftest import trained
from partcore.data import Images, to_unit
from partcore.environment import Environment
from partcore.evaluation import evaluate
from partcore.modes import evaluating, frozen
from partcore.objectives import cross_entropy

EPSILON, STEPS, TARGETS, JUDGED = 51 / 255, 20, 3, 360


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.survivors", description=__doc__)
    parser.add_argument("--date", default=f"{datetime.now(UTC):%Y-%m-%d}", help="for the heading")
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args(arguments)
    print(machine(chosen.date), flush=True)
    say("training the network, some twenty seconds")
    report(rounds=chosen.rounds)


def report(*, rounds: int) -> None:
    """Time PGD-20 and MMA with survivors alone against all images to the last step."""
    model, split = trained("pgd-at", JUDGED, epochs=25)
    images = split.test
    variants = {
        "pgd": partial(_ours, model, images, {"kind": "pgd", "steps": STEPS}),
        "pgd, all": partial(_all_images, model, images, targeted=False),
        "mma": partial(_ours, model, images, {"kind": "mma", "steps": STEPS, "targets": TARGETS}),
        "mma, all": partial(_all_images, model, images, targeted=True),
    }
    times = measure(variants, rounds=rounds)
    standing = _ours(model, images, {"kind": "pgd", "steps": STEPS})
    clean = _ours(model, images, None)
    columns = f"small-cnn on digits, {clean:.1%} clean, {standing:.1%} under PGD-20"
    heading("survivors alone / all images to the last step", columns=columns)
    for name, what in (("pgd", "PGD-20"), ("mma", "MMA, 3 targets of 20 steps")):
        ratio_line(what, median(times, name), ratio(times, name, f"{name}, all"), at_most(0.6))


def _ours(model: nn.Module, images: Images, attack: dict[str, object] | None) -> float:
    """Evaluate as a run does; return the accuracy."""
    attacks = () if attack is None else (attack,)
    spec = s.EvaluationSpec.model_validate({"epsilon": "51/255", "attacks": attacks})
    told = evaluate(model, images, spec, seed=0, environment=Environment(Path(), Path()))  # type: ignore[arg-type]
    while True:
        try:
            next(told)
        except StopIteration as end:
            return float(list(end.value.values())[-1].result.accuracy)


def _all_images(model: nn.Module, images: Images, *, targeted: bool) -> None:
    """Attack every image, right or wrong, to the last step: what a plain loop does."""
    x, y = to_unit(images.x), images.y
    with evaluating(model), frozen(model):
        model(x)  # clean accuracy, as an evaluation has it
        for target in range(TARGETS if targeted else 1):
            x_adv = x + EPSILON * (2 * torch.rand_like(x) - 1)
            ranks = model(x).topk(TARGETS + 1, dim=1).indices[:, target + 1]
            loss = partial(_towards, ranks) if targeted else cross_entropy
            for _ in range(STEPS):
                gradient, _ = input_gradient(loss, model, x_adv, y)
                x_adv = step_linf(x_adv, gradient, x, EPSILON, step_size=EPSILON / 4)
            model(x_adv)


def _towards(target: Tensor, logits: Tensor, y: Tensor) -> Tensor:
    lead = logits.gather(1, y[:, None]) - logits.gather(1, target[:, None])
    return -(lead[:, 0] + 50).clamp(min=0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
