"""Submit, see, follow and end runs."""

import csv
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from domain.run_state import RunState
from partlab import figures, specfile, tables, watching
from partlab.answers import Artifact, LogLine, Run
from partlab.client import Client
from partlab.commands import Json, RunName, lab, letting_go_of
from partlab.errors import UsageError
from partlab.news import Ended, Logged
from partlab.terminal import console, print_json

app = typer.Typer()

COURSE_POINTS = 200
ALL_POINTS = 100_000
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Override a field, such as training.epochs=5. Repeat."
    ),
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Show it until it has ended.")]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", file_okay=False, help="Folder to write to (default: the run's id)."
    ),
]


@app.command()
def submit(
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="A .json, .yaml or .toml spec; - for standard input."),
    ] = None,
    *,
    settings: Settings = None,
    preset: Annotated[str | None, typer.Option(help="Starting point; see `part presets`.")] = None,
    follow: Follow = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the whole spec; queue nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Queue a run.

    Exit status with --follow: 0 if it succeeded, 1 if not.
    """
    body = _submission(file, settings, preset)
    with lab() as client:
        if dry_run:
            print_json(client.expand(_with_ids(client, body)))
        else:
            _submit(client, body, follow=follow, as_json=as_json)


def _submission(file: str | None, settings: list[str] | None, preset: str | None) -> dict[str, Any]:
    if file is None and preset is None and not settings:
        raise UsageError("Name a spec file, or give --preset and --set data.dataset=…")
    body = {} if file is None else specfile.read_submission(file)
    if preset is not None:
        body = {**body, "preset": preset}
    return specfile.apply_settings(body, settings or [])


def _submit(client: Client, body: dict[str, Any], *, follow: bool, as_json: bool) -> Run:
    run = client.submit(_with_ids(client, body))
    if as_json and not follow:
        print_json(run)
    if not as_json:
        _tell_submitted(client, run)
    return _follow(client, run, as_json=as_json) if follow else run


def _with_ids(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    """Write ids where `after` names runs, as commands do; the lab itself knows ids alone."""
    after = body.get("after")
    if not isinstance(after, list) or not all(isinstance(name, str) for name in after):
        return body
    return {**body, "after": [client.resolve(name) for name in after]}


def _tell_submitted(client: Client, run: Run) -> None:
    out = console()
    out.print(Text.assemble("submitted ", (run.id, "bold"), f"  {run.title}"), soft_wrap=True)
    out.print(Text(f"{client.url}/runs/{run.id}", style="dim"), soft_wrap=True)
    if run.waits is not None:
        told = Text.assemble((run.waits.state, "yellow"), f": waits for {run.waits.waits_for}")
        out.print(told, soft_wrap=True)


def _follow(client: Client, run: Run, *, as_json: bool) -> Run:
    with letting_go_of(run.id):
        if as_json:
            ended = watching.follow_as_json(client, run)
        else:
            ended = watching.follow(client, run, console())
            _tell_outcome(client, ended, console())
    if ended.state != RunState.SUCCEEDED:
        raise typer.Exit(1)
    return ended


def _tell_outcome(client: Client, run: Run, out: Console) -> None:
    out.print(tables.run_outcome(run))
    if found := client.evaluations(run.id):
        out.print(tables.evaluations(out, found))
    if run.state == RunState.SUCCEEDED:
        out.print(Text(f"files: part get {run.id}", style="dim"), soft_wrap=True)


@app.command("ls")
def list_runs(
    *,
    state: Annotated[list[RunState] | None, typer.Option(help="Only these states. Repeat.")] = None,
    experiment: Annotated[str | None, typer.Option(help="Only this experiment.")] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Only my own.")] = False,
    text: Annotated[str | None, typer.Option("--text", help="Part of an id or name.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 20,
    as_json: Json = False,
) -> None:
    """List runs, newest first."""
    with lab() as client:
        page = client.page(
            states=state or (),
            experiment=experiment,
            owner=client.me().name if mine else None,
            text=text,
            limit=limit,
        )
    if as_json:
        print_json(page.items)
        return
    out = console()
    out.print(tables.runs(out, page.items) if page.items else "There is no run.")
    if page.next_cursor is not None:
        out.print(Text(f"There are more; --limit shows more than {limit}.", style="dim"))


@app.command()
def show(
    run: RunName,
    *,
    history: Annotated[bool, typer.Option("--events", help="Also every change of state.")] = False,
    spec: Annotated[bool, typer.Option("--spec", help="Only the whole spec, as JSON.")] = False,
    as_json: Json = False,
) -> None:
    """Show a run: state, results with intervals, verdict, files."""
    with lab() as client:
        found = client.get(client.resolve(run))
        if spec:
            print_json(found.spec)
        elif as_json:
            print_json(_everything(client, found))
        else:
            _show(client, found, console(), history=history)


def _everything(client: Client, run: Run) -> dict[str, object]:
    return {
        **run.model_dump(mode="json"),
        "evaluations": client.evaluations(run.id),
        "artifacts": client.artifacts(run.id),
        "events": client.events(run.id),
    }


def _show(client: Client, run: Run, out: Console, *, history: bool) -> None:
    out.print(tables.run_facts(run))
    if run.state == RunState.QUEUED:
        out.print(Text(watching.why_waiting(client, run.id), style="yellow"), soft_wrap=True)
    if found := client.evaluations(run.id):
        out.print("", tables.evaluations(out, found), sep="\n")
    if files := client.artifacts(run.id):
        out.print("", tables.artifacts(out, files), sep="\n")
    if history:
        out.print("", tables.events(out, client.events(run.id)), sep="\n")


@app.command()
def logs(
    run: RunName,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until it has ended.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, max=5000, help="How many of the last.")
    ] = 200,
    as_json: Json = False,
) -> None:
    """Show a run's log."""
    with lab() as client:
        run_id = client.resolve(run)
        if not follow:
            for line in client.logs(run_id, limit=lines).items:
                _print_line(line, as_json=as_json)
            return
        for news in client.follow(run_id):
            if isinstance(news, Logged):
                _print_line(news.line, as_json=as_json)
            elif isinstance(news, Ended) and news.run.state != RunState.SUCCEEDED:
                raise typer.Exit(1)


