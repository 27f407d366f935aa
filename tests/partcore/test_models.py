"""The networks: their sizes, their features, what they cost, and which of torchvision's fit."""

import copy
import subprocess
import sys
from functools import cache

import pytest
import safetensors.torch
import torch
from torch import nn
from torchvision.models import get_model

from domain.architectures import OUTLINES
from domain.catalog import MODELS as CATALOG
from partcore.checkpoint import weights_sha256
from partcore.models import MODELS, Builder, CamClassifier, ModelUnfit, builder, wide_resnet
from partcore.models import torchvision_networks as tv
from partcore.models.classifier import PooledLinear, grid_size, parameter_count
from partcore.models.cost import flops, multiply_accumulates
from partcore.models.outline import outline as outline_of
from partcore.modes import evaluating
from partcore.randomness import generator
from store.checkpoints import inspect
from tests.partcore.exact import EQUAL

SMALL = {
    "small-cnn": MODELS["small-cnn"],
    "preact-resnet18": MODELS["preact-resnet18"],
    "wrn-16-2": wide_resnet(16, 2),
}
FITTING = ("shufflenet_v2_x0_5", "efficientnet_b0")
MORE = ("mnasnet0_5", "regnet_x_400mf", "densenet121", "mobilenet_v2", "googlenet", "resnet18")


def build(make: Builder, *, channels: int = 3, classes: int = 10, seed: int = 1) -> CamClassifier:
    return make(
        channels=channels,
        classes=classes,
        mean=torch.full((channels,), 0.4),
        std=torch.full((channels,), 0.2),
        generator=generator(seed),
    )


def outline(name: str, *, channels: int, classes: int) -> CamClassifier:
    """The network without its weights."""
    with torch.device("meta"):
        return build(MODELS[name], channels=channels, classes=classes)


@cache
def _lively(name: str) -> tuple[CamClassifier, torch.Tensor]:
    # Batch statistics of real inputs, so that evaluation mode keeps activations alive.
    model = build({**SMALL, **{n: builder(f"torchvision:{n}") for n in FITTING}}[name]).double()
    x = torch.rand(4, 3, 32, 32, generator=generator(0), dtype=torch.float64)
    with torch.no_grad():
        model(x)
        model(x)
    return model.eval(), x


def lively(name: str) -> tuple[CamClassifier, torch.Tensor]:
    model, x = _lively(name)
    return copy.deepcopy(model), x.clone()


# -- sizes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "channels", "classes", "count"),
    [
        ("small-cnn", 3, 10, 112_938),
        ("small-cnn", 1, 10, 112_362),
        ("resnet18", 3, 10, 11_173_962),
        ("resnet18", 3, 100, 11_220_132),
        ("preact-resnet18", 3, 10, 11_172_170),
        ("preact-resnet18", 3, 100, 11_218_340),
        ("preact-resnet18", 1, 10, 11_171_018),
        ("wrn-28-10", 3, 10, 36_479_194),
        ("wrn-28-10", 3, 100, 36_536_884),
        ("wrn-34-10", 3, 10, 46_160_474),
        ("wrn-34-10", 3, 100, 46_218_164),
        ("wrn-34-10", 1, 10, 46_160_186),
    ],
)
def test_parameters_are_the_published_number(name, channels, classes, count):
    assert parameter_count(outline(name, channels=channels, classes=classes)) == count


def test_the_last_batch_norm_is_all_that_pre_activation_forms_differ_by():
    """Wong et al.'s 11,171,146 and this one's 1,024 more."""
    body = outline("preact-resnet18", channels=3, classes=10).body
    assert parameter_count(body.bn) == 11_172_170 - 11_171_146


@pytest.mark.parametrize(
    ("name", "size", "cells"),
    [
        ("preact-resnet18", 32, 4),
        ("preact-resnet18", 64, 8),
        ("wrn-28-10", 32, 8),
        ("wrn-34-10", 32, 8),
        ("wrn-28-10", 28, 7),
    ],
)
def test_cam_grids(name, size, cells):
    assert grid_size(outline(name, channels=3, classes=10), 3, size) == (cells, cells)


