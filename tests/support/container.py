"""An image of Dockerfile.gpu without an engine: its own steps, in a folder instead of a root.

A step that this module does not know fails, so that a changed Dockerfile cannot be half followed.
"""

import json
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.installing import Installation, create_environment

Instruction = tuple[str, str]
HOST_STEPS = {"groupadd", "useradd"}
"""Steps that would change this machine's users."""


def stages(dockerfile: str) -> dict[str, list[Instruction]]:
    """Return each stage's instructions, those of the stages it builds on first."""
    built: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for keyword, argument in _instructions(dockerfile):
        if keyword == "FROM":
            base, _, name = argument.partition(" AS ")
            current = built[name] = [*built.get(base, [])]
        elif keyword != "ARG":
            current.append((keyword, argument))
    return built


def _instructions(dockerfile: str) -> Iterator[Instruction]:
    without_comments = re.sub(r"^#.*\n", "", dockerfile, flags=re.MULTILINE)
    for line in without_comments.replace("\\\n", " ").splitlines():
        if line.strip():
            keyword, _, argument = line.strip().partition(" ")
            yield keyword, " ".join(argument.split())


@dataclass
class Container:
    """A folder that stands for a container's root, and an environment for its Python."""

    root: Path
    context: Path
    """What a build may copy from: the checkout as .dockerignore leaves it."""
    installation: Installation
    variables: dict[str, str] = field(default_factory=dict)
    working_folder: str = "/"
    command: list[str] = field(default_factory=list)
    health_check: list[str] = field(default_factory=list)

    def path(self, absolute: str) -> Path:
        """Return where a path of the container lies here."""
        return self.root / absolute.lstrip("/")

    def follow(self, instruction: Instruction) -> None:
        """Carry out one instruction."""
        match instruction:
            case ("ENV", assignments):
                self.variables |= dict(word.split("=", 1) for word in shlex.split(assignments))
            case ("WORKDIR", folder):
                self.working_folder = folder
                self.path(folder).mkdir(parents=True, exist_ok=True)
            case ("COPY", words):
                *sources, target = words.split()
                for source in sources:
                    self._copy(source, target)
            case ("RUN", command):
                for step in command.split(" && "):
                    self._run(shlex.split(step))
            case ("CMD", command):
                self.command = json.loads(command)
            case ("HEALTHCHECK", check):
                self.health_check = json.loads(check.partition(" CMD ")[2])
            case ("USER" | "EXPOSE" | "STOPSIGNAL", _):
                pass
            case _:
                raise AssertionError(f"unknown instruction: {instruction}")

    def _copy(self, source: str, target: str) -> None:
        here = self.path(f"{self.working_folder}/{target}")
        given = self.context / source
        if given.is_dir():
            shutil.copytree(given, here)
        else:
            shutil.copy2(given, here / source if target.endswith("/") else here)

    def _run(self, words: list[str]) -> None:
        match words:
            case [tool, *_] if tool in HOST_STEPS:
                pass
            case ["install", "-d", "-o", _, "-g", _, *folders]:
                for folder in folders:
                    self.path(folder).mkdir(parents=True)
            case ["pip", "install", "--no-cache-dir", "uv"]:
                pass  # the uv that made this environment is used
            case ["uv", "pip", "install", "--system", "--no-cache", "--constraint", lock, *wanted]:
                # With the cache: what is installed is the same, and torch is not fetched again.
                folder = self.path(self.working_folder)
                assert (folder / lock).is_file()
                self.installation.install(*wanted, cwd=folder)
            case _:
                raise AssertionError(f"unknown step: {shlex.join(words)}")


def build_container(dockerfile: str, stage: str, *, root: Path, context: Path) -> Container:
    """Carry out the steps of one stage."""
    root.mkdir(parents=True)
    container = Container(root, context, create_environment(root / "python"))
    for instruction in stages(dockerfile)[stage]:
        container.follow(instruction)
    return container


def build_context(source: Path, folder: Path) -> Path:
    """Copy what .dockerignore lets a build see. It lists what is let in, after a first ``*``."""
    everything, *rules = (source / ".dockerignore").read_text().split()
    assert everything == "*"
    for rule in rules:
        if rule.startswith("!"):
            given, copy = source / rule[1:], folder / rule[1:]
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(given, copy) if given.is_dir() else shutil.copy2(given, copy)
    return folder


def compose_variables(service: Mapping[str, object], container: Container) -> dict[str, str]:
    """Return a service's environment with its defaults, its folders being the container's."""
    given = service["environment"]
    assert isinstance(given, Mapping)
    defaults = {k: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(v)) for k, v in given.items()}
    return {
        name: str(container.path(value)) if value.startswith("/") else value
        for name, value in defaults.items()
    }