def _print_line(line: LogLine, *, as_json: bool) -> None:
    if as_json:
        print_json(line)
        return
    style = {"warning": "yellow", "error": "bold red"}.get(line.level, "")
    when = figures.moment(line.at)
    mark = "" if line.level == "info" else f"{line.level}: "
    console().print(
        Text.assemble((f"{when}  ", "dim"), (mark + line.message, style)), soft_wrap=True
    )


@app.command()
def metrics(
    run: RunName,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Series; `train/*` works too.")
    ] = None,
    *,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Write every point: series,step,value.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a run's series: last value, range and course."""
    with lab() as client:
        run_id = client.resolve(run)
        series = [s for s in client.metrics(run_id) if _named(s.name, names)]
        if names and not series:
            raise UsageError(f"Run {run_id} has no series named {', '.join(names)}.")
        whole = as_csv or as_json
        points = ALL_POINTS if whole else COURSE_POINTS
        history = client.history(run_id, [s.name for s in series], max_points=points)
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(("series", "step", "value"))
        for name, one in history.items():
            writer.writerows((name, s, v) for s, v in zip(one.steps, one.values, strict=True))
    elif as_json:
        print_json([{**s.model_dump(), **history[s.name].model_dump()} for s in series])
    else:
        out = console()
        out.print(tables.metrics(out, series, history) if series else "There is no series yet.")


def _named(name: str, wanted: Sequence[str] | None) -> bool:
    return not wanted or any(fnmatch(name, pattern) for pattern in wanted)


@app.command()
def cancel(run: RunName, *, as_json: Json = False) -> None:
    """End a queued run at once; ask a running one to stop."""
    with lab() as client:
        _print_run(client.cancel(client.resolve(run)), as_json=as_json)


@app.command()
def pause(run: RunName, *, as_json: Json = False) -> None:
    """Keep a run from starting; a running one takes a checkpoint and waits."""
    with lab() as client:
        _print_run(client.pause(client.resolve(run)), as_json=as_json)


