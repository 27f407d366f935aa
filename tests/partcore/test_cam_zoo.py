"""The other maps, Score-CAM's three definitions, the estimators of its scores, and ensembles."""

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from pytorch_grad_cam import (
    EigenCAM,
    GradCAM,
    GuidedBackpropReLUModel,
    HiResCAM,
    LayerCAM,
    ScoreCAM,
    XGradCAM,
)
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from partcore.budgets import CentredSigmoid
from partcore.cams import (
    PACKAGE_NAMES,
    AgreementWeighted,
    Cam,
    ClassActivation,
    ClusteredScores,
    ConfidenceWeighted,
    EigenCam,
    Ensemble,
    ExactScores,
    FeatureSpaceScores,
    GradCam,
    GradCamPlusPlus,
    HiResCam,
    LayerCam,
    Maps,
    MaskGradientScores,
    MeanScores,
    NarrowScores,
    PackageCam,
    Readout,
    ScoreCam,
    ScoreCamIncrease,
    ScoreCamSoftmax,
    Scores,
    XGradCam,
    fidelity,
    guided_grad_cam,
    heatmap,
    pearson,
    read,
)
from partcore.cams.first_channels_scores import FirstChannelsScores
from partcore.cams.guided_grad_cam import guided_gradient
from partcore.cams.k_means import k_means
from partcore.cams.readout import RANGE_FLOOR, is_constant
from partcore.cams.scores import MASK_FLOOR, target_log_odds, target_logit, unit_masks
from partcore.models import MODELS, CamClassifier
from partcore.randomness import generator
from tests.partcore.exact import EQUAL, package_in_float64, rounding

COUNT, SIZE, CHANNELS = 4, 8, 96
PAIRS = [
    (EigenCam(), EigenCAM),
    (HiResCam(), HiResCAM),
    (LayerCam(), LayerCAM),
    (XGradCam(), XGradCAM),
]
MAPS: list[Cam] = [ClassActivation(), EigenCam(), HiResCam(), LayerCam(), XGradCam()]
BOTH = MeanScores((MaskGradientScores(), FeatureSpaceScores()))
ESTIMATORS: list[Scores] = [
    ExactScores(),
    FeatureSpaceScores(),
    MaskGradientScores(),
    BOTH,
    ClusteredScores(k=5, iterations=3),
]
DEFINITIONS = [ScoreCam, ScoreCamIncrease, ScoreCamSoftmax]
MEMBERS = (GradCam(), GradCamPlusPlus(), EigenCam())
ENSEMBLES: list[Maps] = [
    Ensemble(MEMBERS),
    Ensemble(MEMBERS, weights=(3.0, 1.0, 1.0)),
    ConfidenceWeighted(MEMBERS),
    AgreementWeighted(MEMBERS),
]


def named(value: object) -> str:
    return type(value).__name__


def case(head: str = "pooled") -> Readout:
    """Return a readout of a network whose maps are not all zero, safe to change."""
    model, x, y = deepcopy(_case(head))
    return read(model, x, y)


def in_float32(readout: Readout) -> Readout:
    return read(readout.model.float(), readout.x.float(), readout.y)


@cache
def _case(head: str) -> tuple[CamClassifier, Tensor, Tensor]:
    draw = generator(6, head)
    half = torch.full((3,), 0.5)
    model = MODELS["small-cnn"](channels=3, classes=10, mean=half, std=half / 2, generator=draw)
    model = model.double()
    coarse = torch.rand(COUNT + 16 * 20, 3, 3, 3, generator=draw, dtype=torch.float64)
    x, *others = F.interpolate(coarse, size=SIZE).split([COUNT] + [16] * 20)
    with torch.no_grad():
        for batch in others:
            model(batch)
        model.head.linear.weight.normal_(std=0.3, generator=draw)
        if head == "flat":
            linear = nn.Linear(CHANNELS * 16, 10).double()
            linear.weight.normal_(std=0.05, generator=draw)
            model.head = nn.Sequential(nn.Flatten(), linear)
        # A black image of no class, or Eq. 6 would weigh every channel below 0.
        *_, last = model.eval().head.modules()
        last.bias -= model(torch.zeros_like(x[:1]))[0]
        y = model(x).topk(2).indices[torch.arange(COUNT), torch.arange(COUNT) % 2]
    return model, x, y


