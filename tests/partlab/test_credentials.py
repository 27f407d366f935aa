import json
import os
from contextlib import ExitStack

import pytest

from partlab.client import Client
from partlab.credentials import (
    DEFAULT_URL,
    Credentials,
    credentials_file,
    find_credentials,
    notes_folder,
    store_credentials,
)
from partlab.embedded.state import State
from partlab.errors import LabBusy, UsageError
from partlab.running_labs import noted


@pytest.fixture
def state(tmp_path) -> State:
    """The state folder this shell means, of a lab that runs."""
    made = State(tmp_path / "no-state")
    made.create()
    made.token_file.write_text("embedded-token\n")
    return made


def test_without_anything_the_default_address_is_tried():
    assert find_credentials() == Credentials(DEFAULT_URL, None, "the default address")


def test_a_lab_on_this_machine_is_found_while_it_runs(state):
    with state.announced("http://127.0.0.1:8701"):
        assert state.card.stat().st_mode & 0o777 == 0o600
        found = find_credentials()
        assert (found.url, found.token) == ("http://127.0.0.1:8701", "embedded-token")
        state.token_file.unlink()
        assert find_credentials().token is None
    assert find_credentials().url == DEFAULT_URL


def test_a_login_comes_before_it_and_the_environment_before_both(state, monkeypatch):
    with state.announced("http://127.0.0.1:8701"):
        store_credentials("https://lab/", "login-token")
        assert find_credentials().url == "https://lab"
        assert find_credentials().token == "login-token"
        monkeypatch.setenv("PART_TOKEN", "mine")
        assert find_credentials() == Credentials("https://lab", "mine", "PART_TOKEN")
        monkeypatch.setenv("PART_URL", "https://lab/")
        assert find_credentials() == Credentials("https://lab", "mine", "PART_URL")
        monkeypatch.delenv("PART_TOKEN")
        assert find_credentials().token == "login-token"
        monkeypatch.setenv("PART_URL", "http://127.0.0.1:8701")
        assert find_credentials().token == "embedded-token"
        monkeypatch.setenv("PART_URL", "https://elsewhere")
        assert find_credentials().token is None


def test_no_token_is_sent_to_another_lab_than_its_own(state, monkeypatch):
    store_credentials("https://lab", "login-token")
    monkeypatch.setenv("PART_URL", "https://lab.evil")
    assert find_credentials().token is None
    assert state.folder


def test_a_named_state_folder_comes_first(state, tmp_path):
    store_credentials("https://lab", "login-token")
    with state.announced("http://127.0.0.1:8701"):
        assert find_credentials(state.folder).token == "embedded-token"
        assert Client.from_environment(state.folder).url == "http://127.0.0.1:8701"
    with pytest.raises(UsageError, match="part up"):
        find_credentials(tmp_path / "another")


BROKEN = [
    b"{",
    b"[1]",
    b"null",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"url": 5}',
    b"{}x",
    b'{"url": "u", "token": ["s3cret"]}',
]


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_login_is_told_unless_the_environment_says_all(content, monkeypatch):
    file = store_credentials("https://lab", "x")
    file.write_bytes(content)
    with pytest.raises(UsageError, match=str(file)) as refused:
        find_credentials()
    assert "s3cret" not in str(refused.value)
    monkeypatch.setenv("PART_URL", "https://lab")
    monkeypatch.setenv("PART_TOKEN", "x")
    assert find_credentials().token == "x"


@pytest.mark.parametrize("body", [[], {"url": 5}, {"url": "http://lab", "token_file": 5}])
def test_a_broken_card_of_a_lab_is_told(state, body):
    alive = {"pid": os.getpid()} if isinstance(body, dict) else {}
    state.card.write_text(json.dumps({**body, **alive} if alive else body))
    with pytest.raises(UsageError, match=r"lab\.json"):
        find_credentials(state.folder)


def test_a_folder_where_a_file_should_be_is_told(state):
    credentials_file().mkdir(parents=True)
    with pytest.raises(UsageError, match="cannot be read"):
        find_credentials()
    credentials_file().rmdir()
    state.token_file.unlink()
    state.token_file.mkdir()
    with state.announced("http://127.0.0.1:8701"):
        assert find_credentials().token is None
        state.token_file.rmdir()
        state.token_file.write_bytes(b"\xff")
        assert find_credentials().token is None


