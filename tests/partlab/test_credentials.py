import json

import pytest

from partlab.client import Client
from partlab.credentials import DEFAULT_URL, Credentials, find_credentials, store_credentials
from partlab.embedded.state import State
from partlab.errors import LabBusy, UsageError


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


def test_a_broken_file_is_told(tmp_path):
    file = store_credentials("https://lab", "x")
    file.write_text("{")
    with pytest.raises(UsageError, match=str(file)):
        find_credentials()
    file.write_text(json.dumps([1]))
    assert find_credentials().url == DEFAULT_URL
    assert tmp_path


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
