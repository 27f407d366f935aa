"""What a shell may do to a program before it starts, and to its output while it writes."""

import io
import os
import re
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal, TextIO

WIDTHS = ("COLUMNS", "LINES", "TERMINAL_WIDTH")
NARROWEST, WIDEST = 20, 1000
"""Columns. Tables in fewer are no tables; rich pads its panels to the whole width."""


def prepare() -> None:
    """Make the standard streams and the window's size something to rely on."""
    _open_closed_streams()
    for name in WIDTHS:
        _correct_width(name)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A stream that does not know a character says `?` and not a traceback.
            stream.reconfigure(errors="replace")


def _open_closed_streams() -> None:
    """Occupy descriptors 0 to 2 where a shell closed them (``>&-``).

    The next file to be opened, such as a lab's database, would otherwise become standard output.
    Standard output is opened for reading: whoever writes to it hears of it, as with `ls >&-`.
    """
    if sys.stdin is None:
        sys.stdin = _null(0, os.O_RDONLY, "r")
    if sys.stdout is None:
        sys.stdout = _null(1, os.O_RDONLY, "w")
    if sys.stderr is None:
        sys.stderr = _null(2, os.O_WRONLY, "w")


def _null(number: int, flags: int, mode: Literal["r", "w"]) -> TextIO:
    opened = os.open(os.devnull, flags)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    return open(number, mode, encoding="utf-8", closefd=False)


def _correct_width(name: str) -> None:
    given = os.environ.get(name)
    if given is None:
        return
    number = int(given) if re.fullmatch(r"[0-9]{1,9}", given) else 0
    if number == 0:
        del os.environ[name]
    elif name != "LINES":
        os.environ[name] = str(min(max(number, NARROWEST), WIDEST))


def abandon_broken_streams() -> bool:
    """Send to nowhere what a stream cannot take; return whether standard output was one.

    Python would try again when it exits, complain, and change the exit status.
    """
    broken = [stream for stream in (sys.stdout, sys.stderr) if not _flushes(stream)]
    for stream in broken:
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            stream.flush()
    return sys.stdout in broken


def _flushes(stream: TextIO) -> bool:
    try:
        stream.flush()
    except OSError:
        return False
    return True


def program_name() -> str:
    """Return what to type for `part`: the name alone if the shell finds this program by it."""
    program = Path(sys.argv[0]).absolute()
    on_path = shutil.which("part")
    if on_path is not None and Path(on_path).absolute() == program:
        return "part"
    if program.name != "part":
        return f"{shlex.quote(sys.executable)} -m partlab"
    with suppress(ValueError):
        program = program.relative_to(Path.cwd())
    return shlex.quote(str(program))
