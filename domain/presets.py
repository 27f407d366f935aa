"""From what a person writes to the whole spec: presets and defaults are expanded here, once.

A submission is a JSON object. ``preset`` names a starting point; every field beside it overrides
the preset's. What comes out names every value that decides a number.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from domain import recipes
from domain.attacks import SUITES, suite
from domain.catalog import DATASETS, MODELS, DatasetFacts
from domain.errors import FieldError, SpecInvalid
from domain.field_errors import field_errors
from domain.pictures import figure_of, trained_with
from domain.plain_values import odd_values
from domain.recipes import PRESETS
from domain.spec import DataSpec, EvaluateSpec, Part, RunSpec, TrainSpec, VisualiseSpec
from domain.units import format_radius, parse_radius
from domain.wording import unknown

DEFAULT_EPOCHS = 30
FEWEST_CLASSES, MOST_EPOCHS = 2, 10_000
MOST_TRANSFERS = 16
"""Transfer attacks a submission may have: each has a network of its own in memory."""

_TYPES: Mapping[str, type[TrainSpec | EvaluateSpec | VisualiseSpec]] = {
    "train": TrainSpec,
    "evaluate": EvaluateSpec,
    "visualise": VisualiseSpec,
}
RUN_SPEC: TypeAdapter[TrainSpec | EvaluateSpec | VisualiseSpec] = TypeAdapter(RunSpec)


@dataclass(frozen=True)
class Uploaded:
    """What is known of weights that nobody here trained: all that decides which images fit."""

    model: str
    channels: int
    classes: int


def named_sources(raw: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each source a submission has room for, by JSON pointer: its own and its attacks'.

    The value is what was written there, empty if that is no object. Raises SpecInvalid when there
    are too many.
    """
    if raw.get("kind", "train") != "train":
        yield OWN_SOURCE, _given(raw, "source")
    for count, (pointer, attack) in enumerate(_transfers(raw)):
        if count == MOST_TRANSFERS:
            raise _wrong("/evaluation/attacks", f"at most {MOST_TRANSFERS} may be transfer attacks")
        yield f"{pointer}/source", _given(attack, "source")


OWN_SOURCE = "/source"
"""Where an `evaluate` or `visualise` submission says what it starts from."""


