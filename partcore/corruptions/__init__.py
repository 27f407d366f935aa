"""Common corruptions of images, computed on the fly (Hendrycks & Dietterich, ICLR 2019)."""

from partcore.corruptions.draws import Draws as Draws
from partcore.corruptions.severities import CORRUPTIONS as CORRUPTIONS
from partcore.corruptions.severities import Corruption as Corruption
from partcore.corruptions.severities import corrupt as corrupt
