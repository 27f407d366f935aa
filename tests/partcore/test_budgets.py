"""Masks, their controls, and what two masks spend."""

import matplotlib as mpl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from partcore.budgets import (
    Blurred,
    CentredMean,
    CentredSigmoid,
    Flat,
    Geometric,
    Inverted,
    OfficialJet,
    Quantile,
    Shuffled,
    SigmoidMean,
    Threshold,
    ZScore,
    pixel_budget,
    with_mean,
)
from partcore.budgets.official_jet import jet
from partcore.randomness import generator
from tests.partcore.exact import rounding

MASKS = [CentredMean(), Quantile(), Threshold(), ZScore(), OfficialJet(), Geometric("border")]
CONTROLS = [Shuffled(), Inverted(), Blurred(), Flat()]
maps = arrays("float32", (3, 8, 8), elements=st.floats(0, 1, width=32)).map(torch.from_numpy)
NEAR = {"atol": rounding(80), "rtol": 0.0}
"""Masks of 64 float32 in [0, 1]: a mean of them, and a few steps before and after it."""
by_name = {"ids": lambda value: type(value).__name__}


def bumps(count: int = 4, size: int = 16) -> torch.Tensor:
    """Maps with a warm region each, like those of a trained network."""
    place = torch.linspace(-1, 1, size, dtype=torch.float64)
    grid = place[:, None] ** 2 + (place[None, :] - 0.3) ** 2
    widths = torch.linspace(0.2, 0.8, count, dtype=torch.float64)
    return torch.exp(-grid[None] / widths[:, None, None])


@pytest.mark.parametrize("mask", MASKS, **by_name)
@given(heat=maps)
def test_a_mask_is_in_its_range_and_each_images_own(mask, heat):
    whole = mask(heat)
    assert torch.isfinite(whole).all()
    assert (whole >= 0).all()
    assert (whole <= 1).all()
    assert torch.equal(whole[1:2], mask(heat[1:2]))


@pytest.mark.parametrize("mask", [m for m in MASKS if not isinstance(m, Geometric)], **by_name)
def test_a_constant_map_prefers_no_pixel(mask):
    assert (mask(torch.full((2, 4, 4), 0.7)) == 0.5).all()
    assert (mask(torch.zeros(2, 4, 4)) == 0.5).all()


def test_ranks_are_the_same_numbers_for_every_image():
    ranked = Quantile()(bumps())
    for one in ranked:
        evenly = torch.linspace(0, 1, 256, dtype=one.dtype)
        torch.testing.assert_close(one.flatten().sort().values, evenly, **NEAR)
    assert ranked.mean().item() == pytest.approx(0.5)


def test_a_threshold_and_a_z_score_give_two_radii():
    heat = bumps()
    hot = heat >= heat.amin((1, 2), keepdim=True) + 0.5 * (
        heat.amax((1, 2), keepdim=True) - heat.amin((1, 2), keepdim=True)
    )
    assert torch.equal(Threshold(0.5)(heat).bool(), hot)
    standard = (heat - heat.mean((1, 2), keepdim=True)) / heat.std(
        (1, 2), keepdim=True, correction=0
    )
    assert torch.equal(ZScore(1.0)(heat).bool(), standard > 1)


def test_defect_3_the_mean_form_spreads_once_it_is_centred():
    heat = bumps()
    assert SigmoidMean()(heat).mean() > 0.75
    assert 0.3 < CentredMean()(heat).mean() < 0.7


def test_jet_is_matplotlibs():
    values = torch.linspace(0, 1, 256).view(1, 16, 16)
    expected = torch.from_numpy(mpl.colormaps["jet"](values[0].numpy())[..., :3]).permute(2, 0, 1)
    torch.testing.assert_close(jet(values)[0], expected.float(), atol=1 / 128, rtol=0)


def test_defect_2_the_official_mask_denies_the_hottest_pixels():
    heat = bumps(1)
    hottest = heat[0] == heat[0].max()
    assert OfficialJet()(heat)[0, :, hottest].sum() == 0, "dark red stands out in no channel"
    assert OfficialJet()(heat).sum() > 0
    assert (CentredSigmoid()(heat)[0][hottest] > 0.99).all()


@pytest.mark.parametrize(
    ("region", "share"),
    [("centre", 0.25), ("border", 0.75), ("top-left", 0.25), ("everywhere", 1.0)],
)
def test_a_region_is_what_its_name_says(region, share):
    assert Geometric(region)(bumps()).mean().item() == share


def test_quadrants_divide_the_image():
    names = ("top-left", "top-right", "bottom-left", "bottom-right")
    heat = torch.rand(2, 7, 7)
    assert torch.equal(sum(Geometric(name)(heat) for name in names), torch.ones(2, 7, 7))
    assert Geometric("bottom-right")(heat)[0, -1, -1] == 1


@pytest.mark.parametrize("control", CONTROLS, **by_name)
@given(mask=maps)
def test_a_control_spends_what_the_mask_spends(control, mask):
    other = control(mask, generator=generator(1, "control"))
    assert other.shape == mask.shape
    assert (other >= 0).all()
    assert (other <= 1).all()
    torch.testing.assert_close(other.mean((1, 2)), mask.mean((1, 2)), **NEAR)


def test_controls_take_away_what_they_say():
    mask = CentredSigmoid()(bumps())
    draw = generator(1, "control")
    shuffled = Shuffled()(mask, generator=draw)
    assert torch.equal(shuffled.flatten(1).sort(1).values, mask.flatten(1).sort(1).values)
    assert not torch.equal(shuffled, mask)
    inverted = Inverted()(mask, generator=draw)
    both = torch.stack([mask[0].flatten(), inverted[0].flatten()])
    assert torch.corrcoef(both)[0, 1] < -0.95
    blurred = Blurred()(mask, generator=draw)
    assert blurred.std() < mask.std()
    assert torch.corrcoef(torch.stack([mask[0].flatten(), blurred[0].flatten()]))[0, 1] > 0.8


def test_the_random_control_follows_its_generator():
    mask = CentredSigmoid()(bumps())
    one, same = (Shuffled()(mask, generator=generator(1, "a")) for _ in range(2))
    assert torch.equal(one, same)
    assert not torch.equal(one, Shuffled()(mask, generator=generator(2, "a")))


@given(mask=maps, mean=st.floats(0, 1))
def test_matching_is_exact_and_keeps_order_and_range(mask, mean):
    matched = with_mean(mask, mean)
    torch.testing.assert_close(matched.mean((1, 2)), torch.full((3,), mean), **NEAR)
    assert (matched >= 0).all()
    assert (matched <= 1).all()
    order = mask[0].flatten().argsort()
    assert (matched[0].flatten()[order].diff() >= -NEAR["atol"]).all()


def test_a_colour_mask_gives_a_radius_a_channel():
    epsilon = pixel_budget(OfficialJet()(bumps()), epsilon_high=8 / 255, epsilon_low=7 / 255)
    assert epsilon.shape == (4, 3, 16, 16)
    assert set(epsilon.unique().mul(255).round().tolist()) == {7, 8}
