"""The whole story on real digits: three trainings of one length and seed, attacked alike."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from domain.results import AttackResult, Evaluation
from domain.run_state import RunState
from partlab import figures, tables, watching
from partlab.answers import Run
from partlab.client import Client
from partlab.errors import ClientError, Contradiction
from partlab.specfile import apply_settings
from partlab.terminal import plain

PRESETS = ("part++", "pgd-at", "standard")
EXPERIMENT = "demo"
DATASET = "digits"
PICTURE = "figures/budget.png"
COLUMNS = ("clean", "pgd-20", "worst-case")


@dataclass(frozen=True)
class Outcome:
    """A run that is over, and what its evaluation found."""

    run: Run
    evaluation: Evaluation | None

    def result(self, label: str) -> AttackResult | None:
        """Return the result under one attack, if it was run."""
        if self.evaluation is None:
            return None
        return next((r for r in self.evaluation.rows if r.label == label), None)

    @property
    def worst_case(self) -> float:
        """Accuracy under the union of all attacks; 0 without an evaluation."""
        return self.evaluation.worst_case.accuracy if self.evaluation else 0.0


def submissions(settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what is submitted, by preset; nothing but the method differs."""
    shared = {"experiment": EXPERIMENT, "data": {"dataset": DATASET}}
    return {
        preset: apply_settings({**shared, "preset": preset, "name": preset}, settings)
        for preset in PRESETS
    }


def run_all(
    client: Client, settings: Sequence[str], out: Console, look: Callable[[], None]
) -> list[Outcome]:
    """Submit the runs, show them until they are over, and return what they found.

    look: called between two looks at the runs; here the lab's children are looked after.
    """
    _clear(client)
    runs = [client.submit(body) for body in submissions(settings).values()]
    ended = watching.see_through(client, runs, out, look)
    return [Outcome(run, _evaluation(client, run)) for run in ended]


def _clear(client: Client) -> None:
    """An interrupted demo leaves runs behind, which would run first."""
    for state in (RunState.QUEUED, RunState.RUNNING):
        for run in client.runs(states=(state,), experiment=EXPERIMENT):
            with suppress(Contradiction):  # it ended since it was listed
                client.cancel(run.id)


def _evaluation(client: Client, run: Run) -> Evaluation | None:
    found = client.evaluations(run.id)
    return found[0].record if found else None


def table(out: Console, outcomes: Sequence[Outcome]) -> RenderableType:
    """Show the runs side by side."""
    made = tables.table(out, "method", "clean", "PGD-20", "worst case", "verdict", "took")
    for one in outcomes:
        verdict = one.evaluation.audit.verdict if one.evaluation else one.run.state.value
        style = tables.VERDICT_STYLE.get(verdict, "bold red")
        cells = [_two_lines(one.result(label)) for label in COLUMNS]
        made.add_row(one.run.title, *cells, Text(verdict, style=style), tables.took(one.run))
    return Group(made, Text(setting(outcomes), style="dim"))


def setting(outcomes: Sequence[Outcome]) -> str:
    """Say what all figures are of: images, threat model, intervals, and what ≤ means."""
    evaluations = [one.evaluation for one in outcomes if one.evaluation is not None]
    images = dict.fromkeys(f"{e.n} test images of {_dataset(e)}" for e in evaluations)
    threats = dict.fromkeys(str(e.worst_case.threat) for e in evaluations)
    parts = [*images, *threats, "95 % Wilson intervals"]
    if any(result.is_bound for e in evaluations for result in e.rows):
        parts.append("≤ an upper bound")
    return "; ".join(parts)


def _dataset(evaluation: Evaluation) -> str:
    return evaluation.facts.dataset if evaluation.facts else DATASET


def _two_lines(result: AttackResult | None) -> Text:
    """Put the interval under its accuracy, so that the table fits a window of 80 columns."""
    if result is None:
        return Text("-")
    interval = figures.interval(result.interval)
    return Text.assemble(figures.attacked(result), "\n", (interval, "dim"))


def save(client: Client, outcomes: Sequence[Outcome], folder: Path) -> list[Path]:
    """Write the picture and the tables; return the files."""
    files = [folder / "results.md", folder / "results.json"]
    files[0].write_text(markdown(outcomes), encoding="utf-8")
    body = json.dumps([as_object(one) for one in outcomes], indent=2, ensure_ascii=False)
    files[1].write_text(body + "\n", encoding="utf-8")
    if (picture := _picture(client, outcomes, folder)) is not None:
        files.insert(0, picture)
    return files


def _picture(client: Client, outcomes: Sequence[Outcome], folder: Path) -> Path | None:
    """Fetch PART++'s picture to the top of ``folder``."""
    for one in outcomes:
        for artifact in client.artifacts(one.run.id) if one.run.preset == "part++" else ():
            if artifact.name == PICTURE:
                return client.fetch(artifact, folder / "budget.png")
    return None


def markdown(outcomes: Sequence[Outcome]) -> str:
    """Return the table in Markdown; every accuracy has its 95 % interval and n."""
    lines = [
        "| method | clean | PGD-20 | worst case | n | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        found = [one.result(label) for label in COLUMNS]
        cells = ["-" if result is None else figures.accuracy(result) for result in found]
        n = str(one.evaluation.n) if one.evaluation else "-"
        verdict = one.evaluation.audit.verdict if one.evaluation else one.run.state.value
        lines.append(f"| {' | '.join((one.run.title, *cells, n, verdict))} |")
    return "\n".join([*lines, "", f"{setting(outcomes)}."]) + "\n"


def as_object(one: Outcome) -> Mapping[str, Any]:
    """Return a run's results for a program."""
    found: Mapping[str, Any] = plain(
        {
            "method": one.run.title,
            "run": one.run.id,
            "state": one.run.state.value,
            "failure": one.run.failure,
            "summary": one.run.summary,
            "spec": one.run.spec,
            "evaluation": one.evaluation,
        }
    )
    return found


def shortcomings(outcomes: Sequence[Outcome]) -> list[str]:
    """Say what is not as the demo promises; nothing if all is well."""
    told = [
        f"{one.run.title} {one.run.state.value}: {tables.failure_text(one.run).plain}"
        for one in outcomes
        if one.run.state != RunState.SUCCEEDED
    ]
    if told:
        return told
    control = next(one for one in outcomes if one.run.preset == "standard")
    return [
        f"{one.run.title} is no more robust than standard training: "
        f"{figures.percent(one.worst_case)} against {figures.percent(control.worst_case)}"
        for one in outcomes
        if one is not control and one.worst_case <= control.worst_case
    ]


class DemoFailed(ClientError):
    """The demo did not show what it promises."""
