"""What the lab knows, as tables."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from domain.certify import REPRODUCES, Certificate, Repeated
from domain.compare import Comparison
from domain.results import AttackResult, AuditCheck, AuditReport, Evaluation
from domain.run_state import RunState
from partlab import figures
from partlab.answers import (
    Artifact,
    Catalog,
    Checkpoint,
    Checkup,
    EvaluationAnswer,
    LedgerEntry,
    Points,
    Position,
    Queue,
    Run,
    RunEvent,
    Series,
    Slot,
    Token,
    UserGroup,
    UserLimits,
    Worker,
)
from partlab.sparkline import ASCII_BARS, BARS, sparkline
from partlab.terminal import can_draw

STATE_STYLE: Mapping[RunState, str] = {
    RunState.QUEUED: "yellow",
    RunState.RUNNING: "cyan",
    RunState.CANCELLING: "magenta",
    RunState.SUCCEEDED: "green",
    RunState.FAILED: "bold red",
    RunState.CANCELLED: "magenta",
}
NARROW = 128
"""Below so many columns the list of runs does without LEFT_OUT."""
LEFT_OUT = frozenset({"data", "judged", "owner", "submitted"})
VERDICT_STYLE: Mapping[str, str] = {
    "sound": "bold green",
    "suspicious": "bold yellow",
    "broken": "bold red",
    "incomplete": "bold yellow",
}


LEVEL_STYLE: Mapping[str, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def table(out: Console, *columns: str, right: Sequence[str] = ()) -> Table:
    """Return an empty table: ruled in a window, bare columns in a pipe."""
    ruled = out.is_terminal and can_draw(out)
    made = Table(
        box=box.SIMPLE_HEAD if ruled else None,
        header_style="bold",
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for column in columns:
        # A cut id, name or figure is worth nothing: rows fold, columns that align do not.
        made.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    return made


def facts(pairs: Iterable[tuple[str, RenderableType]]) -> Table:
    """Return names and values in two columns."""
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        made.add_row(name, value)
    return made


def state_text(state: RunState) -> Text:
    """Return a state in its colour."""
    return Text(state.value, style=STATE_STYLE[state])


def run_state(run: Run) -> Text:
    """Return a run's state; of a queued one, what it waits for other than its turn."""
    if run.waits is None or run.state != RunState.QUEUED:
        return state_text(run.state)
    return Text(run.waits.state, style=STATE_STYLE[run.state])


def took(run: Run) -> str:
    """Return how long a run's attempts held their slots, added up."""
    return "-" if run.took_seconds is None else figures.duration(run.took_seconds)


def progress_line(progress: Mapping[str, Any] | None) -> str:
    """Say how far a run is: phase, epoch, count, throughput."""
    if not progress or "phase" not in progress:
        return ""
    parts = [f"{progress['phase']} {progress.get('done', 0)}/{progress.get('total', 0)}"]
    if progress.get("epoch") is not None and progress.get("epochs"):
        parts.append(f"epoch {progress['epoch']}/{progress['epochs']}")
    if progress.get("detail"):
        parts.append(str(progress["detail"]))
    if isinstance(rate := progress.get("images_per_second"), int | float):
        parts.append(f"{rate:,.0f} images/s")
    return ", ".join(parts)


def _share(summary: Mapping[str, Any] | None, key: str) -> str:
    value = (summary or {}).get(key)
    return figures.percent(value) if isinstance(value, int | float) else ""


def _judged(run: Run) -> str:
    """Say how many images were judged, and at which radius the worst case holds."""
    count = (run.summary or {}).get("n")
    epsilon = run.spec.get("evaluation", {}).get("epsilon")
    return f"{count} at {epsilon}" if count and epsilon else ""


def _verdict(summary: Mapping[str, Any] | None) -> Text:
    verdict = str((summary or {}).get("verdict") or "")
    return Text(verdict, style=VERDICT_STYLE.get(verdict, ""))


