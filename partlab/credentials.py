"""Which lab, and with whose token.

In this order: ``PART_URL`` and ``PART_TOKEN``; what ``part login`` stored; the lab that ``part up``
started on this machine.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partlab.errors import UsageError

DEFAULT_URL = "http://127.0.0.1:8700"


@dataclass(frozen=True)
class Credentials:
    """An address and, if there is one, a token for it."""

    url: str
    token: str | None
    origin: str
    """Where they were found, for people."""


def state_folder() -> Path:
    """The embedded lab's folder: ``PARTLAB_STATE``, else ``~/.partlab``."""
    return Path(os.environ.get("PARTLAB_STATE") or "~/.partlab").expanduser().absolute()


def credentials_file() -> Path:
    """Where ``part login`` stores: below ``XDG_CONFIG_HOME``, else ``~/.config``."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "partlab" / "credentials.json"


def find_credentials(state: Path | None = None) -> Credentials:
    """Return the first that is known, or the default address without a token.

    state: the embedded lab's folder, if not the usual one; it then comes first.
    """
    url, token = os.environ.get("PART_URL"), os.environ.get("PART_TOKEN")
    if state is not None:
        stored = list(_embedded(state))
        if not stored:
            raise UsageError(f"{state} holds no running lab; start one: part up --state {state}")
        return stored[0]
    stored = [*_logged_in(), *_embedded(state_folder())]
    if url:
        known = next((s.token for s in stored if s.url == url.rstrip("/")), None)
        return Credentials(url.rstrip("/"), token or known, "PART_URL")
    first = stored[0] if stored else Credentials(DEFAULT_URL, None, "the default address")
    return Credentials(first.url, token, "PART_TOKEN") if token else first


def _logged_in() -> Iterator[Credentials]:
    file = credentials_file()
    found = _read(file)
    if "url" in found:
        yield Credentials(str(found["url"]), found.get("token"), str(file))


def _embedded(state: Path) -> Iterator[Credentials]:
    file = state / "lab.json"
    found = _read(file)
    if "url" in found and "token_file" in found:
        yield Credentials(str(found["url"]), _secret(Path(found["token_file"])), str(file))


def _secret(file: Path) -> str | None:
    try:
        return file.read_text().strip() or None
    except OSError:
        return None


def _read(file: Path) -> Mapping[str, Any]:
    """Return a JSON object, or nothing if there is none. Raises UsageError on a broken file."""
    try:
        body = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read ({error}); remove it or repair it.") from error
    return body if isinstance(body, dict) else {}


def store_credentials(url: str, token: str) -> Path:
    """Write what later commands use (mode 0600); return the file."""
    file = credentials_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_private(file, json.dumps({"url": url.rstrip("/"), "token": token}, indent=2) + "\n")
    return file


def write_private(file: Path, text: str) -> None:
    """Replace ``file`` at once by one that only its owner can read."""
    part = file.with_name(file.name + ".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    part.replace(file)
