"""The picture: what is painted is what was computed."""

import io

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from domain.pictures import FigureSpec, figure_of, headings, panels
from domain.presets import expand
from domain.recipes import PRESETS
from partcore import methods
from partcore.cams import read
from partcore.figures import RIGHT, WRONG, Picture, draw
from partcore.models import builder
from partcore.pictures import Painter
from partcore.randomness import generator

LOW, HIGH = 44 / 255, 51 / 255


def figure(preset: str = "part++", dataset: str = "digits", **method) -> FigureSpec:
    body = {"preset": preset, "data": {"dataset": dataset}, "method": method}
    return figure_of(expand(body))


def picture(channels: int = 1, images: int = 2, radius: float = HIGH, **over) -> Picture:
    """PART++: everything in the middle of its range, but the radius, which is the high one."""
    shape = (images, 8, 8)
    x = torch.full((images, channels, 8, 8), 0.5)
    levels = (0.25, 0.25, 0.25, 0.5, 1.0, radius)
    values = {
        "panels": panels(figure()),
        "headings": headings(figure()),
        "x": x,
        "values": [torch.full(shape, level) for level in levels],
        "x_adv": x + HIGH,
        "truth": ["seven"] * images,
        "predicted": ["seven"] * images,
        "predicted_adv": ["seven"] * images,
        "radii": (LOW, HIGH),
        "caption": "digits",
    }
    return Picture(**{**values, **over})


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
    assert share(pixels(draw(picture(radius=LOW))), scale("viridis", 0.0)) > 0.02


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


def painted(figure: FigureSpec, channels: int = 1) -> tuple[Picture, torch.Tensor]:
    """A picture of three images by an untrained network, and the pixel radii of training."""
    model = builder("small-cnn")(
        channels=channels,
        classes=10,
        mean=torch.full((channels,), 0.5),
        std=torch.full((channels,), 0.25),
        generator=generator(0, "init"),
    )
    x, y = (
        torch.rand(3, channels, 8, 8, generator=torch.Generator().manual_seed(0)),
        torch.arange(3),
    )
    names = [str(i) for i in range(10)]
    drawn = Painter(model, names, generator(1, "figure")).picture(figure, x, y, setting="here")
    if figure.budget is None:
        return drawn, torch.full((3, 8, 8), float(figure.epsilon))
    model.eval()
    radii, _ = methods.budget(figure.training, 1.0)(
        read(model, x, y), generator=generator(1, "figure")
    )
    return drawn, radii.detach().mean(dim=1)


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_drawn_is_what_training_did(preset):
    """The last panel before the attack holds the very radii of the method, and x_adv keeps them."""
    grey = preset != "reproduce-official"
    drawn, radii = painted(
        figure(preset, "digits" if grey else "cifar10"), channels=1 if grey else 3
    )
    assert len(drawn.values) == len(drawn.panels) - 3
    if drawn.values:
        torch.testing.assert_close(drawn.values[-1], radii)
    delta = (drawn.x_adv - drawn.x).abs()
    assert delta.max() > 0
    if grey:
        assert (delta[:, 0] <= radii + 1e-6).all()
    assert all(0 <= value.min() <= value.max() <= 1 for value in drawn.values)


@pytest.mark.parametrize("control", ["random", "inverted", "blurred", "uniform"])
def test_a_controls_radii_are_drawn_and_not_the_masks(control):
    drawn, radii = painted(figure("part", control=control))
    _, mask, replaced, epsilon = drawn.values
    torch.testing.assert_close(epsilon, radii)
    assert not torch.allclose(mask, replaced)


def test_a_picture_without_maps_has_three_columns_and_a_short_one_is_narrow():
    three, all_of_them = (pixels(draw(painted(figure(p))[0])) for p in ("mart", "part++"))
    assert three.shape[1] < all_of_them.shape[1] / 2
    for colours in ("magma", "cividis", "viridis"):
        assert share(three, scale(colours, 0.0)) == 0, colours
        assert share(all_of_them, scale(colours, 0.0)) > 0, f"the bar at least has {colours}"


def test_no_radius_at_all_is_drawn_too():
    for channels in (1, 3):
        x = torch.full((1, channels, 8, 8), 0.5)
        nothing = picture(channels, images=1, radii=(0, 0), x_adv=x)
        assert draw(nothing).startswith(b"\x89PNG")
