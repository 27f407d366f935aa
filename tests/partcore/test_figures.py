"""The picture: what is painted is what was computed."""

import io

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from partcore.figures import RIGHT, WRONG, BudgetPicture, draw

LOW, HIGH = 44 / 255, 51 / 255


def picture(channels: int = 1, images: int = 2, **over) -> BudgetPicture:
    """Everything in the middle of its range, but the radius, which is the high one."""
    shape = (images, 8, 8)
    x = torch.full((images, channels, 8, 8), 0.5)
    values = {
        "x": x,
        "maps": torch.full((3, *shape), 0.25),
        "ensemble": torch.full(shape, 0.5),
        "mask": torch.full(shape, 1.0),
        "epsilon": torch.full((images, 1, 8, 8), HIGH),
        "x_adv": x + HIGH,
        "truth": ["seven"] * images,
        "predicted": ["seven"] * images,
        "predicted_adv": ["seven"] * images,
        "radii": (LOW, HIGH),
        "caption": "digits",
    }
    return BudgetPicture(**{**values, **over})


def pixels(png: bytes) -> np.ndarray:
    """(H, W, 3), uint8."""
    return np.round(255 * imread(io.BytesIO(png))[..., :3]).astype(np.uint8)


def scale(name: str, value: float) -> np.ndarray:
    """The colour of a value in [0, 1], as bytes."""
    return np.array(mpl.colormaps[name](value, bytes=True)[:3])


def share(image: np.ndarray, colour: np.ndarray | str) -> float:
    """Which part of the figure has exactly this colour."""
    wanted = np.round(255 * np.array(to_rgb(colour))) if isinstance(colour, str) else colour
    return float((image == wanted).all(axis=2).mean())


def test_a_value_is_painted_in_its_scales_colour():
    image = pixels(draw(picture()))
    cell = share(image, scale("cividis", 1.0))
    assert cell > 0.02, "one cell of nine, of two rows, is the mask"
    assert share(image, scale("viridis", 1.0)) == pytest.approx(cell, rel=0.05)
    assert share(image, scale("magma", 0.25)) == pytest.approx(3 * cell, rel=0.05)
    assert share(image, scale("magma", 0.5)) == pytest.approx(cell, rel=0.05)
    assert share(image, scale("RdBu_r", 1.0)) == pytest.approx(cell, rel=0.05)


def test_the_low_radius_has_the_other_end_of_the_scale():
    low = picture(epsilon=torch.full((2, 1, 8, 8), LOW))
    assert share(pixels(draw(low)), scale("viridis", 0.0)) > 0.02


def test_a_fooled_network_is_told_in_red():
    sure, fooled = draw(picture()), draw(picture(predicted_adv=["one", "one"]))
    assert share(pixels(sure), WRONG) == 0
    assert share(pixels(fooled), WRONG) > 0
    assert share(pixels(fooled), RIGHT) > 0


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_has_a_row_and_equal_radii_are_no_trouble(channels):
    one = pixels(draw(picture(channels, images=1, radii=(HIGH, HIGH)))).shape
    three = pixels(draw(picture(channels, images=3, radii=(HIGH, HIGH)))).shape
    assert one[1] == three[1]
    assert three[0] > 1.8 * one[0]