def test_a_grid_is_asked_without_touching_batch_statistics():
    model = build(SMALL["small-cnn"])
    before = weights_sha256(model.state_dict())
    grid_size(model, 3, 16)
    assert weights_sha256(model.state_dict()) == before
    assert model.training


@pytest.mark.parametrize("depth", [4, 29, -2])
def test_no_wide_resnet_has_that_depth(depth):
    with pytest.raises(ValueError, match="6 n"):
        wide_resnet(depth, 10)


# -- cost -------------------------------------------------------------------------------------


def test_multiply_accumulates_of_the_small_network_by_hand():
    by_hand = (
        8 * 8 * 32 * 1 * 9  # 3x3 over 8x8 digits, one channel
        + 4 * 4 * 64 * 32 * 9  # stride 2
        + 4 * 4 * 64 * 64 * 9
        + 4 * 4 * 96 * 64 * 9
        + 96 * 10
    )
    model = build(SMALL["small-cnn"], channels=1)
    assert multiply_accumulates(model, 1, 8) == by_hand
    assert flops(model, 1, 8) == 2 * by_hand
    assert model.training


@pytest.mark.parametrize(
    ("name", "giga"),
    [
        ("resnet18", 0.56),
        ("preact-resnet18", 0.56),
        ("wrn-28-10", 5.24),
        ("wrn-34-10", 6.66),
    ],
)
def test_multiply_accumulates_at_32_pixels(name, giga):
    model = outline(name, channels=3, classes=10)
    assert multiply_accumulates(model, 3, 32) / 1e9 == pytest.approx(giga, abs=0.005)


# -- behaviour --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["preact-resnet18", "wrn-16-2"])
def test_features_are_those_after_the_last_batch_norm_and_relu(name):
    model, x = lively(name)
    assert [type(layer) for layer in model.body[-2:]] == [nn.BatchNorm2d, nn.ReLU]
    features = model.features(x)
    assert features.min() == 0
    torch.testing.assert_close(features, model.body[:-1](model.normalise(x)).relu(), **EQUAL)


@pytest.mark.parametrize("name", [*SMALL, *FITTING])
def test_evaluation_is_deterministic_one_by_one_and_in_either_memory_format(name):
    model, x = lively(name)
    before = weights_sha256(model.state_dict())
    with torch.no_grad():
        logits = model(x)
        assert torch.equal(model(x), logits)
        assert logits.std(dim=0).min() > 0
        apart = torch.cat([model(image[None]) for image in x])
        model.to(memory_format=torch.channels_last)
        permuted = model(x.to(memory_format=torch.channels_last))
    scale = logits.abs().max()
    torch.testing.assert_close(apart / scale, logits / scale, **EQUAL)
    torch.testing.assert_close(permuted / scale, logits / scale, **EQUAL)
    assert weights_sha256(model.state_dict()) == before


@pytest.mark.parametrize("name", [*SMALL, *FITTING])
def test_gradients_reach_the_image_and_every_weight(name):
    model, x = lively(name)
    x.requires_grad_()
    labels = torch.arange(len(x))
    nn.functional.cross_entropy(model(x), labels).backward()
    assert x.grad.isfinite().all()
    assert (x.grad.abs().amax(dim=(1, 2, 3)) > 0).all()
    assert all(weight.grad is not None for weight in model.parameters())


@pytest.mark.parametrize("name", [*SMALL, *FITTING])
def test_modes_and_copies(name):
    model, x = lively(name)
    model.train()
    with evaluating(model), torch.no_grad():
        assert torch.equal(model(x), model.eval()(x))
        assert torch.equal(copy.deepcopy(model)(x), model(x))


@pytest.mark.parametrize("name", ["wrn-16-2", "preact-resnet18"])
def test_weights_are_a_function_of_the_generator(name):
    check_weights(SMALL[name])


def check_weights(make: Builder) -> None:
    torch.manual_seed(1)
    one = weights_sha256(build(make).state_dict())
    torch.manual_seed(2)
    assert weights_sha256(build(make).state_dict()) == one
    assert weights_sha256(build(make, seed=2).state_dict()) != one


