"""The presets: what each method of the family is, in the parts a spec is made of.

A row of docs/methods.md is a preset of this table.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal

from domain.catalog import DatasetFacts
from domain.units import format_radius

PresetName = Literal[
    "standard",
    "fgsm-rs",
    "pgd-at",
    "trades",
    "mart",
    "fat",
    "alp",
    "part",
    "part++",
    "part-trades",
    "part-mart",
    "part-mask",
    "part-schedule",
    "reproduce-official",
    "reproduce-report-code",
]
PRESETS: Mapping[PresetName, str] = {
    "standard": "Plain training on clean images: the control that should not be robust.",
    "fgsm-rs": "One step of 1.25 radii from a random start (Wong et al., 2020).",
    "pgd-at": "PGD adversarial training at one radius (Madry et al., 2018).",
    "trades": "Clean cross-entropy and a divergence (Zhang et al., 2019).",
    "mart": "Misclassified images count more (Wang et al., 2020).",
    "fat": "Friendly: an attack stops soon after it succeeds (Zhang et al., 2020).",
    "alp": "Adversarial logit pairing (Kannan et al., 2018).",
    "part": "PART: Grad-CAM decides each pixel's radius (Zhang et al., ICML 2024).",
    "part++": "PART++: the mean of Grad-CAM, Grad-CAM++ and Score-CAM decides it.",
    "part-trades": "PART with the TRADES loss (the ICML paper's PART-T).",
    "part-mart": "PART with the MART loss (the ICML paper's PART-M).",
    "part-mask": "PART++ with a hard threshold on the map (the report's PART-M).",
    "part-schedule": "PART++ with a gap and a steepness that grow (the report's PART-T).",
    "reproduce-official": "PART as its published code runs it: jet mask, falling rate, no average.",
    "reproduce-report-code": "PART++ as the report's code runs it: its mask never under one half.",
}
_ONE_RADIUS = frozenset({"fgsm-rs", "pgd-at", "trades", "mart", "fat", "alp"})


def method(preset: str, facts: DatasetFacts, epochs: int) -> dict[str, Any]:
    """A preset's method: ten steps of a quarter radius; low budget 7/8; a sixth of warm-up."""
    if preset == "standard":
        return {"kind": "standard"}
    radius = format_radius(facts.epsilon)
    attack, objective = _attack(preset.removeprefix("part-"), facts)
    shared = {"attack": attack, "objective": {"kind": objective}}
    if preset in _ONE_RADIUS:
        return {"kind": "uniform", "epsilon": radius, **shared}
    return {
        "kind": "part",
        "epsilon_high": radius,
        "epsilon_low": format_radius(facts.epsilon * Fraction(7, 8)),
        "warmup_epochs": epochs // 6,
        "cam": {"members": _members(preset)},
        "mask": {"kind": "centred-sigmoid"},
        **shared,
        **_own(preset, facts, epochs),
    }


def _attack(name: str, facts: DatasetFacts) -> tuple[dict[str, Any], str]:
    """Return the attack and the objective that belong together."""
    plain = {"steps": 10, "step_size": format_radius(facts.epsilon / 4)}
    one_step = {"steps": 1, "step_size": format_radius(facts.epsilon * Fraction(5, 4))}
    found: Mapping[str, tuple[dict[str, Any], str]] = {
        "trades": ({**plain, "start": "gaussian", "loss": "kl"}, "trades"),
        "mart": ({**plain, "start": "gaussian"}, "mart"),
        "alp": (plain, "alp"),
        "fat": ({**plain, "extra_steps": 1}, "cross-entropy"),
        "fgsm-rs": (one_step, "cross-entropy"),
    }
    return found.get(name, (plain, "cross-entropy"))


def _members(preset: str) -> list[str]:
    one = preset in {"part", "part-trades", "part-mart", "reproduce-official"}
    return ["grad-cam"] if one else ["grad-cam", "grad-cam++", "score-cam"]


def _own(preset: str, facts: DatasetFacts, epochs: int) -> dict[str, Any]:
    """What a preset has beside the family's common method."""
    if preset == "part-mask":
        return {"mask": {"kind": "threshold"}}
    if preset == "part-schedule":
        most = format_radius(facts.epsilon / 4)
        return {
            "epsilon_low": None,
            "epsilon_gap": {"points": [[0, "0/255"], [1, most]]},
            "mask": {"kind": "centred-sigmoid", "tau": {"points": [[0, 2.0], [1, 10.0]]}},
        }
    if preset == "reproduce-official":
        return {
            "warmup_epochs": epochs // 4,
            "cam": {"members": ["grad-cam"], "target": "prediction"},
            "mask": {"kind": "official-jet"},
        }
    if preset == "reproduce-report-code":
        cam = {
            "members": _members(preset),
            "scores": {"kind": "first-channels"},
            "fidelity_floor": None,
        }
        return {"warmup": "clean", "cam": cam, "mask": {"kind": "sigmoid-mean"}}
    return {}


TRAINING: Mapping[str, Mapping[str, Any]] = {
    "reproduce-official": {
        "learning_rate": 0.01,
        "weight_decay": 2e-4,
        "nesterov": False,
        "ema_decay": None,
        "schedule": "multistep",
        # The published code counts from the end of its warm-up: epoch 60 of 60 is never passed.
        "milestones": [],
    },
    "reproduce-report-code": {"schedule": "constant", "ema_decay": None},
}
"""What the reproductions change of the optimiser."""
