"""Datasets as uint8 tensors: loaded, split and cut to size the same way for every run."""

from partcore.data.augment import Augmentation, Warp, to_unit
from partcore.data.images import Images, Split, fingerprint
from partcore.data.load import load

__all__ = ["Augmentation", "Images", "Split", "Warp", "fingerprint", "load", "to_unit"]
