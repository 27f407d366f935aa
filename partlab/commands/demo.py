"""`part demo`: a lab, three runs, one table, one picture, and everything stopped again."""

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from partlab import demo as story
from partlab import figures, tables
from partlab.commands import Json
from partlab.commands.own_lab import own_lab
from partlab.surroundings import program_name
from partlab.terminal import console, print_json

app = typer.Typer()


@app.command()
def demo(
    *,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", file_okay=False, help="Folder for the picture, the tables, the lab."
        ),
    ] = Path("demo-output"),
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Override a field of all runs. Repeat."),
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port on loopback.")] = None,
    as_json: Json = False,
) -> None:
    """Train PART++, PGD-AT and a standard network on real digits, attack all three, compare.

    Exit status 1 if a run fails, or an adversarially trained network is not more robust than the
    standard one.
    """
    began = time.monotonic()
    folder = output.expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    # What is for people goes to stderr when a program reads stdout.
    out = console(to_stderr=as_json)
    outcomes, files = _run(folder, settings or [], port, out)
    if as_json:
        print_json([story.as_object(one) for one in outcomes])
    _tell(out, outcomes, files, time.monotonic() - began)
    if missed := story.shortcomings(outcomes):
        raise story.DemoFailed("; ".join(missed))


def _run(
    folder: Path, settings: list[str], port: int | None, out: Console
) -> tuple[list[story.Outcome], list[Path]]:
    with own_lab(folder / "lab", port, out) as (client, look):
        outcomes = story.run_all(client, settings, out, look)
        return outcomes, story.save(client, outcomes, folder)


def _tell(out: Console, outcomes: list[story.Outcome], files: list[Path], seconds: float) -> None:
    out.print("")
    out.print(story.table(out, outcomes))
    for one in outcomes:
        if one.evaluation is not None:
            out.print(Text.assemble((f"{one.run.title}: ", "bold")), end="")
            out.print(tables.audit(one.evaluation.audit))
    for file in files:
        out.print(Text(str(file), style="bold"), soft_wrap=True)
    again = f"{program_name()} up --state {shlex.quote(str(files[-1].parent / 'lab'))}"
    out.print(Text(f"{figures.duration(seconds)} in all; look around with: {again}", style="dim"))
