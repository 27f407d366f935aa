"""The commands of `part`, and the options they share."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.text import Text

from partlab.client import Client
from partlab.credentials import find_credentials
from partlab.terminal import console
from partlab.transport import Patience

RunName = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run's id, a part of it, its name, or `latest`."),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON instead of text.")]


@contextmanager
def lab() -> Iterator[Client]:
    """Open the lab this shell means."""
    found = find_credentials()
    if found.remark:
        console(to_stderr=True).print(Text(found.remark, style="yellow"), soft_wrap=True)
    # A person waits for the answer; a program that restarts a lab may use a more patient Client.
    with Client(found.url, found.token, patience=Patience(attempts=4)) as client:
        yield client


@contextmanager
def letting_go_of(run_id: str) -> Iterator[None]:
    """Watch a run that goes on when one stops watching. Raises typer.Exit(130) on Control-C."""
    try:
        yield
    except KeyboardInterrupt:
        hint = f"The run goes on. See it with: part show {run_id}"
        console(to_stderr=True).print(hint, soft_wrap=True)
        raise typer.Exit(130) from None
