"""What an update descends, against formulas written out."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - PyTorch's own habit

from partcore.awp import perturbed_weights
from partcore.modes import uncounted
from partcore.objectives import (
    CrossEntropy,
    LogitPairing,
    Mart,
    Trades,
    boosted_cross_entropy,
    kl_divergence,
)
from partcore.randomness import generator
from tests.partcore.exact import EQUAL


@pytest.fixture
def problem():
    draw = generator(4, "objectives")
    draws = {"generator": draw, "dtype": torch.float64}
    weight = torch.randn(5, 12, **draws)
    x = torch.rand(6, 3, 2, 2, **draws)
    x_adv = (x + 0.1 * torch.randn(x.shape, **draws)).clamp(0, 1)
    y = torch.tensor([0, 1, 2, 3, 4, 0])
    return (lambda images: images.flatten(1) @ weight.T), x, x_adv, y


def test_cross_entropy_sees_the_perturbed_images_alone(problem):
    logits_of, x, x_adv, y = problem
    got = CrossEntropy()(logits_of, x, x_adv, y)
    torch.testing.assert_close(
        got.loss, F.cross_entropy(logits_of(x_adv), y, reduction="none"), **EQUAL
    )
    assert torch.equal(got.logits_adv, logits_of(x_adv))


def test_trades_as_its_paper_writes_it(problem):
    logits_of, x, x_adv, y = problem
    p, q = logits_of(x).softmax(1), logits_of(x_adv).softmax(1)
    expected = -p[range(6), y].log() + 6 * (p * (p / q).log()).sum(1)
    torch.testing.assert_close(Trades(6.0)(logits_of, x, x_adv, y).loss, expected, **EQUAL)


def test_mart_as_its_paper_writes_it(problem):
    logits_of, x, x_adv, y = problem
    p, q = logits_of(x).softmax(1), logits_of(x_adv).softmax(1)
    rival = q.scatter(1, y[:, None], 0).amax(1)
    boosted = -q[range(6), y].log() - (1 - rival).log()
    divergence = (p * (p / q).log()).sum(1) * (1 - p[range(6), y])
    torch.testing.assert_close(
        Mart(5.0)(logits_of, x, x_adv, y).loss, boosted + 5 * divergence, **EQUAL
    )


def test_the_boosted_loss_is_finite_where_the_network_is_sure_and_wrong():
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    loss = boosted_cross_entropy(logits, torch.tensor([1, 1]))
    assert torch.isfinite(loss).all()
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert torch.isfinite(gradient).all()


def test_logit_pairing_as_its_paper_writes_it(problem):
    logits_of, x, x_adv, y = problem
    z, z_adv = logits_of(x), logits_of(x_adv)
    both = (F.cross_entropy(z, y) + F.cross_entropy(z_adv, y)) / 2
    expected = both + 0.5 * ((z - z_adv) ** 2).mean()
    torch.testing.assert_close(
        LogitPairing(0.5)(logits_of, x, x_adv, y).loss.mean(), expected, **EQUAL
    )


def test_a_divergence_is_zero_only_from_itself(problem):
    logits_of, x, x_adv, _ = problem
    same = kl_divergence(logits_of(x), logits_of(x).softmax(1))
    other = kl_divergence(logits_of(x_adv), logits_of(x).softmax(1))
    assert same.abs().max() < EQUAL["atol"]
    assert (other > EQUAL["atol"]).all()


class TestAdversarialWeights:
    @pytest.fixture
    def network(self):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5)
        ).double()

    def test_each_layer_moves_by_gamma_of_its_norm_up_the_loss_and_comes_back(self, network):
        x = torch.rand(6, 3, 2, 2, dtype=torch.float64)
        y = torch.tensor([0, 1, 2, 3, 4, 0])

        def loss():
            return F.cross_entropy(network(x), y)

        before = {name: value.clone() for name, value in network.state_dict().items()}
        level = loss().item()
        network.load_state_dict(before)
        with perturbed_weights(network, lambda: loss().backward(), gamma=0.01):
            assert all(weight.grad is None for weight in network.parameters())
            for name, weight in network.named_parameters():
                moved = (weight - before[name]).norm()
                expected = 0.01 * before[name].norm() if weight.ndim > 1 else 0.0
                assert moved.item() == pytest.approx(float(expected), abs=1e-9), name
            with uncounted(network):
                assert loss().item() > level
        assert all(torch.equal(v, before[n]) for n, v in network.state_dict().items())

    def test_the_weights_come_back_even_after_an_error(self, network):
        before = network[0].weight.clone()
        x = torch.rand(2, 3, 2, 2, dtype=torch.float64)
        with (
            pytest.raises(RuntimeError, match="in between"),
            perturbed_weights(network, lambda: network(x).sum().backward(), gamma=0.1),
        ):
            raise RuntimeError("in between")
        assert torch.equal(network[0].weight, before)
        assert network[1].momentum == 0.1
