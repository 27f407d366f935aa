"""Where output goes: tables for a person, plain text for a pipe, JSON for a program."""

import json
import math
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.text import Text

from partlab.errors import ClientError, NotSignedIn, Refused

PIPE_WIDTH = 200
"""Columns a table may take where nobody's window is the limit."""


def console(*, to_stderr: bool = False) -> Console:
    """Return a console for a stream; it writes no escape sequence into a pipe."""
    stream = sys.stderr if to_stderr else sys.stdout
    is_window = stream.isatty()
    width = None if is_window or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(stderr=to_stderr, width=width, highlight=False, emoji=False)


def print_json(value: object) -> None:
    """Write one JSON document on a line of its own."""
    sys.stdout.write(json.dumps(plain(value), ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def plain(value: object) -> Any:  # noqa: ANN401 - any JSON
    """Return ``value`` as JSON knows it; NaN and infinities become strings, as in the API."""
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="json"))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value


def print_error(error: ClientError, *, as_json: bool) -> None:
    """Tell on stderr what went wrong and what to change."""
    if as_json:
        sys.stderr.write(json.dumps(error_body(error)) + "\n")
        return
    err = console(to_stderr=True)
    # Assembled, not marked up: what a server or a file says is never markup.
    fields = list(field_lines(error)) if isinstance(error, Refused) else []
    headline = "the lab does not accept this:" if fields else printable(str(error))
    err.print(Text.assemble(("error: ", "bold red"), headline), soft_wrap=True)
    for line in fields:
        err.print(line, soft_wrap=True)
    if isinstance(error, NotSignedIn):
        err.print("Sign in with `part login`, or set PART_TOKEN.", soft_wrap=True)


def field_lines(error: Refused) -> Iterable[Text]:
    """Say of each wrong field where it is and what is allowed there."""
    for one in error.errors:
        where = one.pointer.removeprefix("/").replace("/", ".") or "(the whole spec)"
        yield Text.assemble("  ", (printable(where), "bold cyan"), f": {printable(one.detail)}")


def printable(text: str) -> str:
    """Return a stranger's text without what would command the terminal."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "?", text)


def error_body(error: ClientError) -> Mapping[str, object]:
    """Return an error as a JSON object."""
    body: dict[str, object] = {"code": "client-error", "detail": str(error)}
    if isinstance(error, Refused):
        body |= {"code": error.code, "status": error.status}
        body["errors"] = [{"pointer": e.pointer, "detail": e.detail} for e in error.errors]
    return body


def can_draw(out: Console) -> bool:
    """Whether the stream's encoding has block characters."""
    return out.encoding.lower().startswith("utf")


def joined(words: Sequence[str]) -> str:
    """Return words as people list them."""
    return ", ".join(words) if words else "none"
