"""Results of several runs as one table: for a paper, a spreadsheet or a program.

Every accuracy has its interval, every row its verdict and the hash of what it rests on. Rows that
answer different questions (other images, another radius, a worst case over other attacks) are
refused; where they are forced into one table, what differs is a column.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal

from domain.base import Model
from domain.errors import Incomparable
from domain.percent import percent
from domain.results import AttackResult, Evaluation, ThreatModel, Verdict
from domain.units import format_radius

MARKS: Mapping[Verdict, str] = {"sound": "", "suspicious": "?", "broken": "!", "incomplete": "*"}
"""Beside the name of a row whose verdict is not `sound`."""
DIGITS = 2
NOT_RUN = "-"


class Row(Model):
    """One evaluation."""

    name: str
    run: str
    verdict: Verdict
    dataset: str | None
    """None for what was stored before evaluations named it."""
    n: int
    """Images judged."""
    images: str
    """sha256 of the judged images, their labels and their ids."""
    threat: ThreatModel | None
    """Of the worst case; an attack at another radius says so in its label."""
    weights: str
    """`best`, `last` or `uploaded`, and whether they are the moving average."""
    suite: str | None
    counted: tuple[str, ...]
    """The attacks that the worst case is over."""
    results: tuple[AttackResult, ...]
    """Clean, the attacks in their order, and the worst case. Accuracies are shares of one."""
    provenance: str
    """sha256 of weights, images and outcomes: two rows of one hash are one result."""


def row(name: str, run: str, evaluation: Evaluation) -> Row:
    """Return an evaluation as a row."""
    images = f"{evaluation.data_sha256}\n{evaluation.sample_ids_sha256}"
    return Row(
        name=name,
        run=run,
        verdict=evaluation.audit.verdict,
        dataset=evaluation.facts.dataset if evaluation.facts else None,
        n=evaluation.n,
        images=hashlib.sha256(images.encode()).hexdigest(),
        threat=evaluation.worst_case.threat,
        weights=evaluation.described_weights,
        suite=evaluation.suite,
        counted=evaluation.counted,
        results=evaluation.rows,
        provenance=provenance(evaluation),
    )


def provenance(found: Evaluation) -> str:
    """Return a hash of the weights, the images and every outcome."""
    parts = [found.model_sha256, found.data_sha256, found.sample_ids_sha256]
    for result in (*found.results, found.worst_case):
        threat = None if result.threat is None else result.threat.model_dump(mode="json")
        parts.append(json.dumps([result.label, threat, result.n, result.outcomes]))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def table(rows: Sequence[Row], form: str, *, force: bool = False) -> str:
    """Return rows as one of :data:`FORMATS`.

    force: rows that answer different questions too. Raises Incomparable for them otherwise.
    """
    clashes = list(differences(rows))
    if clashes and not force:
        raise Incomparable(
            f"The rows answer different questions: {'; '.join(clashes)}. Evaluate them alike, or "
            "force the table, which then has a column for each difference."
        )
    return FORMATS[form](rows)


# -- what makes rows comparable ---------------------------------------------------------------


def _threat(row: Row) -> str:
    return "none" if row.threat is None else str(row.threat)


def _images(row: Row) -> str:
    return f"{row.dataset or 'unknown'}, sha256 {row.images[:8]}"


def _attacks(row: Row) -> str:
    return ", ".join(sorted(row.counted)) or "none"


_QUESTION: Mapping[str, tuple[Callable[[Row], object], Callable[[Row], str]]] = {
    "n": (lambda row: row.n, lambda row: str(row.n)),
    "threat": (lambda row: row.threat, _threat),
    "test images": (lambda row: row.images, _images),
    "worst case over": (_attacks, _attacks),
}
"""What all rows must share: how it is compared, and how it is written."""
_ALWAYS_A_COLUMN = frozenset({"n", "threat"})
"""In Markdown, whose rows are copied one by one."""


def differences(rows: Sequence[Row]) -> Iterator[str]:
    """Say which rows differ in what makes them comparable; nothing if they may share a table."""
    for field in _differing(rows):
        _, write = _QUESTION[field]
        values: dict[str, list[str]] = {}
        for each in rows:
            values.setdefault(write(each), []).append(f"{each.name} ({each.run})")
        groups = (f"{value} in {', '.join(names)}" for value, names in values.items())
        yield f"{field}: {' but '.join(groups)}"


def _differing(rows: Sequence[Row]) -> list[str]:
    return [f for f, (compare, _) in _QUESTION.items() if len({compare(each) for each in rows}) > 1]


def _extra(rows: Sequence[Row]) -> dict[str, Callable[[Row], str]]:
    """Return the columns for what differs between the rows."""
    extra = {field: _QUESTION[field][1] for field in _differing(rows)}
    if len({each.weights for each in rows}) > 1:
        extra["weights"] = lambda each: each.weights
    return extra


# -- what a table says in words ---------------------------------------------------------------


def _caption(rows: Sequence[Row], intervals: str) -> str:
    """Return what the figures are of, as sentences without markup of their own."""
    extra, first = _extra(rows), rows[0]
    images = "test images" if first.dataset is None else f"{first.dataset} test images"
    setting = [] if "test images" in extra else [images]
    setting += [] if "n" in extra else [f"n = {first.n}"]
    setting += [] if "threat" in extra or first.threat is None else [_in_words(first.threat)]
    setting += [] if "weights" in extra else [f"{first.weights} weights"]
    sentences = [f"Accuracy in percent ({'; '.join(setting)})." if setting else "Accuracy."]
    sentences.append(intervals)
    if "worst case over" in extra:
        sentences.append("worst-case: right under each attack that the row names; these differ.")
    elif first.results[-1].label == "worst-case":
        sentences.append(f"worst-case: right under each of {', '.join(first.counted)}.")
    return " ".join([*sentences, *_legend(rows)])


def _in_words(threat: ThreatModel) -> str:
    return f"{threat.norm}, ε = {format_radius(threat.epsilon)}"


def _legend(rows: Sequence[Row]) -> Iterator[str]:
    labels = columns(rows)
    if any(label not in {r.label for r in each.results} for each in rows for label in labels):
        yield f"{NOT_RUN}: not run."
    if any(result.is_bound for each in rows for result in each.results):
        yield (
            "≤: no accuracy under that attack alone, but an upper bound of robust accuracy (cut "
            "short, or run in a cascade)."
        )


def columns(rows: Sequence[Row]) -> list[str]:
    """Return the attacks of all rows, in the order of the first that has them, worst case last."""
    labels = dict.fromkeys(result.label for each in rows for result in each.results)
    last = ["worst-case"] if "worst-case" in labels else []
    return [label for label in labels if label != "worst-case"] + last


def _cells(each: Row, labels: Sequence[str], write: Callable[[AttackResult], str]) -> list[str]:
    results = {result.label: result for result in each.results}
    return [write(results[label]) if label in results else NOT_RUN for label in labels]


# -- formats ----------------------------------------------------------------------------------


def markdown(rows: Sequence[Row]) -> str:
    """Return a table for a README or an issue."""
    labels = columns(rows)
    extra = {f: write for f, write in _extra(rows).items() if f not in _ALWAYS_A_COLUMN}
    heads = ["method", *labels, *extra, "n", "threat", "verdict", "provenance"]
    lines = [_markdown_line(heads), "|---" * len(heads) + "|"]
    for each in rows:
        more = [write(each) for write in extra.values()]
        last = (str(each.n), _threat(each), each.verdict, each.provenance[:12])
        lines.append(
            _markdown_line([each.name, *_cells(each, labels, _with_interval), *more, *last])
        )
    brackets = "In brackets: 95 % Wilson intervals over images, of one training each."
    return "\n".join([*lines, "", _caption(rows, brackets)]) + "\n"


def _with_interval(result: AttackResult) -> str:
    low, high = percent(result.interval.low, DIGITS), percent(result.interval.high, DIGITS)
    return f"{_bound(result)}{percent(result.accuracy, DIGITS)} [{low}, {high}]"


def _bound(result: AttackResult) -> str:
    return "≤ " if result.is_bound else ""


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(markdown_cell, cells))} |"


def markdown_cell(text: str) -> str:
    """Return text that neither ends a cell nor a line nor is read as markup."""
    escaped = re.sub(r"([\\|`*<])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\_", escaped)


_CSV_HEADS = (
    *("method", "run", "attack", "accuracy", "low", "high", "n", "correct", "complete"),
    *("cascaded", "norm", "epsilon", "dataset", "images", "weights", "verdict", "provenance"),
)
"""Accuracies and bounds are shares of one; epsilon is in pixels of [0, 1], empty for clean."""


def comma_separated(rows: Sequence[Row]) -> str:
    """Return a line for each row and attack, as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_CSV_HEADS)
    for each in rows:
        last = (each.dataset or "", each.images, each.weights, each.verdict, each.provenance)
        for result in each.results:
            values = (each.name, each.run, *_csv_values(result), *last)
            writer.writerow(_plain(v) if isinstance(v, str) else v for v in values)
    return out.getvalue()