def test_one_channel():
    for name in SMALL:
        model = build(SMALL[name], channels=1)
        assert model(torch.rand(2, 1, 8, 8)).shape == (2, 10)


# -- torchvision ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FITTING)
def test_torchvisions_weights_are_a_function_of_the_generator(name):
    check_weights(builder(f"torchvision:{name}"))


@pytest.mark.parametrize("name", [*FITTING, *MORE])
def test_logits_are_those_of_torchvisions_own_network(name):
    theirs = get_model(name, weights=None, num_classes=10, **only(name)).double().eval()
    ours = build(builder(f"torchvision:{name}")).double().eval()
    assert isinstance(ours.head, PooledLinear)
    x = torch.rand(2, 3, 64, 64, generator=generator(3), dtype=torch.float64)
    with torch.no_grad():
        ours(x)  # nothing in evaluation mode depends on having been run
        load_from(theirs, ours)
        expected, logits = theirs(ours.normalise(x)), ours(x)
    torch.testing.assert_close(logits, expected, **EQUAL)


def only(name: str) -> dict[str, bool]:
    return {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}


def load_from(theirs: nn.Module, ours: CamClassifier) -> None:
    state = theirs.state_dict()
    last = next(reversed(state)).rpartition(".")[0]
    head = {f"linear.{part}": state.pop(f"{last}.{part}") for part in ("weight", "bias")}
    ours.head.load_state_dict(head)
    ours.body.load_state_dict(state)


@pytest.mark.parametrize("name", ["efficientnet_b0", "shufflenet_v2_x0_5"])
def test_training_draws_what_torchvisions_own_network_draws(name):
    """Stochastic depth and dropout stay alive in the traced body."""
    theirs = get_model(name, weights=None, num_classes=10).double()
    ours = build(builder(f"torchvision:{name}")).double()
    load_from(theirs, ours)
    x = torch.rand(4, 3, 64, 64, generator=generator(3), dtype=torch.float64)
    outputs = []
    for network, images in ((ours, x), (theirs, ours.normalise(x))):
        torch.manual_seed(5)
        outputs.append(network.train()(images))
    torch.testing.assert_close(*outputs, **EQUAL)


def test_dropout_before_the_linear_layer_is_kept():
    assert build(builder("torchvision:mobilenet_v2")).head.dropout.p == pytest.approx(0.2)
    assert isinstance(build(SMALL["small-cnn"]).head.dropout, nn.Identity)


@pytest.mark.parametrize("name", FITTING)
def test_no_feature_is_below_what_the_facts_say(name):
    model, x = lively(name)
    told = tv.facts(name)
    assert told.parameters == parameter_count(model)
    assert told.stride == 32
    assert told.lowest_feature == (-0.278465 if "efficient" in name else 0.0)
    assert model.features(10 * x - 5).min() >= told.lowest_feature
    assert told.draws_in_training == tv.draws_in_training(model)


def weightless(name: str) -> CamClassifier:
    if not name.startswith("torchvision:"):
        return outline(name, channels=3, classes=10)
    return tv.weightless(name.removeprefix("torchvision:"), channels=3, classes=10)[1]


@torch.no_grad()
def cells(model: CamClassifier, *sides: int) -> tuple[int, ...]:
    """The CAM grid of one image that is two sizes at once."""
    return tuple(model.features(torch.empty(1, 3, *sides, device="meta")).shape[2:])


@pytest.mark.parametrize("name", CATALOG)
def test_the_catalog_knows_the_parameters_and_every_grid_of_a_network(name):
    """A grid is floor((side - a) / b) + 1: two places where it grows pin both."""
    facts, model = CATALOG[name], weightless(name).eval()
    assert facts.parameters_at[3, 10] == parameter_count(model)
    first, far = facts.smallest_cam_size, facts.smallest_size + 10 * facts.stride
    assert cells(model, first - 1, first) == (1, 2)
    assert cells(model, far - 1, far) == (10, 11)
    assert [facts.grid(side) for side in (first - 1, first, far - 1, far)] == [1, 2, 10, 11]
    if facts.smallest_size > 1:
        assert facts.grid(facts.smallest_size - 1) == 0
        with pytest.raises(RuntimeError):
            cells(model, *[facts.smallest_size - 1] * 2)