def runs(out: Console, found: Sequence[Run]) -> RenderableType:
    """List runs; a window too narrow for every column keeps what a run is and what came of it."""
    now = datetime.now(UTC)
    columns: dict[str, Callable[[Run], RenderableType]] = {
        "run": lambda run: run.id,
        "state": lambda run: _folded(run_state(run), out),
        "what": _title,
        "data": lambda run: Text(_data(run.spec)),
        "clean": lambda run: _share(run.summary, "clean_accuracy"),
        "worst case": lambda run: _share(run.summary, "worst_case_robust_accuracy"),
        "judged": lambda run: Text(_judged(run)),
        "verdict": lambda run: _verdict(run.summary),
        "owner": lambda run: Text(run.owner),
        "submitted": lambda run: figures.age(run.submitted_at, now),
    }
    if out.width < NARROW:
        columns = {name: columns[name] for name in columns if name not in LEFT_OUT}
    made = table(out, *columns)
    made.columns[list(columns).index("what")].no_wrap = False
    for run in found:
        made.add_row(*(cell(run) for cell in columns.values()))
    return made


def _folded(state: Text, out: Console) -> Text:
    """Put the id that a run waits for on a line of its own in a narrow window."""
    if out.width >= NARROW:
        return state
    return Text(state.plain.replace("waits for ", "waits for\n"), style=state.style)


def _title(run: Run) -> Text:
    # A name someone gave does not say the method.
    method = run.preset or run.kind
    return Text(run.title) if run.title == method else Text(f"{run.title} ({method})")


def run_facts(run: Run) -> RenderableType:
    """Describe a run."""
    pairs: list[tuple[str, RenderableType]] = [
        ("run", Text(run.id, style="bold")),
        ("state", _state_with_progress(run)),
        ("what", Text(_what(run))),
        ("data", Text(_data(run.spec))),
        ("seed", str(run.seed)),
        ("owner", Text(f"{run.owner}, experiment {run.experiment}")),
        ("submitted", figures.moment(run.submitted_at)),
    ]
    if run.tags:
        pairs.append(("tags", Text(", ".join(run.tags))))
    if run.started_at is not None:
        pairs.append(("started", Text(_started(run))))
    if run.finished_at is not None:
        pairs.append(("finished", Text(_finished(run))))
    if run.retry_of is not None:
        pairs.append(("retry of", run.retry_of))
    if run.failure is not None:
        pairs.append(("failure", failure_text(run)))
    return facts(pairs)


def _state_with_progress(run: Run) -> Text:
    text = run_state(run)
    line = "" if run.state.is_terminal else progress_line(run.progress)
    return text.append(f"  {line}", style="default") if line else text


def _what(run: Run) -> str:
    model = run.spec.get("model", {}).get("name", "")
    return f"{run.title} ({run.preset or run.kind}, {model})"


def _data(spec: Mapping[str, Any]) -> str:
    data = spec.get("data", {})
    return str(data.get("folder") or data.get("dataset", ""))


def _started(run: Run) -> str:
    on = f" on {run.worker}" if run.worker else ""
    again = f", attempt {run.attempt}" if run.attempt > 1 else ""
    return figures.moment(run.started_at) + on + again


def _finished(run: Run) -> str:
    text = figures.moment(run.finished_at)
    if run.took_seconds is None:
        return text
    attempts = f" in {run.attempt} attempts" if run.attempt > 1 else ""
    return f"{text}, took {took(run)}{attempts}"


def failure_text(run: Run) -> Text:
    """Say why a run failed."""
    failure = run.failure or {}
    kind = str(failure.get("failure_class") or failure.get("code") or "unknown")
    return Text.assemble((f"{kind}: ", "bold red"), str(failure.get("message") or "no message"))


def run_outcome(run: Run) -> Text:
    """Say in a line how a run ended."""
    text = Text.assemble((run.title, "bold"), " ", state_text(run.state))
    if run.took_seconds is not None:
        text.append(f" after {took(run)}")
    return text.append("\n").append(failure_text(run)) if run.failure is not None else text


def results(out: Console, evaluation: Evaluation) -> RenderableType:
    """Show accuracy under each attack with its interval, then the audit's verdict."""
    made = table(out, "attack", "accuracy", "95 % interval", "n", "threat", right=("accuracy", "n"))
    for result in evaluation.rows:
        made.add_row(*_result(result), style="bold" if result.label == "worst-case" else "")
    weights = f"{evaluation.described_weights} weights, sha256 {evaluation.model_sha256[:12]}"
    parts = [made, *_bounds(evaluation.rows), Text(weights, style="dim"), audit(evaluation.audit)]
    return Group(*parts, *([corruptions(out, evaluation)] if evaluation.corruptions else []))


