"""A run on one line of a window, or on two of a narrow one: its name first, then what has room."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from domain.percent import percent

LEAST_NAME = 16
"""Columns that a longer name keeps however narrow the window is; everything else goes first."""
TWO_LINES = 66
"""Below so many columns the figures have a line of their own."""
PHASE = 8
BAR = 20
GAP = "  "


@dataclass(frozen=True)
class Part:
    """A piece of a line. Of those that do not fit, the highest ranks are left out."""

    rank: int
    text: str
    style: str = ""


def crop(text: str, width: int) -> str:
    """Shorten in the middle: names of a series differ at their ends."""
    if cell_len(text) <= width:
        return text
    tail = (width - 1) // 2
    head = set_cell_size(text, width - 1 - tail).rstrip()
    end = text[-tail:] if tail else ""
    while cell_len(end) > tail:
        end = end[1:]
    return f"{head}…{end}"


def name_width(names: Sequence[str], width: int) -> int:
    """Return the columns that all names get."""
    longest = max((cell_len(name) for name in names), default=0)
    return min(longest, max(LEAST_NAME, width // 4))


def eta(seconds: float) -> str:
    """Say how long is left, in the unit that matters."""
    if seconds < 60:
        return f"{seconds:.0f} s left"
    minutes = round(seconds / 60)
    return f"{minutes} min left" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min left"


def parts(progress: Mapping[str, Any], left: float | None) -> list[Part]:
    """Return what there is to say of a run that advances, in the order it is shown."""
    done, total = progress.get("done") or 0, progress.get("total") or 0
    share = min(1.0, done / total) if total else 0.0
    found = [
        Part(0, f"{progress.get('phase', ''):{PHASE}s}", "cyan"),
        Part(1, f"{100 * share:3.0f} %"),
        Part(7, bar(share), "green"),
        Part(3, figure("loss", progress.get("loss"), "{:.4g}"), "bold"),
        Part(2, robust(progress), "bold"),
        Part(4, str(progress.get("detail") or ""), "dim"),
        Part(6, epoch(progress), "dim"),
        Part(5, "" if left is None or share >= 1 else eta(left)),
        Part(8, figure("", progress.get("images_per_second"), "{:,.0f} images/s"), "dim"),
    ]
    return [part for part in found if part.text]


def bar(share: float) -> str:
    """Return a bar of BAR columns."""
    full = round(BAR * share)
    return "━" * full + "─" * (BAR - full)


def epoch(progress: Mapping[str, Any]) -> str:
    """Return ``epoch 3/30``, where there are epochs."""
    if progress.get("epoch") is None or not progress.get("epochs"):
        return ""
    return f"epoch {progress['epoch']}/{progress['epochs']}"


def robust(progress: Mapping[str, Any]) -> str:
    """Return the robust accuracy of the last validation, if there was one."""
    share = progress.get("robust_accuracy")
    return f"robust {percent(share)} %" if isinstance(share, int | float) else ""


def figure(label: str, value: object, form: str) -> str:
    """Write a number with what it is; nothing for none."""
    if not isinstance(value, int | float):
        return ""
    return f"{label} {form.format(value)}".strip()


def fitting(found: Sequence[Part], room: int) -> list[Part]:
    """Return the parts that have room, in their order; the lowest ranks are chosen first.

    One that comes first and has no room is cut at its end.
    """
    chosen: dict[int, Part] = {}
    for index, part in sorted(enumerate(found), key=lambda pair: pair[1].rank):
        needed = cell_len(part.text) + (len(GAP) if chosen else 0)
        if needed <= room:
            chosen[index] = part
            room -= needed
        elif not chosen:
            chosen[index] = replace(part, text=f"{set_cell_size(part.text, max(0, room - 1))}…")
            room = 0
    return [chosen[index] for index in sorted(chosen)]


def run_lines(name: str, found: Sequence[Part], *, width: int, name_columns: int) -> list[Text]:
    """Return one line of at most ``width`` columns, or two in a narrow window."""
    shown = crop(name, name_columns)
    title = Text(shown + " " * (name_columns - cell_len(shown)), style="bold")
    room = width - name_columns - len(GAP)
    if width >= TWO_LINES:
        return [_joined(title, fitting(found, room))]
    first = [part for part in found if part.rank < 2]
    rest = [part for part in found if part.rank >= 2 and part.rank != 7]
    lines = [_joined(title, fitting(first, room))]
    if fitted := fitting(rest, width - len(GAP)):
        lines.append(_joined(Text(""), fitted))
    return lines


def _joined(title: Text, fitted: Sequence[Part]) -> Text:
    line = title
    for part in fitted:
        line = line.append(GAP).append(part.text, style=part.style)
    return line


def plain_ascii(line: Text) -> Text:
    """Return the line for a stream whose encoding has no lines to draw."""
    return Text(line.plain.translate({ord("━"): "#", ord("─"): "-", ord("…"): "~"}))
