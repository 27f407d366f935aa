"""Look at evaluations: audit them again, pair them, put them into a table."""

import sys
from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from domain import report
from domain.errors import Incomparable
from partlab import tables
from partlab.client import Client
from partlab.commands import Json, RunName, lab
from partlab.errors import UsageError
from partlab.terminal import console, print_json

app = typer.Typer()


class Format(StrEnum):
    """How a table is written: the keys of domain.report.FORMATS."""

    markdown = "markdown"
    csv = "csv"
    latex = "latex"
    json = "json"


@app.command()
def audit(run: RunName, *, as_json: Json = False) -> None:
    """Apply the lab's present rules to a run's evaluation: every check, its figures, what to do.

    Exit status 1 unless the verdict is `sound`.
    """
    with lab() as client:
        run_id = client.resolve(run)
        found = client.audits(run_id)
    if not found:
        raise UsageError(f"Run {run_id} has no evaluation.")
    out = console()
    if as_json:
        print_json(found[0])
    else:
        out.print(tables.checks(out, found[0]))
    if found[0].verdict != "sound":
        raise typer.Exit(1)


@app.command()
def compare(
    run: RunName,
    other: RunName,
    *,
    force: Annotated[
        bool, typer.Option(help="Compare different threat models, with a warning.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Pair two runs image by image: differences, 95 % intervals, McNemar's test."""
    with lab() as client:
        ids = client.resolve(run), client.resolve(other)
        found = client.compare(*ids, force=force)
        names = [client.get(run_id).title for run_id in ids]
    out = console()
    if as_json:
        print_json(found)
        return
    out.print(tables.comparison(out, found, *(names if names[0] != names[1] else ids)))
    for warning in found.warnings:
        out.print(Text.assemble(("forced: ", "bold red"), warning), soft_wrap=True)


@app.command()
def table(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs, a row each.")],
    *,
    form: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.markdown,
    force: Annotated[
        bool,
        typer.Option(
            help="Take rows of other n, radii, images or attacks, in columns that say so."
        ),
    ] = False,
) -> None:
    """Write runs' results as Markdown, CSV, LaTeX or JSON, with intervals and provenance."""
    with lab() as client:
        rows = [_row(client, client.resolve(name)) for name in runs]
    try:
        text = report.table(rows, form.value, force=force)
    except Incomparable as error:
        raise UsageError(f"{error} That is --force.") from error
    sys.stdout.write(text)


def _row(client: Client, run_id: str) -> report.Row:
    run, found = client.get(run_id), client.evaluations(run_id)
    if not found:
        raise UsageError(f"Run {run_id} has no evaluation.")
    return report.row(run.title, run.id, found[0].record)
