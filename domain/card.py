"""The card of a run: what was trained, what an attack leaves of it, and what that does not say.

Markdown, whose tables line up and whose lines are short enough to be read as they are. Every
accuracy has its interval and its number of images beside it, and the verdict comes first.
"""

import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from domain.audit import Record, missing_attacks
from domain.catalog import DATASETS, MODELS
from domain.described import Described, Fact, dataset_name, size_of_test_set
from domain.method_words import in_words, listed
from domain.percent import percent
from domain.report import provenance
from domain.results import AttackResult, AuditCheck, AuditFacts, Evaluation, Verdict
from domain.spec import EvaluateSpec, TrainSpec

WIDTH = 80
"""Columns that prose is folded to."""
SAYS: Mapping[Verdict, str] = {
    "sound": "every check that applies holds.",
    "suspicious": "a check fails that may make the figures look better than they are. Do not quote "
    "them before it is settled; see Audit.",
    "broken": "a check fails that makes the figures wrong. Do not quote them; see Audit.",
    "incomplete": "what would make the figures trustworthy did not run, or not to its end. Do not "
    "quote them before it did; see Audit.",
}
_MECHANICS = frozenset(
    {
        *("checkpoint_every", "checkpoint_minutes", "keep_every"),
        *("channels_last", "compile", "halve_on_out_of_memory"),
    }
)
"""Training's fields that decide no number."""
_FACTS = (
    *(
        "device_name",
        "device",
        "cpu_capability",
        "threads",
        "ranks",
        "accumulation",
        "deterministic",
        "torch",
        "python",
        "partlab",
    ),
    *("parameters", "train_images", "validation_images", "test_images"),
)
Judged = Described[TrainSpec | EvaluateSpec]
Trained = Described[TrainSpec] | None


def card(judged: Judged, trained: Trained, found: Evaluation) -> str:
    """Return the card of an evaluation, the same text for the same values.

    judged: the run that was asked for; trained: the run whose weights it attacks, often the same;
    None where the weights were uploaded.
    """
    parts = (
        *(f"# {judged.title}", _verdict(found), _what(judged, trained, found)),
        *("## Training", _training(judged.spec, trained)),
        *("## Results", _results(found), *_legend(found)),
        *("## Audit", _audit(judged, trained, found)),
        *("## Provenance", _hashes(judged, trained, found), _facts(judged, trained)),
        *("## What the figures do not say", _limits(judged.spec, found)),
    )
    return "\n\n".join(parts) + "\n"


# -- what it is -------------------------------------------------------------------------------


def _verdict(found: Evaluation) -> str:
    verdict = found.audit.verdict
    return _folded(f"**Verdict: {verdict}** - {SAYS[verdict]}")


def _what(judged: Judged, trained: Trained, found: Evaluation) -> str:
    spec = judged.spec
    rows = [("run", f"`{judged.run}`")]
    if trained is not None and judged.run != trained.run:
        rows += [("trained by", f"`{trained.run}` ({trained.title})")]
    if trained is not None:
        rows += [("preset", f"`{trained.spec.preset}`" if trained.spec.preset else "none")]
    rows += [
        ("model", f"`{spec.model.name}`: {MODELS[spec.model.name].title}"),
        ("dataset", f"`{dataset_name(spec)}`: {DATASETS[spec.data.dataset].title}"),
        ("seed", _seeds(judged, trained)),
        ("weights", found.described_weights),
    ]
    table = _table(("what", ""), rows)
    return table if trained is None else f"{_folded(in_words(trained.spec.method))}\n\n{table}"


def _seeds(judged: Judged, trained: Trained) -> str:
    here = judged.spec.seed
    if trained is None:
        return f"{here} in evaluation"
    there = trained.spec.seed
    return str(here) if here == there else f"{there} in training, {here} in evaluation"


