"""`part demo`: a lab, three runs, one table, one picture, and everything stopped again."""

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from partlab import demo as story
from partlab import figures, tables
from partlab.client import Client
from partlab.commands import Json
from partlab.embedded.lab import Choices, EmbeddedLab
from partlab.embedded.state import State
from partlab.terminal import console, print_json

app = typer.Typer()

SLOTS = 2
"""Runs at a time: on two cores, two runs of one thread are faster than one of two."""


@app.command()
def demo(
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the picture, the tables, the lab.")
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
    choices = Choices(State(folder / "lab"), port=port, cpu_slots=SLOTS)
    embedded = EmbeddedLab(choices, tell=lambda n: out.print(Text(n, style="dim"), soft_wrap=True))
    signal.signal(signal.SIGTERM, _interrupt)
    with embedded.running():
        out.print(Text(f"the lab is up at {embedded.url}", style="bold"), soft_wrap=True)
        token = embedded.state.token_file.read_text().strip()
        with Client(embedded.url, token) as client:
            outcomes = story.run_all(client, settings, out, embedded.look_once)
            files = story.save(client, outcomes, folder)
        embedded.tell("stopping the lab")
    return outcomes, files


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def _tell(out: Console, outcomes: list[story.Outcome], files: list[Path], seconds: float) -> None:
    out.print("")
    out.print(story.table(out, outcomes))
    for one in outcomes:
        if one.evaluation is not None:
            out.print(Text.assemble((f"{one.run.title}: ", "bold")), end="")
            out.print(tables.audit(one.evaluation.audit))
    for file in files:
        out.print(Text(str(file), style="bold"), soft_wrap=True)
    again = f"part up --state {files[-1].parent / 'lab'}"
    out.print(Text(f"{figures.duration(seconds)} in all; look around with: {again}", style="dim"))
