"""A lab for one command: started before it, stopped after it."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.text import Text

from partlab.client import Client
from partlab.embedded.lab import Choices, EmbeddedLab
from partlab.embedded.state import State

SLOTS = 2
"""Runs at a time: on two cores, two runs of one thread are faster than one of two."""


@contextmanager
def own_lab(
    state: Path, port: int | None, out: Console
) -> Iterator[tuple[Client, Callable[[], None]]]:
    """Start a lab in ``state``; give a client of it, and what is to be called now and then."""
    choices = Choices(State(state), port=port, cpu_slots=SLOTS)
    embedded = EmbeddedLab(choices, tell=lambda n: out.print(Text(n, style="dim"), soft_wrap=True))
    signal.signal(signal.SIGTERM, _interrupt)
    with embedded.running():
        out.print(Text(f"the lab is up at {embedded.url}", style="bold"), soft_wrap=True)
        token = embedded.state.token_file.read_text().strip()
        with Client(embedded.url, token) as client:
            yield client, embedded.look_once
        embedded.tell("stopping the lab")


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt
