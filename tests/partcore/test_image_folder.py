"""Folders of images as strangers fill them: what is read, what is said of it, what is refused."""

import contextlib
import os
import socket
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, PngImagePlugin

from domain.errors import DataMissing, DataUnreadable, ExperimentError, SpecUnsatisfiable
from domain.events import Progress
from domain.spec import DataSpec
from partcore.data import decode as decoding
from partcore.data import load, loading
from partcore.data.__main__ import main
from partcore.data.decode import Decoded, Undecodable, decode

SIZE = 8
HALVES = np.zeros((SIZE, SIZE), np.uint8)
HALVES[:, SIZE // 2 :] = 200
"""Dark left half, light right half."""
SPEC = DataSpec(
    dataset="image-folder", folder="pets", classes=2, size=SIZE, validation_fraction=0.0
)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return decode(data, SIZE).pixels


GREY = Image.fromarray(HALVES)
GOOD = encoded(GREY.convert("RGB"), "PNG")


@pytest.fixture
def pets(tmp_path) -> Path:
    """Two classes, two images each, in train and in test."""
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / "pets" / part / name
            folder.mkdir(parents=True)
            for i in range(2):
                (folder / f"{i}.png").write_bytes(GOOD)
    return tmp_path / "pets"


def read(pets: Path, **over):
    return load(SPEC.model_copy(update=over), pets.parent, seed=1)


def said(pets: Path, **over) -> str:
    return read(pets, **over).log[0].message


# -- formats and colours ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_every_format_is_read_by_what_it_holds(kind, mode):
    options = {"lossless": True} if kind == "WEBP" else {}
    source = GREY.convert(mode)
    if kind in ("PPM", "WEBP") and mode == "P":
        source = source.convert("RGB")
    seen = pixels(encoded(source, kind, **options))
    assert (seen == np.asarray(source.convert("RGB"))).all()


def test_jpeg_in_every_colour_space():
    for mode in ("L", "RGB", "CMYK", "YCbCr"):
        seen = pixels(encoded(GREY.convert("RGB").convert(mode), "JPEG", quality=95))
        assert abs(seen.astype(int) - HALVES[..., None]).max() < 24


def test_a_suffix_means_nothing(pets):
    (pets / "train/cat/0.txt").write_bytes(GOOD)
    (pets / "train/cat/noname").write_bytes(encoded(GREY, "TIFF"))
    assert len(read(pets).train) == 6


GREYS = np.linspace(0, 65535, SIZE * SIZE).astype(np.uint16).reshape(SIZE, SIZE)
EIGHT = np.rint(GREYS / 257).astype(np.uint8)


def pgm(values: np.ndarray, most: int) -> bytes:
    return f"P5 {SIZE} {SIZE} {most}\n".encode() + values.astype(">u2").tobytes()


def tiff(values: np.ndarray, *, bits: int, kind: int = 1, photometric: int = 1) -> bytes:
    """An uncompressed little-endian TIFF of one strip, of any bit depth."""
    body = values.tobytes()
    tags = [
        (256, 4, SIZE),
        (257, 4, SIZE),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, SIZE),
        (279, 4, len(body)),
        (339, 3, kind),
    ]
    entries = b"".join(struct.pack("<HHII", tag, form, 1, value) for tag, form, value in tags)
    head = b"II*\0" + struct.pack("<I", 8 + len(body))
    return head + body + struct.pack("<H", len(tags)) + entries + b"\0" * 4


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.fromarray(GREYS), "PNG"),
        encoded(Image.fromarray(GREYS), "TIFF"),
        encoded(Image.fromarray(GREYS), "TIFF", compression="tiff_lzw"),
        encoded(Image.fromarray(GREYS.astype(">u2")), "TIFF"),
        pgm(GREYS, 65535),
        tiff(65535 - GREYS, bits=16, photometric=0),
        tiff((GREYS / 65535).astype("<f4"), bits=32, kind=3),
    ],
    ids=["png", "tiff", "lzw", "big-endian", "pgm", "white-is-zero", "float"],
)
def test_deep_grey_is_scaled_not_clipped(data):
    seen = decode(data, SIZE)
    assert abs(seen.pixels.astype(int) - EIGHT[..., None]).max() <= 1
    assert "deep" in seen.notes


