"""`part` in every kind of shell: a message and an exit status, never a traceback."""

import importlib.abc
import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from partlab import __main__, surroundings
from partlab.client import Client
from partlab.commands import up
from partlab.credentials import store_credentials
from partlab.embedded.lab import Choices, EmbeddedLab
from partlab.embedded.state import State
from partlab.transport import Patience
from tests.making_weights import file as weights


@pytest.fixture
def hurried(monkeypatch):
    """Nobody waits between two attempts."""
    monkeypatch.setattr(Patience, "pause", lambda *_: 0.0)


def is_plain(said) -> bool:
    return "Traceback" not in said.err + said.out and "error" in said.err.lower()


# Streams and windows: the real program in a real shell


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("{part} version > /dev/full", 1, "No space left"),
        ("{part} --help > /dev/full", 1, "No space left"),
        ("{part} version --json > /dev/full", 1, "No space left"),
        ("{part} version >&-", 1, "cannot be written"),
        ("{part} version 2>&-", 0, ""),
        ("{part} ls 2>&-", 3, ""),
        ("{part} ls 2> /dev/full", 3, ""),
        ("{part} ls > /dev/full 2>&1", 3, ""),
        ("{part} ls <&- >&- 2>&-", 3, ""),
        ("{part} submit - <&-", (2, 3), "error"),
        ("{part} login http://127.0.0.1:9 <&-", 2, "--token-file"),
        ("COLUMNS=0 LINES=x TERMINAL_WIDTH=wide TERM= {part} --help", 0, ""),
        ("mkdir gone && cd gone && rmdir ../gone && {part} version", 0, ""),
        ("env -i {part} version", 0, ""),
        ("HOME=/dev/null {part} ls", 3, "no address"),
    ],
)
def test_streams_and_windows_of_any_kind(command, status, message, tmp_path, monkeypatch):
    monkeypatch.setenv("PART_URL", "nowhere")
    program = f"{sys.executable} -m partlab"
    done = subprocess.run(
        ["bash", "-c", command.format(part=program)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    allowed = status if isinstance(status, tuple) else (status,)
    assert done.returncode in allowed, done.stderr
    assert message in done.stderr
    for word in ("Traceback", "Exception ignored"):
        assert word not in done.stderr


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("width", ["0", "1", "-5", "x", "\u00b2", "9" * 30, "99999999", " 80", ""])
def test_a_window_of_any_width_shows_tables(part, finished, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    for arguments in (["ls"], ["show", finished.id], ["--help"]):
        said = part(*arguments)
        assert said.status == 0, said.err
        assert max(map(len, said.out.splitlines())) <= surroundings.WIDEST


# Files and folders


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize(
    "arguments",
    [
        "get {run} --output {file}",
        "get {run} --output {file}/below",
        "get {run} --output {taken}",
        "get {run} --output {long}",
        "card {run} --output {folder}",
        "card {run} --output {folder}/none/card.md",
        "card {run} --output {file}/card.md",
        "card {run} --output {long}",
        "visualise {run} --output {file}",
        "up --state {file}",
        "up --state {file}/below",
        "up --data {file} --state {folder}/state",
        "demo --output {file}",
        "demo --output {file}/below",
        "reproduce table-1 --own-lab {file}",
        "upload {folder} --model small-cnn",
        "upload {none} --model small-cnn",
        "login http://127.0.0.1:9 --token-file {folder}",
        "login http://127.0.0.1:9 --token-file {none}",
        "login http://127.0.0.1:9 --token-file {binary}",
        "login http://127.0.0.1:9 --token-file {file}",
        "submit {folder}",
        "submit {none}",
        "submit {binary}",
        "submit {file}",
    ],
)
def test_a_file_of_the_wrong_kind_is_told(part, finished, tmp_path, arguments, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {name: tmp_path / name for name in ("file", "folder", "none", "binary", "taken")}
    places["file"].write_text("")
    places["folder"].mkdir()
    places["binary"].write_bytes(weights(classes=4))
    (places["taken"] / "weights" / "final.safetensors").mkdir(parents=True)
    long = "x" * 300
    words = [w.format(run=finished.id, long=long, **places) for w in arguments.split()]
    said = part(*words)
    assert is_plain(said), said.err
    assert said.status in {1, 2}
    assert not list(tmp_path.glob("**/lab.sqlite3"))


# What answers, and how it is reached


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


JSON = "Content-Type: application/json"
DIGITS = ("--preset", "part++", "--set", "data.dataset=digits")
DEEP = b"[" * 100_000


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x03\x01\x00",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
        http("200 OK", b"<html>hello</html>", "Content-Type: text/html"),
        http("200 OK", b"\xff\xfe\x00", JSON),
        http("200 OK", DEEP, JSON),
        http("200 OK", b"[]", JSON),
        http("200 OK", b'{"name": 5}', JSON),
        http("200 OK", b"not gzip", "Content-Encoding: gzip"),
        http("204 No Content"),
        http("302 Found", b"", "Location: http://127.0.0.1:9/"),
        http("304 Not Modified"),
        http("401 Unauthorized", b"<html>"),
        http("403 Forbidden", b'{"code": 5, "errors": 5}', JSON),
        http("403 Forbidden", b'{"code": "x", "detail": "\\u001b[2Jclean"}', JSON),
        http("422 Odd", b'{"code": "x", "errors": [{"detail": "\\u001b[2J\\u009b2J"}]}', JSON),
        http("404 Not Found", b"<html>"),
        http("422 Unprocessable", b'{"code": "x", "errors": [5, {}, {"detail": []}]}', JSON),
        http("422 Unprocessable", DEEP, JSON),
        http("429 Too Many Requests", b"", "Retry-After: soon"),
        http("500 Internal Server Error", b"oops"),
        http("503 Unavailable", b"", "Retry-After: 99999999999999999999"),
        http("600 What", b""),
    ],
)
def test_whatever_answers_is_told(part, proxy, monkeypatch, answer):
    monkeypatch.setenv("PART_URL", proxy.url)
    monkeypatch.setenv("PART_TOKEN", "s3cret")
    for arguments in (["whoami"], ["ls", "--json"], ["logs", "0" * 18, "--follow"]):
        proxy.answers[:] = [answer] * 300
        said = part(*arguments)
        assert said.status in {1, 2, 3}, said.err
        assert is_plain(said) or json.loads(said.err)
        assert not re.search("s3cret|\x1b|\x9b", said.err)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    ("variable", "value", "status"),
    [
        ("PART_URL", "http://[::1", 3),
        ("PART_URL", "http://127.0.0.1:port", 3),
        ("PART_URL", "127.0.0.1:8700", 3),
        ("PART_URL", "http://ada:s3cret@lab", 3),
        ("PART_TOKEN", "s3cret\nsecond", 3),
        ("PART_TOKEN", "\u201cs3cret\u201d", 3),
        ("ALL_PROXY", "socks5://s3cret@127.0.0.1:9", 3),
        ("ALL_PROXY", "socks4://s3cret@127.0.0.1:9", 2),
        ("HTTP_PROXY", "http://s3cret@127.0.0.1:9", 3),
        ("HTTP_PROXY", "http://[s3cret", 3),
        ("HTTP_PROXY", "s3cret:x", 2),
        ("HTTP_PROXY", "http://s3cret:x:y", 2),
        ("SSL_CERT_FILE", "/s3cret", 2),
    ],
)
def test_addresses_tokens_and_proxies_are_told_and_secrets_are_not(
    part, monkeypatch, variable, value, status
):
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PART_URL", "http://lab.invalid")
    monkeypatch.setenv("PART_TOKEN", "another")
    monkeypatch.setenv(variable, value)
    said = part("ls")
    assert is_plain(said), said.err
    assert said.status == status, said.err
    assert "s3cret" not in said.err + said.out


# Control-C, and what nobody foresaw


def test_control_c_is_130(part, ada, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "page", interrupted)
    assert part("ls").status == 130
    assert ada.url


def test_control_c_while_the_program_loads_is_130(monkeypatch):
    class Interrupts(importlib.abc.MetaPathFinder):
        def find_spec(self, name, *_):
            if name == "partlab.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "partlab.cli")
    monkeypatch.delattr("partlab.cli")
    monkeypatch.setattr(sys, "meta_path", [Interrupts(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 130


def test_a_lab_that_is_stopped_while_it_starts_is_interrupted(tmp_path):
    lab = EmbeddedLab(Choices(State(tmp_path)), tell=print)
    lab.ask_to_stop()
    child = SimpleNamespace(program=SimpleNamespace(title="API"), is_alive=True)
    with pytest.raises(KeyboardInterrupt):
        lab._await(child, lambda: False, 60)


@pytest.mark.usefixtures("ada")
def test_a_defect_is_one_line_and_its_traceback_is_asked_for(part, monkeypatch):
    def broken(*_, **__):
        raise KeyError("s3cret")

    monkeypatch.setattr(Client, "page", broken)
    said = part("ls")
    assert said.status == 70
    assert "KeyError in test_surroundings.py" in said.err
    assert "s3cret" not in said.err
    assert "PART_DEBUG=1" in said.err
    assert "Traceback" not in said.err
    assert json.loads(part("ls", "--json").err)["code"] == "client-error"
    monkeypatch.setenv("PART_DEBUG", "1")
    assert "Traceback" in part("ls").err


# What a message tells to type


@pytest.mark.parametrize(
    ("program", "found", "name"),
    [
        (".venv/bin/part", None, ".venv/bin/part"),
        (".venv/bin/part", ".venv/bin", "part"),
        ("bin/of all/part", None, "'bin/of all/part'"),
        ("partlab/__main__.py", None, f"{sys.executable} -m partlab"),
    ],
)
def test_the_program_is_named_as_it_can_be_typed(monkeypatch, tmp_path, program, found, name):
    file = tmp_path / program
    file.parent.mkdir(parents=True)
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / found) if found else "/nowhere")
    monkeypatch.setattr(sys, "argv", [str(file)])
    assert surroundings.program_name() == name


def test_another_terminal_is_told_where_the_lab_is_if_it_would_not_find_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = State(tmp_path / "no-state")
    state.create()
    lab = EmbeddedLab(Choices(state), tell=print, url="http://127.0.0.1:8701")
    with state.announced(lab.url):
        assert "PART_URL" not in up.hint(lab)
        assert "submit --preset part++" in up.hint(lab)
        store_credentials("https://lab", "token")
        assert f"export PART_URL={lab.url}; " in up.hint(lab)
        (tmp_path / "examples").mkdir()
        (tmp_path / "examples" / "digits.yaml").write_text("")
        assert "submit examples/digits.yaml" in up.hint(lab)


# Who one is, and which version


@pytest.mark.usefixtures("ada")
def test_the_version_is_told_in_two_ways(part):
    assert part("--version").out == part("version").out
    assert part("--version").out.startswith("partlab ")


def test_a_shell_learns_address_and_token(part, ada):
    written = part("whoami", "--export").out
    assert written == f"export PART_URL={ada.url} PART_TOKEN={ada.tokens['ada']}\n"


@pytest.mark.usefixtures("finished")
def test_every_command_takes_a_name(part, ada):
    for command in ("show", "logs", "metrics", "why", "audit", "table", "card", "get"):
        said = part(command, "the finished one", *(["no file"] if command == "get" else []))
        assert not re.search("No run is named|any of these|is no id", said.err), said.err
    other = ada.submit(name="the later one")
    assert part("pause", "the later one").status == 0
    said = part("submit", *DIGITS, "--set", "after=[the later one, latest]", "--json")
    after = json.loads(said.out)["spec"]["after"]
    assert after[0] == other.id
    assert len(after) == 2
    assert part("submit", *DIGITS, "--set", "after=[nobody]").status == 2
    assert part("cancel", "the later one").status == 0
