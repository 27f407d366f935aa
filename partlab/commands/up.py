"""`part up`: a lab on this machine."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from partlab import running_labs, tables
from partlab.commands import Json
from partlab.credentials import find_credentials, state_folder
from partlab.embedded.lab import Choices, EmbeddedLab
from partlab.embedded.state import State
from partlab.surroundings import program_name
from partlab.terminal import console, print_json

app = typer.Typer()


@app.command()
def up(
    *,
    state: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Folder for everything the lab keeps (PARTLAB_STATE, ~/.partlab).",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port on loopback (8700, or the next free)."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Folder of datasets (data, in the state folder)."),
    ] = None,
    cpu_slots: Annotated[
        int | None,
        typer.Option("--cpu-slots", "--workers", min=1, max=64, help="CPU runs at a time."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Start a lab on this machine and keep it running until Ctrl-C."""
    folder = (state or state_folder()).expanduser().absolute()
    root = data.expanduser().absolute() if data else None
    choices = Choices(State(folder), port=port, data=root, cpu_slots=cpu_slots)
    err = console(to_stderr=True)
    run_lab(EmbeddedLab(choices, tell=_teller(err)), as_json=as_json)


def _teller(err: Console) -> Callable[[str], None]:
    return lambda news: err.print(Text(news, style="dim"), soft_wrap=True)


def run_lab(embedded: EmbeddedLab, *, as_json: bool) -> None:
    """Run a lab until a signal says stop; a second one stops it without grace."""

    def stop(_: int, __: FrameType | None) -> None:
        embedded.ask_to_stop()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    with embedded.running(), running_labs.noted(embedded.state.folder):
        _announce(embedded, as_json=as_json)
        embedded.look_after()
        embedded.tell("stopping: runs are checkpointed and go on at the next start")
    embedded.tell("stopped")


def _announce(embedded: EmbeddedLab, *, as_json: bool) -> None:
    state = embedded.state
    places = {
        "url": embedded.url,
        "token_file": str(state.token_file),
        "state": str(state.folder),
        "data": str(embedded.data),
        "logs": str(state.logs),
    }
    if as_json:
        print_json(places)
        return
    out = console()
    shown = tables.facts((name.replace("_", " "), Text(place)) for name, place in places.items())
    title = "PART Lab is up; Ctrl-C stops it"
    out.print(Panel.fit(shown, title=title, border_style="green") if out.is_terminal else shown)
    out.print(Text(hint(embedded), style="dim"), soft_wrap=True)
    sys.stdout.flush()


def hint(embedded: EmbeddedLab) -> str:
    """Say how another terminal reaches the lab, with words that work where this one stands."""
    example = Path("examples/digits.yaml")
    first = example if example.is_file() else "--preset part++ --set data.dataset=digits"
    command = f"{program_name()} submit {first} --follow"
    if find_credentials().url != embedded.url:
        command = f"export PART_URL={embedded.url}; {command}"
    return f"In another terminal: {command}"
