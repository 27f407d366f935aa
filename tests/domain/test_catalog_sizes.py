"""Every network at every size: what leaves a CAM grid under 2x2 is refused at submit."""

import pytest

from domain.catalog import DATASETS, MODELS
from domain.errors import SpecInvalid
from domain.presets import expand

MIN_SIZE, MAX_SIZE = 8, 512
"""The bounds of `data.size`."""


def submission(model: str, size: int, preset: str = "part++") -> dict[str, object]:
    data = {"dataset": "image-folder", "folder": "pets", "classes": 2, "size": size}
    return {"preset": preset, "model": {"name": model}, "data": data}


@pytest.mark.parametrize("name", MODELS)
def test_the_smallest_size_that_works_is_the_one_the_refusal_names(name):
    smallest = max(MIN_SIZE, MODELS[name].smallest_cam_size)
    assert smallest <= MAX_SIZE
    expand(submission(name, smallest))
    if smallest == MIN_SIZE:
        return
    with pytest.raises(SpecInvalid) as refused:
        expand(submission(name, smallest - 1))
    (error,) = refused.value.errors
    assert error.pointer == "/model/name"
    assert f"set `data.size` to {smallest} or more" in error.detail


@pytest.mark.parametrize("preset", ["standard", "pgd-at", "part", "part-mask"])
def test_inception_at_96_pixels_is_refused_for_every_method(preset):
    """Every run draws maps at its end, and is compared with one that trains by them."""
    with pytest.raises(SpecInvalid, match=r"1x1 CAM grid of 96x96 images.*107 or more"):
        expand(submission("torchvision:inception_v3", 96, preset))


def test_a_size_that_a_network_cannot_take_at_all_is_refused_as_that():
    with pytest.raises(SpecInvalid, match="cannot take 64x64 images; at least 2x2"):
        expand(submission("torchvision:inception_v3", 64))


def test_fixed_datasets_are_told_to_take_a_smaller_model():
    for dataset, facts in DATASETS.items():
        if dataset == "image-folder":
            continue
        body = {"preset": "part", "data": {"dataset": dataset}}
        for name, model in MODELS.items():
            if model.grid(facts.size) >= 2:
                expand({**body, "model": {"name": name}})
                continue
            with pytest.raises(SpecInvalid, match="choose a smaller model, such as 'small-cnn'"):
                expand({**body, "model": {"name": name}})


def test_a_grid_never_shrinks_as_images_grow():
    for model in MODELS.values():
        grids = [model.grid(size) for size in range(MIN_SIZE, MAX_SIZE + 1)]
        assert grids == sorted(grids)
        assert model.grid(model.smallest_size) == 1
        assert model.grid(model.smallest_size - 1) == 0
