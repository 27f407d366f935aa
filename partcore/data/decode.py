"""One image file as pixels: what is read, what is refused, and what is changed on the way.

A decoder sees bytes and never a name, so none of its messages can hold a path. The limits bound its
work: an image of a few bytes can ask for gigabytes or hours.
"""

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
"""Pillow's decoders that may be tried. What a file is called does not count, only its bytes."""
READABLE = "JPEG, PNG, GIF, BMP, TIFF, WebP or PPM"
MAX_BYTES = 256 << 20
MAX_PIXELS = 64 << 20
MAX_SCANS = 50
"""Passes over one progressive JPEG (usually 10); a hostile one asks for a hundred thousand. With
the limits here the slowest file measured takes some seconds."""
MAX_SLOW_BYTES = 1 << 20
"""Of what Pillow decodes in Python: 100 MiB of plain PPM took it more than six minutes."""
BACKGROUND = (255, 255, 255)
"""What transparent pixels lie on."""
ORIENTED = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")
"""Where Pillow keeps what may say which way up an image is."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each orientation of EXIF."""
START_OF_SCAN = b"\xff\xda"
DEEP = ("I", "I;16", "I;16B", "I;16L", "F")

Note = Literal[
    "deep", "frames", "not-square", "profile", "resized", "transparent", "turned", "unclear-exif"
]
"""What was changed or left out of one image."""


class Undecodable(Exception):
    """A file is not an image this lab reads; the message completes "<file> ..."."""


@dataclass(frozen=True)
class Decoded:
    """An image brought to size."""

    pixels: NDArray[np.uint8]
    """(size, size, 3)."""
    notes: frozenset[Note]


def read_bytes(file: str) -> bytes:
    """Return a regular file's content. Raises Undecodable; never waits, as a FIFO would make it."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            # Asked of what is open: since it was listed, something else may have taken the name.
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Undecodable("is not a regular file")
            if status.st_size > MAX_BYTES:
                raise Undecodable(
                    f"has {status.st_size:,} bytes; at most {MAX_BYTES:,} are read: make it smaller"
                )
            return stream.read(MAX_BYTES)
    except OSError as error:
        raise Undecodable(f"cannot be read: {error.strerror or type(error).__name__}") from error


def decode(data: bytes, size: int) -> Decoded:
    """Return the first frame upright, in 8-bit RGB, as a square of ``size``. Raises Undecodable."""
    if not data:
        raise Undecodable("is empty")
    with _as_undecodable():
        image = Image.open(BytesIO(data), formats=FORMATS)
        _check_work(image, data)
        notes = _notes_of_header(image)
        image.load()
        rgb = _rgb(image, notes)
        return Decoded(_square(_upright(image, rgb, notes), size, notes), frozenset(notes))


@contextmanager
def _as_undecodable() -> Iterator[None]:
    """Turn whatever a decoder raises into Undecodable, and keep its mutterings off the terminal."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Undecodable:
        raise
    except UnidentifiedImageError as error:
        raise Undecodable(f"is not a readable {READABLE} image") from error
    except Image.DecompressionBombError as error:
        raise Undecodable(f"has too many pixels; at most {MAX_PIXELS:,} are decoded") from error
    except Exception as error:  # a stranger's bytes make decoders raise anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise Undecodable(f"cannot be decoded, it may be damaged: {reason}") from error


def _check_work(image: Image.Image, data: bytes) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise Undecodable(
            f"has {width:,} x {height:,} pixels; at most {MAX_PIXELS:,} are decoded: shrink it"
        )
    if len(data) > MAX_SLOW_BYTES and _is_decoded_in_python(image, data):
        raise Undecodable(
            f"is a plain-text PPM or a compressed BMP of more than {MAX_SLOW_BYTES:,} bytes, which "
            "takes minutes to decode: save it as PNG"
        )
    compressed = str(image.info.get("compression", ""))
    holds_jpeg = image.format in ("JPEG", "MPO") or "jpeg" in compressed
    if holds_jpeg and data.count(START_OF_SCAN) > MAX_SCANS:
        raise Undecodable(f"is a JPEG of more than {MAX_SCANS} scans: save it again")


