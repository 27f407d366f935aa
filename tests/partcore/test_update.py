"""One step down: however a batch is divided, the gradient is that of its mean loss."""

import math

import pytest
import torch
from torch import nn

from domain.errors import ExperimentError
from partcore.models.classifier import CamClassifier, Normalise, PooledLinear
from partcore.objectives import CrossEntropy, Mart, Trades
from partcore.randomness import Share, generator, normal, uniform
from partcore.update import Batch, Update


def network(dtype=torch.float64) -> CamClassifier:
    """Without batch norm, which sees each part of a batch alone."""
    torch.manual_seed(3)
    body = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.ReLU())
    normalise = Normalise(torch.zeros(1), torch.ones(1))
    return CamClassifier(normalise, body, PooledLinear(5, 4)).to(dtype)


def batch(dtype=torch.float64, count=11) -> Batch:
    draw = generator(1)
    x = torch.rand(count, 1, 8, 8, generator=draw, dtype=dtype)
    x_adv = (x + 0.05 * torch.randn(x.shape, generator=draw, dtype=dtype)).clamp(0, 1)
    return Batch(x, x_adv, torch.arange(count) % 4, count)


def update_of(model: CamClassifier, objective=None, **options) -> Update:
    objective = objective or CrossEntropy()
    return Update(model, torch.optim.SGD(model.parameters(), lr=0.1), objective, **options)


def gradient(model: CamClassifier) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("objective", [CrossEntropy(), Trades(6.0), Mart(5.0)])
@pytest.mark.parametrize("parts", [1, 2, 3, 11, 20])
def test_micro_batches_add_up_to_the_gradient_of_the_mean(objective, parts):
    model, given = network(), batch()
    objective(model, given.x, given.x_adv, given.y).loss.mean().backward()
    expected = gradient(model)
    model.zero_grad()
    stepped = update_of(model, objective, parts=parts).backward(given)
    torch.testing.assert_close(gradient(model), expected, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        descent = objective(model, given.x, given.x_adv, given.y)
    assert stepped.loss == pytest.approx(descent.loss.mean().item())
    right = (descent.logits_adv.argmax(dim=1) == given.y).double().mean().item()
    assert stepped.accuracy == pytest.approx(right)


@pytest.mark.parametrize("parts", [1, 3])
def test_weight_perturbation_takes_the_gradient_at_the_perturbed_weights(parts):
    model, given = network(), batch()
    before = [p.detach().clone() for p in model.parameters()]
    update_of(model, parts=parts)(given, awp=0.05)
    stepped = [p.detach().clone() for p in model.parameters()]

    # by hand
    by_hand = network()
    loss = CrossEntropy()
    loss(by_hand, given.x, given.x_adv, given.y).loss.mean().backward()
    with torch.no_grad():
        for p in by_hand.parameters():
            if p.ndim > 1:
                p += 0.05 * p.norm() * p.grad / p.grad.norm()
    by_hand.zero_grad()
    loss(by_hand, given.x, given.x_adv, given.y).loss.mean().backward()
    for was, now, p in zip(before, stepped, by_hand.parameters(), strict=True):
        torch.testing.assert_close(now, was - 0.1 * p.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("dtype", "near"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_mixed_precision_is_near_and_weights_stay_as_they_were_typed(dtype, near):
    exact, narrow = network(torch.float32), network(torch.float32)
    given = batch(torch.float32)
    before = torch.cat([p.detach().flatten() for p in exact.parameters()])
    moved = []
    for model, options in ((exact, {}), (narrow, {"dtype": dtype})):
        stepped = update_of(model, **options)(given)
        assert math.isfinite(stepped.loss)
        assert all(p.dtype == torch.float32 for p in model.parameters())
        moved.append(torch.cat([p.detach().flatten() for p in model.parameters()]) - before)
    assert (moved[0] - moved[1]).norm() < near * moved[0].norm()


def test_a_loss_that_is_not_finite_leaves_the_weights():
    model, given = network(), batch()
    with torch.no_grad():
        model.head.linear.weight.fill_(math.inf)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ExperimentError, match=r"lower training\.learning_rate \(it is now 0\.1\)"):
        update_of(model)(given)
    assert all(torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("draw", [uniform, normal])
def test_a_share_meets_the_numbers_it_would_have_met_undivided(draw):
    like = torch.zeros(7, 2, 3, 3)
    whole = draw(like.shape, generator(4), like)
    for part in (slice(0, 3), slice(3, 7), slice(6, 7)):
        shape = like[part].shape
        assert torch.equal(draw(shape, Share(generator(4), part, 7), like), whole[part])
