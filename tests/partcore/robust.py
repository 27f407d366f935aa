"""A network that was trained against attacks on real digits, made once for a process."""

import copy
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from torch import Tensor

from domain.presets import expand
from domain.spec import TrainSpec
from partcore.data import Images, load, to_unit
from partcore.environment import Environment
from partcore.models import CamClassifier
from partcore.training import Trainer
from tests.partcore.exact import in_float64

EPSILON = 32 / 255


@cache
def network() -> CamClassifier:
    """PGD-AT on 1,000 digits for a few seconds: about half of the others stand at 32/255.

    Trained in float64, so that it is the same network on every CPU but for the last bits.
    """
    spec = expand(
        {
            "preset": "pgd-at",
            "data": {"dataset": "digits", "train_limit": 1000, "validation_fraction": 0.0},
            "method": {"attack": {"steps": 5}},
            "training": {
                "epochs": 10,
                "batch_size": 100,
                "ema_decay": None,
                "fold_batch_norm": False,
                "channels_last": False,
            },
        }
    )
    assert isinstance(spec, TrainSpec)
    with TemporaryDirectory() as work, pytest.MonkeyPatch.context() as patch:
        patch.setattr("partcore.training.to_unit", lambda images: to_unit(images).double())
        environment = Environment(Path(work), Path(work))
        trainer = in_float64(Trainer(spec, load(spec.data, Path(work), seed=0), environment))
        for _ in trainer.run():
            pass
    return trainer.model.eval().float()


@cache
def digits(count: int) -> Images:
    """The first digits held out of that training."""
    spec = expand({"preset": "standard", "data": {"dataset": "digits"}})
    test = load(spec.data, Path(), seed=0).test
    return test.take(torch.arange(count))


def judged_right(count: int) -> tuple[CamClassifier, Tensor, Tensor]:
    """The network and those of ``count`` digits that it classifies correctly, in float64.

    Two ways to the same attack then part at no sign and no comparison of nearly equal numbers.
    """
    model, images = copy.deepcopy(network()).double(), digits(count)
    x = to_unit(images.x).double()
    with torch.no_grad():
        right = model(x).argmax(dim=1) == images.y
    return model, x[right], images.y[right]
