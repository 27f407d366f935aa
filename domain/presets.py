"""From what a person writes to the whole spec: presets and defaults are expanded here, once.

A submission is a JSON object. ``preset`` names a starting point; every field beside it overrides
the preset's. What comes out names every value that decides a number.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal, get_args

from pydantic import TypeAdapter, ValidationError

from domain.catalog import DATASETS, MODELS, DatasetFacts
from domain.errors import FieldError, SpecInvalid
from domain.spec import EvaluateSpec, Part, RunSpec, TrainSpec, VisualiseSpec
from domain.units import format_radius

PresetName = Literal["standard", "pgd-at", "part", "part++"]
PRESETS: Mapping[PresetName, str] = {
    "standard": "Plain training on clean images: the control that should not be robust.",
    "pgd-at": "PGD adversarial training at one radius (Madry et al., 2018).",
    "part": "PART: Grad-CAM decides each pixel's radius (Zhang et al., ICML 2024).",
    "part++": "PART++: the mean of Grad-CAM, Grad-CAM++ and Score-CAM decides it.",
}
DEFAULT_EPOCHS = 30

_TYPES: Mapping[str, type[TrainSpec | EvaluateSpec | VisualiseSpec]] = {
    "train": TrainSpec,
    "evaluate": EvaluateSpec,
    "visualise": VisualiseSpec,
}
RUN_SPEC: TypeAdapter[TrainSpec | EvaluateSpec | VisualiseSpec] = TypeAdapter(RunSpec)


def source_run(raw: Mapping[str, Any]) -> str | None:
    """The id of the run an `evaluate` or `visualise` submission starts from, if it names one."""
    source = raw.get("source")
    run = source.get("run") if isinstance(source, Mapping) else None
    return run if isinstance(run, str) else None


def expand(
    raw: Mapping[str, Any], *, source: TrainSpec | None = None
) -> TrainSpec | EvaluateSpec | VisualiseSpec:
    """Complete a submission and validate it.

    raw: the JSON object a person sent. ``kind`` defaults to ``train``.
    source: spec of the run named by :func:`source_run`, for `evaluate` and `visualise`.

    Raises SpecInvalid naming each wrong field by JSON pointer and what is allowed there.
    """
    kind = raw.get("kind", "train")
    spec_type = _TYPES.get(kind) if isinstance(kind, str) else None
    if spec_type is None:
        raise _wrong("/kind", f"{kind!r} is no kind of run; allowed: {', '.join(_TYPES)}")
    if spec_type is TrainSpec:
        whole = _merge(_training_defaults(raw), raw)
    else:
        whole = _merge(_source_defaults(kind, source), raw)
    try:
        spec = spec_type.model_validate({**whole, "kind": kind})
    except ValidationError as error:
        raise SpecInvalid(field_errors(error, whole)) from None
    _stay_with_source(spec, source)
    return spec


def _stay_with_source(
    spec: TrainSpec | EvaluateSpec | VisualiseSpec, source: TrainSpec | None
) -> None:
    """Refuse another dataset or model than the checkpoint was trained for."""
    if isinstance(spec, TrainSpec) or source is None:
        return
    if spec.model != source.model:
        raise _wrong("/model", f"the checkpoint is a {source.model.name}; leave `model` out")
    subset = {"test_limit": source.data.test_limit}
    if spec.data.model_copy(update=subset) != source.data:
        raise _wrong("/data", "only `test_limit` may differ from the run that trained the weights")


def field_errors(error: ValidationError, body: object) -> list[FieldError]:
    """Translate pydantic's errors on ``body`` into JSON pointers and sentences."""
    return [
        FieldError(_pointer((*e["loc"], *_below(e.get("ctx"))), body), _sentence(e["msg"]))
        for e in error.errors(include_url=False)
    ]


def _wrong(pointer: str, detail: str) -> SpecInvalid:
    return SpecInvalid([FieldError(pointer, detail)])


def _below(context: Mapping[str, Any] | None) -> tuple[str, ...]:
    return tuple(context["field"].split("/")) if context and "field" in context else ()


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ")