def _bounds(shown: Iterable[AttackResult]) -> list[Text]:
    if not any(result.is_bound for result in shown):
        return []
    return [Text("≤: an upper bound of robust accuracy (cut short, or in a cascade)", style="dim")]


def corruptions(out: Console, evaluation: Evaluation) -> RenderableType:
    """Show each corruption's mean accuracy over its severities, then the mean of those."""
    made = table(out, "corruption", "accuracy", "severities", right=("accuracy",))
    for kind, accuracy in evaluation.accuracy_by_corruption().items():
        severities = sorted(r.severity for r in evaluation.corruptions if r.kind == kind)
        made.add_row(kind, figures.percent(accuracy), ", ".join(map(str, severities)))
    mean = evaluation.mean_corruption_accuracy
    made.add_row("mean", "" if mean is None else figures.percent(mean), style="bold")
    return made


def _result(result: AttackResult) -> tuple[str, ...]:
    return (
        result.label,
        figures.attacked(result),
        figures.interval(result.interval),
        str(result.n),
        "-" if result.threat is None else str(result.threat),
    )


def audit(report: AuditReport) -> RenderableType:
    """Show the verdict and every check that fails."""
    failing = [check for check in report.checks if check.outcome == "fails"]
    held = sum(check.outcome == "holds" for check in report.checks)
    verdict = Text.assemble(
        "audit: ",
        (report.verdict, VERDICT_STYLE[report.verdict]),
        f" ({held} of {held + len(failing)} checks hold)",
    )
    return Group(verdict, *(_failing(check) for check in failing))


def _failing(check: AuditCheck) -> Text:
    return Text.assemble(
        ("  fails ", VERDICT_STYLE[check.severity]),
        (check.name, "bold"),
        f" ({check.severity}): {check.detail}",
        f"; {check.advice}" if check.advice else "",
    )


def checks(out: Console, report: AuditReport) -> RenderableType:
    """Show every check of an audit with its figures."""
    made = table(out, "check", "", "figures")
    style = {"holds": "green", "fails": "bold red", "does-not-apply": "dim"}
    for check in report.checks:
        told = check.detail
        if check.outcome == "fails":
            told += f"\n{check.advice}"
        made.add_row(check.name, Text(check.outcome, style=style[check.outcome]), Text(told))
    return Group(made, "", audit(report))


def comparison(out: Console, found: Comparison, first: str, second: str) -> RenderableType:
    """Show what differs between two runs, of these names, and whether it could be luck."""
    heads = ("attack", first, second, "difference", "95 % interval")
    only = (f"only {first}", f"only {second}")
    made = table(out, *heads, *only, "p", right=(first, second, "difference", "p"))
    for d in found.differences:
        low, high = 100 * d.interval.low, 100 * d.interval.high
        luck = "dim" if d.interval.low <= 0 <= d.interval.high else "bold"
        made.add_row(
            *(d.label, figures.percent(d.accuracy), figures.percent(d.other_accuracy)),
            Text(f"{100 * d.difference:+.1f}", style=luck),
            f"{low:+.1f} to {high:+.1f}",
            *(str(d.only_here), str(d.only_there), f"{d.p_value:.2g}"),
        )
    return Group(made, *_paired(found))


def _paired(found: Comparison) -> Iterator[Text]:
    """Say on how many images, and against whom."""
    if not found.differences:
        yield Text("no attack is in both", style="dim")
        return
    threats = dict.fromkeys(str(d.threat) for d in found.differences if d.threat is not None)
    against = f"; {', '.join(threats)}" if threats else ""
    told = f"{found.differences[0].n} images{against}; differences in points, paired bootstrap"
    yield Text(told, style="dim")


