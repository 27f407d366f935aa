"""Which lab, and with whose token.

In this order: ``PART_URL`` and ``PART_TOKEN``; what ``part login`` stored; the lab in the folder
``PARTLAB_STATE``, if that is set; else the newest of the labs that ``part up`` keeps running here.
"""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
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
    """Where they come from, for people."""
    remark: str | None = None
    """What a person should know about the choice."""
    broker_url: str | None = None
    """The broker of a lab on this machine, for Celery's own tools."""


def state_folder() -> Path:
    """The embedded lab's folder: ``PARTLAB_STATE``, else ``~/.partlab``."""
    return _home_path(os.environ.get("PARTLAB_STATE") or "~/.partlab").absolute()


def credentials_file() -> Path:
    """Where ``part login`` stores: below ``XDG_CONFIG_HOME``, else ``~/.config``."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return _home_path(base) / "partlab" / "credentials.json"


def notes_folder() -> Path:
    """Where running labs are noted: below ``XDG_STATE_HOME``, else ``~/.local/state``."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return _home_path(base) / "partlab" / "labs"


def _home_path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UsageError(f"{text} means nothing here: this user has no home. Set HOME.") from None


def find_credentials(state: Path | None = None) -> Credentials:
    """Return the first that is known, or the default address without a token.

    state: the embedded lab's folder, if not the usual one; it then comes first.

    Raises UsageError.
    """
    if state is not None:
        lab = embedded_lab(state)
        if lab is None:
            raise UsageError(f"{state} holds no running lab; start one: part up --state {state}")
        return lab
    url, token = os.environ.get("PART_URL", "").strip(), os.environ.get("PART_TOKEN", "").strip()
    if url:
        url = url.rstrip("/")
        return Credentials(url, token or _known_token(url), "PART_URL")
    first = next(_stored(), None)
    if first is None:
        first = Credentials(DEFAULT_URL, None, "the default address", _ended())
    return Credentials(first.url, token, "PART_TOKEN", first.remark) if token else first


def _known_token(url: str) -> str | None:
    candidates = (*_stored(), *running_labs())
    return next((lab.token for lab in candidates if lab.url == url), None)


def _stored() -> Iterator[Credentials]:
    """Yield what this user has, the most deliberate choice first."""
    yield from _logged_in()
    if os.environ.get("PARTLAB_STATE"):
        if (lab := embedded_lab(state_folder())) is not None:
            yield lab
    else:
        yield from _newest(running_labs())


def _newest(labs: tuple[Credentials, ...]) -> Iterator[Credentials]:
    """Yield the newest lab first, with a remark if there are several."""
    if len(labs) < 2:
        yield from labs
        return
    newest, *others = labs
    listed = ", ".join(f"{lab.url} ({lab.origin})" for lab in others)
    remark = (
        f"Of {len(labs)} labs on this machine, this is the newest: {newest.url} ({newest.origin}). "
        f"Set PART_URL for another: {listed}."
    )
    yield Credentials(newest.url, newest.token, newest.origin, remark)
    yield from others


def running_labs() -> tuple[Credentials, ...]:
    """Return the labs that run on this machine for this user, the newest first."""
    usual = state_folder()
    labs = {usual: embedded_lab(usual)}
    for _, folder in noted_folders():
        # A broken file of another lab is no reason not to use this one.
        with suppress(UsageError):
            labs.setdefault(folder, embedded_lab(folder))
    alive = [(folder, lab) for folder, lab in labs.items() if lab is not None]
    alive.sort(key=lambda pair: _changed(pair[0] / "lab.json"), reverse=True)
    return tuple(lab for _, lab in alive)


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def noted_folders() -> Iterator[tuple[Path, Path]]:
    """Yield each note made on this host (a home may be shared by several) and the folder in it."""
    for note in notes_folder().glob("*.json"):
        with suppress(UsageError):
            body = _read(note)
            if body.get("host") == socket.gethostname():
                yield note, Path(_text(body, "state", note))


def _logged_in() -> Iterator[Credentials]:
    file = credentials_file()
    body = _read(file)
    if body:
        yield Credentials(_text(body, "url", file), _optional_text(body, "token", file), str(file))


def embedded_lab(state: Path) -> Credentials | None:
    """Return the lab that runs on a state folder. Raises UsageError on a broken ``lab.json``."""
    file = state / "lab.json"
    body = _read(file)
    if not body or not _is_alive(body.get("pid")):
        return None
    token = _secret(Path(_text(body, "token_file", file)))
    broker_url = _optional_text(body, "broker_url", file)
    return Credentials(_text(body, "url", file), token, str(state), broker_url=broker_url)


def _ended() -> str | None:
    """Say which lab was killed, if this shell would have meant one."""
    named = os.environ.get("PARTLAB_STATE")
    others = () if named else (folder for _, folder in noted_folders())
    for folder in (state_folder(), *others):
        if (folder / "lab.json").is_file():
            return f"The lab in {folder} has ended; start it again: part up --state {folder}"
    return None


def _is_alive(pid: object) -> bool:
    """Whether the process that wrote a ``lab.json`` may still run."""
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _secret(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None


def _text(body: Mapping[str, Any], name: str, file: Path) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise UsageError(f"{file} has no text as `{name}`; {_REMEDY}")
    return value


def _optional_text(body: Mapping[str, Any], name: str, file: Path) -> str | None:
    return None if body.get(name) is None else _text(body, name, file)


_REMEDY = "remove it, then `part login` or `part up` writes it anew."


def _read(file: Path) -> Mapping[str, Any]:
    """Return a JSON object, or nothing if there is none. Raises UsageError on a broken file."""
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}; {_REMEDY}") from error
    except (ValueError, RecursionError):
        # The parser's words may repeat a part of a token.
        raise UsageError(f"{file} is no JSON; {_REMEDY}") from None
    if not isinstance(body, dict):
        raise UsageError(f"{file} holds no JSON object; {_REMEDY}")
    return body


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
