"""Attacks under a per-pixel l-infinity radius.

Training calls :class:`InnerPgd`, which returns its last iterate. Evaluation calls the others: they
keep what broke an image, go on with survivors only, and report what they did.
"""

from partcore.attacks.adaptive import WithinRadii
from partcore.attacks.apgd import Apgd
from partcore.attacks.attempt import Attempt, EvaluationAttack
from partcore.attacks.cw import Cw
from partcore.attacks.fab import Fab
from partcore.attacks.fgsm import Fgsm
from partcore.attacks.friendly_pgd import FriendlyPgd
from partcore.attacks.inner_pgd import InnerPgd, at_image, gaussian, uniform_in_ball
from partcore.attacks.mma import Mma
from partcore.attacks.noise import Noise
from partcore.attacks.pgd import Pgd
from partcore.attacks.project import project_linf, step_linf
from partcore.attacks.square import Square
from partcore.attacks.transfer import Transfer

__all__ = [
    "Apgd",
    "Attempt",
    "Cw",
    "EvaluationAttack",
    "Fab",
    "Fgsm",
    "FriendlyPgd",
    "InnerPgd",
    "Mma",
    "Noise",
    "Pgd",
    "Square",
    "Transfer",
    "WithinRadii",
    "at_image",
    "gaussian",
    "project_linf",
    "step_linf",
    "uniform_in_ball",
]
