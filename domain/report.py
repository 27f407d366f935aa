"""Results of several runs as one table: for a paper, a spreadsheet or a program.

Every accuracy has its interval, every row its verdict and the hash of what it rests on.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence

from domain.base import Model
from domain.results import AttackResult, Evaluation, Verdict
from domain.units import format_radius

MARKS: Mapping[Verdict, str] = {"sound": "", "suspicious": "?", "broken": "!", "incomplete": "*"}
"""Beside the name of a row whose verdict is not `sound`."""


class Row(Model):
    """One evaluation."""

    name: str
    run: str
    verdict: Verdict
    threat: str
    """Norm and radius."""
    results: tuple[AttackResult, ...]
    """Clean, the attacks in their order, and the worst case."""
    provenance: str
    """sha256 of weights, images and outcomes: two rows of one hash are one result."""


def row(name: str, run: str, found: Evaluation) -> Row:
    """Return an evaluation as a row."""
    threat = found.worst_case.threat
    written = "none" if threat is None else f"{threat.norm} {format_radius(threat.epsilon)}"
    return Row(
        name=name,
        run=run,
        verdict=found.audit.verdict,
        threat=written,
        results=(*found.results, found.worst_case),
        provenance=provenance(found),
    )


def provenance(found: Evaluation) -> str:
    """Return a hash of the weights, the images and every outcome."""
    parts = [found.model_sha256, found.data_sha256, found.sample_ids_sha256]
    for result in (*found.results, found.worst_case):
        threat = None if result.threat is None else result.threat.model_dump(mode="json")
        parts.append(json.dumps([result.label, threat, result.n, result.outcomes]))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def columns(rows: Sequence[Row]) -> list[str]:
    """Return the attacks of all rows, in the order of the first that has them, worst case last."""
    labels = dict.fromkeys(r.label for one in rows for r in one.results)
    return [label for label in labels if label != "worst-case"] + ["worst-case"]


def _cells(one: Row, labels: Sequence[str], write: Callable[[AttackResult], str]) -> list[str]:
    found = {result.label: result for result in one.results}
    return [write(found[label]) if label in found else "-" for label in labels]


def _interval(result: AttackResult) -> str:
    low, high = 100 * result.interval.low, 100 * result.interval.high
    most = "" if result.complete else "at most "
    return f"{most}{100 * result.accuracy:.2f} [{low:.2f}, {high:.2f}]"


def markdown(rows: Sequence[Row]) -> str:
    """Return a table for a README or an issue."""
    labels = columns(rows)
    lines = [
        "| method | " + " | ".join(labels) + " | n | threat | verdict | provenance |",
        "|---" * (len(labels) + 5) + "|",
    ]
    for one in rows:
        cells = " | ".join(_cells(one, labels, _interval))
        n = one.results[0].n
        lines.append(
            f"| {one.name} | {cells} | {n} | {one.threat} | {one.verdict} | {one.provenance[:12]} |"
        )
    return "\n".join(lines) + "\n"


def comma_separated(rows: Sequence[Row]) -> str:
    """Return a line for each row and attack, as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ("method", "run", "attack", "accuracy", "low", "high", "n", "correct")
    writer.writerow((*head, "complete", "threat", "verdict", "provenance"))
    for one in rows:
        for r in one.results:
            own = (r.accuracy, r.interval.low, r.interval.high, r.n, r.correct, r.complete)
            writer.writerow(
                (_plain(one.name), one.run, r.label, *own, one.threat, one.verdict, one.provenance)
            )
    return out.getvalue()


def _plain(text: str) -> str:
    """Keep a spreadsheet from taking a name for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def latex(rows: Sequence[Row]) -> str:
    """Return a booktabs table; the verdicts that are not sound are marked and explained."""
    labels = columns(rows)
    lines = [
        r"\begin{tabular}{l" + "r" * len(labels) + "}",
        r"\toprule",
        "method & " + " & ".join(_escaped(label) for label in labels) + r" \\",
        r"\midrule",
    ]
    for one in rows:
        cells = " & ".join(_cells(one, labels, _half_width))
        lines.append(f"{_escaped(one.name)}{_mark(one.verdict)} & {cells}" + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [f"% {mark} {verdict}" for verdict, mark in MARKS.items() if mark]
    lines += [f"% {one.name}: run {one.run}, sha256 {one.provenance}" for one in rows]
    return "\n".join(lines) + "\n"


def _mark(verdict: Verdict) -> str:
    return f"$^{{{MARKS[verdict]}}}$" if MARKS[verdict] else ""


def _half_width(result: AttackResult) -> str:
    half = 50 * (result.interval.high - result.interval.low)
    return rf"${100 * result.accuracy:.2f} \pm {half:.2f}$"


def _escaped(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, rf"\{c}" if c in "&%$#_{}" else c) for c in text)


def as_json(rows: Sequence[Row]) -> str:
    """Return everything, for a program."""
    body = [one.model_dump(mode="json") for one in rows]
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


FORMATS: Mapping[str, Callable[[Sequence[Row]], str]] = {
    "markdown": markdown,
    "csv": comma_separated,
    "latex": latex,
    "json": as_json,
}
