"""The maps against the grad-cam package, which nobody here wrote."""

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from partcore.budgets import CentredSigmoid, MinMax, SigmoidMean, SigmoidMinMax
from partcore.cams import (
    Cam,
    Ensemble,
    ExactScores,
    FeatureSpaceScores,
    GradCam,
    GradCamPlusPlus,
    Readout,
    ScoreCam,
    heatmap,
    is_constant,
    read,
)
from partcore.cams.readout import head_gradient
from partcore.models import MODELS, CamClassifier, wide_resnet
from partcore.modes import evaluating
from partcore.randomness import generator
from tests.partcore.exact import EQUAL, package_in_float64

MASKS = [CentredSigmoid(), SigmoidMinMax(), SigmoidMean(), MinMax()]
NETWORKS = {"small-cnn": MODELS["small-cnn"], "wrn-16-2": wide_resnet(16, 2)}
SHAPES = {"small-cnn": (1, 8, 6), "wrn-16-2": (3, 16, 1)}
"""Channels, size, images: the package needs a pass a channel and image, and in float64 ResNet-18's
512 of them took minutes."""


def trained_like(name: str) -> tuple[CamClassifier, Tensor, Tensor]:
    """A network of one's own whose maps are not all zero, images, and the labels it gives them."""
    return deepcopy(_trained_like(name))


@cache
def _trained_like(name: str) -> tuple[CamClassifier, Tensor, Tensor]:
    # Random weights, batch statistics of real inputs.
    channels, size, count = SHAPES[name]
    draw = generator(1, name)
    model = NETWORKS[name](
        channels=channels,
        classes=10,
        mean=torch.full((channels,), 0.5),
        std=torch.full((channels,), 0.25),
        generator=draw,
    ).double()
    draws = {"generator": draw, "dtype": torch.float64}
    x = torch.rand(count, channels, size, size, **draws)
    with torch.no_grad():
        for _ in range(20):
            model(torch.rand(16, channels, size, size, **draws))
        model.head.linear.weight.normal_(std=0.3, generator=draw)
        y = model.eval()(x).argmax(dim=1)
    return model, x, y


def packages(kind: type, model: CamClassifier, x: Tensor, y: Tensor) -> np.ndarray:
    targets = [ClassifierOutputTarget(int(label)) for label in y]
    with package_in_float64(), kind(model=model, target_layers=[model.body]) as cam:
        return cam(input_tensor=x, targets=targets)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (GradCam(), GradCAM),
        (GradCamPlusPlus(), GradCAMPlusPlus),
        (ScoreCam(ExactScores(chunk=64)), ScoreCAM),
    ],
    ids=["grad-cam", "grad-cam++", "score-cam"],
)
def test_a_map_equals_the_packages(name: str, ours: Cam, theirs: type):
    model, x, y = trained_like(name)
    expected = packages(theirs, model, x, y)
    assert (expected.max(axis=(1, 2)) > 0.9).all(), "the comparison would say nothing"
    got = heatmap(ours(read(model, x, y)), (x.shape[2], x.shape[3]))
    np.testing.assert_allclose(got.numpy(), expected, **EQUAL)


@pytest.mark.parametrize("name", SHAPES)
def test_the_closed_form_equals_autograd_through_the_head(name):
    model, x, y = trained_like(name)
    readout = read(model, x, y)
    expanded = readout.gradient().expand_as(readout.features)
    torch.testing.assert_close(expanded, head_gradient(readout), **EQUAL)


@pytest.mark.parametrize("cam", [GradCam(), GradCamPlusPlus()])
def test_any_other_head_goes_through_autograd(cam):
    """A head the closed form does not know, that computes what a pooled linear one does."""
    model, x, y = trained_like("small-cnn")
    expected = cam(read(model, x, y))
    linear = model.head.linear
    model.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    torch.testing.assert_close(cam(read(model, x, y)), expected, **EQUAL)
    with pytest.raises(TypeError, match="exact"):
        ScoreCam(FeatureSpaceScores())(read(model, x, y))


