"""The forms that names have: each pattern, and what it says in words."""

from collections.abc import Mapping

from domain.ids import ID_PATTERN

NAME = r"^[A-Za-z0-9][A-Za-z0-9._+ -]{0,79}$"
FOLDER = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
TAG = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,39}$"
QUEUE = r"^[a-z][a-z0-9-]{0,39}$"
GPU_MODEL = r"^[A-Za-z0-9 ._+-]{0,60}$"
USER = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,79}$"
LABEL = r"^[ -~]{1,80}$"
WORKER = r"^[ -~]{1,120}$"
KEY = r"^[!-~]{1,200}$"
SEARCH = r"^[^\x00-\x1f\x7f]{0,200}$"
SERIES = r"^[^\x00-\x1f\x7f]{1,120}$"

WORDS: Mapping[str, str] = {
    NAME: "1 to 80 letters, digits, spaces and . _ + - that begin with a letter or digit",
    FOLDER: "1 to 64 letters, digits, _ and - that begin with a letter or digit",
    TAG: "1 to 40 letters, digits and . _ + - that begin with a letter or digit",
    QUEUE: "1 to 40 small letters, digits and - that begin with a letter",
    GPU_MODEL: "at most 60 letters, digits, spaces and . _ + -",
    USER: "1 to 80 letters, digits and . _ @ - that begin with a letter or digit",
    LABEL: "1 to 80 printable ASCII characters",
    WORKER: "1 to 120 printable ASCII characters",
    KEY: "1 to 200 printable ASCII characters without spaces",
    SEARCH: "at most 200 characters, none of them a control character",
    SERIES: "1 to 120 characters, none of them a control character",
    ID_PATTERN: "the 18 characters of an id, such as 01kb7qz3h4m8x2v9ap",
}
"""For every pattern that a client's text is held against; a test looks for one that is missing."""
