"""`part reproduce`: a table of the PART++ report, from its trainings to its audited rows."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from domain import report
from partlab import reproduction
from partlab.client import Client
from partlab.commands import lab
from partlab.commands.evaluations import Format
from partlab.commands.own_lab import own_lab
from partlab.terminal import console

app = typer.Typer()


class Table(StrEnum):
    """The keys of partlab.reproduction.TABLES."""

    one = "table-1"
    two = "table-2"


@app.command()
def reproduce(
    table: Annotated[Table, typer.Argument(help="1: the methods; 2: the ensemble taken apart.")],
    *,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Override a field of all runs. Repeat."),
    ] = None,
    own: Annotated[
        Path | None,
        typer.Option(
            "--own-lab",
            metavar="FOLDER",
            file_okay=False,
            help="Start a lab there for this command.",
        ),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.markdown,
) -> None:
    """Train and attack the rows of a table of the PART++ report; write it with its audit.

    On digits unless `--set data.dataset=…` names another dataset. The same command again finds the
    same runs. Exit status 1 if a row is missing or its verdict is not `sound`.
    """
    out = console(to_stderr=True)
    with _some_lab(own, out) as (client, look):
        found = reproduction.reproduce(client, table.value, settings or [], out, look)
    if found.rows:
        # Forced: hours of training are not lost for a row that differs, which then has a column.
        sys.stdout.write(report.table(found.rows, form.value, force=True))
    if missed := found.shortcomings:
        raise reproduction.Untrustworthy("; ".join(missed))


@contextmanager
def _some_lab(folder: Path | None, out: Console) -> Iterator[tuple[Client, Callable[[], None]]]:
    if folder is None:
        with lab() as client:
            yield client, lambda: None
    else:
        with own_lab(folder.expanduser().absolute(), None, out) as own:
            yield own