def _pointer(location: tuple[int | str, ...], body: object) -> str:
    """Drop the discriminator tags pydantic puts into a location: the body has no such level."""
    kept: list[str] = []
    for depth, part in enumerate(location):
        is_last = depth == len(location) - 1
        if not is_last and isinstance(body, Mapping) and part == body.get("kind"):
            continue
        body = _child(body, part)
        kept.append(str(part).replace("~", "~0").replace("/", "~1"))
    return "".join(f"/{part}" for part in kept)


def _child(body: object, part: int | str) -> object:
    if isinstance(body, Mapping):
        return body.get(part)
    if isinstance(body, list | tuple) and isinstance(part, int) and part < len(body):
        return body[part]
    return None


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
    if preset is not None and preset not in PRESETS:
        raise _wrong("/preset", f"{preset!r} is no preset; allowed: {', '.join(PRESETS)}")
    data = raw.get("data")
    dataset = data.get("dataset") if isinstance(data, Mapping) else None
    facts = DATASETS.get(dataset) if isinstance(dataset, str) else None  # type: ignore[call-overload]
    if facts is None:
        allowed = ", ".join(DATASETS)
        raise _wrong("/data/dataset", f"{dataset!r} is no dataset; allowed: {allowed}")
    epochs = _given_epochs(raw)
    defaults: dict[str, Any] = {
        "data": {"pad": facts.pad, "flip": facts.flip},
        "model": {"name": "small-cnn"},
        "training": {"epochs": epochs, **_learning_rate(raw)},
        "evaluation": {"epsilon": format_radius(facts.epsilon)},
    }
    if preset is not None:
        defaults["method"] = _method(preset, facts, epochs)
    elif "method" not in raw:
        raise _wrong("/method", f"give a `method`, or a `preset`: {', '.join(PRESETS)}")
    return defaults


def _given_epochs(raw: Mapping[str, Any]) -> int:
    training = raw.get("training")
    epochs = training.get("epochs") if isinstance(training, Mapping) else None
    return epochs if isinstance(epochs, int) else DEFAULT_EPOCHS


def _learning_rate(raw: Mapping[str, Any]) -> dict[str, float]:
    model = raw.get("model")
    name = model.get("name") if isinstance(model, Mapping) else None
    facts = MODELS.get(name) if isinstance(name, str) else None  # type: ignore[call-overload]
    return {} if facts is None else {"learning_rate": facts.default_learning_rate}


def _method(preset: str, facts: DatasetFacts, epochs: int) -> dict[str, Any]:
    """A preset's method: ten steps of a quarter radius; low budget 7/8; a sixth of warm-up."""
    attack = {"steps": 10, "step_size": format_radius(facts.epsilon / 4)}
    if preset == "standard":
        return {"kind": "standard"}
    if preset == "pgd-at":
        return {"kind": "pgd-at", "epsilon": format_radius(facts.epsilon), "attack": attack}
    members = ["grad-cam"] if preset == "part" else ["grad-cam", "grad-cam++", "score-cam"]
    return {
        "kind": "part",
        "epsilon_high": format_radius(facts.epsilon),
        "epsilon_low": format_radius(facts.epsilon * Fraction(7, 8)),
        "warmup_epochs": epochs // 6,
        "attack": attack,
        "cam": {"members": members},
    }


def _source_defaults(kind: str, source: TrainSpec | None) -> dict[str, Any]:
    if source is None:
        raise _wrong(
            "/source/run", f"`{kind}` needs the id of a training run that has a checkpoint"
        )
    given = source.model_dump(mode="json")
    shared: dict[str, Any] = {
        "data": given["data"],
        "model": given["model"],
        "experiment": given["experiment"],
        "seed": given["seed"],
        "resources": given["resources"],
    }
    if kind == "evaluate":
        return {**shared, "evaluation": given["evaluation"]}
    facts = DATASETS[source.data.dataset]
    method = given["method"] if isinstance(source.method, Part) else _method("part++", facts, 0)
    drawn = {"mask": {}, **{k: method[k] for k in ("cam", "epsilon_high", "epsilon_low")}}
    return {**shared, **drawn, **({"mask": method["mask"]} if "mask" in method else {})}


def preset_names() -> tuple[str, ...]:
    """Every preset, in the order they are shown."""
    return get_args(PresetName)
