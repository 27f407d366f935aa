"""What README and docs tell a reader to type works as it is written, in that order.

A block's fence says what becomes of it (CONTRIBUTING.md lists the words). Commands inside
sentences, in tables, in `--help` and in messages are parsed by the command line itself.
"""

import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from domain.presets import expand
from domain.run_state import RunState
from partcore import train
from partlab import cli
from partlab.client import Client
from tests.waiting import until

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", *sorted(
    str(file.relative_to(ROOT)) for file in (ROOT / "docs").rglob("*.md")
))  # fmt: skip
SOURCES = sorted(
    str(file.relative_to(ROOT))
    for package in ("partlab", "domain", "api", "store", "worker", "partcore", "web")
    for file in (ROOT / package).rglob("*")
    if file.suffix in {".py", ".html"}
)
INFO = re.compile(r"sh|sh keeps running|sh elsewhere|sh unrun: .+|python|yaml|yaml of \w+|text")
DEMO, TABLE = "tells_its_story_and_stops_cleanly", "is_made_by_one_command_and_found_again"
ELSEWHERE = {
    "make demo": f"tests/acceptance/test_demo.py::test_the_demo_{DEMO}",
    "make table-1": f"tests/acceptance/test_demo.py::test_a_table_{TABLE}",
    "make table-2": f"tests/acceptance/test_demo.py::test_a_table_{TABLE}",
}
"""Commands that take minutes, and the test that runs what they run, shortened."""
LEFT_OUT = {".git", ".venv", "build", "demo-output", "reproduction", "shared", "node_modules"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    document: str
    line: int
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """Its command lines as words, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks_of(document: str) -> Iterator[Block]:
    opened, info, text = 0, "", []
    for number, line in enumerate((ROOT / document).read_text().splitlines(), start=1):
        if line.lstrip().startswith("```"):
            if opened:
                yield Block(document, opened, info, "\n".join(text) + "\n")
            opened, info, text = (0 if opened else number), line.lstrip()[3:].strip(), []
        elif opened:
            text.append(line)
    assert not opened, f"{document}:{opened} is never closed"


BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]


def of_kind(*beginnings: str) -> list[Any]:
    chosen = [b for b in BLOCKS if b.info in beginnings or b.info.split(":")[0] in beginnings]
    assert chosen
    return [pytest.param(block, id=str(block)) for block in chosen]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_says_what_becomes_of_it(block):
    assert INFO.fullmatch(block.info), f"{block}: ```{block.info} is none of {INFO.pattern}"
    if block.info.startswith("sh"):
        subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)


# Command lines that are read, not run


class Incomplete(Exception):
    """A command without its arguments, as sentences name it."""


def parse_part(words: list[str]) -> None:
    """Read the arguments of `part` as it does itself, and run nothing."""
    command: Any = typer.main.get_command(cli.app)
    names = list(words)
    while names and hasattr(command, "commands") and not names[0].startswith("-"):
        assert names[0] in command.commands, f"part has no command {names[0]!r}"
        command = command.commands[names.pop(0)]
    try:
        command.make_context("part", [*names])
    except Exception as error:
        if type(error).__name__ in {"MissingParameter", "NoArgsIsHelpError"}:
            raise Incomplete(error) from error
        raise


def parse(words: list[str]) -> None:
    """Check a command line as far as that goes without running it."""
    match words:
        case ["part", *arguments]:
            parse_part(arguments)
        case ["make", target, *_]:
            assert target in make_targets(), f"there is no target {target!r}"
        case ["python", "-m", "partcore.train", *arguments] if len(arguments) > 4:
            train.parse(arguments)
        case ["python", "-m", module, *_]:
            # A message may leave the module to be filled in.
            assert module == "1" or importlib.util.find_spec(module) is not None, (
                f"there is no module {module}"
            )
        case ["docker", "compose", *arguments]:
            parse_compose(arguments)
        case ["cp", source, _] | ["source", source] | ["cat", source]:
            assert (ROOT / source).exists()
        case [program, *_]:
            pytest.fail(f"nobody checks what {program!r} is given")


def make_targets() -> set[str]:
    lines = re.findall(r"^([a-z][a-z0-9 -]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return {target for line in lines for target in line.split()}


def parse_compose(words: list[str]) -> None:
    """Check that the services and profiles a command names are in the files it names."""
    named = [value for option, value in pairwise(words) if option == "-f"]
    services = {}
    for name in named or ["docker-compose.yml"]:
        for service, body in yaml.safe_load((ROOT / name).read_text())["services"].items():
            services[service] = {**services.get(service, {}), **body}
    profiles = {p for service in services.values() for p in service.get("profiles", ())}
    for option, value in pairwise(words):
        if option == "--profile":
            assert value in profiles
    if "run" in words or "stop" in words:
        assert words[-1] in services


@pytest.mark.parametrize("block", of_kind("sh unrun"))
def test_what_cannot_run_here_is_understood(block):
    assert block.commands
    for words in block.commands:
        parse(words)


@pytest.mark.parametrize("block", of_kind("sh elsewhere"))
def test_what_another_test_runs_is_there(block):
    for words in block.commands:
        file, _, name = ELSEWHERE[" ".join(words)].partition("::")
        assert f"def {name}(" in (ROOT / file).read_text()
        parse(words)


FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:part|make|python -m|docker compose|cp|source) [^`]+)`")
PLACEHOLDER = re.compile(r"\{[^{}]*\}|\bN\b")


def inline_commands(text: str) -> set[str]:
    return {" ".join(command.split()) for command in INLINE.findall(FENCED.sub("", text))}


def words_of(command: str) -> list[str]:
    """Return the words of a command in a sentence: a value for each placeholder, no ellipsis."""
    words = shlex.split(PLACEHOLDER.sub("1", command.replace('"\n', "")), comments=True)
    words = [word.strip("[]") if word.startswith("[-") else word for word in words]
    return [word for word in words if word not in {"…", "..."}]


def assert_understood(command: str) -> None:
    words = words_of(command)
    if "|" in words:
        words = words[: words.index("|")]
    try:
        parse(words)
    except Incomplete:
        # "`part retry` makes a new run": a sentence may leave the arguments out.
        assert not [word for word in words[2:] if word.startswith("-")] or words[0] == "part"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_in_sentences_are_understood(document):
    for command in sorted(inline_commands((ROOT / document).read_text())):
        assert_understood(command)


def test_commands_in_help_and_messages_are_understood():
    commands = {c for file in SOURCES for c in inline_commands((ROOT / file).read_text())}
    assert len(commands) > 20
    for command in sorted(commands):
        assert_understood(command)


def test_a_wrong_command_would_be_seen():
    for wrong in ("part sumbit x", "part submit x --folow", "part admin token", "make tabel-1"):
        with pytest.raises(Exception):  # noqa: B017, PT011 - of whatever kind
            parse(shlex.split(wrong))


@pytest.mark.parametrize("block", of_kind("yaml"))
def test_parts_of_a_spec_are_part_of_a_spec(block):
    given = yaml.safe_load(block.text)
    spec = expand({"preset": "part++", "data": {"dataset": "digits"}, **given}).model_dump()
    for field, value in given.items():
        assert {**spec[field], **value} == spec[field] if isinstance(value, dict) else spec[field]


# Command lines that are run


@pytest.fixture
def tree(tmp_path) -> Path:
    """A clone after `make install`: this tree, with this environment as its `.venv`."""

    def left_out(_: str, names: list[str]) -> set[str]:
        return {n for n in names if n in LEFT_OUT or n.endswith(("cache", "__", ".egg-info"))}

    clone = tmp_path / "partlab"
    shutil.copytree(ROOT, clone, ignore=left_out)
    (clone / ".venv").mkdir()
    (clone / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (clone / ".venv" / ".installed").touch()
    return clone


def terminal(home: Path) -> dict[str, str]:
    """The environment of a new terminal: no virtual environment, no lab, an empty home."""
    own = Path(sys.executable).parent
    paths = [p for p in os.environ["PATH"].split(os.pathsep) if Path(p) != own]
    stripped = ("PART_", "PARTLAB_", "XDG_", "VIRTUAL_ENV", "COVERAGE_", "PYTHON")
    kept = {n: value for n, value in os.environ.items() if not n.startswith(stripped)}
    return {**kept, "PATH": os.pathsep.join(paths), "HOME": str(home), "PARTLAB_THREADS": "1"}


@contextmanager
def kept_running(block: Block, tree: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run a block in a terminal of its own until the end; yield what it has said once it is up."""
    log = tree.parent / "first-terminal.txt"
    with log.open("w") as stream:
        process = subprocess.Popen(
            ["bash", "-c", block.text],
            cwd=tree,
            env=environment,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        until(lambda: "In another terminal" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield log.read_text()
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=60)


def script_of(document: str) -> str:
    """Return a document's blocks as one script; each is named before it runs."""
    lines = ["set -euo pipefail"]
    if document != "README.md":  # which says it, for all
        lines.append("source .venv/bin/activate")
    for block in blocks_of(document):
        if block.info == "sh":
            lines += [f"echo '## {block}'", block.text]
        elif block.info == "python":
            lines += [f"echo '## {block}'", f"python - <<'END'\n{block.text}END"]
    return "\n".join(lines)


def leave_the_lab_idle(home: Path) -> None:
    """Cancel what a document queued without waiting for it: the next reader would wait longest."""
    with Client.from_environment(home / ".partlab") as client:
        for run in client.runs(states=(RunState.QUEUED, RunState.RUNNING)):
            client.cancel(run.id)


@pytest.mark.acceptance
@pytest.mark.timeout(1200)
@pytest.mark.xdist_group("embedded-lab")
def test_what_the_documents_show_runs_as_it_is_written(tree, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    environment = terminal(home)
    (block,) = [b for b in BLOCKS if b.info == "sh keeps running"]
    with kept_running(block, tree, environment) as said:
        assert ".venv/bin/part submit examples/digits.yaml --follow" in said
        for document in DOCUMENTS:
            if any(b.info in {"sh", "python"} for b in blocks_of(document)):
                done = subprocess.run(
                    ["bash", "-c", script_of(document)],
                    cwd=tree,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=600,
                    check=False,
                )
                assert done.returncode == 0, done.stdout + done.stderr
                assert "Traceback" not in done.stderr
                leave_the_lab_idle(home)
    assert (tree / "mine" / "figures" / "budget.png").exists()
    assert "sound" in (tree / "card.md").read_text()