def test_twelve_bits_are_scaled_by_twelve_bits():
    values = (GREYS >> 4).astype(np.uint32).reshape(-1, 2)
    packed = np.stack(
        [values[:, 0] >> 4, (values[:, 0] & 15) << 4 | values[:, 1] >> 8, values[:, 1] & 255],
        axis=1,
    )
    seen = pixels(tiff(packed.astype(np.uint8), bits=12))
    assert abs(seen.astype(int) - EIGHT[..., None]).max() <= 1


@pytest.mark.parametrize(
    "data",
    [
        tiff(GREYS.astype("<i4"), bits=32, kind=2),
        tiff(GREYS.astype("<i2"), bits=16, kind=2),
        tiff(GREYS.astype("<f4"), bits=32, kind=3),
        tiff(np.full((SIZE, SIZE), np.nan, "<f4"), bits=32, kind=3),
    ],
    ids=["int32", "int16", "float of grey levels", "nan"],
)
def test_pixels_without_a_known_range_are_refused(data):
    with pytest.raises(Undecodable, match="save"):
        decode(data, SIZE)


def test_sixteen_bit_colour_is_scaled():
    raw = np.stack([GREYS, GREYS, GREYS], axis=-1).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in raw)
    header = struct.pack(">IIBBBBB", SIZE, SIZE, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    assert abs(pixels(data).astype(int) - EIGHT[..., None]).max() <= 1


def half_clear(mode: str) -> tuple[Image.Image, dict[str, object]]:
    """Black everywhere; the left half is transparent."""
    alpha = np.where(HALVES == 0, 0, 255).astype(np.uint8)
    black = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 255))
    black.putalpha(Image.fromarray(alpha))
    if mode in ("RGBA", "LA"):
        return black.convert(mode), {}
    grey = np.where(alpha == 0, 7, 0)
    if mode == "I;16":
        return Image.fromarray(grey.astype(np.uint16)), {"transparency": 7}
    image = Image.fromarray(grey.astype(np.uint8)).convert(mode)
    return image, {"transparency": (7, 7, 7) if mode == "RGB" else 7}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L", "RGB", "I;16"])
