"""Templates, and how a page is put together from parts that fail alone.

An undefined name in a template is an error. One row or part that cannot be rendered is logged and
says so in its place; the rest of the page, which everybody looks at, is shown all the same.
"""

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup
from starlette.responses import HTMLResponse

import web
from api import presentation

log = logging.getLogger(__name__)

VERDICTS: Mapping[str, str] = {
    "sound": "Every check holds, and the attacks include PGD-20 and a margin loss.",
    "suspicious": "A check that should hold does not: read why before quoting the number.",
    "broken": "The evaluation itself failed a check: the number means nothing.",
    "incomplete": "Not attacked enough to call robust: clean, PGD-20 and a margin loss are needed.",
}


def _static_versions() -> dict[str, str]:
    """Return each static file's address with its hash, so that browsers may keep it for long."""
    files = (file for file in web.STATIC.rglob("*") if file.is_file())
    names = {file.relative_to(web.STATIC).as_posix(): file for file in files}
    return {
        name: f"/static/{name}?v={hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"
        for name, file in names.items()
    }


_templates = Environment(
    loader=FileSystemLoader(web.TEMPLATES),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def part(template: str, context: Mapping[str, Any], *, instead: str = "unshown.html") -> Markup:
    """Render a part of a page about a run, or ``instead`` where that fails."""
    try:
        return Markup(_templates.get_template(template).render(context))
    except Exception:
        log.exception("%s of run %s cannot be rendered", template, context["run"].id)
        return Markup(_templates.get_template(instead).render(context))


@pass_context
def _part(page: Context, template: str, instead: str = "unshown.html", **more: object) -> Markup:
    return part(template, {**page.get_all(), **more}, instead=instead)


def render(template: str, *, status: int = 200, **context: Any) -> HTMLResponse:  # noqa: ANN401
    """Render a whole page."""
    return HTMLResponse(_templates.get_template(template).render(context), status)


_templates.filters.update(presentation.FILTERS)
_templates.globals.update(
    static=_static_versions(),
    verdicts=VERDICTS,
    charts=presentation.CHARTS,
    is_silent=presentation.is_silent,
    seconds_left=presentation.seconds_left,
    tiles=presentation.tiles,
    part=_part,
)