def certificate(out: Console, found: Certificate) -> RenderableType:
    """Show whether an evaluation reproduces, attack by attack, or why it cannot be asked."""
    if found.differences:
        lines = [Text(f"  {told}") for told in found.differences]
        return Group(Text("not the same question:", style="bold red"), *lines)
    heads = ("attack", "first", "95 % interval", "again", "changed", "")
    made = table(out, *heads, right=("first", "again", "changed"))
    made.columns[0].no_wrap = False
    for row in found.rows:
        made.add_row(*_repeated(row))
    held = sum(row.outcome in REPRODUCES for row in found.rows)
    says = ("reproduces", "bold green") if found.reproduces else ("does not reproduce", "bold red")
    verdict = Text.assemble("the evaluation ", says, f": {held} of {len(found.rows)} rows do")
    return Group(made, *_other_questions(found.rows), verdict)


def _repeated(row: Repeated) -> tuple[RenderableType, ...]:
    style = "green" if row.outcome in REPRODUCES else "bold red"
    return (
        Text(row.label),
        figures.percent(row.accuracy),
        figures.interval(row.interval),
        "-" if row.again is None else figures.percent(row.again),
        "-" if row.changed is None else f"{row.changed} of {row.n}",
        Text(row.outcome, style=style),
    )


def _other_questions(rows: Sequence[Repeated]) -> list[Text]:
    return [Text(f"  {row.label}: {row.why}") for row in rows if row.why]


def evaluations(out: Console, found: Sequence[EvaluationAnswer]) -> RenderableType:
    """Show every evaluation of a run."""
    return Group(*(results(out, one.record) for one in found))


def artifacts(out: Console, found: Sequence[Artifact]) -> RenderableType:
    """List a run's files."""
    made = table(out, "file", "kind", "size", "sha256", right=("size",))
    for one in found:
        kind = f"{one.kind} ({one.role})" if one.role else one.kind
        made.add_row(Text(one.name), kind, figures.size(one.size), one.sha256[:12])
    return made


def checkpoints(out: Console, found: Sequence[Checkpoint]) -> RenderableType:
    """List uploaded weights."""
    made = table(out, "checkpoint", "name", "model", "classes", "size", "sha256", "owner", "when")
    for one in found:
        when = figures.moment(one.created_at)
        sha, name = one.sha256[:12], Text(one.name or "")
        size = figures.size(one.size)
        made.add_row(one.id, name, one.model, str(one.classes), size, sha, one.owner, when)
    return made


def events(out: Console, found: Sequence[RunEvent]) -> RenderableType:
    """List a run's changes of state."""
    made = table(out, "when", "state", "attempt", "why", right=("attempt",))
    for one in found:
        why = f"{one.reason} ({one.actor})" if one.actor else one.reason
        made.add_row(figures.moment(one.at), state_text(one.target), str(one.attempt), Text(why))
    return made


def metrics(out: Console, found: Sequence[Series], history: Mapping[str, Points]) -> RenderableType:
    """Show each series: last value, range and course."""
    bars = BARS if can_draw(out) else ASCII_BARS
    made = table(
        out,
        "series",
        "last",
        "at step",
        "lowest",
        "highest",
        "points",
        "course",
        right=("last", "at step", "lowest", "highest", "points"),
    )
    for one in found:
        points = history.get(one.name)
        made.add_row(
            Text(one.name),
            figures.measured(one.name, one.last),
            str(one.last_step),
            figures.measured(one.name, one.minimum),
            figures.measured(one.name, one.maximum),
            str(one.count),
            sparkline(points.values, bars=bars) if points else "",
        )
    return made


def queue(found: Queue) -> RenderableType:
    """Show the queue in numbers."""
    gpu = f"{found.gpu_busy} of {found.gpu_slots} busy" if found.gpu_slots else "none"
    return facts(
        [
            ("waiting", str(found.queued)),
            ("running", str(found.running)),
            ("being cancelled", str(found.cancelling)),
            ("CPU slots", f"{found.cpu_busy} of {found.cpu_slots} busy"),
            ("GPU slots", gpu),
        ]
    )


def workers(out: Console, found: Sequence[Worker]) -> RenderableType:
    """List workers and what occupies them."""
    now = datetime.now(UTC)
    made = table(out, "worker", "host", "slot", "device", "run", "seen")
    for worker in found:
        for slot in worker.slots:
            made.add_row(
                Text(worker.name),
                Text(worker.host),
                f"{slot.kind} {slot.ordinal}",
                Text(slot.device_name),
                slot.run_id or _unused(worker, slot),
                figures.age(worker.seen_at, now),
            )
    return made