def test_what_is_transparent_lies_on_white(mode):
    image, options = half_clear(mode)
    seen = decode(encoded(image, "PNG", **options), SIZE)
    assert (seen.pixels[:, : SIZE // 2] == 255).all()
    assert (seen.pixels[:, SIZE // 2 :] == 0).all()
    assert "transparent" in seen.notes


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_a_transparent_palette_entry_lies_on_white(kind):
    image = Image.fromarray((HALVES > 0).astype(np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 0, 0])
    seen = pixels(encoded(image, kind, transparency=0))
    assert (seen[:, : SIZE // 2] == 255).all()
    assert (seen[:, SIZE // 2 :] == 0).all()


def test_half_transparent_is_half_white_and_opaque_alpha_is_no_transparency():
    assert pixels(encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 128)), "PNG")).max() == 127
    opaque = decode(encoded(Image.new("RGBA", (8, 8), (9, 9, 9, 255)), "PNG"), SIZE)
    assert (opaque.pixels == 9).all()
    assert not opaque.notes


# -- which way up, which frame, which shape ---------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(kind, orientation):
    upright = Image.fromarray(np.kron([[0, 80], [160, 240]], np.ones((4, 4))).astype(np.uint8))
    undo = decoding.TURNS.get(orientation)
    inverse = {
        Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
        Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
    }
    stored = upright if undo is None else upright.transpose(inverse.get(undo, undo))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    seen = decode(encoded(stored.convert("RGB"), kind, exif=exif, **options), SIZE)
    assert abs(seen.pixels.astype(int) - np.asarray(upright)[..., None]).max() < 12
    assert ("turned" in seen.notes) == (orientation > 1)


def test_unreadable_exif_does_not_cost_an_image():
    seen = decode(encoded(GREY.convert("RGB"), "JPEG", exif=b"Exif\0\0II*\0garbage"), SIZE)
    assert seen.notes <= {"unclear-exif"}


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_the_first_frame_is_read_and_others_are_counted(kind):
    second = Image.new("RGB", (SIZE, SIZE), "red")
    options = {"lossless": True} if kind == "WEBP" else {}
    first = GREY.convert("RGB")
    seen = decode(encoded(first, kind, save_all=True, append_images=[second], **options), SIZE)
    assert (seen.pixels == HALVES[..., None]).all()
    assert "frames" in seen.notes


def test_an_image_that_is_not_square_is_squeezed_and_said():
    wide = Image.fromarray(np.kron(HALVES, np.ones((1, 2))).astype(np.uint8))
    seen = decode(encoded(wide, "PNG"), SIZE)
    assert (seen.pixels[:, [0, -1], 0] == [0, 200]).all()
    assert {"not-square", "resized"} <= seen.notes


# -- hostile files ----------------------------------------------------------------------------


def eps() -> bytes:
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"


def bomb(side: int = 40_000) -> bytes:
    """A PNG of a few bytes that says it is enormous."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 99)), (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + body


def many_scans() -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = encoded(GREY.convert("RGB"), "JPEG", progressive=True)
    last = data.rindex(decoding.START_OF_SCAN)
    return data[:last] + data[last:-2] * 1000 + data[-2:]


def plain_ppm(side: int) -> bytes:
    return f"P3 {side} {side} 255\n".encode() + b"10 20 30 " * side**2


def run_length_bmp(side: int) -> bytes:
    """One pixel a code, where Pillow's decoder takes longest."""
    body = (bytes([1, 0]) * side + bytes(2)) * side + bytes([0, 1])
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(body), 0, 0, 256, 0)
    start = 14 + len(header) + 1024
    return (
        struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start) + header + bytes(1024) + body
    )


def test_small_files_of_slow_formats_are_read():
    assert (pixels(plain_ppm(8))[0, 0] == [10, 20, 30]).all()
    assert pixels(run_length_bmp(8)).shape == (8, 8, 3)


def text_bomb() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "x" * (8 << 20), zip=True)
    return encoded(GREY, "PNG", pnginfo=info)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "text": (b"label,1\n", "not a readable JPEG"),
    "pickle": (b"\x80\x04K\x01.", "not a readable JPEG"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a readable JPEG"),
    "eps": (eps(), "not a readable JPEG"),
    "ico": (encoded(GREY, "ICO"), "not a readable JPEG"),
    "pdf": (encoded(GREY, "PDF"), "not a readable JPEG"),
    "bomb": (bomb(), "pixels"),
    "small bomb": (bomb(9000), "9,000 x 9,000 pixels"),
    "plain ppm": (plain_ppm(400), "save it as PNG"),
    "run-length bmp": (run_length_bmp(800), "save it as PNG"),
    "scans": (many_scans(), "scans"),
    "text bomb": (text_bomb(), "."),
    **{
        f"half a {kind}": (data[: len(data) // 2], ".")
        for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
        for data in [encoded(GREY.convert("RGB").resize((64, 64)), kind)]
    },
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_an_error_that_names_it(pets, what):
    data, reason = HOSTILE[what]
    (pets / "train/dog/1.png").write_bytes(data)
    with pytest.raises(DataUnreadable, match=reason) as refused:
        read(pets)
    message = str(refused.value)
    assert "in 'pets': train/dog/1.png" in message
    assert str(pets) not in message
    assert "python -m partcore.data check pets" in message
    assert (refused.value.code, refused.value.failure_class) == ("data-unreadable",) * 2


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_damaged_bytes_are_read_or_undecodable_and_nothing_else(kind):
    source = encoded(GREY.convert("RGB").resize((24, 24)), kind)
    for seed in range(150):
        draw = np.random.default_rng(seed)
        data = bytearray(source)
        for place in draw.integers(0, min(len(data), 200), 4):
            data[place] = draw.integers(256)
        with contextlib.suppress(Undecodable):
            assert isinstance(decode(bytes(data), SIZE), Decoded)


def test_a_file_that_is_too_large_is_not_opened(pets, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_BYTES", 1000)
    (pets / "test/cat/0.png").write_bytes(GOOD + bytes(2000))
    with pytest.raises(DataUnreadable, match=r"test/cat/0\.png has 2,\d+ bytes"):
        read(pets)


# -- what else lies in folders ----------------------------------------------------------------


def link_out(pets: Path) -> None:
    (pets.parent / "secret.png").write_bytes(GOOD)
    (pets / "train/cat/9.png").symlink_to(pets.parent / "secret.png")


def link_class_out(pets: Path) -> None:
    (pets.parent / "elsewhere").mkdir()
    (pets / "train/cat/more").symlink_to(pets.parent / "elsewhere")


def bind(pets: Path) -> None:
    here = Path.cwd()
    os.chdir(pets / "train/cat")  # a socket's address may have 107 characters
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("9.png")
    finally:
        os.chdir(here)


def doubled(pets: Path) -> None:
    for letter in "ab":
        (pets / "train/cat" / letter).symlink_to(pets / "train/dog")


STRANGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "fifo": (lambda p: os.mkfifo(p / "train/cat/9.png"), r"train/cat/9\.png is a FIFO"),
    "fifo in test": (lambda p: os.mkfifo(p / "test/cat/9.png"), r"test/cat/9\.png is a FIFO"),
    "fifo for a class": (lambda p: os.mkfifo(p / "train/fox"), "train/fox is a FIFO"),
    "socket": (bind, r"train/cat/9\.png is a socket"),
    "link out": (link_out, r"train/cat/9\.png is a link that leaves"),
    "folder out": (link_class_out, "train/cat/more is a link that leaves"),
    "device": (
        lambda p: (p / "train/cat/9.png").symlink_to("/dev/zero"),
        r"train/cat/9\.png is a link that leaves",
    ),
    "dangling": (lambda p: (p / "train/cat/9.png").symlink_to("no"), r"9\.png cannot be read"),
    "loop": (lambda p: (p / "train/cat/9.png").symlink_to("9.png"), r"9\.png cannot be read"),
    "circle": (
        lambda p: (p / "train/cat/up").symlink_to(".."),
        "leads to a folder|is read already",
    ),
    "doubling": (doubled, "train/cat/b leads to a folder that is read already"),
    "no class": (lambda p: (p / "train/1.png").write_bytes(GOOD), r"train/1\.png is in no class"),
    "no image": (
        lambda p: [f.unlink() for f in (p / "test/dog").iterdir()],
        "test/dog is a class without an image",
    ),
    "other classes": (lambda p: (p / "test/dog").rename(p / "test/fox"), "only there: dog"),
    "case": (
        lambda p: [
            (folder / "Cat").mkdir() or (folder / "Cat/1.png").write_bytes(GOOD)
            for folder in (p / "train", p / "test")
        ],
        "'Cat' and 'cat', which differ in spelling only",
    ),
    "not UTF-8": (
        lambda p: (p / "train/cat").rename(p / "train" / os.fsdecode(b"c\xe4t")),
        r"train/c\\udce4t is a class with unprintable characters",
    ),
    "control": (
        lambda p: (p / "train/cat").rename(p / "train/c\x1b[2Jt"),
        r"c\\x1b\[2Jt is a class with unprintable characters",
    ),
}


@pytest.mark.parametrize("what", STRANGE)
def test_what_is_no_image_is_an_error_that_names_it(pets, what, capsys):
    make, reason = STRANGE[what]
    make(pets)
    with pytest.raises(DataUnreadable, match=reason) as refused:
        read(pets)
    assert str(pets) not in str(refused.value)
    assert str(refused.value).isprintable()
    assert main(["check", "pets", "--root", str(pets.parent)]) == 1
    assert "holds" in capsys.readouterr().out


def test_hidden_and_system_files_are_ignored_with_their_count(pets):
    before = read(pets)
    for part in ("train", "test"):
        (pets / part / ".DS_Store").write_bytes(b"Bud1")
        (pets / part / ".ipynb_checkpoints").mkdir()
        (pets / part / "__MACOSX").mkdir()
        (pets / part / "cat/._0.png").write_bytes(b"\0\5\x16\7")
        (pets / part / "cat/Thumbs.db").write_bytes(b"\xd0\xcf")
        os.mkfifo(pets / part / "cat/.pipe")
    split = read(pets)
    assert torch.equal(split.train.x, before.train.x)
    assert split.classes == ("cat", "dog")
    assert "12 hidden or system files and folders were ignored" in said(pets)


def test_nested_folders_and_links_inside_are_read(pets):
    deep = pets / "train/cat/2024/may"
    deep.mkdir(parents=True)
    (deep / "5.png").write_bytes(GOOD)
    (pets / "train/dog/7.png").symlink_to("../cat/2024/may/5.png")
    (pets / "train/dog/8.png").symlink_to(pets / "train/dog/0.png")
    (pets / "LICENSE").write_text("free")
    split = read(pets)
    assert split.train.y.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert "1 lie in folders below" in said(pets)
    assert "not read: LICENSE" in said(pets)


def test_files_whose_names_are_not_text_are_read(pets):
    file = pets / "train/cat" / os.fsdecode(b"\xff.png")
    file.write_bytes(GOOD)
    assert len(read(pets).train) == 5
    file.write_bytes(b"no")
    with pytest.raises(DataUnreadable, match=r"train/cat/\\udcff\.png is not"):
        read(pets)


def test_the_log_counts_what_was_changed(pets):
    (pets / "train/cat/3.png").write_bytes(encoded(Image.fromarray(GREYS), "PNG"))
    (pets / "train/dog/3.gif").write_bytes(encoded(half_clear("RGBA")[0], "PNG"))
    (pets / "test/dog/3.bmp").write_bytes(encoded(GREY.resize((16, 8)), "BMP"))
    message = said(pets)
    assert message.startswith("'pets' holds 6 training and 5 test images of 2 classes")
    for part in ("1 have grey pixels of more", "1 are transparent", "1 are not square"):
        assert part in message


def test_only_what_a_limit_asks_for_is_decoded(pets):
    (pets / "train/cat/0.png").write_bytes(b"no")
    (pets / "train/cat/1.png").write_bytes(b"no")
    with pytest.raises(DataUnreadable):
        read(pets, train_limit=3)
    for i in (0, 1):
        (pets / f"train/cat/{i}.png").write_bytes(GOOD)
    assert len(read(pets, train_limit=3).train) == 3


@pytest.mark.parametrize(
    ("make", "error", "reason"),
    [
        (lambda p: p.rename(p.parent / "gone"), DataMissing, "there is no folder 'pets'"),
        (lambda p: (p / "test").rename(p / "val"), DataMissing, "there is no test/ folder"),
        (
            lambda p: (p / "train/cat").rename(p / "cat"),
            SpecUnsatisfiable,
            "train/ of 'pets' has 1",
        ),
    ],
)
def test_a_folder_that_does_not_fit(pets, make, error, reason):
    make(pets)
    with pytest.raises(error, match=reason):
        read(pets)


def test_a_root_that_is_a_loop_or_a_part_that_leaves(pets):
    (pets / "test").rename(pets.parent / "other")
    (pets / "test").symlink_to(pets.parent / "other")
    with pytest.raises(DataUnreadable, match="test of 'pets' is a link that leaves"):
        read(pets)
    (pets.parent / "round").symlink_to("round")
    with pytest.raises(ExperimentError):
        read(pets, folder="round")


def test_the_operators_own_link_to_a_folder_is_followed(pets):
    (pets.parent / "linked").symlink_to(pets)
    assert len(read(pets, folder="linked").train) == 4


def test_reading_says_how_far_it_is(pets, monkeypatch):
    monkeypatch.setattr("partcore.data.image_folder.PROGRESS_EVERY", 2)
    events = list(loading(SPEC, pets.parent, seed=1))
    assert all(isinstance(event, Progress) for event in events)
    assert [(event.done, event.total, event.unit) for event in events] == [
        (0, 4, "image"),
        (2, 4, "image"),
    ] * 2


def test_check_lists_all_that_is_wrong(pets, capsys):
    arguments = ["check", "pets", "--root", str(pets.parent), "--size", "8"]
    assert main(arguments) == 0
    assert "holds 4 training and 4 test images" in capsys.readouterr().out
    (pets / "train/cat/0.png").write_bytes(b"")
    (pets / "test/dog/0.png").write_bytes(b"no")
    assert main(arguments) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1] == "train/cat/0.png is empty"
    assert main(["check", "none", "--root", str(pets.parent)]) == 1
