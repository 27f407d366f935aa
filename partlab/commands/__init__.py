"""The commands of `part`, and the options they share."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from partlab.client import Client
from partlab.credentials import find_credentials
from partlab.transport import Patience

RunName = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run's id, its beginning or end, or `latest`."),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON instead of text.")]


@contextmanager
def lab() -> Iterator[Client]:
    """Open the lab this shell means."""
    found = find_credentials()
    # A person waits for the answer; a program that restarts a lab may use a more patient Client.
    with Client(found.url, found.token, patience=Patience(attempts=4)) as client:
        yield client