def _csv_values(result: AttackResult) -> tuple[str | float | bool, ...]:
    threat, bounds = result.threat, (result.interval.low, result.interval.high)
    return (
        *(result.label, result.accuracy, *bounds, result.n, result.correct),
        *(result.complete, result.cascaded),
        *(("", "") if threat is None else (threat.norm, float(threat.epsilon))),
    )


def _plain(text: str) -> str:
    """Keep a spreadsheet from taking a text for a formula."""
    line = " ".join(text.split())
    return f"'{line}" if line[:1] in tuple("=+-@＝＋－＠") else line  # noqa: RUF001


def latex(rows: Sequence[Row]) -> str:
    """Return a table float for booktabs; its caption says n, radius and what every mark means.

    A Wilson interval is not symmetric: its bounds are offsets below and above, never a ±.
    """
    labels, extra = columns(rows), _extra(rows)
    heads = ["method", *labels, *extra]
    form = "l" + "r" * len(labels) + "l" * len(extra)
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_latex_caption(rows)}}}"]
    lines += [rf"\begin{{tabular}}{{{form}}}", r"\toprule"]
    lines += [" & ".join(map(latex_text, heads)) + r" \\", r"\midrule"]
    for each in rows:
        name = f"{latex_text(each.name)}{_mark(each.verdict)}"
        more = (latex_text(write(each)) for write in extra.values())
        lines.append(" & ".join([name, *_cells(each, labels, _offsets), *more]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    lines += [f"% {' '.join(e.name.split())}: run {e.run}, sha256 {e.provenance}" for e in rows]
    return "\n".join(lines) + "\n"


def _latex_caption(rows: Sequence[Row]) -> str:
    offsets = "Offsets: bounds of the 95 % Wilson interval over images, of one training each."
    text = latex_text(_caption(rows, offsets))
    unsound = dict.fromkeys(e.verdict for e in rows if MARKS[e.verdict])
    return " ".join([text, *(f"{_mark(verdict)}~audit: {verdict}." for verdict in unsound)])


def _mark(verdict: Verdict) -> str:
    return f"$^{{{MARKS[verdict]}}}$" if MARKS[verdict] else ""


def _offsets(result: AttackResult) -> str:
    """Write an accuracy with how far its interval goes down and up, as the printed digits add."""
    shares = (result.accuracy, result.interval.low, result.interval.high)
    middle, low, high = (Decimal(percent(share, DIGITS)) for share in shares)
    bound = r"\leq " if result.is_bound else ""
    return f"${bound}{middle}_{{-{middle - low}}}^{{+{high - middle}}}$"


_LATEX = {
    **{c: rf"\{c}" for c in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "≤": r"$\leq$",
        "ε": r"$\varepsilon$",
    },
    # At the head of a line these would be read as arguments of the line break before it.
    **{"[": "{[}", "]": "{]}", "*": "{*}"},
}


def latex_text(text: str) -> str:
    """Return text as LaTeX prints it, on one line."""
    return "".join(_LATEX.get(c, c) for c in " ".join(text.split()))


def as_json(rows: Sequence[Row]) -> str:
    """Return everything, for a program."""
    body = [each.model_dump(mode="json") for each in rows]
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


FORMATS: Mapping[str, Callable[[Sequence[Row]], str]] = {
    "markdown": markdown,
    "csv": comma_separated,
    "latex": latex,
    "json": as_json,
}
