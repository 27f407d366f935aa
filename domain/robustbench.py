"""An evaluation as an entry of RobustBench's leaderboard: the keys of its model_info files.

A key that cannot be filled honestly is null, and the footnote says why. The benchmark's figures
are of the whole test set, so that no accuracy of a subset is given; and none of an evaluation that
the audit calls broken.
"""

from collections.abc import Iterator, Mapping

from domain.base import Model
from domain.described import Described, dataset_name, size_of_test_set
from domain.percent import percent
from domain.results import AttackResult, Evaluation
from domain.spec import EvaluateSpec, TrainSpec
from domain.units import format_radius

ARCHITECTURES: Mapping[str, str] = {
    "resnet18": "ResNet-18",
    "preact-resnet18": "PreActResNet-18",
    "wrn-28-10": "WideResNet-28-10",
    "wrn-34-10": "WideResNet-34-10",
}
"""How the leaderboard writes our models; the others by their own names."""


class Credits(Model):
    """What no run can know of itself."""

    name: str = ""
    """Title of the publication (default: the run's)."""
    authors: str = ""
    venue: str = ""
    link: str = ""


class Entry(Model):
    """A model_info file. Accuracies are percent with two decimals, as text."""

    link: str
    name: str
    authors: str
    additional_data: bool
    """Whether training saw images that are not the dataset's."""
    number_forward_passes: int
    """Of one prediction."""
    dataset: str
    venue: str
    architecture: str
    eps: str | None
    """Radius of the threat model in [0, 1] pixels, an exact fraction."""
    clean_acc: str | None
    reported: str | None
    """Worst case over every attack of the evaluation: what the run itself claims."""
    autoattack_acc: str | None
    """Under AutoAttack standard as published, apart from other attacks and to its end."""
    unreliable: bool
    """Whether the audit's verdict is other than `sound`."""
    footnote: str
    """Why something is null or unreliable; empty for neither."""


def entry(judged: Described[TrainSpec | EvaluateSpec], found: Evaluation, credit: Credits) -> Entry:
    """Return the entry of an evaluation."""
    spec, threat = judged.spec, found.worst_case.threat
    barred = tuple(_barred(spec, found))
    missing = _no_autoattack(found)
    whole = next((r for r in found.results if r.label == "autoattack"), None)
    clean = next((r for r in found.results if r.kind == "clean"), None)
    return Entry(
        link=credit.link,
        name=credit.name or judged.title,
        authors=credit.authors,
        additional_data=found.facts is not None and found.facts.extra_data,
        number_forward_passes=1,
        dataset=dataset_name(spec),
        venue=credit.venue,
        architecture=architecture(spec.model.name),
        eps=None if threat is None else format_radius(threat.epsilon),
        clean_acc=None if barred else _percent(clean),
        reported=None if barred or not found.counted else _percent(found.worst_case),
        autoattack_acc=None if barred or missing else _percent(whole),
        unreliable=found.audit.verdict != "sound",
        footnote=" ".join((*barred, *missing, *_unfinished(found), *_audited(found))),
    )


def architecture(model: str) -> str:
    """Return a model's name as the leaderboard writes it."""
    return ARCHITECTURES.get(model, model.removeprefix("torchvision:"))


def _percent(result: AttackResult | None) -> str | None:
    """Return an exact accuracy in percent; None for an upper bound, or where there is none."""
    return percent(result.accuracy, 2) if result is not None and result.complete else None


def _barred(spec: TrainSpec | EvaluateSpec, found: Evaluation) -> Iterator[str]:
    """Say why no accuracy at all is given."""
    every = size_of_test_set(spec, found.n)
    if every != found.n:
        whole = "a test set of unknown size" if every is None else f"the {every} test images"
        yield f"No accuracy is given: {found.n} of {whole} were judged."
    if found.audit.verdict == "broken":
        yield "No accuracy is given: the audit calls the evaluation broken."


def _no_autoattack(found: Evaluation) -> tuple[str, ...]:
    """Say why AutoAttack's accuracy is not given; empty where it can be."""
    ran = {r.label: r for r in found.results if r.kind == "autoattack"}
    whole = ran.get("autoattack")
    if whole is None:
        others = ", ".join(ran)
        return (f"No autoattack_acc: {f'only {others}' if ran else 'no AutoAttack'} was run.",)
    wrong = {
        "AutoAttack did not run to its end": not whole.complete,
        "AutoAttack saw only what other attacks had left (cascade)": whole.cascaded,
        "AutoAttack ran under another threat model": whole.threat != found.worst_case.threat,
    }
    return tuple(f"No autoattack_acc: {told}." for told, is_so in wrong.items() if is_so)


def _unfinished(found: Evaluation) -> Iterator[str]:
    if not found.counted:
        yield "No reported accuracy: no attack of the threat model was run."
    elif not found.worst_case.complete:
        yield "No reported accuracy: the worst case is an upper bound, as attacks were cut short."


def _audited(found: Evaluation) -> Iterator[str]:
    if found.audit.verdict == "sound":
        return
    failing = [f"{c.name} ({c.detail})" for c in found.audit.checks if c.outcome == "fails"]
    told = f", failing {'; '.join(failing)}" if failing else ""
    yield f"The lab's audit calls the evaluation {found.audit.verdict}{told}."
