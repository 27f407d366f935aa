"""Hand an evaluation on: as a card, as a leaderboard's entry, and asked again."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from domain import card as cards
from domain import certify as certificates
from domain import robustbench, stored_spec
from domain.described import Described
from domain.errors import SpecInvalid
from domain.results import Evaluation
from domain.run_state import RunState
from domain.spec import EvaluateSpec, TrainSpec
from partlab import tables, watching
from partlab.answers import Run
from partlab.client import Client
from partlab.commands import Json, RunName, lab, letting_go_of
from partlab.errors import ClientError, NotALab, UsageError
from partlab.terminal import console, print_json

app = typer.Typer()


@app.command()
def card(
    run: RunName,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", dir_okay=False, help="File to write (default: the terminal)."
        ),
    ] = None,
) -> None:
    """Write a run's card in Markdown: training, results with intervals, verdict, provenance."""
    with lab() as client:
        run_id = client.resolve(run)
        judged, found = _judged(client, run_id), _newest(client, run_id)
        text = cards.card(judged, _trained(client, judged), found)
    if output is None:
        sys.stdout.write(text)
    else:
        _write(output, text)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}.") from error
    console().print(Text(str(file)), soft_wrap=True)


@app.command()
def entry(
    run: RunName,
    *,
    name: Annotated[str, typer.Option(help="Title of the publication (the run's).")] = "",
    authors: Annotated[str, typer.Option(help="Its authors.")] = "",
    venue: Annotated[str, typer.Option(help="Where it appeared.")] = "",
    link: Annotated[str, typer.Option(help="Where it is found.")] = "",
) -> None:
    """Write a run as RobustBench's model_info JSON; what it cannot claim is null and said why."""
    credit = robustbench.Credits(name=name, authors=authors, venue=venue, link=link)
    with lab() as client:
        run_id = client.resolve(run)
        found = robustbench.entry(_judged(client, run_id), _newest(client, run_id), credit)
    body = json.dumps(found.model_dump(mode="json"), indent=2, ensure_ascii=False)
    sys.stdout.write(f"{body}\n")


@app.command()
def certify(
    run: RunName,
    *,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=2**31 - 1, help="Another seed for the attacks' noise (default: the run's)."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a run's evaluation again, and say whether it reproduces, image by image.

    Exit status 0 if every row does, 1 if not.
    """
    with lab() as client:
        run_id = client.resolve(run)
        first, spec = _newest(client, run_id), _judged(client, run_id).spec
        asked = client.submit(certificates.submission(run_id, spec, seed=seed))
        _await(client, asked, console(to_stderr=as_json))
        found = certificates.certify(first, _newest(client, asked.id))
    out = console()
    if as_json:
        print_json({"run": run_id, "certified_by": asked.id, **found.model_dump(mode="json")})
    else:
        out.print(tables.certificate(out, found))
    if not found.reproduces:
        raise typer.Exit(1)


def _await(client: Client, run: Run, out: Console) -> None:
    """Show a run until it has succeeded. Raises ClientError if it ends otherwise."""
    out.print(Text.assemble("submitted ", (run.id, "bold"), f"  {run.title}"), soft_wrap=True)
    with letting_go_of(run.id):
        ended = watching.follow(client, run, out)
    if ended.state != RunState.SUCCEEDED:
        why = tables.run_outcome(ended).plain.replace("\n", ", ")
        raise ClientError(f"{why}; see it with: part show {run.id}")


def _newest(client: Client, run_id: str) -> Evaluation:
    found = client.evaluations(run_id)
    if not found:
        raise UsageError(f"Run {run_id} has no evaluation.")
    return found[0].record


def _judged(client: Client, run_id: str) -> cards.Judged:
    """Return a run that has, or will have, an evaluation. Raises UsageError for another one."""
    run = client.get(run_id)
    try:
        spec = stored_spec.read(run.spec)
    except SpecInvalid as error:
        told = f"{client.url} speaks another version of PART Lab: run {run_id} says {error}"
        raise NotALab(told) from None
    if not isinstance(spec, TrainSpec | EvaluateSpec):
        raise UsageError(f"Run {run_id} is of kind `{run.kind}`; name one that was evaluated.")
    return Described(run.id, run.title, spec, run.spec_sha256, run.facts or {})


def _trained(client: Client, judged: cards.Judged) -> cards.Trained:
    """Return the run whose weights were judged; None for uploaded ones."""
    spec = judged.spec
    if isinstance(spec, EvaluateSpec):
        if spec.source.run is None:
            return None
        judged = _judged(client, spec.source.run)
        spec = judged.spec
    if not isinstance(spec, TrainSpec):
        raise UsageError(f"Run {judged.run} trained no weights; name one that did.")
    return Described(judged.run, judged.title, spec, judged.spec_sha256, judged.facts)