def _is_decoded_in_python(image: Image.Image, data: bytes) -> bool:
    is_plain = data[:2] in (b"P1", b"P2", b"P3")
    is_run_length = image.format == "BMP" and image.info.get("compression") in (1, 2)
    return is_plain or is_run_length


def _notes_of_header(image: Image.Image) -> set[Note]:
    notes: set[Note] = set()
    if getattr(image, "is_animated", False):
        notes.add("frames")
    if image.info.get("icc_profile"):
        notes.add("profile")
    if image.format == "TIFF" and _tag(image, ExifTags.Base.Orientation) in TURNS:
        notes.add("turned")
    return notes


# -- colours ----------------------------------------------------------------------------------


def _rgb(image: Image.Image, notes: set[Note]) -> Image.Image:
    """Return a decoded image in 8-bit RGB."""
    if image.mode in DEEP:
        notes.add("deep")
        return _over_background(_eight_bits(image), notes)
    if image.has_transparency_data:
        return _over_background(image.convert("RGBA"), notes)
    return image if image.mode == "RGB" else image.convert("RGB")


def _over_background(rgba: Image.Image, notes: set[Note]) -> Image.Image:
    if rgba.getchannel("A").getextrema()[0] == 255:
        return rgba.convert("RGB")
    notes.add("transparent")
    canvas = Image.new("RGBA", rgba.size, BACKGROUND)
    canvas.alpha_composite(rgba)
    return canvas.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale grey pixels of more bits to 8, from the whole range of their type. Returns RGBA."""
    values = np.asarray(image)
    grey = _from_unit(values) if image.mode == "F" else _from_integers(values, _bits(image))
    if image.format == "TIFF" and _tag(image, PHOTOMETRIC_INTERPRETATION) == 0:  # white is 0
        grey = 255 - grey
    opaque = np.full_like(grey, 255)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        opaque[values == clear] = 0
    return Image.fromarray(np.stack([grey, grey, grey, opaque], axis=-1))


def _bits(image: Image.Image) -> int:
    """Return how many bits a grey pixel has. Raises Undecodable where no range follows from it."""
    if image.format != "TIFF":  # 16-bit PNG, and PPM, which Pillow scales to 16 bits
        return 16
    bits = _tag(image, BITSPERSAMPLE)
    if image.mode == "I" or not isinstance(bits, int):
        raise Undecodable(
            "has signed or 32-bit pixels, whose range is anyone's guess: save 16 bits"
        )
    return bits


def _tag(image: Image.Image, tag: int) -> object:
    value = image.tag_v2.get(tag)  # type: ignore[attr-defined]
    return value[0] if isinstance(value, tuple) else value


def _from_integers(values: NDArray[np.generic], bits: int) -> NDArray[np.uint8]:
    most = 2**bits - 1
    scaled: NDArray[np.uint32] = (values.astype(np.uint32) * 255 + most // 2) // most
    return scaled.astype(np.uint8)


def _from_unit(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # also false of NaN
        raise Undecodable("has floating-point pixels outside [0, 1]: save it with 8 or 16 bits")
    return np.rint(values.astype(np.float32) * 255).astype(np.uint8)


# -- geometry ---------------------------------------------------------------------------------


def _upright(image: Image.Image, rgb: Image.Image, notes: set[Note]) -> Image.Image:
    """Turn the pixels as the image's EXIF or XMP orientation says."""
    if image.format == "TIFF":  # turned by Pillow when it was loaded
        return rgb
    if not any(key in image.info for key in ORIENTED):
        return rgb
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - as above; the pixels themselves are sound
        notes.add("unclear-exif")
        return rgb
    turn = TURNS.get(orientation)
    if turn is None:
        return rgb
    notes.add("turned")
    return rgb.transpose(turn)


def _square(rgb: Image.Image, size: int, notes: set[Note]) -> NDArray[np.uint8]:
    """Bring an image to size as a whole: one that is not square is squeezed, never cropped."""
    width, height = rgb.size
    if (width, height) != (size, size):
        notes.add("resized")
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
    if width != height:
        notes.add("not-square")
    return np.array(rgb)
