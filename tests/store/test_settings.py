"""Settings that are addresses are checked when a program starts, and no password is repeated."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from api.settings import ApiSettings
from store.settings import StoreSettings, from_environment
from worker.settings import WorkerSettings

WRONG = [
    ("BROKER_URL", "redis://user:secret@host:notaport", "redis://host:6379/0"),
    ("BROKER_URL", "host:6379", "redis://host:6379/0"),
    ("BROKER_URL", "redis://", "redis://host:6379/0"),
    ("BROKER_URL", "redis://h:99999", "redis://host:6379/0"),
    ("BROKER_URL", "redis://h:1/secret", "names no database"),
    ("BROKER_URL", "http://h:1", "redis://host:6379/0"),
    ("DATABASE_URL", "postgresql+psycopg://u:secret@h:port/x", "is no database's URL"),
    ("DATABASE_URL", "secret", "is no database's URL"),
    ("DATABASE_URL", "postgres://u:secret@h/x", "allowed: sqlite, postgresql"),
    ("DATABASE_URL", "mysql://u:secret@h/x", "allowed: sqlite, postgresql"),
    ("ARTIFACTS_URL", "s33://secret", "no kind of store"),
]


@pytest.mark.parametrize(("name", "value", "says"), WRONG)
@pytest.mark.parametrize("kind", [ApiSettings, WorkerSettings])
def test_an_address_that_is_none_ends_the_program(monkeypatch, kind, name, value, says):
    monkeypatch.setenv(f"PARTLAB_{name}", value)
    with pytest.raises(SystemExit) as ended:
        from_environment(kind)
    said = str(ended.value)
    assert said.startswith(f"PARTLAB_{name}: ")
    assert says in said
    assert "secret" not in said
    with pytest.raises(ValidationError) as raised:
        kind()
    assert "secret" not in str(raised.value)


RIGHT = [
    ("BROKER_URL", "redis://:p%40ss@host:6379/0"),
    ("BROKER_URL", "rediss://user:pw@10.0.0.1/3"),
    ("BROKER_URL", "redis://[::1]:6379"),
    ("DATABASE_URL", "sqlite:////tmp/lab.sqlite3"),
    ("DATABASE_URL", "postgresql+psycopg://u:p@h:5432/x?sslmode=require"),
    ("ARTIFACTS_URL", "/srv/artifacts"),
    ("ARTIFACTS_URL", "s3://bucket/folder"),
]


@pytest.mark.parametrize(("name", "value"), RIGHT)
def test_an_address_that_is_one_is_kept(monkeypatch, name, value):
    monkeypatch.setenv(f"PARTLAB_{name}", value)
    assert getattr(from_environment(ApiSettings), name.lower()) == value


def test_every_wrong_setting_is_told_at_once(monkeypatch):
    monkeypatch.setenv("PARTLAB_REQUEST_THREADS", "many")
    monkeypatch.setenv("PARTLAB_WATCH_SECONDS", "0")
    with pytest.raises(SystemExit) as ended:
        from_environment(ApiSettings)
    assert str(ended.value).splitlines() == [
        "PARTLAB_REQUEST_THREADS: write a whole number, not 'many'.",
        "PARTLAB_WATCH_SECONDS: must be above 0, not '0'.",
    ]


@pytest.mark.parametrize("command", [["-c", "import api.main"], ["-m", "migrations", "check"]])
def test_a_program_says_so_in_one_line(monkeypatch, command):
    monkeypatch.setenv("PARTLAB_DATABASE_URL", "nonsense")
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert done.stderr.startswith("PARTLAB_DATABASE_URL: is no database's URL")
    assert "Traceback" not in done.stderr


def test_nothing_is_wrong_with_the_defaults():
    assert from_environment(StoreSettings).database_url is None