def size_of(readout: Readout) -> tuple[int, int]:
    return readout.x.shape[2], readout.x.shape[3]


def alone(readout: Readout, i: int) -> Readout:
    return read(readout.model, readout.x[i : i + 1], readout.y[i : i + 1])


def with_features(readout: Readout, features: Tensor) -> Readout:
    return Readout(readout.model, readout.x, features, readout.y)


def packages(kind: type, readout: Readout) -> Tensor:
    with package_in_float64():
        return packages_own(kind, readout)


def packages_own(kind: type, readout: Readout) -> Tensor:
    targets = [ClassifierOutputTarget(int(label)) for label in readout.y]
    with kind(model=readout.model, target_layers=[readout.model.body]) as cam:
        return torch.from_numpy(cam(input_tensor=readout.x, targets=targets))


# Maps from the readout alone


@pytest.mark.parametrize("head", ["pooled", "flat"])
@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=lambda v: getattr(v, "__name__", ""))
def test_a_map_equals_the_packages(ours: Cam, theirs: type, head: str):
    readout = case(head)
    expected = packages(theirs, readout)
    assert (expected.amax(dim=(1, 2)) > 0.9).all(), "the comparison would say nothing"
    got = heatmap(ours(readout), size_of(readout))
    torch.testing.assert_close(got, expected, **EQUAL)


def test_cam_is_grad_cam_up_to_scale_and_equals_the_packages():
    readout = case()
    raw = ClassActivation()(readout)
    torch.testing.assert_close(raw, GradCam()(readout) * 16, **EQUAL)
    expected = packages(GradCAM, readout)
    torch.testing.assert_close(heatmap(raw, size_of(readout)), expected, **EQUAL)


def test_cam_needs_a_pooled_linear_head():
    with pytest.raises(TypeError, match="Grad-CAM"):
        ClassActivation()(case("flat"))


@pytest.mark.parametrize("cam", MAPS, ids=named)
def test_zero_and_constant_features_give_finite_maps(cam: Cam):
    readout = case()
    for level in (0.0, 1.0):
        flat = torch.full_like(readout.features, level)
        raw = cam(with_features(readout, flat))
        assert raw.shape == (COUNT, 4, 4)
        assert (heatmap(raw, (SIZE, SIZE)) == 0).all(), level


@pytest.mark.parametrize("cam", MAPS, ids=named)
def test_a_map_of_one_image_is_that_of_the_batch(cam: Cam):
    readout = case()
    together = heatmap(cam(readout), size_of(readout))
    for i in range(COUNT):
        one = heatmap(cam(alone(readout, i)), size_of(readout))
        torch.testing.assert_close(one[0], together[i], **EQUAL)


def test_eigen_cam_of_a_feature_grid_of_one_cell_is_zero():
    readout = case()
    assert (
        EigenCam()(with_features(readout, torch.ones(COUNT, 5, 1, 1, dtype=torch.float64))) == 0
    ).all()


def test_eigen_cam_takes_the_packages_sign_at_resnets_shape():
    draw = generator(0, "eigen")
    features = torch.rand(20, 512, 4, 4, generator=draw, dtype=torch.float64).square()
    readout = with_features(case(), features)
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

    with package_in_float64():
        expected = torch.from_numpy(get_2d_projection(features.numpy())).relu()
    torch.testing.assert_close(EigenCam()(readout), expected, **EQUAL)


# Guided Grad-CAM


