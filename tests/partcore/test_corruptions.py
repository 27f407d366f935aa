"""Corruptions against other people's filters and codecs, and laws that all of them keep."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from scipy import fft, ndimage, stats
from torch import Tensor
from torch.nn.functional import interpolate

from domain.corruptions import KINDS
from partcore.corruptions import CORRUPTIONS, Draws, corrupt
from partcore.corruptions.blur import DefocusBlur, GaussianBlur, MotionBlur, ZoomBlur
from partcore.corruptions.colour import Brightness, Contrast, Saturate
from partcore.corruptions.digital import Elastic, Jpeg, Pixelate
from partcore.corruptions.noise import GaussianNoise, ImpulseNoise, ShotNoise, SpeckleNoise
from partcore.corruptions.sampling import gaussian_matrix, mirrored, places, read_at
from partcore.corruptions.weather import Fog, Snow, plasma
from tests.examples import examples
from tests.partcore.exact import rounding

MIXED = frozenset({"snow", "saturate", "elastic"})
"""Kinds whose published strengths change character, so that a step may bring an image nearer."""
AROUND = rounding(100)
"""A pixel in [0, 1] as a weighted mean of up to 81 around it, and what is done to it then."""
BETWEEN = rounding(100 + 8 * 40)
"""The same, read between pixels: a place of up to 40 pixels is rounded some eight times, and a
value changes by up to 1 a pixel."""


def draws(count: int, seed: int = 0) -> Draws:
    return Draws.of(seed, "test", ids=range(count))


def smooth(count: int, channels: int, height: int = 32, width: int = 32) -> Tensor:
    coarse = torch.rand(count, channels, 4, 4, generator=torch.Generator().manual_seed(5))
    return interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)


def rough(count: int, channels: int, height: int = 32, width: int = 32) -> Tensor:
    """Noise of 8 bits."""
    seeded = torch.Generator().manual_seed(6)
    shape = (count, channels, height, width)
    return torch.randint(0, 256, shape, generator=seeded).float() / 255


def test_what_a_spec_may_name_is_what_there_is():
    assert tuple(CORRUPTIONS) == KINDS
    assert {len(strengths) for strengths in CORRUPTIONS.values()} == {5}


@pytest.mark.parametrize("severity", [-1, 0, 6])
def test_there_are_five_severities(severity):
    with pytest.raises(ValueError, match="none of 1 to 5"):
        corrupt(smooth(1, 3), "fog", severity, draws(1))


def test_there_is_no_frost():
    with pytest.raises(KeyError):
        corrupt(smooth(1, 3), "frost", 1, draws(1))


# -- laws -------------------------------------------------------------------------------------


@settings(max_examples=examples(100), deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    severity=st.integers(1, 5),
    channels=st.sampled_from((1, 3)),
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    made=st.sampled_from((smooth, rough, lambda *shape: torch.zeros(shape))),
)
def test_an_image_stays_an_image(kind, severity, channels, height, width, made):
    x = made(2, channels, height, width)
    before = x.clone()
    found = corrupt(x, kind, severity, draws(2))
    assert found.shape == x.shape
    assert found.dtype == x.dtype
    assert 0 <= found.min() <= found.max() <= 1, "and no NaN"
    assert torch.equal(x, before), "the image itself is left alone"


@pytest.mark.parametrize("kind", KINDS)
def test_no_sample_depends_on_its_batch(kind):
    x = smooth(5, 3)
    for severity in (1, 5):
        whole = corrupt(x, kind, severity, draws(5))
        alone = [
            corrupt(x[i : i + 1], kind, severity, Draws.of(0, "test", ids=[i])) for i in range(5)
        ]
        assert torch.allclose(whole, torch.cat(alone), atol=AROUND, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_decides_and_only_where_chance_has_a_part(kind):
    x = smooth(4, 3)
    first, again, other = (corrupt(x, kind, 3, draws(4, seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    certain = {"brightness", "contrast", "saturate", "pixelate", "jpeg"}
    certain |= {"defocus-blur", "zoom-blur", "gaussian-blur"}
    assert torch.equal(first, other) == (kind in certain)
    twins = corrupt(x[:1].expand(2, -1, -1, -1), kind, 3, draws(2))
    assert torch.allclose(twins[0], twins[1], atol=AROUND, rtol=0) == (kind in certain)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", sorted(set(KINDS) - MIXED))
def test_a_severer_one_is_further_away(kind, channels):
    x = smooth(16, channels)
    far = [(corrupt(x, kind, s, draws(16)) - x).abs().mean().item() for s in range(1, 6)]
    assert far[0] > 0
    for severity, (near, further) in enumerate(itertools.pairwise(far), start=1):
        if (kind, severity) == ("motion-blur", 3):
            # Published as (6, 2) and (8, 2): what a longer line adds to that Gaussian is nothing.
            assert further == pytest.approx(near, rel=1e-3)
        else:
            assert near < further


def test_mixed_strengths_grow_where_they_are_of_one_character():
    x = smooth(16, 3)
    far = {
        (kind, s): (corrupt(x, kind, s, draws(16)) - x).abs().mean()
        for kind, s in itertools.product(MIXED, range(1, 6))
    }
    assert far["snow", 1] < far["snow", 2] < far["snow", 4] < far["snow", 5]
    assert far["saturate", 1] < far["saturate", 2], "towards grey"
    assert 0 < far["saturate", 3] < far["saturate", 4] < far["saturate", 5], "away from it"
    # The affine map, which moves most pixels furthest, is weaker at each severity.
    assert far["elastic", 5] < far["elastic", 1]


# -- noise ------------------------------------------------------------------------------------


def test_gaussian_noise_is_normal():
    grey = torch.full((8, 3, 32, 32), 0.5)
    z = (GaussianNoise(0.1)(grey, draws(8)) - 0.5) / 0.1
    assert stats.kstest(z.flatten().numpy(), "norm").pvalue > 0.01
    assert stats.kstest(0.8 * z.flatten().numpy(), "norm").pvalue < 1e-6, "the test has power"


def test_speckle_noise_is_as_strong_as_its_pixel():
    x = torch.tensor([0.2, 0.4]).repeat_interleave(512).reshape(1, 1, 32, 32).expand(20, -1, -1, -1)
    off = SpeckleNoise(0.1)(x, draws(20)) - x
    dark, light = off[x < 0.3].std(), off[x > 0.3].std()
    assert dark.item() == pytest.approx(0.02, rel=0.03)
    assert light.item() == pytest.approx(0.04, rel=0.03)


def test_shot_noise_counts_photons():
    grey = torch.full((20, 1, 32, 32), 0.4)
    counts = ShotNoise(50)(grey, draws(20)) * 50
    assert torch.allclose(counts, counts.round(), atol=rounding(4, scale=50), rtol=0)
    assert counts.mean().item() == pytest.approx(20, rel=0.01)
    assert counts.var().item() == pytest.approx(20, rel=0.05)


def test_impulse_noise_loses_its_share_to_black_and_white_alike():
    grey = torch.full((20, 3, 32, 32), 0.4)
    found = ImpulseNoise(0.2)(grey, draws(20))
    assert set(found.unique().tolist()) == {0.0, grey[0, 0, 0, 0].item(), 1.0}
    for value in (0, 1):
        assert (found == value).float().mean().item() == pytest.approx(0.1, abs=0.005)


# -- blur -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.4, 1.0, 3.0])
def test_gaussian_blur_is_scipys(sigma):
    x = rough(2, 3, 20, 32)
    theirs = ndimage.gaussian_filter(x.numpy(), (0, 0, sigma, sigma), mode="nearest")
    assert np.allclose(GaussianBlur(sigma)(x, draws(2)), theirs, atol=AROUND, rtol=0)


@pytest.mark.parametrize("size", [8, 32])
def test_a_mirrored_gaussian_is_scipys_even_where_it_is_wider_than_the_axis(size):
    x = np.random.default_rng(0).uniform(size=size)
    theirs = ndimage.gaussian_filter1d(x, 6.4, mode="reflect", truncate=3)
    ours = gaussian_matrix(size, 6.4, mirrored, truncate=3) @ torch.from_numpy(x)
    assert np.allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize(("radius", "edge"), [(0.3, 0.4), (0.5, 0.6), (1, 0.2), (1.5, 0.1)])
def test_defocus_blur_is_scipys_convolution_with_a_soft_disk(radius, edge):
    x = rough(1, 3)
    disk = np.zeros((9, 9))
    for i, j in itertools.product(range(9), repeat=2):
        disk[i, j] = math.hypot(i - 4, j - 4) <= radius
    # A truncated Gaussian of one pixel either side is the 3x3 filter.
    soft = ndimage.gaussian_filter(disk / disk.sum(), edge, radius=1)
    theirs = ndimage.convolve(x.numpy(), soft[None, None], mode="mirror")
    assert np.allclose(DefocusBlur(radius, edge)(x, draws(1)), theirs, atol=AROUND, rtol=0)


def test_motion_blur_along_a_row_and_a_column():
    x = rough(2, 3)
    weight = np.exp(-(np.arange(13) ** 2) / (2 * 1.5**2))
    wide = np.pad(x.numpy(), ((0, 0), (0, 0), (0, 0), (0, 12)), mode="edge")
    theirs = sum(w * wide[..., i : i + 32] for i, w in enumerate(weight / weight.sum()))
    assert np.allclose(MotionBlur(6, 1.5, (0, 0))(x, draws(2)), theirs, atol=BETWEEN, rtol=0)
    turned = MotionBlur(6, 1.5, (90, 90))(x.mT, draws(2)).mT
    assert np.allclose(turned, theirs, atol=BETWEEN, rtol=0)


def test_zoom_blur_is_the_mean_of_scipys_zooms():
    x = rough(1, 1, 24, 32)
    middle = np.array([23 / 2, 31 / 2])
    seen = [x[0, 0].numpy()] * 2 + [
        ndimage.affine_transform(
            x[0, 0].numpy(), np.eye(2) / zoom, middle - middle / zoom, order=1, mode="nearest"
        )
        for zoom in (1.01, 1.02, 1.03)
    ]
    assert np.allclose(ZoomBlur(3)(x, draws(1))[0, 0], np.mean(seen, axis=0), atol=BETWEEN, rtol=0)


@pytest.mark.parametrize(("beyond", "mode"), [("border", "nearest"), ("reflection", "reflect")])
def test_reading_between_pixels_is_scipys(beyond, mode):
    x = rough(1, 1, 12, 9)
    places = np.random.default_rng(1).uniform(-6, 17, size=(2, 5, 7))
    theirs = ndimage.map_coordinates(x[0, 0].numpy(), places, order=1, mode=mode)
    row, column = torch.from_numpy(places).float()
    ours = read_at(x, row[None], column[None], beyond=beyond)
    assert np.allclose(ours[0, 0], theirs, atol=BETWEEN, rtol=0)


# -- weather ----------------------------------------------------------------------------------


def midpoints(noise: np.ndarray, smoothness: float) -> np.ndarray:
    """Diamond-square, point by point."""
    side = len(noise)
    cloud, step, weight = np.zeros_like(noise), side, 1.0

    def put(i: int, j: int, *around: tuple[int, int]) -> None:
        mean = sum(cloud[a % side, b % side] for a, b in around) / 4
        cloud[i % side, j % side] = mean + weight * noise[i % side, j % side]

    while step > 1:
        h = step // 2
        grid = list(itertools.product(range(0, side, step), repeat=2))
        for i, j in grid:
            put(i + h, j + h, (i, j), (i + step, j), (i, j + step), (i + step, j + step))
        for i, j in grid:
            put(i, j + h, (i, j), (i, j + step), (i + h, j + h), (i - h, j + h))
            put(i + h, j, (i, j), (i + step, j), (i + h, j + h), (i + h, j - h))
        step, weight = h, weight / smoothness**2
    return (cloud - cloud.min()) / (cloud.max() - cloud.min())


def test_fog_is_made_of_midpoints():
    noise = torch.rand(2, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for ours, own in zip(plasma(2 * noise - 1, 1.75), (2 * noise - 1).numpy(), strict=True):
        assert np.allclose(ours, midpoints(own, 1.75), atol=1e-12)


def test_fog_keeps_the_brightest_value_within_the_images():
    x = 0.5 * smooth(3, 3)
    found = Fog(1.0, 2)(x, draws(3))
    assert (found.amax(dim=(1, 2, 3)) <= x.amax(dim=(1, 2, 3)) + AROUND).all()


def test_snow_is_laid_on_twice_over_a_paler_image():
    blown = MotionBlur(8, 3, (-135, -45))
    x = smooth(2, 3)
    pale = Snow(0.1, 0.2, 1, math.inf, blown, 0.8)(x, draws(2))
    grey = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    assert torch.allclose(
        pale, 0.8 * x + 0.2 * x.maximum(1.5 * grey[:, None] + 0.5), atol=AROUND, rtol=0
    )
    flakes = Snow(0.1, 0.2, 1, 0.5, blown, 1.0)(torch.zeros(2, 1, 32, 32), draws(2))
    assert torch.allclose(flakes, flakes.flip(2, 3), atol=AROUND, rtol=0)
    assert 0 < (flakes > 0.05).float().mean() < 0.9


# -- colour -----------------------------------------------------------------------------------


def through_hsv(x: Tensor, gains: tuple[float, ...], offsets: tuple[float, ...]) -> np.ndarray:
    hsv = rgb_to_hsv(x.permute(0, 2, 3, 1).double().numpy())
    changed = np.clip(hsv * gains + offsets, 0, 1)
    return hsv_to_rgb(changed).transpose(0, 3, 1, 2)


def with_greys(x: Tensor) -> Tensor:
    """Some pixels grey, black and white: they have no hue."""
    levels = torch.tensor([0, 0.3, 1])
    x[:, :, 0, :3] = levels
    return x


def test_brightness_is_value():
    x = with_greys(rough(2, 3))
    ours = Brightness(0.2)(x, draws(2))
    assert np.allclose(ours, through_hsv(x, (1, 1, 1), (0, 0, 0.2)), atol=AROUND, rtol=0)
    dark = torch.tensor([0.0, 0.5, 0.9]).reshape(1, 1, 1, 3)
    assert Brightness(0.2)(dark, draws(1)).flatten().tolist() == pytest.approx([0.2, 0.7, 1])


@pytest.mark.parametrize(("gain", "offset"), [(0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.5, 0.2)])
def test_saturate_is_saturation(gain, offset):
    x = with_greys(rough(2, 3))
    theirs = through_hsv(x, (1, gain, 1), (0, offset, 0))
    assert np.allclose(Saturate(gain, offset)(x, draws(2)), theirs, atol=AROUND, rtol=0)


def test_a_grey_image_has_no_saturation_to_change():
    x = smooth(1, 1)
    assert torch.equal(Saturate(2.5, 0.2)(x, draws(1)), x)


def test_contrast_keeps_the_mean_and_a_share_of_the_deviation():
    x = smooth(2, 3)
    found = Contrast(0.3)(x, draws(2))
    assert torch.allclose(found.mean(dim=(2, 3)), x.mean(dim=(2, 3)), atol=AROUND, rtol=0)
    assert torch.allclose(found.std(dim=(2, 3)), 0.3 * x.std(dim=(2, 3)), atol=AROUND, rtol=0)


# -- digital ----------------------------------------------------------------------------------


LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
"""ITU-T T.81, table K.1: quantisation at quality 50."""


def quantised(levels: np.ndarray, quality: int) -> np.ndarray:
    """What JPEG does to a grey image: blocks of 8x8, cosine transform, rounding."""
    scale = 200 - 2 * quality if quality >= 50 else 5000 // quality
    table = np.clip((LUMINANCE * scale + 50) // 100, 1, 255)
    found = np.empty(levels.shape)
    for i, j in itertools.product(*(range(0, size, 8) for size in levels.shape)):
        block = np.s_[i : i + 8, j : j + 8]
        waves = fft.dctn(levels[block] - 128.0, norm="ortho")
        found[block] = fft.idctn((waves / table).round() * table, norm="ortho") + 128
    return found.round().clip(0, 255)


@pytest.mark.parametrize("quality", [80, 50, 40])
def test_jpeg_of_a_grey_image_is_the_standards_arithmetic(quality):
    x = smooth(3, 1, 24, 32)
    levels = (255 * x[:, 0]).round().numpy()
    found = 255 * Jpeg(quality)(x, draws(3))[:, 0].numpy()
    off = np.abs(found - np.stack([quantised(one, quality) for one in levels]))
    assert off.max() <= 2, "codecs transform in whole numbers"
    assert off.mean() < 0.2 < 1 < np.abs(found - levels).mean()


def test_jpeg_of_a_colour_image_is_pillows_file(tmp_path):
    x = smooth(2, 3, 24, 40)
    found = Jpeg(40)(x, draws(2))
    for ours, image in zip(found, x, strict=True):
        levels = (255 * image).round().byte().numpy()
        Image.merge("RGB", [Image.fromarray(one) for one in levels]).save(
            tmp_path / "a.jpg", quality=40
        )
        theirs = np.array(Image.open(tmp_path / "a.jpg")).transpose(2, 0, 1)
        assert np.array_equal((255 * ours).round().numpy(), theirs)


@pytest.mark.parametrize("share", [0.95, 0.75, 0.65, 0.3])
def test_pixelate_is_pillows_box_there_and_back(share):
    x = rough(1, 1, 20, 32)
    picture = Image.fromarray((255 * x[0, 0]).round().byte().numpy())
    fewer = (int(32 * share), int(20 * share))
    theirs = picture.resize(fewer, Image.Resampling.BOX).resize((32, 20), Image.Resampling.BOX)
    off = Pixelate(share)(x, draws(1))[0, 0] - torch.from_numpy(np.array(theirs)) / 255
    assert off.abs().max() <= 1.01 / 255, "Pillow rounds to 8 bits after each axis"


def test_elastic_of_no_strength_is_the_image():
    x = rough(2, 3, 20, 32)
    assert torch.allclose(Elastic(0, 0, 0)(x, draws(2)), x, atol=BETWEEN, rtol=0)


def test_elastic_takes_each_moved_point_back_to_its_own():
    """The map is affine and holds at three points; between them it is a straight line."""
    x = rough(3, 1)
    row, column = places(x)
    taken = torch.stack(Elastic(0, 0, 0.08)._mapped(row, column, draws(3), 32, 32), dim=1)
    moved = draws(3).uniform(-0.08 * 32, 0.08 * 32, 3, 2)
    corners = torch.tensor([[26.0, 26.0], [26.0, 6.0], [6.0, 6.0]])
    for sample, (shifts, field) in enumerate(zip(moved, taken, strict=True)):
        for corner, shift in zip(corners, shifts, strict=True):
            at = (corner + shift).numpy()[:, None]
            back = [ndimage.map_coordinates(axis.numpy(), at, order=1)[0] for axis in field]
            assert back == pytest.approx(corner.tolist(), abs=1e-3), sample
