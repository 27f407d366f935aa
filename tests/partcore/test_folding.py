"""The attacked twin computes what the network does, whatever its weights have become."""

import copy

import pytest
import torch
from torch import nn

from partcore.attacks.project import input_gradient
from partcore.compiling import compiled
from partcore.folding import Twin, affine
from partcore.models import MODELS, CamClassifier, builder
from partcore.modes import evaluating
from partcore.objectives import cross_entropy
from partcore.randomness import generator
from tests.partcore.exact import EQUAL, rounding

NAMES = ("small-cnn", "preact-resnet18", "torchvision:shufflenet_v2_x0_5")


def lively(name: str, dtype: torch.dtype = torch.float64) -> tuple[CamClassifier, torch.Tensor]:
    model = builder(name)(
        channels=3,
        classes=10,
        mean=torch.full((3,), 0.4),
        std=torch.full((3,), 0.2),
        generator=generator(1),
    ).to(dtype)
    draw = generator(2)
    x = torch.rand(4, 3, 32, 32, generator=draw, dtype=dtype)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=draw)
            nn.init.normal_(module.bias, std=0.1, generator=draw)
    with torch.no_grad():
        model(x)
        model(x)
    return model, x


def assert_same(
    twin: Twin, model: CamClassifier, x: torch.Tensor, *, tolerance: float = EQUAL["atol"]
) -> None:
    with torch.no_grad(), evaluating(model), evaluating(twin.network):
        expected, told = model(x), twin.network(x)
        features = model.features(x)
        torch.testing.assert_close(
            twin.network.features(x), features, atol=tolerance * float(features.max()), rtol=0
        )
    scale = expected.abs().max()
    torch.testing.assert_close(told / scale, expected / scale, atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("name", "folded"), [("small-cnn", 4), ("preact-resnet18", 8), (NAMES[2], 56)]
)
def test_every_batch_norm_after_a_convolution_is_folded_and_nothing_changes(name, folded):
    model, x = lively(name)
    twin = Twin(model, torch.float64)
    assert len(twin.pairs) == folded
    norms = [m for m in twin.body.modules() if isinstance(m, nn.BatchNorm2d)]
    all_norms = [m for m in model.body.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == len(all_norms) - folded
    assert_same(twin, model, x)


@pytest.mark.parametrize("name", NAMES)
def test_after_a_refresh_the_twin_has_the_weights_of_the_moment(name):
    model, x = lively(name)
    twin = Twin(model, torch.float64)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.1)
        model(x)
    with pytest.raises(AssertionError):
        assert_same(twin, model, x)
    twin.refresh()
    assert_same(twin, model, x)


def test_without_folding_the_twin_is_a_copy():
    model, x = lively("small-cnn")
    twin = Twin(model, torch.float64, with_folding=False)
    assert not twin.pairs
    assert_same(twin, model, x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_narrow_twin_is_near_and_its_gradient_has_the_right_size(dtype):
    model, x = lively("small-cnn", torch.float32)
    twin = Twin(model, dtype)
    # four layers; each rounds its images, its weights and what it gives
    assert_same(twin, model, x, tolerance=rounding(12, dtype=dtype))
    y = torch.arange(4)
    with evaluating(model), evaluating(twin.network):
        exact, _ = input_gradient(cross_entropy, model, x, y)
        narrow, _ = input_gradient(cross_entropy, twin.network, x, y)
    assert narrow.dtype == torch.float32
    assert (narrow.norm() / exact.norm()).item() == pytest.approx(1.0, abs=0.05)
    assert (narrow.sign() == exact.sign()).float().mean() > 0.95


def test_gradients_too_small_for_half_precision_survive():
    model, x = lively("small-cnn", torch.float32)
    y = torch.arange(4)
    twin = Twin(model, torch.float16)

    def faint(logits, y):
        return 1e-5 * cross_entropy(logits, y)

    with evaluating(model), evaluating(twin.network):
        exact, _ = input_gradient(faint, model, x, y)
        narrow, _ = input_gradient(faint, twin.network, x, y)
    assert exact.abs().median() < 6e-8, "float16 could hold it as it is"
    assert (narrow.sign() == exact.sign()).float().mean() > 0.9


def test_the_network_is_not_touched_and_the_twin_asks_for_no_gradient():
    model, _ = lively("small-cnn")
    model.train()
    before = copy.deepcopy(model.state_dict())
    twin = Twin(model, torch.bfloat16)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(p.requires_grad for p in twin.body.parameters())
    assert all(p.requires_grad for p in model.parameters())


def test_affine_is_batch_norm_in_evaluation_mode():
    model, _ = lively("small-cnn")
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d)).eval()
    x = torch.rand(2, norm.num_features, 3, 3, dtype=torch.float64)
    scale, shift = affine(norm)
    torch.testing.assert_close(norm(x), scale[:, None, None] * x + shift[:, None, None], **EQUAL)


class TestCompiling:
    def network(self) -> nn.Module:
        model = MODELS["small-cnn"](
            channels=1, classes=2, mean=torch.zeros(1), std=torch.ones(1), generator=generator(0)
        )
        return model.eval()

    def test_off_is_the_module_itself(self):
        network = self.network()
        assert compiled(network, torch.rand(1, 1, 8, 8), "off").module is network

    def test_cuda_graphs_say_that_they_need_a_gpu(self):
        network = self.network()
        told = compiled(network, torch.rand(1, 1, 8, 8), "cuda-graphs")
        assert told.module is network
        assert told.refused == "CUDA graphs need a GPU, and this is a cpu"

    def test_a_compiler_that_fails_is_a_reason_and_not_an_end(self, monkeypatch):
        def refuse(*_, **__):
            raise RuntimeError("no C++ compiler\nlong story")

        monkeypatch.setattr(nn.Module, "compile", refuse)
        network = self.network()
        told = compiled(network, torch.rand(1, 1, 8, 8), "default")
        assert (told.module, told.refused) == (network, "no C++ compiler")