def _training(judged: TrainSpec | EvaluateSpec, trained: Trained) -> str:
    if trained is None:
        upload = judged.source.checkpoint if isinstance(judged, EvaluateSpec) else None
        return _folded(
            f"The weights were uploaded as checkpoint `{upload}`. How, and on what images, they "
            "were trained is not known here."
        )
    spec = trained.spec
    chosen = {"train_limit", "validation_fraction", "pad", "flip"}
    idle = {"milestones"} if spec.training.schedule != "multistep" else set[str]()
    values = {
        "data": spec.data.model_dump(mode="json", include=chosen),
        "method": spec.method.model_dump(mode="json"),
        "training": spec.training.model_dump(mode="json", exclude={*_MECHANICS, *idle}),
    }
    return _table(("field of the spec", "value"), list(_flat(values)))


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield every value below an object that is set, by its dotted name."""
    for name, value in values.items():
        path = f"{above}{name}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}.")
        elif value is not None:
            yield f"`{path}`", _written(value)


def _written(value: object) -> str:
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return listed(value)
    return value if isinstance(value, str) else json.dumps(value)


# -- results ----------------------------------------------------------------------------------


def _results(found: Evaluation) -> str:
    heads = ("attack", "threat model", "accuracy", "95 % interval", "n")
    names = {"worst-case": "**worst case**"}
    return _table(heads, [_result(names.get(r.label, r.label), r) for r in found.rows])


def _result(label: str, result: AttackResult) -> tuple[str, ...]:
    accuracy, low, high = (
        percent(share, 2) for share in (result.accuracy, result.interval.low, result.interval.high)
    )
    most = "≤ " if result.is_bound else ""
    threat = "none" if result.threat is None else str(result.threat)
    return (label, threat, f"{most}{accuracy} %", f"{low} to {high} %", str(result.n))


def _legend(found: Evaluation) -> list[str]:
    if not any(result.is_bound for result in found.rows):
        return []
    told = (
        "≤ marks what is no accuracy under that attack alone, but a bound: robust accuracy is at "
        "most this. The last section says why."
    )
    return [_folded(told)]


# -- audit ------------------------------------------------------------------------------------


def _audit(judged: Judged, trained: Trained, found: Evaluation) -> str:
    count = Counter(check.outcome for check in found.audit.checks)
    told = _folded(
        f"{count['holds']} of {count['holds'] + count['fails']} checks that apply hold. "
        f"`part audit {judged.run}` judges again, by the lab's present rules."
    )
    open_points = [_failing(check) for check in found.audit.checks if check.outcome == "fails"]
    if found.audit.verdict == "incomplete":
        open_points += _lacking(judged, trained, found)
    return f"{told}\n\n{_bullets(open_points)}" if open_points else told


def _failing(check: AuditCheck) -> str:
    todo = f" What to do: {_sentence(check.advice)}" if check.advice else ""
    return f"**{check.name}** fails ({check.severity}): {_sentence(check.detail)}{todo}"


def _sentence(text: str) -> str:
    return f"{text.rstrip('.')}."


def _lacking(judged: Judged, trained: Trained, found: Evaluation) -> list[str]:
    """Say what an incomplete evaluation lacks, and what would give it."""
    spec, threat = judged.spec, found.worst_case.threat
    if threat is None:
        return []
    unknown = AuditFacts(dataset=spec.data.dataset, model=spec.model.name)
    results = {result.label: result for result in found.results}
    facts = found.facts or unknown
    missing = missing_attacks(Record(results, threat.epsilon, found.worst_case, facts))
    again = f"part evaluate {_named(judged, trained, found)} --suite standard"
    budget = "" if all(result.complete for result in found.results) else ", with a larger budget"
    return [f"**Missing:** {', '.join(missing)}. What to do: `{again}`{budget}."]


def _named(judged: Judged, trained: Trained, found: Evaluation) -> str:
    """Say how `part evaluate` is told which weights."""
    if trained is not None:
        return f"{trained.run} --weights {found.weights}"
    upload = judged.spec.source.checkpoint if isinstance(judged.spec, EvaluateSpec) else None
    return f"--checkpoint {upload}"


# -- provenance -------------------------------------------------------------------------------


def _hashes(judged: Judged, trained: Trained, found: Evaluation) -> str:
    named = {
        "model": found.model_sha256,
        "data": found.data_sha256,
        "sample_ids": found.sample_ids_sha256,
        "spec": judged.spec_sha256,
        "provenance": provenance(found),
    }
    if trained is not None and judged.run != trained.run:
        named["spec_trained"] = trained.spec_sha256
    if trained is not None and isinstance(images := trained.facts.get("train_sha256"), str):
        named["train_data"] = images
    told = _folded(
        "sha256 of the weights, the judged images, their ids and the spec; `provenance` is of the "
        "weights, the images and every outcome, as in `part table`."
    )
    return "\n".join((told, "", "```", *(f"{sha}  {name}" for name, sha in named.items()), "```"))


def _facts(judged: Judged, trained: Trained) -> str:
    hosts: list[Mapping[str, Fact]] = [judged.facts]
    heads: tuple[str, ...] = ("where it ran", "")
    if trained is not None and judged.run != trained.run:
        hosts, heads = [trained.facts, judged.facts], ("where it ran", "training", "evaluation")
    rows = [
        (name, *(_fact(host.get(name)) for host in hosts))
        for name in _FACTS
        if any(host.get(name) is not None for host in hosts)
    ]
    moves = [_moved(host) for host in hosts if host.get("begun_on") is not None]
    where = _table(heads, rows) if rows else "Where it ran was not recorded."
    return "\n\n".join((where, *moves))


def _moved(host: Mapping[str, Fact]) -> str:
    """Say that a run went on on another kind of machine than it began on."""
    return _folded(
        f"Resumed on another kind of machine than it began on ({host['begun_on']}): the bits may "
        "differ from those of a run that stays on one."
    )


def _fact(value: Fact) -> str:
    return "-" if value is None else _written(value)


# -- limits -----------------------------------------------------------------------------------


def _limits(spec: TrainSpec | EvaluateSpec, found: Evaluation) -> str:
    return _bullets(
        [
            _images(spec, found.n),
            "One training with one seed: the intervals are over images, not over trainings.",
            *_uploaded(found),
            "Robustness is bounded from above: another attack may break more. Nothing is said of "
            "larger radii than the worst case's, of other norms, or of other images.",
            *_cut_short(found),
            *_cascaded(found),
            *_without_autoattack(found),
        ]
    )


def _images(spec: TrainSpec | EvaluateSpec, judged: int) -> str:
    whole = size_of_test_set(spec, judged)
    if whole == judged:
        return f"The whole test set was judged: {judged} images."
    of = "a test set of unknown size" if whole is None else f"{whole} test images"
    return f"A subset was judged: {judged} of {of}. Figures of other subsets are not comparable."


def _uploaded(found: Evaluation) -> Iterator[str]:
    if found.weights == "uploaded":
        yield "The weights were uploaded: whether they were trained on judged images is not known."


def _cut_short(found: Evaluation) -> Iterator[str]:
    names = [result.label for result in found.results if not result.complete]
    if names:
        yield (
            f"The budget ended {listed(names)}: images that were not attacked count as standing, "
            "so these and the worst case are upper bounds."
        )


def _cascaded(found: Evaluation) -> Iterator[str]:
    if any(result.cascaded for result in found.results):
        yield (
            "The attacks ran as a cascade, each on what stood under those before: a row is the "
            "union so far, and its attack alone may leave more."
        )


def _without_autoattack(found: Evaluation) -> Iterator[str]:
    if not any(result.label == "autoattack" for result in found.results):
        yield "AutoAttack as published did not run: no figure compares with a leaderboard's."


# -- Markdown ---------------------------------------------------------------------------------

_GLUE = "\0"
"""In the place of a space at which no line may end."""


def _folded(text: str, indent: str = "") -> str:
    whole = re.sub("`[^`]*`", lambda command: command[0].replace(" ", _GLUE), text)
    return textwrap.fill(
        whole, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ).replace(_GLUE, " ")


def _bullets(items: Sequence[str]) -> str:
    return "\n".join(_folded(f"- {item}", "  ") for item in items)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose columns line up."""
    cells = [[_cell(text) for text in row] for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [_line(row, widths) for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = (text.ljust(width) for text, width in zip(row, widths, strict=True))
    return f"| {' | '.join(padded)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")
