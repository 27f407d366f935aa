"""A run on the screen while it runs: a bar in a window, a line an epoch in a pipe, or JSON."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self, assert_never

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from domain.run_state import RunState
from partlab import tables
from partlab.answers import Run, RunEvent
from partlab.client import Client
from partlab.errors import ClientError
from partlab.news import Advanced, Ended, Logged, Measured, News, StateChanged
from partlab.run_lines import (
    Part,
    epoch,
    eta,
    figure,
    name_width,
    parts,
    plain_ascii,
    robust,
    run_lines,
)
from partlab.terminal import can_draw, print_json

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
    """Say what is known in a line: epoch, attack, loss, robust accuracy, throughput, time left."""
    words = [
        epoch(progress),
        str(progress.get("detail") or ""),
        figure("loss", progress.get("loss"), "{:.4g}"),
        robust(progress),
        figure("", progress.get("images_per_second"), "{:,.0f} images/s"),
        "" if left is None or progress["done"] >= progress["total"] else eta(left),
    ]
    return ", ".join(word for word in words if word)


class Display(Protocol):
    """Shows runs, each under its name."""

    def advance(self, run: Run, progress: Mapping[str, Any]) -> None:
        """Show how far a run is."""

    def settle(self, run: Run, text: Text) -> None:
        """Show where a run stands when it does not advance: waiting, or over."""

    def say(self, text: Text) -> None:
        """Write a line that stays."""


@dataclass
class Names:
    """What runs are called beside each other: those of one title by the end of their ids too."""

    _titles: dict[str, str] = field(default_factory=dict)

    def add(self, run: Run) -> None:
        """Get to know a run."""
        self._titles[run.id] = run.title

    def of(self, run_id: str) -> str:
        """Return a run's name."""
        title = self._titles[run_id]
        several = sum(other == title for other in self._titles.values()) > 1
        return f"{title} {run_id[-6:]}" if several else title


class Bars(AbstractContextManager["Bars"]):
    """A display for windows: a line a run below, what is said above."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._names = Names()
        self._parts: dict[str, Sequence[Part]] = {}
        self._paces: dict[str, Pace] = {}
        self._live = Live(get_renderable=self.rendered, console=out, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._live.stop()

    def rendered(self) -> Group:
        """Return the runs' lines for the window as it is now."""
        width = self._out.width
        # Another thread draws; this one may add a run meanwhile.
        shown = [(self._names.of(run_id), found) for run_id, found in list(self._parts.items())]
        columns = name_width([name for name, _ in shown], width)
        lines = [
            line
            for name, found in shown
            for line in run_lines(name, found, width=width, name_columns=columns)
        ]
        return Group(*(lines if can_draw(self._out) else map(plain_ascii, lines)))

    def advance(self, run: Run, progress: Mapping[str, Any]) -> None:
        """Show how far a run is."""
        if "phase" in progress:
            left = self._paces.setdefault(run.id, Pace()).left(progress)
            self._names.add(run)
            self._parts[run.id] = parts(progress, left)

    def settle(self, run: Run, text: Text) -> None:
        """Show where a run stands."""
        self._names.add(run)
        self._parts[run.id] = [Part(0, text.plain, str(text.style))]

    def say(self, text: Text) -> None:
        """Write a line above the runs'."""
        self._out.print(text, soft_wrap=True)


class Lines(AbstractContextManager["Lines"]):
    """A display for pipes: a line an epoch, a line an attack, and one for each change."""

    def __init__(self, out: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._said: dict[str, str] = {}
        self._names = Names()
        self._paces: dict[str, Pace] = {}

    def __exit__(self, *_: object) -> None:
        return None

    def advance(self, run: Run, progress: Mapping[str, Any]) -> None:
        """Write a line when another phase, epoch or attack begins."""
        if "phase" not in progress:
            return
        left = self._paces.setdefault(run.id, Pace(self._clock)).left(progress)
        at = f"{progress['phase']} {progress.get('epoch')} {progress.get('detail')}"
        about = note(progress, left)
        self._write(run, at, Text(f"{progress['phase']}{', ' if about else ''}{about}"))

    def settle(self, run: Run, text: Text) -> None:
        """Write where a run stands, once."""
        self._write(run, text.plain, text)

    def _write(self, run: Run, what: str, text: Text) -> None:
        self._names.add(run)
        if self._said.get(run.id) != what:
            self._said[run.id] = what
            self._out.print(Text.assemble(f"{self._names.of(run.id)}: ", text), soft_wrap=True)

    def say(self, text: Text) -> None:
        """Write a line."""
        self._out.print(text, soft_wrap=True)


class Transcript(Lines):
    """A display for pipes where the run's own log is shown, which has its epochs and attacks."""

    def advance(self, run: Run, progress: Mapping[str, Any]) -> None:
        """Write nothing."""


def display(out: Console) -> Bars | Lines:
    """Return the display that suits the stream, for runs whose logs are not shown."""
    return Bars(out) if out.is_terminal else Lines(out)


def follow(client: Client, run: Run, out: Console) -> Run:
    """Show a run and what it says until it has ended, and return it."""
    with Bars(out) if out.is_terminal else Transcript(out) as shown:
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
            shown.advance(run, progress)
        case Logged(line):
            style = {"warning": "yellow", "error": "bold red"}.get(line.level, "dim")
            mark = "" if line.level == "info" else f"{line.level}: "
            shown.say(Text(mark + line.message, style=style))
        case Ended(ended):
            shown.settle(run, tables.state_text(ended.state))
        case Measured():
            pass
        case _:
            assert_never(news)


def _show_state(client: Client, run: Run, event: RunEvent, shown: Display) -> None:
    if event.target == RunState.RUNNING:
        again = f", attempt {event.attempt}" if event.attempt > 1 else ""
        shown.settle(run, Text(f"starting{again}"))
    elif event.target == RunState.QUEUED and client.get(run.id).state == RunState.QUEUED:
        shown.settle(run, Text(f"{event.reason}: {why_waiting(client, run.id)}"))


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
        shown.settle(run, Text(why_waiting(client, run.id)))
    elif new.state.is_terminal:
        shown.settle(run, tables.run_state(new))
    else:
        shown.advance(run, new.progress or {})
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
