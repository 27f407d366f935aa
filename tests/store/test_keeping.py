"""Logs, artifacts, blobs, evaluations, users, the bootstrap."""

import errno
import hashlib
import stat
import subprocess
import sys

import pytest

from domain.errors import CheckpointInvalid, Conflict, DiskFull, NotFound, Unauthenticated
from domain.results import (
    AttackResult,
    AuditReport,
    Evaluation,
    ThreatModel,
    wilson_interval,
)
from store import artifacts, evaluations, logs, users
from store.blobs import Blobs
from store.bootstrap import ensure_token, main
from store.engine import make_engine, reading, writing
from store.rows import NewArtifact
from tests.store.databases import NOW, after
from tests.store.making import running


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class TestLogs:
    def test_lines_are_read_from_the_end_and_followed(self, engine):
        with writing(engine) as connection:
            run_id = running(connection).run.id
            logs.append(connection, run_id, 1, [("info", f"line {i}") for i in range(10)], NOW)
            last = logs.tail(connection, run_id, limit=3)
            assert [line.message for line in last] == ["line 7", "line 8", "line 9"]
            logs.append(connection, run_id, 1, [("error", "zero \x00 byte")], after(1))
            (new,) = logs.tail(connection, run_id, after=last[-1].id)
            assert (new.level, new.at) == ("error", after(1))
            assert "\x00" not in new.message
            logs.append(connection, run_id, 1, [], NOW)


class TestArtifacts:
    def file(self, **over):
        values = {
            "name": "a",
            "kind": "checkpoint",
            "media_type": "m",
            "sha256": "0" * 64,
            "size": 1,
            "key": "k1",
        }
        return NewArtifact(**{**values, **over})

    def test_a_newer_file_of_a_name_takes_its_place(self, engine):
        with writing(engine) as connection:
            run_id = running(connection).run.id
            first = self.file(role="last", step=1)
            second = self.file(role="last", step=2, key="k2")
            artifacts.register(connection, run_id, 1, first, now=NOW)
            row = artifacts.register(connection, run_id, 1, second, now=after(1))
            assert artifacts.listing(connection, run_id) == [row]
            assert artifacts.checkpoint(connection, run_id, "last") == row
            assert artifacts.checkpoint(connection, run_id, "best") is None
            assert artifacts.get(connection, run_id, row.id) == row
            assert artifacts.discard_superseded(connection, run_id, 1) == ["k1"]
            assert artifacts.discard_superseded(connection, run_id, 1) == []

    def test_a_file_belongs_to_its_run(self, sqlite_engine):
        with writing(sqlite_engine) as connection:
            run_id = running(connection).run.id
            row = artifacts.register(connection, run_id, 1, self.file(), now=NOW)
            with pytest.raises(NotFound):
                artifacts.get(connection, "0" * 18, row.id)


class TestBlobs:
    def test_bytes_come_back_from_any_place(self, tmp_path):
        blobs = Blobs(str(tmp_path / "store"))
        source = tmp_path / "f"
        source.write_bytes(b"0123456789")
        key = blobs.put(source, run_id="r", attempt=1)
        assert key.startswith("r/1/")
        with blobs.open(key, start=4) as stream:
            assert stream.read() == b"456789"
        blobs.fetch(key, tmp_path / "deep" / "copy", sha256=sha256(b"0123456789"))
        assert (tmp_path / "deep" / "copy").read_bytes() == b"0123456789"
        blobs.delete(key)
        blobs.delete(key)
        with pytest.raises(NotFound):
            blobs.open(key)

    def test_a_damaged_blob_is_refused_and_leaves_nothing(self, tmp_path):
        blobs = Blobs(str(tmp_path / "store"))
        source = tmp_path / "f"
        source.write_bytes(b"good")
        key = blobs.put(source, run_id="r", attempt=1)
        (tmp_path / "store" / key).write_bytes(b"evil")
        with pytest.raises(CheckpointInvalid, match="damaged"):
            blobs.fetch(key, tmp_path / "copy", sha256=sha256(b"good"))
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith("copy")] == []

    def test_a_full_store_is_named_and_nothing_is_left(self, tmp_path, monkeypatch):
        blobs = Blobs(str(tmp_path / "store"))
        source = tmp_path / "f"
        source.write_bytes(b"x")

        def full(_source: str, target: str) -> None:
            with open(target, "wb") as stream:  # noqa: PTH123
                stream.write(b"half")
            raise OSError(errno.ENOSPC, "no space")

        monkeypatch.setattr(blobs._fs, "put_file", full)
        with pytest.raises(DiskFull):
            blobs.put(source, run_id="r", attempt=1)
        assert [p for p in (tmp_path / "store").rglob("*") if p.is_file()] == []

    def test_any_other_trouble_is_not_called_a_full_disk(self, tmp_path):
        blobs = Blobs(str(tmp_path / "store"))
        with pytest.raises(FileNotFoundError):
            blobs.put(tmp_path / "nothing", run_id="r", attempt=1)


