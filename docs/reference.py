"""Write docs/reference/ from the docstrings of the specs and settings: `make docs`."""

import json
import sys
import types
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from api.settings import ApiSettings
from domain import spec
from store.settings import StoreSettings
from worker.settings import WorkerSettings

FOLDER = Path(__file__).parent / "reference"
ROOTS = (spec.TrainSpec, spec.EvaluateSpec, spec.VisualiseSpec)
SETTINGS = {
    "Every process": StoreSettings,
    "API": ApiSettings,
    "Worker": WorkerSettings,
}


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Every model an annotation mentions, outermost first."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def reachable(roots: tuple[type[BaseModel], ...]) -> list[type[BaseModel]]:
    """The models of a spec, each once, in the order a reader meets them."""
    found: list[type[BaseModel]] = []
    waiting = list(roots)
    while waiting:
        model = waiting.pop(0)
        if model not in found:
            found.append(model)
            waiting += [m for f in model.model_fields.values() for m in models_in(f.annotation)]
    return found


def allowed(annotation: object, field: FieldInfo) -> str:
    """What may be written there, for people."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(allowed(part, FieldInfo()) for part in inner) + bounds(field)
    if origin is Annotated:
        return allowed(inner[0], FieldInfo()) + bounds(field)
    if origin is tuple:
        return "list of " + allowed(inner[0], FieldInfo())
    return plain(annotation) + bounds(field)


def plain(annotation: object) -> str:
    """The name of a simple type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    names = {"Fraction": "radius", "NoneType": "null", "str": "text", "bool": "true or false"}
    name = getattr(annotation, "__name__", str(annotation))
    return names.get(name, name)


def bounds(field: FieldInfo) -> str:
    """The limits a field declares, such as `>= 1`."""
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    told = [
        f"{sign} {getattr(item, name)}"
        for item in field.metadata
        for name, sign in signs.items()
        if hasattr(item, name)
    ]
    return f" ({', '.join(told)})" if told else ""


def default_of(field: FieldInfo) -> str:
    """The default as JSON, or that the field is required."""
    if field.default is PydanticUndefined:
        return "required" if field.default_factory is None else "computed"
    value = TypeAdapter(Any).dump_python(field.default, mode="json")
    text = json.dumps(value)
    return "defaults of its own" if len(text) > 60 else f"`{text}`"


def rows(model: type[BaseModel], *, prefix: str = "", told: Container[str] = ()) -> list[str]:
    """A table of the fields of one model. Raises ValueError on a field without a docstring.

    told: fields that another table has.
    """
    lines = ["| field | allowed | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if name in told:
            continue
        if name == "kind":
            meaning = "Which of the alternatives this is."
        elif field.description:
            meaning = " ".join(field.description.split())
        elif list(models_in(field.annotation)):
            meaning = "See there."
        else:
            raise ValueError(f"{model.__name__}.{name} has no docstring")
        shown = f"{prefix}{name.upper()}" if prefix else name
        cells = (f"`{shown}`", allowed(field.annotation, field), default_of(field), meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def section(
    title: str, model: type[BaseModel], *, prefix: str = "", told: Container[str] = ()
) -> list[str]:
    """A heading, the docstring and the table."""
    doc = " ".join((model.__doc__ or "").split())
    return ["", f"## {title}", "", doc, "", *rows(model, prefix=prefix, told=told)]


def spec_page() -> str:
    """docs/reference/spec.md."""
    head = [
        "# The job spec",
        "",
        "Written by `make docs` from `domain/spec.py`. A radius is a fraction of grey levels such",
        'as `"8/255"`, or a number in [0, 1]. Presets (`standard`, `pgd-at`, `part`, `part++`) and',
        "the dataset's own defaults fill in what a submission leaves out;",
        "`POST /api/v1/specs/expand` shows the result without running it.",
    ]
    body = [line for model in reachable(ROOTS) for line in section(model.__name__, model)]
    return "\n".join([*head, *body, ""])


def settings_page() -> str:
    """docs/reference/settings.md."""
    head = [
        "# Settings",
        "",
        "Written by `make docs` from the settings classes. Each is an environment variable.",
    ]
    shared = set(StoreSettings.model_fields)
    body: list[str] = []
    for title, model in SETTINGS.items():
        told = () if model is StoreSettings else shared
        body += section(title, model, prefix="PARTLAB_", told=told)
    return "\n".join([*head, *body, ""])


PAGES = {"spec.md": spec_page, "settings.md": settings_page}


def main() -> int:
    """Write every page; with ``--check``, say which is out of date and fail."""
    texts = {FOLDER / name: page() for name, page in PAGES.items()}
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
    names = ", ".join(path.name for path in stale)
    if stale and "--check" in sys.argv:
        sys.stdout.write(f"docs/reference is out of date ({names}): run `make docs`\n")
        return 1
    for path in stale:
        path.write_text(texts[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