def _transfers(raw: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield a submission's transfer attacks by JSON pointer."""
    attacks = _given(raw, "evaluation").get("attacks")
    for i, attack in enumerate(attacks if isinstance(attacks, list) else ()):
        if isinstance(attack, Mapping) and attack.get("kind") == "transfer":
            yield f"/evaluation/attacks/{i}", attack


def expand(
    raw: Mapping[str, Any],
    *,
    source: TrainSpec | Uploaded | None = None,
    others: Mapping[str, TrainSpec | Uploaded] = MappingProxyType({}),
) -> TrainSpec | EvaluateSpec | VisualiseSpec:
    """Complete a submission and validate it.

    raw: the JSON object a person sent. ``kind`` defaults to ``train``.
    source: for `evaluate` and `visualise`: the spec of the run, or the facts of the uploaded
    checkpoint, that is named at OWN_SOURCE.
    others: the same of the other sources that :func:`named_sources` yields, by pointer.

    Raises SpecInvalid naming each wrong field by JSON pointer and what is allowed there.
    """
    require_plain(raw)
    kind = str(_known_name("kind of run", "/kind", raw.get("kind", "train"), _TYPES))
    raw = _with_networks(raw, others)
    if kind == "train":
        whole = _merge(_training_defaults(raw), raw)
    else:
        defaults = _source_defaults(kind, source, raw)
        whole = _merge(defaults, raw)
        # Before validation, which would judge the other fields by a method that nobody used.
        if kind == "visualise" and whole.get("method") != defaults.get("method"):
            raise _wrong("/method", _method_is_known(source))
    _write_out_suite(whole, _given(raw, "evaluation"))
    try:
        spec = _TYPES[kind].model_validate({**whole, "kind": kind})
    except ValidationError as error:
        raise SpecInvalid(field_errors(error.errors(include_url=False), whole)) from None
    _stay_with_source(spec, source)
    for pointer, other in others.items():
        _take_same_images(spec.data, other, pointer)
    return spec


def require_plain(raw: Mapping[str, Any]) -> None:
    """Refuse what no field can hold, before anything looks a value up. Raises SpecInvalid."""
    errors = odd_values(raw)
    if errors:
        raise SpecInvalid(errors)


def _known_name(what: str, pointer: str, name: object, allowed: Iterable[str]) -> str:
    """Return a name that is one of the allowed. Raises SpecInvalid for whatever else it is."""
    names = tuple(allowed)
    if isinstance(name, str) and name in names:
        return name
    raise _wrong(pointer, unknown(what, name, names))


def _with_networks(
    raw: Mapping[str, Any], others: Mapping[str, TrainSpec | Uploaded]
) -> Mapping[str, Any]:
    """Write into each transfer attack which network its source is. Raises SpecInvalid."""
    written = {}
    for pointer, attack in _transfers(raw):
        known = others.get(f"{pointer}/source")
        if known is None:
            raise _wrong(f"{pointer}/source", f"a transfer attack needs {A_SOURCE}")
        model = {"name": _facts(known).model}
        if attack.get("model", model) != model:
            raise _wrong(f"{pointer}/model", f"the source is a {model['name']}; leave `model` out")
        written[pointer] = {**attack, "model": model}
    if not written:
        return raw
    evaluation = raw["evaluation"]
    attacks = [
        written.get(f"/evaluation/attacks/{i}", attack)
        for i, attack in enumerate(evaluation["attacks"])
    ]
    return {**raw, "evaluation": {**evaluation, "attacks": attacks}}


A_SOURCE = (
    "the id of a training run that has a checkpoint, or `checkpoint`: the id of an uploaded one"
)


def _facts(known: TrainSpec | Uploaded) -> Uploaded:
    """Return what kind of images weights are for, whoever trained them."""
    if isinstance(known, Uploaded):
        return known
    channels = DATASETS[known.data.dataset].channels
    return Uploaded(known.model.name, channels, known.data.num_classes)


def _take_same_images(data: DataSpec, known: TrainSpec | Uploaded, pointer: str) -> None:
    """Refuse a surrogate that cannot judge the very images. Raises SpecInvalid."""
    facts, channels = _facts(known), DATASETS[data.dataset].channels
    if (channels, data.num_classes) != (facts.channels, facts.classes):
        raise _wrong(
            pointer,
            f"its network is for {facts.channels} channels and {facts.classes} classes, the judged "
            f"images have {channels} and {data.num_classes}; name weights trained on such images",
        )
    smallest = MODELS[facts.model].smallest_size
    if data.image_size < smallest:
        raise _wrong(
            pointer,
            f"its network, a {facts.model}, takes images of {smallest}x{smallest} and more, not "
            f"{data.image_size}x{data.image_size}; name weights of another network",
        )


def _write_out_suite(whole: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Put a suite's attacks in the place of its name. Raises SpecInvalid for an unknown one."""
    evaluation = whole.get("evaluation")
    if not isinstance(evaluation, Mapping):
        return
    name = given.get("suite")
    if name is None:
        if "attacks" in given:  # written by hand: no suite any more
            whole["evaluation"] = {**evaluation, "suite": None}
        return
    name = _known_name("suite", "/evaluation/suite", name, SUITES)
    try:
        epsilon = parse_radius(evaluation.get("epsilon"))
    except ValueError as error:
        raise _wrong("/evaluation/epsilon", str(error)) from None
    attacks = suite(name, epsilon, _class_count(whole.get("data")))
    written = [attack.model_dump(mode="json") for attack in attacks]
    if given.get("attacks", written) != written:
        raise _wrong("/evaluation/suite", f"the `attacks` beside it are not those of {name}")
    whole["evaluation"] = {**evaluation, "attacks": written}


def _class_count(data: object) -> int:
    """Return how many classes the data has; 10 where what is written cannot be right."""
    body = data if isinstance(data, Mapping) else {}
    facts, own = _facts_of(body.get("dataset")), body.get("classes")
    if isinstance(own, int) and own >= FEWEST_CLASSES:
        return own
    return facts.classes if facts is not None and facts.classes else 10


def _facts_of(dataset: object) -> DatasetFacts | None:
    return DATASETS.get(dataset) if isinstance(dataset, str) else None  # type: ignore[call-overload]


def _method_is_known(source: TrainSpec | Uploaded | None) -> str:
    if isinstance(source, Uploaded):
        return "is not known of uploaded weights; leave `method` out"
    return "the run says how its weights were trained; leave `method` out"


def _stay_with_source(
    spec: TrainSpec | EvaluateSpec | VisualiseSpec, source: TrainSpec | Uploaded | None
) -> None:
    """Refuse another dataset or model than the checkpoint was trained for."""
    if isinstance(spec, TrainSpec) or source is None:
        return
    if isinstance(source, Uploaded):
        _stay_with_upload(spec, source)
        return
    if spec.model != source.model:
        raise _wrong("/model", f"the checkpoint is a {source.model.name}; leave `model` out")
    subset = {"test_limit": source.data.test_limit}
    if spec.data.model_copy(update=subset) != source.data:
        raise _wrong("/data", "only `test_limit` may differ from the run that trained the weights")


def _stay_with_upload(spec: EvaluateSpec | VisualiseSpec, source: Uploaded) -> None:
    if spec.model.name != source.model:
        raise _wrong("/model", f"the checkpoint is a {source.model}; leave `model` out")
    channels = DATASETS[spec.data.dataset].channels
    if (channels, spec.data.num_classes) != (source.channels, source.classes):
        raise _wrong(
            "/data",
            f"has {channels} channels and {spec.data.num_classes} classes; the checkpoint is for "
            f"{source.channels} and {source.classes}",
        )


def _wrong(pointer: str, detail: str) -> SpecInvalid:
    return SpecInvalid([FieldError(pointer, detail)])


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay ``over`` on ``base``; objects merge, unless their ``kind`` changes; the rest replaces."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping) and _same_kind(below, value):
            value = _merge(below, value)
        merged[key] = value
    return merged


def _same_kind(below: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    return bool(value.get("kind", below.get("kind")) == below.get("kind"))


def _training_defaults(raw: Mapping[str, Any]) -> dict[str, Any]:
    preset = raw.get("preset")
    if preset is not None:
        preset = _known_name("preset", "/preset", preset, PRESETS)
    facts, epochs = _dataset(raw), _given_epochs(raw)
    defaults: dict[str, Any] = {
        "data": {"pad": facts.pad, "flip": facts.flip},
        "model": {"name": "small-cnn"},
        "training": {
            "epochs": epochs,
            **_learning_rate(raw),
            **recipes.TRAINING.get(str(preset), {}),
        },
        "evaluation": {"epsilon": format_radius(facts.epsilon)},
    }
    if preset is not None:
        defaults["method"] = recipes.method(preset, facts, epochs)
        if "epsilon_gap" in _given(raw, "method"):
            defaults["method"].pop("epsilon_low", None)
    elif "method" not in raw:
        raise _wrong("/method", f"give a `method`, or a `preset`: {', '.join(PRESETS)}")
    return defaults


def _dataset(raw: Mapping[str, Any]) -> DatasetFacts:
    """Return the facts of the dataset a submission names. Raises SpecInvalid."""
    name = _given(raw, "data").get("dataset")
    if name is None:
        raise _wrong("/data/dataset", f"name a dataset: {', '.join(DATASETS)}")
    _known_name("dataset", "/data/dataset", name, DATASETS)
    return DATASETS[name]


def _given(raw: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    """A part of a submission, empty if it is none or no object."""
    found = raw.get(part)
    return found if isinstance(found, Mapping) else {}


def _given_epochs(raw: Mapping[str, Any]) -> int:
    """Return the epochs of a submission; where they cannot be right, only they are wrong."""
    epochs = _given(raw, "training").get("epochs")
    if isinstance(epochs, bool) or not isinstance(epochs, int | float):
        return DEFAULT_EPOCHS
    return int(epochs) if epochs in range(1, MOST_EPOCHS + 1) else MOST_EPOCHS


def _learning_rate(raw: Mapping[str, Any]) -> dict[str, float]:
    name = _given(raw, "model").get("name")
    facts = MODELS.get(name) if isinstance(name, str) else None
    return {} if facts is None else {"learning_rate": facts.default_learning_rate}


def _source_defaults(
    kind: str, source: TrainSpec | Uploaded | None, raw: Mapping[str, Any]
) -> dict[str, Any]:
    if source is None:
        raise _wrong(
            "/source/run",
            f"`{kind}` needs {A_SOURCE}",
        )
    if isinstance(source, Uploaded):
        return _upload_defaults(kind, source, raw)
    given = source.model_dump(mode="json")
    shared = {name: given[name] for name in ("data", "model", "experiment", "seed")}
    shared["resources"] = source.resources.of_one_process.model_dump(mode="json")
    if kind == "evaluate":
        return {**shared, "evaluation": given["evaluation"]}
    method, facts = trained_with(source), DATASETS[source.data.dataset]
    own = method if isinstance(method, Part) else _usual_method(facts)
    drawn = {
        "method": method.model_dump(mode="json"),
        "epsilon_high": format_radius(figure_of(source).epsilon),
    }
    named = _BUDGET if isinstance(method, Part) else _PIXELWISE
    return {**shared, **drawn, **(_whole_budget(own) if _names(raw, named) else {})}


def _upload_defaults(kind: str, source: Uploaded, raw: Mapping[str, Any]) -> dict[str, Any]:
    facts = _dataset(raw)
    shared = {
        "data": {"pad": facts.pad, "flip": facts.flip, "validation_fraction": 0},
        "model": {"name": source.model},
    }
    if kind == "evaluate":
        return {**shared, "evaluation": {"epsilon": format_radius(facts.epsilon)}}
    drawn = {"method": None, "epsilon_high": format_radius(facts.epsilon)}
    usual = _whole_budget(_usual_method(facts)) if _names(raw, _PIXELWISE) else {}
    return {**shared, **drawn, **usual}


def _usual_method(facts: DatasetFacts) -> Part:
    return Part.model_validate(recipes.method("part++", facts, 0))


_PIXELWISE = ("cam", "mask", "epsilon_low")
_BUDGET = (*_PIXELWISE, "epsilon_high")
"""What of a picture is asked for; one radius for every pixel may be another one."""


def _names(raw: Mapping[str, Any], fields: tuple[str, ...]) -> bool:
    return any(raw.get(field) is not None for field in fields)


def _whole_budget(method: Part) -> dict[str, Any]:
    """Return what stands where a submission names a part of a budget alone."""
    low, high = method.final_radii()
    return {
        "cam": method.cam.model_dump(mode="json"),
        "mask": method.mask.model_dump(mode="json"),
        "epsilon_high": format_radius(high),
        "epsilon_low": format_radius(low),
    }