class TestEvaluations:
    def evaluation(self, correct: int) -> Evaluation:
        result = AttackResult(
            label="pgd-20",
            kind="pgd",
            threat=ThreatModel(epsilon="8/255"),
            n=8,
            correct=correct,
            accuracy=correct / 8,
            interval=wilson_interval(correct, 8),
            seconds=1.0,
            outcomes="8A==",
        )
        return Evaluation(
            weights="best",
            averaged=True,
            model_sha256="m",
            data_sha256="d",
            sample_ids_sha256="s",
            n=8,
            results=(result,),
            worst_case=result.model_copy(update={"label": "worst-case"}),
            audit=AuditReport(verdict="incomplete", checks=()),
        )

    def test_an_evaluation_survives_and_a_repeated_one_takes_its_place(self, engine):
        with writing(engine) as connection:
            run_id = running(connection).run.id
            for correct in (4, 5):
                evaluations.record(connection, run_id, 1, self.evaluation(correct), NOW)
            (row,) = evaluations.listing(connection, run_id)
        assert row.verdict == "incomplete"
        assert Evaluation.model_validate(row.record) == self.evaluation(5)
        assert row.record["results"][0]["threat"]["epsilon"] == "8/255"


class TestUsers:
    def test_a_token_opens_until_it_is_revoked(self, engine):
        with writing(engine) as connection:
            secret = users.issue_token(connection, "ada", label="laptop", now=NOW)
            assert secret.startswith("part_")
            assert users.authenticate(connection, secret).name == "ada"
            users.note_use(connection, secret, after(1))
            (token,) = users.list_tokens(connection)
            assert (token.label, token.last_used_at) == ("laptop", after(1))
            users.note_use(connection, secret, after(30))
            assert users.list_tokens(connection)[0].last_used_at == after(1), "to the minute"
            users.revoke(connection, token.id, after(2))
            with pytest.raises(Unauthenticated):
                users.authenticate(connection, secret)

    def test_the_secret_itself_is_nowhere_in_the_database(self, sqlite_engine):
        with writing(sqlite_engine) as connection:
            secret = users.issue_token(connection, "ada", label="x", now=NOW)
        with reading(sqlite_engine) as connection:
            dump = "\n".join(connection.connection.iterdump())  # type: ignore[attr-defined]
        assert sha256(secret.encode()) in dump
        assert secret not in dump

    @pytest.mark.parametrize("secret", ["", "part_", "part_x", "' or 1=1 --"])
    def test_anything_else_does_not_open(self, sqlite_engine, secret):
        with reading(sqlite_engine) as connection, pytest.raises(Unauthenticated):
            users.authenticate(connection, secret)

    def test_names_are_unique_and_must_exist(self, sqlite_engine):
        with writing(sqlite_engine) as connection:
            with pytest.raises(Conflict):
                users.create_user(connection, "ada", "member", NOW)
            with pytest.raises(NotFound):
                users.issue_token(connection, "nobody", label="x", now=NOW)
            with pytest.raises(NotFound):
                users.revoke(connection, "0" * 18, NOW)


class TestBootstrap:
    def test_a_working_token_is_kept_and_a_dead_one_replaced(self, engine, tmp_path):
        file = tmp_path / "token"
        with writing(engine) as connection:
            assert ensure_token(connection, file) is True
            first = file.read_text()
            assert ensure_token(connection, file) is False
            assert users.authenticate(connection, first.strip()).role == "admin"
            users.revoke(connection, users.list_tokens(connection)[0].id, NOW)
            assert ensure_token(connection, file) is True
        assert file.read_text() != first
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_the_command_prints_no_secret(self, database_url, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("PARTLAB_DATABASE_URL", database_url)
        file = tmp_path / "token"
        assert main(["--token-file", str(file)]) == 0
        assert file.read_text().strip() not in capsys.readouterr().out
        done = subprocess.run(
            [sys.executable, "-m", "store.bootstrap", "--token-file", str(file)],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert "unchanged" in done.stdout
        engine = make_engine(database_url)
        with reading(engine) as connection:
            assert len(users.list_tokens(connection)) == 1
        engine.dispose()