@pytest.mark.parametrize("name", ["small-cnn", "preact-resnet18", "torchvision:inception_v3"])
def test_a_grid_is_what_the_catalog_says_at_other_sizes(name):
    facts, model = CATALOG[name], weightless(name).eval()
    for side in range(facts.smallest_size, 220, 29):
        assert cells(model, side, 311 - side) == (facts.grid(side), facts.grid(311 - side))


def test_inception_has_a_single_cell_at_96_pixels():
    facts = CATALOG["torchvision:inception_v3"]
    assert (facts.grid(96), facts.smallest_cam_size) == (1, 107)


def test_no_other_network_of_torchvision_fits():
    for name in set(tv.names()) - {name.removeprefix("torchvision:") for name in CATALOG}:
        with pytest.raises(ModelUnfit):
            tv.weightless(name, channels=3, classes=10)


def test_facts_of_a_network_without_padding():
    told = tv.facts("inception_v3", channels=1, classes=2)
    assert (told.stride, told.smallest_side, told.lowest_feature) == (32, 75, 0.0)


def test_torchvision_networks_of_one_channel():
    model = build(builder("torchvision:shufflenet_v2_x0_5"), channels=1, classes=3)
    assert model(torch.rand(2, 1, 32, 32)).shape == (2, 3)
    assert (
        parameter_count(model) == tv.facts("shufflenet_v2_x0_5", channels=1, classes=3).parameters
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("alexnet", r"reads ReLU \(classifier\.5\), not the global average"),
        ("vgg11_bn", r"reads ReLU \(classifier\.4\), not the global average"),
        ("mobilenet_v3_small", r"reads Hardswish \(classifier\.1\), not the global average"),
        ("convnext_tiny", r"reads permute \(classifier\.0\), not the global average"),
        ("squeezenet1_1", "ends in flatten, not in one linear layer"),
        ("swin_t", "its features end in permute"),
        ("vit_b_32", "not the global average"),
        ("lenet", "torchvision has no classifier of that name"),
    ],
)
def test_others_are_refused_with_the_reason(name, reason):
    with pytest.raises(ModelUnfit, match=reason) as refused:
        build(builder(f"torchvision:{name}"))
    assert refused.value.name == name


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU()), "1 is a GroupNorm"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), "features end in BatchNorm2d"),
        (nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (4, 4)), nn.ReLU()), "first layer is not"),
    ],
)
def test_the_structure_decides(network, reason):
    whole = nn.Sequential(*network, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(ModelUnfit, match=reason):
        tv.cut_at_pooling("a", whole)


def test_pooling_to_more_than_one_cell_is_not_global():
    whole = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2)
    )
    with pytest.raises(ModelUnfit, match="reads AdaptiveAvgPool2d"):
        tv.cut_at_pooling("a", whole)


def test_a_network_whose_path_depends_on_its_input_is_refused():
    class Fickle(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ModelUnfit, match="depends on its input"):
        tv.cut_at_pooling("a", Fickle())


def test_those_that_fit_are_found(monkeypatch):
    monkeypatch.setattr(tv, "names", lambda: ["squeezenet1_1", "mnasnet0_5", "swin_t"])
    assert [told.name for told in tv.fitting()] == ["mnasnet0_5"]


def test_names_without_prefix_are_ours():
    assert builder("resnet18") is MODELS["resnet18"]
    with pytest.raises(KeyError):
        builder("resnet50")


def test_importing_the_networks_does_not_import_torchvision():
    code = "import sys, partcore.models; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", MODELS)
def test_the_table_that_uploads_are_held_against_is_the_networks(name):
    assert OUTLINES[name] == outline_of(name)


def test_a_saved_network_fits_its_own_outline(tmp_path):
    model = build(MODELS["small-cnn"], channels=1, classes=7)
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(model.state_dict(), file)
    with file.open("rb") as stream:
        found = inspect(stream, "small-cnn")
    assert (found.fit.channels, found.fit.classes) == (1, 7)
    assert found.size == file.stat().st_size
