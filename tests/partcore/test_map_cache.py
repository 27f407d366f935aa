"""Kept maps belong to their sample, move with its pixels, and are renewed when due."""

import pytest
import torch

from partcore.data import Augmentation
from partcore.map_cache import NEVER, CachedMaps, MapCache, Refresh
from partcore.randomness import generator
from tests.partcore.exact import rounding

COUNT, SIDE = 6, 8


def images() -> torch.Tensor:
    return torch.rand(COUNT, 1, SIDE, SIDE, generator=generator(0))


def brightness(x: torch.Tensor, _y: torch.Tensor) -> torch.Tensor:
    """A map that is the image itself."""
    return x[:, 0]


def hot(heat: torch.Tensor) -> torch.Tensor:
    return heat > 0.5


def maps_of(cache: MapCache, index: torch.Tensor, *, step: int, refresh: Refresh, seed: int = 0):
    x = images()[index]
    warp = Augmentation(pad=2, flip=True).draw(x.shape, generator=generator(seed))
    y = torch.zeros(len(index), dtype=torch.long)
    kept = CachedMaps(cache, refresh, index, x, y, warp, step, steps_per_epoch=3)
    return kept, warp, x


def test_defect_1_a_kept_map_is_its_own_images_wherever_the_image_stands_in_a_batch():
    cache = MapCache(COUNT, (SIDE, SIDE), "cpu")
    for step, order in enumerate(([0, 1, 2], [3, 4, 5], [5, 0, 3], [2, 4, 1])):
        kept, warp, x = maps_of(
            cache, torch.tensor(order), step=step, refresh=Refresh(epochs=9), seed=step
        )
        heat, record = kept(brightness, hot)
        # the map of an image that is its own brightness is the augmented image
        assert (heat - warp(x)[:, 0]).abs().max() <= 0.5 / 255 + rounding(4)
        assert record["cam/recomputed"] == (1.0 if step < 2 else 0.0)
    assert record["cam/age_steps"] == pytest.approx((3 + 2 + 3) / 3)


def test_a_map_is_renewed_when_it_is_due_and_alone():
    cache = MapCache(COUNT, (SIDE, SIDE), "cpu")
    computed: list[int] = []

    def counting(x, y):
        computed.append(len(x))
        return brightness(x, y)

    refresh = Refresh(steps=2)
    maps_of(cache, torch.tensor([0, 1]), step=0, refresh=refresh)[0](counting, hot)
    maps_of(cache, torch.tensor([1, 2]), step=1, refresh=refresh)[0](counting, hot)
    _, record = maps_of(cache, torch.tensor([0, 1, 2]), step=2, refresh=refresh)[0](counting, hot)
    assert computed == [2, 1, 2]
    assert record["cam/recomputed"] == pytest.approx(2 / 3)
    assert cache.made.tolist() == [2, 2, 1, NEVER, NEVER, NEVER]


@pytest.mark.parametrize(
    ("refresh", "made", "step", "due"),
    [
        (Refresh(steps=1), 4, 4, False),
        (Refresh(steps=1), 4, 5, True),
        (Refresh(epochs=1), 2, 3, True),  # another epoch of three steps
        (Refresh(epochs=1), 3, 5, False),
        (Refresh(epochs=2), 2, 5, False),
        (Refresh(epochs=2), 2, 6, True),
        (Refresh(epochs=99), NEVER, 0, True),
    ],
)
def test_when_a_map_is_due(refresh, made, step, due):
    assert refresh.is_due(torch.tensor([made]), step, 3).tolist() == [due]


def test_drift_is_the_overlap_of_the_regions_of_high_budget():
    cache = MapCache(COUNT, (SIDE, SIDE), "cpu")
    left = torch.zeros(1, SIDE, SIDE)
    left[:, :, :4] = 1
    shifted = torch.zeros(1, SIDE, SIDE)
    shifted[:, :, 2:6] = 1
    index = torch.tensor([3])
    assert cache.take_drift() is None
    for step, heat in enumerate((left, shifted, shifted)):
        kept = maps_of(cache, index, step=3 * step, refresh=Refresh(epochs=1))[0]
        kept(lambda *_, heat=heat: heat, hot)
    # a third of the union is common to the first two; the last two are the same
    assert cache.take_drift() == pytest.approx((1 / 3 + 1) / 2)
    assert cache.take_drift() is None


def test_the_state_goes_through_a_checkpoint():
    cache, other = (MapCache(COUNT, (SIDE, SIDE), "cpu") for _ in range(2))
    maps_of(cache, torch.tensor([1, 2]), step=7, refresh=Refresh(epochs=1))[0](brightness, hot)
    other.restore(cache.state())
    assert all(torch.equal(value, other.state()[name]) for name, value in cache.state().items())