# Labs of this machine


@pytest.fixture
def nothing_named(monkeypatch, tmp_path):
    """No lab is named, and the user's home is empty."""
    monkeypatch.delenv("PARTLAB_STATE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def running(folder, port, stack):
    """A lab on a state folder, as `part up` shows it to others."""
    state = State(folder)
    state.create()
    state.token_file.write_text(f"token-{port}")
    stack.enter_context(state.announced(f"http://127.0.0.1:{port}"))
    stack.enter_context(noted(folder))
    return state


@pytest.mark.usefixtures("nothing_named")
def test_a_lab_on_any_folder_is_found_while_it_runs(tmp_path):
    with ExitStack() as stack:
        running(tmp_path / "some where", 8701, stack)
        found = find_credentials()
        assert (found.url, found.token) == ("http://127.0.0.1:8701", "token-8701")
        assert found.remark is None
        (note,) = notes_folder().iterdir()
        assert note.stat().st_mode & 0o777 == 0o600
        assert "token-8701" not in note.read_text()
    assert find_credentials().url == DEFAULT_URL
    assert not list(notes_folder().iterdir())


@pytest.mark.usefixtures("nothing_named")
def test_of_several_labs_the_newest_is_taken_and_the_others_are_told(tmp_path, monkeypatch):
    with ExitStack() as stack:
        older = running(tmp_path / "older", 8701, stack)
        running(tmp_path / "broken", 8703, stack).card.write_text("{")
        running(tmp_path / "newer", 8702, stack)
        os.utime(older.card, (1, 1))
        found = find_credentials()
        assert found.url.endswith(":8702")
        assert "8701" in found.remark
        monkeypatch.setenv("PART_URL", "http://127.0.0.1:8701")
        assert find_credentials().token == "token-8701"
        assert find_credentials().remark is None
        monkeypatch.delenv("PART_URL")
        monkeypatch.setenv("PARTLAB_STATE", str(tmp_path / "older"))
        assert find_credentials().url.endswith(":8701")
        store_credentials("https://lab", "login-token")
        assert find_credentials().url == "https://lab"


@pytest.mark.usefixtures("nothing_named")
@pytest.mark.parametrize("folder", ["home/.partlab", "elsewhere"])
def test_a_lab_that_was_killed_is_passed_over_and_told(tmp_path, folder):
    with ExitStack() as stack:
        state = running(tmp_path / folder, 8701, stack)
        card = json.loads(state.card.read_text())
        for gone in (2**22 + 1, 2**80, -1, 0, "x", None):
            state.card.write_text(json.dumps({**card, "pid": gone}))
            found = find_credentials()
            assert found.url == DEFAULT_URL
            assert "has ended; start it again: part up --state" in found.remark
        running(tmp_path / "another", 8702, stack)
        (note,) = notes_folder().iterdir()
        assert "another" in note.read_text(), "the next lab removes the note of a killed one"


@pytest.mark.usefixtures("nothing_named")
@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"state": 5, "host": "here"}'])
def test_a_broken_note_hinders_nobody(content):
    notes_folder().mkdir(parents=True)
    (notes_folder() / "x.json").write_bytes(content)
    assert find_credentials().url == DEFAULT_URL


@pytest.mark.usefixtures("nothing_named")
def test_a_lab_of_another_host_is_not_this_machines(tmp_path):
    with ExitStack() as stack:
        running(tmp_path / "there", 8701, stack)
        (note,) = notes_folder().iterdir()
        note.write_text(json.dumps({**json.loads(note.read_text()), "host": "elsewhere"}))
        assert find_credentials().url == DEFAULT_URL


@pytest.mark.usefixtures("nothing_named")
def test_a_home_that_takes_no_note_stops_no_lab(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with ExitStack() as stack:
        running(tmp_path / "lab", 8701, stack)
        assert find_credentials().url == DEFAULT_URL


def test_a_state_folder_is_held_once(state):
    with state.held():
        with pytest.raises(LabBusy, match="it is starting"), State(state.folder).held():
            pass
        with (
            state.announced("http://127.0.0.1:8701"),
            pytest.raises(LabBusy, match=r"127\.0\.0\.1:8701"),
            State(state.folder).held(),
        ):
            pass
    with State(state.folder).held():
        pass
