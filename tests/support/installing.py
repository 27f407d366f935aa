"""The project as users get it: a clean source, a wheel, environments outside the checkout."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
Variables = dict[str, str] | None
UV = Path(sys.prefix) / "bin" / "uv"
LOCK = ROOT / "requirements.lock"


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    env: dict[str, str] | None = None,
    seconds: int = 300,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return what it wrote, whatever its status."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def succeed(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    env: dict[str, str] | None = None,
    seconds: int = 300,
) -> str:
    """Run a command that must succeed and return its output."""
    done = run(command, cwd=cwd, env=env, seconds=seconds)
    assert done.returncode == 0, (
        f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    )
    return done.stdout


def source_files() -> list[str]:
    """Return what a commit of the working tree would hold, as paths below the root."""
    command = ("git", "ls-files", "--cached", "--others", "--exclude-standard")
    listed = succeed(command, cwd=ROOT).splitlines()
    return [name for name in listed if (ROOT / name).is_file()]


def copy_source(folder: Path) -> Path:
    """Copy the source, without anything that was built or installed in the checkout."""
    for name in source_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


def build_wheel(source: Path, out: Path) -> Path:
    """Build a source distribution, and the wheel from that alone."""
    succeed((UV, "build", "--quiet", "--out-dir", out, source), cwd=source)
    (wheel,) = out.glob("*.whl")
    return wheel


@dataclass(frozen=True)
class Installation:
    """A virtual environment outside the checkout."""

    folder: Path

    @property
    def bin(self) -> Path:
        """Where its commands are."""
        return self.folder / "bin"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.bin / "python"

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """Return a new user's shell variables: nothing of this process but the search path."""
        path = os.pathsep.join([str(self.bin), "/usr/local/bin", "/usr/bin", "/bin"])
        # Two labs and pytest share two cores: one thread each.
        return {"PATH": path, "HOME": str(home), "OMP_NUM_THREADS": "1", **more}

    def install(self, *requirements: str | Path, cwd: Path) -> None:
        """Install requirements at the versions of the lock."""
        command = (UV, "pip", "install", "--quiet", "--python", self.python, "--constraint", LOCK)
        succeed((*command, *requirements), cwd=cwd, seconds=600)


def create_environment(folder: Path) -> Installation:
    """Make an empty environment of this interpreter's version."""
    succeed((UV, "venv", "--quiet", "--python", sys.executable, folder), cwd=folder.parent)
    return Installation(folder)


IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        if not module.name.endswith("__main__") and not module.name.startswith("migrations."):
            importlib.import_module(module.name)
print(*sys.modules)
"""
"""Alembic alone can import a migration and its environment."""


def import_all(installation: Installation, *packages: str) -> list[str]:
    """Import every module of ``packages`` there; return the names of all that was loaded."""
    command = (installation.python, "-P", "-c", IMPORT_ALL, *packages)
    return succeed(command, cwd=installation.folder).split()
