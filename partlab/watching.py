"""A run on the screen while it runs: a bar in a window, a line now and then in a pipe, or JSON."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self, assert_never

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.text import Text

from domain.run_state import RunState
from partlab import figures, tables
from partlab.answers import Run, RunEvent
from partlab.client import Client
from partlab.errors import ClientError
from partlab.news import Advanced, Ended, Logged, Measured, News, StateChanged
from partlab.terminal import print_json

LINE_SECONDS = 5.0
"""Between two lines of progress in a pipe."""
LOOK_SECONDS = 0.5
"""Between two looks at several runs."""


@dataclass
class Pace:
    """How fast phases advance. Interruptions (a validation between epochs) count, as they recur."""

    clock: Callable[[], float] = time.monotonic
    _begun: dict[str, tuple[float, int]] = field(default_factory=dict)

    def left(self, progress: Mapping[str, Any]) -> float | None:
        """Seconds until the phase is complete, once there is something to judge by."""
        now, done, total = self.clock(), int(progress["done"]), int(progress["total"])
        since, before = self._begun.setdefault(str(progress["phase"]), (now, done))
        if done <= before or now <= since:
            return None
        return (total - done) * (now - since) / (done - before)


def note(progress: Mapping[str, Any], left: float | None) -> str:
    """Say epoch, what is going on, throughput and time left."""
    parts = []
    if progress.get("epoch") is not None and progress.get("epochs"):
        parts.append(f"epoch {progress['epoch']}/{progress['epochs']}")
    if progress.get("detail"):
        parts.append(str(progress["detail"]))
    if isinstance(rate := progress.get("images_per_second"), int | float):
        parts.append(f"{rate:,.0f} images/s")
    if left is not None and progress["done"] < progress["total"]:
        parts.append(f"{figures.duration(left)} left")
    return ", ".join(parts)


class Display(Protocol):
    """Shows runs, each under its title."""

    def advance(self, title: str, progress: Mapping[str, Any]) -> None:
        """Show how far a run is."""

    def settle(self, title: str, text: Text) -> None:
        """Show where a run stands when it does not advance: waiting, or over."""

    def say(self, text: Text) -> None:
        """Write a line that stays."""


class Bars(AbstractContextManager["Bars"]):
    """A display for windows: one bar a run, lines above."""

    def __init__(self, out: Console) -> None:
        self._bars = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("[bold]{task.fields[title]}", markup=True),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False, style="dim"),
            console=out,
        )
        self._tasks: dict[str, TaskID] = {}
        self._paces: dict[str, Pace] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._bars.stop()

    def _task(self, title: str) -> TaskID:
        if title not in self._tasks:
            self._tasks[title] = self._bars.add_task("", total=None, title=title, note="")
            self._paces[title] = Pace()
        return self._tasks[title]

    def advance(self, title: str, progress: Mapping[str, Any]) -> None:
        """Show how far a run is."""
        if "phase" in progress:
            task = self._task(title)
            self._bars.update(
                task,
                description=str(progress["phase"]),
                completed=progress["done"],
                total=progress["total"],
                note=note(progress, self._paces[title].left(progress)),
            )

    def settle(self, title: str, text: Text) -> None:
        """Show where a run stands."""
        self._bars.update(self._task(title), description=text.plain, note="")

    def say(self, text: Text) -> None:
        """Write a line above the bars."""
        self._bars.console.print(text, soft_wrap=True)


class Lines(AbstractContextManager["Lines"]):
    """A display for pipes: whole lines, and not too many."""

    def __init__(self, out: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._said: dict[str, set[str]] = {}
        self._at: dict[str, float] = {}
        self._paces: dict[str, Pace] = {}

    def __exit__(self, *_: object) -> None:
        return None

    def advance(self, title: str, progress: Mapping[str, Any]) -> None:
        """Write a line when a phase is met first, and every few seconds."""
        if "phase" not in progress:
            return
        phase, now = str(progress["phase"]), self._clock()
        left = self._paces.setdefault(title, Pace(self._clock)).left(progress)
        if not self._is_new(title, phase) and now - self._at[title] < LINE_SECONDS:
            return
        self._at[title] = now
        about = note(progress, left)
        text = f"{title}: {phase} {progress['done']}/{progress['total']}"
        # A phase that does not move has nothing to tell.
        if self._is_new(title, text):
            self._out.print(Text(f"{text}, {about}" if about else text), soft_wrap=True)

    def settle(self, title: str, text: Text) -> None:
        """Write where a run stands, once."""
        if self._is_new(title, text.plain):
            self._out.print(Text.assemble(f"{title}: ", text), soft_wrap=True)

    def _is_new(self, title: str, word: str) -> bool:
        said = self._said.setdefault(title, set())
        is_new = word not in said
        said.add(word)
        self._at.setdefault(title, self._clock())
        return is_new

    def say(self, text: Text) -> None:
        """Write a line."""
        self._out.print(text, soft_wrap=True)


def display(out: Console) -> Bars | Lines:
    """Return the display that suits the stream."""
    return Bars(out) if out.is_terminal else Lines(out)


def follow(client: Client, run: Run, out: Console) -> Run:
    """Show a run until it has ended, and return it."""
    with display(out) as shown:
        for news in client.follow(run.id):
            _show(client, run, news, shown)
            if isinstance(news, Ended):
                return news.run
    return client.get(run.id)


def _show(client: Client, run: Run, news: News, shown: Display) -> None:
    match news:
        case StateChanged(event):
            _show_state(client, run, event, shown)
        case Advanced(progress):
            shown.advance(run.title, progress)
        case Logged(line):
            style = {"warning": "yellow", "error": "bold red"}.get(line.level, "dim")
            shown.say(Text(line.message, style=style))
        case Ended(ended):
            shown.settle(run.title, Text(ended.state.value))
        case Measured():
            pass
        case _:
            assert_never(news)


def _show_state(client: Client, run: Run, event: RunEvent, shown: Display) -> None:
    if event.target == RunState.RUNNING:
        again = f", attempt {event.attempt}" if event.attempt > 1 else ""
        shown.settle(run.title, Text(f"starting{again}"))
    elif event.target == RunState.QUEUED and client.get(run.id).state == RunState.QUEUED:
        shown.settle(run.title, Text(f"{event.reason}: {why_waiting(client, run.id)}"))


def why_waiting(client: Client, run_id: str) -> str:
    """Say what a run waits for."""
    try:
        position = client.position(run_id)
    except ClientError:
        return "queued"
    ahead = f", {position.ahead} ahead" if position.ahead else ""
    return f"queued{ahead}, waits for {position.waits_for}" if position.waits_for else "queued"


def see_through(
    client: Client, runs: Sequence[Run], out: Console, look: Callable[[], None]
) -> list[Run]:
    """Show several runs until all have ended, and return them.

    look: called between two looks at the runs; a lab of one's own is looked after there.
    """
    seen = list(runs)
    with display(out) as shown:
        while any(not run.state.is_terminal for run in seen):
            look()
            time.sleep(LOOK_SECONDS)
            seen = [_look_at(client, run, shown) for run in seen]
    return seen


def _look_at(client: Client, run: Run, shown: Display) -> Run:
    if run.state.is_terminal:
        return run
    new = client.get(run.id)
    if new.state == RunState.QUEUED:
        shown.settle(run.title, Text(why_waiting(client, run.id)))
    elif new.state.is_terminal:
        shown.settle(run.title, tables.state_text(new.state))
    else:
        shown.advance(run.title, new.progress or {})
    return new


def follow_as_json(client: Client, run: Run) -> Run:
    """Write what happens to a run as JSON lines until it has ended, and return it."""
    for news in client.follow(run.id):
        print_json(_as_object(news))
        if isinstance(news, Ended):
            return news.run
    return client.get(run.id)


def _as_object(news: News) -> Mapping[str, object]:
    names = {
        StateChanged: "state",
        Advanced: "progress",
        Logged: "log",
        Measured: "metrics",
        Ended: "end",
    }
    (value,) = (getattr(news, name) for name in asdict(news))
    return {"event": names[type(news)], "data": value}
