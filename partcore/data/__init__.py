"""Datasets as uint8 tensors: loaded, split and cut to size the same way for every run."""

from partcore.data.augment import Augmentation, Warp, to_unit
from partcore.data.images import Images, Split, fingerprint
from partcore.data.load import load, loading
from partcore.data.sizes import classes_in

__all__ = [
    "Augmentation",
    "Images",
    "Split",
    "Warp",
    "classes_in",
    "fingerprint",
    "load",
    "loading",
    "to_unit",
]