def test_feature_space_scores_equal_masked_features_through_the_head():
    model, x, y = trained_like("small-cnn")
    readout = read(model, x, y)
    scores = FeatureSpaceScores()(readout)
    features = readout.features
    for n in range(2):
        for k in (0, 7, 31):
            mask = features[n, k] - features[n, k].min()
            mask = mask / (mask.max() + 1e-8)
            logit = model.head((features[n] * mask)[None])[0, y[n]]
            if features[n, k].max() > 0:
                torch.testing.assert_close(scores[n, k], logit, **EQUAL)
            else:
                assert scores[n, k] == -torch.inf


def test_defect_5_all_channels_are_scored_not_the_first_32():
    model, x, y = trained_like("small-cnn")
    readout = read(model, x, y)
    alive = readout.features.amax(dim=(2, 3)) > 0
    assert alive[:, 32:].any()
    for scores in (ExactScores(), FeatureSpaceScores()):
        assert torch.equal(scores(readout).isfinite(), alive)


def test_dead_channels_are_skipped_exactly():
    model, x, y = trained_like("small-cnn")
    readout = read(model, x, y)
    features = readout.features.clone()
    features[:, ::2] = 0
    thinned = Readout(model, x, features, y)
    seen: list[int] = []

    class Counting(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(len(images))
            return model(images)

    counted = Readout(Counting(), x, features, y)  # type: ignore[arg-type]
    scores = ExactScores(chunk=50)(counted)
    assert sum(seen) == int((features.amax(dim=(2, 3)) > 0).sum())
    full = heatmap(ScoreCam(ExactScores())(thinned), (8, 8))
    weights = scores.nan_to_num(neginf=-1e9).softmax(dim=1)
    by_hand = torch.einsum("nk,nkhw->nhw", weights, features).relu()
    torch.testing.assert_close(full, heatmap(by_hand, (8, 8)), **EQUAL)


def test_eq_9_is_the_mean_of_maps_each_in_the_unit_range():
    model, x, y = trained_like("small-cnn")
    ensemble = Ensemble((GradCam(), GradCamPlusPlus(), ScoreCam(FeatureSpaceScores())))
    readout = read(model, x, y)
    members = ensemble.heatmaps(readout)
    assert members.shape == (3, 6, 8, 8)
    assert members.min() >= 0
    assert members.max() <= 1
    torch.testing.assert_close(ensemble(readout), members.mean(dim=0), **EQUAL)


@pytest.mark.parametrize("mask", MASKS, ids=lambda m: type(m).__name__)
def test_defect_4_a_mask_does_not_depend_on_its_neighbours(mask):
    model, x, y = trained_like("small-cnn")
    ensemble = Ensemble((GradCam(), GradCamPlusPlus(), ScoreCam(FeatureSpaceScores())))
    together = mask(ensemble(read(model, x, y)))
    alone = torch.cat([mask(ensemble(read(model, x[i : i + 1], y[i : i + 1]))) for i in range(6)])
    torch.testing.assert_close(together, alone, **EQUAL)


def test_defect_7_no_hook_is_left_or_made():
    model, x, y = trained_like("small-cnn")
    Ensemble((GradCam(), GradCamPlusPlus(), ScoreCam(ExactScores())))(read(model, x, y))
    assert all(
        not module._forward_hooks and not module._backward_hooks for module in model.modules()
    )


@pytest.mark.parametrize("mask", MASKS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_defect_10_a_constant_map_gives_half_everywhere(mask, level):
    flat = torch.full((2, 5, 5), level)
    assert is_constant(flat).all()
    assert torch.equal(mask(flat), torch.full((2, 5, 5), 0.5))


@pytest.mark.parametrize("mask", MASKS, ids=lambda m: type(m).__name__)
def test_defect_10_all_zero_features_give_half_and_no_nan(mask):
    model, x, y = trained_like("small-cnn")
    dead = Readout(model, x, torch.zeros(6, 96, 4, 4, dtype=x.dtype), y)
    for cam in (GradCam(), GradCamPlusPlus(), ScoreCam(FeatureSpaceScores())):
        assert (mask(heatmap(cam(dead), (8, 8))) == 0.5).all()


def test_reading_leaves_no_graph_and_no_gradient():
    model, x, y = trained_like("small-cnn")
    with evaluating(model):
        readout = read(model, x, y)
    assert not readout.features.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
