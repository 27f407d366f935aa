"""Query parameters: one check for every documented route.

A misspelt filter that is ignored answers another question than was asked. Pages take whatever is
appended to their address: chat and mail programs do so, and what a page shows, it says.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import Request

from api.problems import RequestInvalid
from domain.errors import FieldError
from domain.wording import cut, unknown


async def known_query(request: Request) -> None:
    """Refuse parameters that a route does not know, or that it takes once and is given twice.

    Raises RequestInvalid.
    """
    if not request.query_params:
        return
    operation = _operation(request)
    errors = [] if operation is None else list(_errors(request, operation))
    if errors:
        raise RequestInvalid(errors)


def _operation(request: Request) -> Mapping[str, Any] | None:
    """Return what the OpenAPI document says of the route; None for a page."""
    path = getattr(request.scope.get("route"), "path_format", "")
    operation: Mapping[str, Any] | None
    operation = request.app.openapi()["paths"].get(path, {}).get(request.method.lower())
    return operation


def _errors(request: Request, operation: Mapping[str, Any]) -> Iterator[FieldError]:
    schemas = {
        parameter["name"]: parameter["schema"]
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "query"
    }
    given = Counter(name for name, _ in request.query_params.multi_items())
    for name, times in given.items():
        if name not in schemas:
            yield FieldError(f"?{cut(name)}", _unknown(name, list(schemas)))
        elif times > 1 and schemas[name].get("type") != "array":
            yield FieldError(f"?{name}", "is given more than once")


def _unknown(name: str, allowed: list[str]) -> str:
    return unknown("parameter", name, allowed) if allowed else "this address takes no parameters"
