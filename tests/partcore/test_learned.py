"""Ensembles that learn whom to trust."""

import pytest
import torch
from torch import Tensor

from partcore.cams import GradCam, Learned, LearnedWeights, StackingHead, learn, read
from partcore.cams.ensemble import Ensemble
from partcore.models import MODELS
from partcore.modes import evaluating, frozen
from partcore.randomness import generator
from tests.partcore.exact import EQUAL

KINDS = (LearnedWeights, StackingHead)


class Fixed:
    """A member whose raw map is given."""

    def __init__(self, raw: Tensor) -> None:
        self.raw = raw

    def __call__(self, readout) -> Tensor:
        return self.raw[None].expand(len(readout.x), -1, -1)


@pytest.fixture(scope="module")
def readout():
    model = MODELS["small-cnn"](
        channels=1, classes=3, mean=torch.zeros(1), std=torch.ones(1), generator=generator(0)
    )
    x = torch.rand(12, 1, 8, 8, generator=generator(1))
    with torch.no_grad():
        model(x)
        model.head.linear.weight.mul_(30)  # so that a mask matters
    model, x = model.eval().double(), x.double()  # slopes are compared with differences
    with evaluating(model):
        found = read(model, x, torch.arange(12) % 3)
        return read(model, x, model.head(found.features).argmax(dim=1))


def members():
    left = torch.zeros(4, 4, dtype=torch.float64)
    left[:, :2] = 1
    return (GradCam(), Fixed(left), Fixed(left.flip(1)))


@pytest.mark.parametrize("kind", KINDS)
def test_before_learning_members_weigh_alike(readout, kind):
    maps = Learned(members(), kind(3).double())
    torch.testing.assert_close(maps(readout), Ensemble(members())(readout), **EQUAL)


@pytest.mark.parametrize("kind", KINDS)
def test_learning_keeps_more_of_the_class_and_touches_nothing_else(readout, kind):
    maps = Learned(members(), kind(3).double())
    before = {name: value.clone() for name, value in readout.model.state_dict().items()}
    with frozen(readout.model):
        losses = [learn(maps, readout, rate=1.0) for _ in range(40)]
    assert losses[-1] < losses[0] - 1e-3
    assert all(torch.equal(v, before[n]) for n, v in readout.model.state_dict().items())
    assert all(p.grad is None for p in readout.model.parameters())
    shares = maps.combiner(maps.heatmaps(readout)).detach()
    torch.testing.assert_close(shares.sum(dim=0), torch.ones(12, dtype=torch.float64), **EQUAL)
    assert shares.min() >= 0
    assert (shares.std(dim=1) > 1e-6).any() == (kind is StackingHead), "one share for all images"


def test_a_step_is_gradient_descent_on_the_masked_cross_entropy(readout):
    maps = Learned(members(), LearnedWeights(3).double())
    with frozen(readout.model):
        heat = maps.heatmaps(readout)

        def loss_at(logits: Tensor) -> float:
            mask = torch.einsum("m,mnhw->nhw", logits.softmax(dim=0), heat)
            logits = readout.model(readout.x * mask[:, None])
            return torch.nn.functional.cross_entropy(logits, readout.y).item()

        told = learn(maps, readout, rate=0.5)
    assert told == pytest.approx(loss_at(torch.zeros(3, dtype=torch.float64)), rel=1e-9)
    for i in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[i] = 1e-4
        slope = (loss_at(step) - loss_at(-step)) / 2e-4
        assert maps.combiner.logits[i].item() == pytest.approx(-0.5 * slope, rel=0.05)


def test_a_stacking_head_weighs_each_image_by_its_own_maps(readout):
    head = StackingHead(3).double()
    torch.nn.init.normal_(head.linear.weight, generator=generator(3))
    maps = Learned(members(), head)
    shares = head(maps.heatmaps(readout)).detach()
    assert shares[0].std() > 1e-4
    one = read(readout.model, readout.x[4:5], readout.y[4:5])
    torch.testing.assert_close(maps(one)[0], maps(readout)[4], **EQUAL)