@app.command()
def resume(run: RunName, *, as_json: Json = False) -> None:
    """Let a paused run go on from its checkpoint."""
    with lab() as client:
        _print_run(client.resume(client.resolve(run)), as_json=as_json)


@app.command()
def why(run: RunName, *, as_json: Json = False) -> None:
    """Say why a run waits, what is ahead of it, and when it should start."""
    with lab() as client:
        found = client.position(client.resolve(run))
    if as_json:
        print_json(found)
    else:
        console().print(tables.position(found))


@app.command()
def retry(run: RunName, *, follow: Follow = False, as_json: Json = False) -> None:
    """Queue a new run with the spec of one that is over."""
    with lab() as client:
        made = client.retry(client.resolve(run))
        if not (as_json and follow):
            _print_run(made, as_json=as_json)
        if follow:
            _follow(client, made, as_json=as_json)


def _print_run(run: Run, *, as_json: bool) -> None:
    if as_json:
        print_json(run)
    else:
        console().print(Text.assemble((run.id, "bold"), "  ", tables.run_state(run)))


@app.command()
def get(
    run: RunName,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Files or kinds; `figures/*` works too."),
    ] = None,
    *,
    output: Folder = None,
    as_json: Json = False,
) -> None:
    """Download a run's files, all or those named; each is checked against its sha256."""
    with lab() as client:
        run_id = client.resolve(run)
        every = client.artifacts(run_id)
        wanted = [a for a in every if _named(a.name, names) or a.kind in (names or ())]
        if not wanted:
            have = ", ".join(a.name for a in every) or "none yet"
            raise UsageError(f"Run {run_id} has no such file; it has: {have}.")
        _download(client, wanted, output or Path(run_id), as_json=as_json)


def _download(client: Client, wanted: list[Artifact], folder: Path, *, as_json: bool) -> list[Path]:
    files, out = [], console()
    for artifact in wanted:
        file = client.download(artifact, folder)
        files.append(file)
        if as_json:
            print_json({**artifact.model_dump(mode="json"), "file": str(file)})
        else:
            out.print(Text.assemble(str(file), (f"  {figures.size(artifact.size)}", "dim")))
    return files


@app.command()
def evaluate(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="A finished run: id, part of it, name, `latest`."),
    ] = None,
    *,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Uploaded weights, by id or name; give their data with --set."),
    ] = None,
    settings: Settings = None,
    suite: Annotated[
        str | None, typer.Option(help="`quick`, `report`, `standard` or `paper`.")
    ] = None,
    weights: Annotated[str, typer.Option(help="Of a run: `best` or `last`.")] = "best",
    follow: Follow = False,
    as_json: Json = False,
) -> None:
    """Attack weights, of a finished run or uploaded, with other attacks or another radius."""
    if (run is None) == (checkpoint is None):
        raise UsageError("Name a run, or uploaded weights with --checkpoint.")
    with lab() as client:
        if run is not None:
            source = {"run": client.resolve(run), "weights": weights}
        else:
            source = {"checkpoint": client.resolve_checkpoint(str(checkpoint))}
        body: dict[str, Any] = {"kind": "evaluate", "source": source}
        if suite is not None:
            body["evaluation"] = {"suite": suite}
        body = specfile.apply_settings(body, settings or [])
        _submit(client, body, follow=follow, as_json=as_json)


@app.command()
def visualise(
    run: RunName,
    *,
    settings: Settings = None,
    output: Folder = None,
    as_json: Json = False,
) -> None:
    """Draw the maps, masks and budgets of a finished run's checkpoint, and fetch the picture."""
    with lab() as client:
        source = {"run": client.resolve(run), "weights": "best"}
        body = specfile.apply_settings({"kind": "visualise", "source": source}, settings or [])
        drawn = _submit(client, body, follow=True, as_json=as_json)
        pictures = [a for a in client.artifacts(drawn.id) if a.kind == "figure"]
        _download(client, pictures, output or Path(drawn.id), as_json=as_json)