def _unused(worker: Worker, slot: Slot) -> str:
    """Say why a slot without a run has none."""
    if slot.unconfirmed:
        return "unconfirmed"
    if slot.quarantine:
        return f"quarantine: {slot.quarantine}"
    if slot.foreign_use:
        return f"used by {slot.foreign_use}"
    return "drained" if worker.draining else "free"


def checkup(out: Console, found: Checkup) -> RenderableType:
    """Show what every check found, and what to do about it."""
    made = table(out, "check", "", "found")
    for one in found.findings:
        told = Text(one.told)
        if one.advice:
            told.append(f"\n{one.advice}", style="dim")
        made.add_row(one.check, Text(one.level, style=LEVEL_STYLE[one.level]), told)
    return made


def _when(position: Position, start: datetime) -> str:
    """Say when a run starts, and the range that holds eight starts in ten."""
    now = datetime.now(UTC)
    told = f"in about {_until(start, now)}"
    if position.earliest_start is None or position.latest_start is None:
        return told
    low, high = _until(position.earliest_start, now), _until(position.latest_start, now)
    return f"{told} (8 in 10: {low} to {high})"


def _until(moment: datetime, now: datetime) -> str:
    return figures.duration(max(0.0, (moment - now).total_seconds()))


def position(found: Position) -> RenderableType:
    """Say why a run waits."""
    told = [("waits for", Text(found.waits_for)), ("rule", Text(found.why))]
    if found.ahead:
        told.append(("ahead", Text(str(found.ahead))))
    if found.estimated_start is not None:
        told.append(("starts", Text(_when(found, found.estimated_start))))
    if found.basis:
        told.append(("basis", Text(found.basis, style="dim")))
    return facts(told)


def ledger(out: Console, by: str, found: Sequence[LedgerEntry]) -> RenderableType:
    """Show slot-hours."""
    right = ("attempts", "useful h", "wasted h")
    made = table(out, by, "slots", *right, right=right)
    for entry in found:
        hours = (f"{entry.useful / 3600:,.2f}", f"{entry.wasted / 3600:,.2f}")
        made.add_row(Text(entry.name), entry.kind, f"{entry.attempts:,}", *hours)
    return made


def users(out: Console, found: Sequence[UserLimits]) -> RenderableType:
    """List users, their shares and quotas."""
    right = ("share", "slots", "queued", "hours a week")
    made = table(out, "user", "role", "group", *right, right=right)
    for one in found:
        quotas = (one.most_running, one.most_queued, one.most_hours)
        told = ("-" if quota is None else f"{quota:g}" for quota in quotas)
        made.add_row(Text(one.name), one.role, Text(one.group_name or "-"), f"{one.share:g}", *told)
    return made


def groups(out: Console, found: Sequence[UserGroup]) -> RenderableType:
    """List groups and their shares."""
    made = table(out, "group", "share", right=("share",))
    for one in found:
        made.add_row(Text(one.name), f"{one.share:g}")
    return made


def tokens(out: Console, found: Sequence[Token]) -> RenderableType:
    """List tokens."""
    now = datetime.now(UTC)
    made = table(out, "token", "user", "label", "made", "last used", "revoked")
    for one in found:
        made.add_row(
            one.id,
            Text(one.user_name),
            Text(one.label),
            figures.age(one.created_at, now),
            figures.age(one.last_used_at, now),
            figures.age(one.revoked_at, now),
        )
    return made


def catalog(out: Console, found: Catalog) -> RenderableType:
    """Show what a spec may name."""
    presets, data, models = (
        table(out, "preset", ""),
        table(out, "dataset", "", "radius"),
        table(out, "model", ""),
    )
    for name, text in found.presets.items():
        presets.add_row(name, Text(text))
    for name, about in found.datasets.items():
        data.add_row(name, Text(str(about.get("title", ""))), str(about.get("epsilon", "")))
    for name, about in found.models.items():
        if ":" not in name:
            models.add_row(name, Text(str(about.get("title", ""))))
    others = Counter(name.partition(":")[0] for name in found.models if ":" in name)
    for library, count in others.items():
        models.add_row(f"{library}:NAME", Text(f"{count} classifiers by name; --json lists them"))
    return Group(presets, "", data, "", models)