def test_guided_grad_cam_equals_the_packages_parts():
    readout = case()
    got = guided_grad_cam(readout.model, readout.x, readout.y)
    theirs = GuidedBackpropReLUModel(deepcopy(readout.model))
    guided = np.stack(
        [
            theirs(readout.x[i : i + 1].clone(), int(readout.y[i])).transpose(2, 0, 1)
            for i in range(COUNT)
        ]
    )
    assert np.abs(guided).max() > 1e-3
    expected = torch.from_numpy(guided) * packages(GradCAM, readout)[:, None]
    torch.testing.assert_close(got, expected, **EQUAL)


def test_guided_grad_cam_leaves_no_hook_and_every_flag():
    readout = case()
    model = readout.model.train()
    model.body[1].eval()
    flags = [module.training for module in model.modules()]
    guided_grad_cam(model, readout.x, readout.y)
    assert [module.training for module in model.modules()] == flags
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    assert not any(m._forward_pre_hooks or m._backward_pre_hooks for m in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    plain = torch.tensor([-1.0, 2.0], requires_grad=True)
    F.relu(plain).backward(torch.tensor([1.0, -1.0]))
    assert plain.grad is not None
    assert plain.grad.tolist() == [0.0, -1.0]


def test_guided_backpropagation_reaches_relus_called_as_functions():
    class Functional(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(-torch.relu(-x.flatten(1)) + 1)

    x = torch.full((1, 2), -0.5)
    gradient = guided_gradient(Functional(), x, torch.tensor([0]))  # type: ignore[arg-type]
    assert (gradient == 0).all(), "plain backpropagation gives 1"


def test_guided_backpropagation_of_a_residual_network_equals_the_packages():
    draw = generator(0, "guided")
    half = torch.full((3,), 0.5)
    model = MODELS["resnet18"](channels=3, classes=3, mean=half, std=half, generator=draw)
    model = model.double().eval()
    x = torch.rand(1, 3, 16, 16, generator=draw, dtype=torch.float64)
    got = guided_gradient(model, x, torch.tensor([1]))
    expected = GuidedBackpropReLUModel(deepcopy(model))(x.clone(), 1).transpose(2, 0, 1)
    np.testing.assert_allclose(got[0].numpy() / expected.max(), expected / expected.max(), **EQUAL)


# The package's other maps


@pytest.mark.parametrize("name", PACKAGE_NAMES)
def test_the_adaptor_gives_the_packages_own_map(name):
    import pytorch_grad_cam

    readout = in_float32(case())  # what the adaptor gives the package
    before = deepcopy(readout.model.state_dict())
    readout.model.head.linear.weight.grad = torch.ones(10, CHANNELS)
    got = heatmap(PackageCam(name)(readout), size_of(readout))
    assert not any(m._forward_hooks for m in readout.model.modules())
    assert (readout.model.head.linear.weight.grad == 1).all()
    assert all(torch.equal(before[key], now) for key, now in readout.model.state_dict().items())
    expected = packages_own(getattr(pytorch_grad_cam, name), readout)
    assert (expected.amax(dim=(1, 2)) > 0.9).any()
    # the same computation twice; `heatmap` shifts and divides what has its range already, twice
    tolerance = rounding(4) + 2 * RANGE_FLOOR
    torch.testing.assert_close(got, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", ["RandomCAM", "GradCAM", "os"])
def test_the_adaptor_refuses_other_names(name):
    with pytest.raises(ValueError, match="AblationCAM"):
        PackageCam(name)


@pytest.mark.parametrize("name", PACKAGE_NAMES)
def test_the_adaptors_maps_of_a_dead_network_are_not_nan(name):
    readout = case()
    with torch.no_grad():
        readout.model.body[-2].bias.fill_(-1e3)
    dead = read(readout.model, readout.x, readout.y)
    assert (dead.features == 0).all()
    assert heatmap(PackageCam(name)(dead), size_of(dead)).isfinite().all()


# Score-CAM's three definitions, against a loop


def masked_outputs(readout: Readout) -> Tensor:
    """Logits of every channel's masked image, one by one: (N, K, classes)."""
    rows = []
    for n in range(COUNT):
        for k in range(CHANNELS):
            mask = F.interpolate(
                readout.features[n, k][None, None],
                size=size_of(readout),
                mode="bilinear",
                align_corners=True,
            )
            mask = (mask - mask.min()) / (mask.max() - mask.min() + 1e-8)
            with torch.no_grad():
                rows.append(readout.model(readout.x[n : n + 1] * mask)[0])
    return torch.stack(rows).view(COUNT, CHANNELS, -1)


@cache
def naive() -> Tensor:
    return masked_outputs(case())


def naive_weights(definition: type, readout: Readout) -> Tensor:
    """Weights by the definition's formula, (N, K); a dead channel's mask is the black image."""
    logits = naive()
    target = readout.y[:, None, None].expand(-1, CHANNELS, 1)
    if definition is ScoreCam:
        return logits.gather(2, target)[:, :, 0].softmax(dim=1)
    with torch.no_grad():
        black = readout.model(torch.zeros_like(readout.x)).softmax(dim=1)
    increase = logits.softmax(dim=2).gather(2, target)[:, :, 0]
    increase = increase - black.gather(1, readout.y[:, None])
    return increase.softmax(dim=1) if definition is ScoreCamSoftmax else increase


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_each_definition_equals_a_loop_over_channels(definition):
    readout = case()
    weights = naive_weights(definition, readout)
    raw = torch.einsum("nk,nkhw->nhw", weights, readout.features).relu()
    got = heatmap(definition(ExactScores(chunk=50))(readout), size_of(readout))
    assert (got.amax(dim=(1, 2)) > 0.9).all()
    torch.testing.assert_close(got, heatmap(raw, size_of(readout)), **EQUAL)


def test_the_three_definitions_differ_and_eq_6_has_negative_weights():
    readout = case()
    maps = [heatmap(d(ExactScores())(readout), size_of(readout)) for d in DEFINITIONS]
    assert (naive_weights(ScoreCamIncrease, readout) < -1e-3).any()
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (maps[i] - maps[j]).abs().max() > 1e-3


def test_score_cam_is_still_the_packages():
    readout = case()
    got = heatmap(ScoreCam(ExactScores())(readout), size_of(readout))
    torch.testing.assert_close(got, packages(ScoreCAM, readout), **EQUAL)


def test_log_odds_are_the_softmax_before_its_sigmoid():
    logits = torch.randn(7, 5, generator=generator(0, "odds"), dtype=torch.float64) * 4
    y = torch.arange(7) % 5
    expected = logits.softmax(dim=1).gather(1, y[:, None])[:, 0]
    torch.testing.assert_close(target_log_odds(logits, y).sigmoid(), expected, **EQUAL)
    far = target_log_odds(torch.tensor([[1e4, 0.0], [-1e4, 0.0]]), torch.zeros(2, dtype=torch.long))
    assert far.sigmoid().tolist() == [1.0, 0.0]


# Estimators of the scores


@pytest.mark.parametrize("quantity", [target_logit, target_log_odds])
@pytest.mark.parametrize("scores", ESTIMATORS, ids=named)
def test_every_living_channel_is_scored_and_no_dead_one(scores: Scores, quantity):
    readout = case()
    features = readout.features.clone()
    features[:, ::3] = 0
    features[1] = 0
    got = scores(with_features(readout, features), quantity)
    alive = features.amax(dim=(2, 3)) > 0
    assert not alive[1].any()
    assert torch.equal(got.isfinite(), alive)
    assert (got[~alive] == -torch.inf).all()
    assert not got.requires_grad


@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize("scores", ESTIMATORS, ids=named)
def test_zero_or_constant_features_give_finite_score_maps(scores: Scores, definition):
    readout = case()
    for level in (0.0, 1.0):
        flat = torch.full_like(readout.features, level)
        raw = definition(scores)(with_features(readout, flat))
        assert (heatmap(raw, size_of(readout)) == 0).all()


@pytest.mark.parametrize("quantity", [target_logit, target_log_odds])
@pytest.mark.parametrize("scores", ESTIMATORS, ids=named)
def test_scores_of_one_image_are_those_of_the_batch(scores: Scores, quantity):
    readout = case()
    together = scores(readout, quantity)
    each = torch.cat([scores(alone(readout, i), quantity) for i in range(COUNT)])
    torch.testing.assert_close(each, together, **EQUAL)


@pytest.mark.parametrize("quantity", [target_logit, target_log_odds])
def test_mask_gradient_scores_are_the_tangent_of_the_masked_images_score(quantity):
    readout = case()
    scores = MaskGradientScores()(readout, quantity)
    model, x, step = readout.model, readout.x, 1e-7
    masks = unit_masks(readout.features)

    def score(k: int, t: float) -> Tensor:
        mask = 0.5 + t * (masks[:, k] - 0.5)
        up = F.interpolate(mask[:, None], size=(8, 8), mode="bilinear", align_corners=True)
        with torch.no_grad():
            return quantity(model(x * up), readout.y)

    for k in (0, 40, 95):
        alive = scores[:, k].isfinite()
        slope = (score(k, step) - score(k, -step)) / (2 * step)
        expected = (score(k, 0.0) + slope)[alive]
        # a difference of scores of size 10 that are rounded to 2e-16 each, over 2 * 1e-7
        near = rounding(1000, scale=10, dtype=torch.float64) / step
        torch.testing.assert_close(scores[alive, k], expected, atol=near, rtol=0)


def test_mask_gradient_scores_are_exact_for_a_network_linear_in_its_image():
    readout = case()
    model = readout.model
    for module in model.body:
        if isinstance(module, nn.ReLU):
            module.forward = lambda x: x  # type: ignore[method-assign]
    features = readout.features.clone()
    features[:, :, [0, -1], [0, -1]] = 0  # minimum and
    features[:, :, [0, -1], [-1, 0]] = 1e2  # maximum at corners, where upsampling keeps them
    linear = Readout(model, readout.x, features, readout.y)
    torch.testing.assert_close(
        MaskGradientScores()(linear), ExactScores()(linear), atol=1e-8, rtol=1e-8
    )


def test_mask_gradient_scores_leave_no_gradient_on_weights():
    readout = case()
    with torch.no_grad():
        MaskGradientScores()(readout)
    assert all(p.grad is None for p in readout.model.parameters())


def test_mask_gradient_and_clustered_scores_take_any_head():
    readout = case("flat")
    for scores in (MaskGradientScores(), ClusteredScores(k=4), ExactScores()):
        assert heatmap(ScoreCam(scores)(readout), (8, 8)).amax(dim=(1, 2)).min() > 0.9
    with pytest.raises(TypeError, match="exact"):
        BOTH(readout)


def test_mean_scores_are_the_mean():
    readout = case()
    members = (MaskGradientScores(), FeatureSpaceScores())
    first, second = (scores(readout, target_log_odds) for scores in members)
    torch.testing.assert_close(
        MeanScores(members)(readout, target_log_odds), (first + second) / 2, **EQUAL
    )


@pytest.mark.parametrize("quantity", [target_logit, target_log_odds])
@pytest.mark.parametrize("k", [CHANNELS, 2 * CHANNELS])
def test_as_many_clusters_as_channels_is_exact(k, quantity):
    readout = case()
    got = ClusteredScores(k=k, iterations=2)(readout, quantity)
    # a centroid is a mask whose range was guarded before; it scales scores of size 10
    guarded = 10 * MASK_FLOOR
    expected = ExactScores()(readout, quantity)
    torch.testing.assert_close(got, expected, atol=guarded, rtol=0)


def test_clusters_cost_as_many_passes_as_they_say():
    readout = case()
    seen: list[int] = []

    class Counting(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(len(images))
            return readout.model(images)

    features = readout.features.clone()
    features[0, 3:] = 0
    counted = Readout(Counting(), readout.x, features, readout.y)  # type: ignore[arg-type]
    ClusteredScores(k=5, chunk=4)(counted)
    alive = int((features[0].amax(dim=(1, 2)) > 0).sum())
    assert alive <= 3
    assert sum(seen) == 5 * (COUNT - 1) + alive
    assert max(seen) <= 4


def test_more_clusters_come_nearer_to_the_exact_scores():
    readout = case()
    exact = ScoreCam(ExactScores())

    def error(k: int) -> float:
        scores = ClusteredScores(k=k)(readout)
        alive = scores.isfinite()
        return (scores - exact.scores(readout))[alive].square().mean().item()

    assert error(48) < error(8) < error(1)


def test_k_means_finds_groups_and_ignores_the_uncounted():
    draw = generator(2, "groups")
    centres = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]], dtype=torch.float64)
    group = torch.arange(30) % 3
    noise = torch.randn(2, 30, 2, generator=draw, dtype=torch.float64)
    points = (centres[group] + 0.1 * noise).contiguous()
    counted = torch.ones(2, 30, dtype=torch.bool)
    points[1, 7] = 100.0
    counted[1, 7] = False
    centroids, cluster = k_means(points, counted, k=3, iterations=5)
    assert (centroids.abs() < 6).all()
    for n in range(2):
        for g in range(3):
            members = cluster[n][(group == g) & counted[n]]
            assert (members == members[0]).all()
            expected = points[n][(group == g) & counted[n]].mean(dim=0)
            torch.testing.assert_close(centroids[n, members[0]], expected, **EQUAL)


def test_clusters_are_the_same_every_time():
    readout = case()
    first, second = (ClusteredScores(k=6)(readout) for _ in range(2))
    assert torch.equal(first, second)


# Fidelity


def test_pearson_is_numpys():
    draw = generator(0, "pearson")
    first, second = torch.rand(5, 6, 7, generator=draw), torch.rand(5, 6, 7, generator=draw)
    second = second + first
    expected = [
        np.corrcoef(a.double().ravel(), b.double().ravel())[0, 1]
        for a, b in zip(first, second, strict=True)
    ]
    np.testing.assert_allclose(pearson(first, second).numpy(), expected, atol=1e-12)


def test_pearson_of_constant_maps_is_never_nan():
    flat, third = torch.full((1, 5, 5), 0.1), torch.full((1, 5, 5), 1 / 3)
    slope = torch.arange(25.0).view(1, 5, 5)
    assert pearson(flat, third).tolist() == [1.0]
    assert pearson(flat, slope).tolist() == [0.0]
    assert pearson(slope, 0 * flat).tolist() == [0.0]
    tiny = pearson(slope, slope * 1e-30)
    torch.testing.assert_close(tiny, torch.ones(1, dtype=torch.float64), **EQUAL)
    torch.testing.assert_close(
        pearson(slope, 3 - slope), -torch.ones(1, dtype=torch.float64), **EQUAL
    )


def test_fidelity_is_one_to_oneself_and_judges_masks():
    readout = case()

    def maps(scores: Scores) -> Ensemble:
        return Ensemble((GradCam(), GradCamPlusPlus(), ScoreCam(scores)))

    exact, estimate = maps(ExactScores()), maps(FeatureSpaceScores())
    one = torch.ones(COUNT, dtype=torch.float64)
    torch.testing.assert_close(fidelity(readout, exact, exact), one, **EQUAL)
    mask = CentredSigmoid()
    got = fidelity(readout, estimate, exact, mask)
    assert got.shape == (COUNT,)
    torch.testing.assert_close(got, pearson(mask(estimate(readout)), mask(exact(readout))), **EQUAL)
    assert (fidelity(readout, estimate, exact) <= 1).all()


# Ensembles


@pytest.mark.parametrize("maps", ENSEMBLES, ids=named)
def test_an_ensemble_is_in_the_unit_range(maps: Maps):
    readout = case()
    got = maps(readout)
    assert got.shape == (COUNT, SIZE, SIZE)
    assert got.min() >= 0
    assert got.max() <= 1
    assert got.amax(dim=(1, 2)).min() > 0.3


@pytest.mark.parametrize("maps", ENSEMBLES, ids=named)
def test_defect_4_an_ensemble_does_not_depend_on_the_neighbours(maps: Maps):
    readout = case()
    together = maps(readout)
    each = torch.cat([maps(alone(readout, i)) for i in range(COUNT)])
    torch.testing.assert_close(together, each, **EQUAL)


@pytest.mark.parametrize("maps", ENSEMBLES, ids=named)
def test_an_ensemble_of_dead_maps_is_zero(maps: Maps):
    readout = case()
    dead = with_features(readout, torch.zeros_like(readout.features))
    assert (maps(dead) == 0).all()


def test_weights_are_shares():
    readout = case()
    heat = Ensemble(MEMBERS).heatmaps(readout)
    got = Ensemble(MEMBERS, weights=(6.0, 2.0, 2.0))(readout)
    expected = 0.6 * heat[0] + 0.2 * heat[1] + 0.2 * heat[2]
    torch.testing.assert_close(got, expected, **EQUAL)
    only = Ensemble(MEMBERS, weights=(0.0, 0.0, 5.0))(readout)
    torch.testing.assert_close(only, heat[2], **EQUAL)
    equal = Ensemble(MEMBERS, weights=(2.0, 2.0, 2.0))(readout)
    torch.testing.assert_close(equal, Ensemble(MEMBERS)(readout), **EQUAL)


@pytest.mark.parametrize(
    "weights", [(1.0, 1.0), (1.0, -0.1, 1.0), (0.0, 0.0, 0.0), (1.0, float("nan"), 1.0), ()]
)
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        Ensemble(MEMBERS, weights=weights)


class Fixed:
    """A member whose raw map is given."""

    def __init__(self, raw: Tensor) -> None:
        self.raw = raw

    def __call__(self, readout: Readout) -> Tensor:
        return self.raw[: len(readout.x)]


def test_confidence_weights_are_the_surviving_probabilities():
    readout = case()
    maps = ConfidenceWeighted(MEMBERS)
    heat = maps.heatmaps(readout)
    with torch.no_grad():
        survival = torch.stack(
            [readout.model(readout.x * h[:, None]).softmax(dim=1) for h in heat]
        ).gather(2, readout.y[None, :, None].expand(len(heat), -1, 1))
    share = (survival / survival.sum(dim=0))[:, :, :, None]
    torch.testing.assert_close(maps(readout), (share * heat).sum(dim=0), **EQUAL)


@pytest.mark.parametrize("kind", [ConfidenceWeighted, AgreementWeighted])
def test_a_constant_member_has_no_say(kind):
    readout = case()
    nothing = Fixed(torch.ones(COUNT, 4, 4, dtype=torch.float64))
    with_it = kind((GradCam(), nothing, EigenCam(), nothing))(readout)
    torch.testing.assert_close(with_it, kind((GradCam(), EigenCam()))(readout), **EQUAL)
    alone_left = kind((nothing, GradCam()))(readout)
    expected = heatmap(GradCam()(readout), size_of(readout))
    torch.testing.assert_close(alone_left, expected, **EQUAL)


def test_agreement_outvotes_the_odd_member():
    readout = case()
    ramp = torch.arange(16.0, dtype=torch.float64).view(1, 4, 4).expand(COUNT, 4, 4)
    bent = ramp.square()
    odd = ramp.flip(1, 2)
    got = AgreementWeighted((Fixed(ramp), Fixed(bent), Fixed(odd)))(readout)
    expected = AgreementWeighted((Fixed(ramp), Fixed(bent)))(readout)
    heat = Ensemble((Fixed(ramp), Fixed(bent), Fixed(odd))).heatmaps(readout)
    assert (pearson(got, heat[0]) > 0.95).all()
    torch.testing.assert_close(expected, heat[:2].mean(dim=0), **EQUAL)
    plain = Ensemble((Fixed(ramp), Fixed(odd)))(readout)
    assert is_constant(plain).all(), "a plain mean is left with nothing"


def test_agreement_of_opposites_weighs_them_alike():
    readout = case()
    ramp = torch.arange(16.0, dtype=torch.float64).view(1, 4, 4).expand(COUNT, 4, 4)
    pair = (Fixed(ramp), Fixed(15 - ramp))
    torch.testing.assert_close(AgreementWeighted(pair)(readout), Ensemble(pair)(readout), **EQUAL)


@pytest.mark.parametrize("kind", [ConfidenceWeighted, AgreementWeighted])
def test_a_single_member_is_itself(kind):
    readout = case()
    expected = heatmap(GradCam()(readout), size_of(readout))
    torch.testing.assert_close(kind((GradCam(),))(readout), expected, **EQUAL)


def test_no_method_here_leaves_a_hook():
    readout = case()
    for cam in (*MAPS, *(ScoreCam(scores) for scores in ESTIMATORS)):
        cam(readout)
    for maps in ENSEMBLES:
        maps(readout)
    assert not any(
        m._forward_hooks or m._backward_hooks or m._forward_pre_hooks
        for m in readout.model.modules()
    )


def test_selection_takes_each_images_most_surviving_member_whole():
    readout = case()
    maps = ConfidenceWeighted(MEMBERS, most_alone=True)
    heat = maps.heatmaps(readout)
    with torch.no_grad():
        kept = torch.stack(
            [readout.model(readout.x * h[:, None]).softmax(dim=1) for h in heat]
        ).gather(2, readout.y[None, :, None].expand(len(heat), -1, 1))[:, :, 0]
    winner = kept.argmax(dim=0)
    expected = heat[winner, torch.arange(len(winner))]
    torch.testing.assert_close(maps(readout), expected, **EQUAL)


@pytest.mark.parametrize("estimator", [ExactScores(), MaskGradientScores(), ClusteredScores(4)])
def test_narrow_passes_score_nearly_alike_and_leave_the_readout_alone(estimator):
    readout = in_float32(case())
    wide, narrow = estimator(readout), NarrowScores(estimator)(readout)
    assert narrow.dtype == torch.float32
    assert torch.equal(narrow.isneginf(), wide.isneginf())
    alive = ~wide.isneginf()
    assert (narrow - wide)[alive].abs().mean() < 0.05 * wide[alive].abs().max()
    assert not torch.equal(narrow, wide), "nothing was narrow"
    maps = [ScoreCam(s)(readout) for s in (estimator, NarrowScores(estimator))]
    assert pearson(*maps).min() > 0.99


@pytest.mark.parametrize("definition", [ScoreCam, ScoreCamIncrease, ScoreCamSoftmax])
def test_defect_5_channels_that_are_not_scored_take_no_part(definition):
    readout = case()
    features = readout.features.clone()
    features[:, 8:] = 0
    expected = definition(ExactScores())(with_features(readout, features))
    got = definition(FirstChannelsScores(8))(readout)
    torch.testing.assert_close(unit(got), unit(expected), **EQUAL)


def unit(maps: Tensor) -> Tensor:
    """Maps up to their scale, which normalisation takes away."""
    return maps / maps.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
