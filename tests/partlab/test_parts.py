import os
import socket
import sys

import pytest

from partlab.embedded import parts
from partlab.embedded.state import State
from partlab.errors import LabBroken


def test_missing_packages_are_named_with_what_installs_them():
    parts.require_extras()
    needed = {"api": ("fastapi", "absent_one"), "worker": ("absent_two",)}
    with pytest.raises(LabBroken, match=r"absent_one, absent_two: pip install 'partlab\[api,embed"):
        parts.require_extras(needed)


def test_the_broker_comes_from_the_wheel_else_from_the_path(tmp_path, monkeypatch):
    assert parts.broker_program().endswith("valkey-server")
    monkeypatch.setattr(parts.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabBroken, match=r"partlab\[embedded\]"):
        parts.broker_program()
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert parts.broker_program() == str(program)


def test_a_port_is_taken_over_or_found_or_told():
    with parts.listen(None) as first, parts.listen(None) as second:
        ports = {s.getsockname()[1] for s in (first, second)}
        assert len(ports) == 2
        with pytest.raises(LabBroken, match="--port"):
            parts.listen(first.getsockname()[1])
    free = parts.free_port()
    with parts.listen(free) as opened, socket.create_connection((parts.HOST, free)) as other:
        accepted, _ = opened.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert other.getpeername()[1] == free


def test_when_every_usual_port_is_taken_any_will_do(monkeypatch):
    monkeypatch.setattr(parts, "PORTS_TRIED", 0)
    with parts.listen(None) as opened:
        assert opened.getsockname()[1] > 0


def test_children_get_neither_a_shared_labs_settings_nor_the_current_folder(monkeypatch, tmp_path):
    for name in parts.SHARED_SETTINGS:
        monkeypatch.setenv(name, "postgresql://production")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", str(tmp_path)]))
    monkeypatch.setenv("KEPT", "yes")
    found = parts.child_environment({"PARTLAB_BROKER_URL": "redis://own"})
    assert found["PARTLAB_BROKER_URL"] == "redis://own"
    assert "production" not in " ".join(found.values())
    assert (found["PYTHONPATH"], found["PYTHONSAFEPATH"], found["KEPT"]) == (
        str(tmp_path),
        "1",
        "yes",
    )
    monkeypatch.setenv("PYTHONPATH", ".")
    assert "PYTHONPATH" not in parts.child_environment({})


def test_a_broker_that_is_not_there_does_not_answer(tmp_path):
    assert not parts.broker_answers(parts.free_port(), "secret")
    assert 'dir "/a \\"b\\" \\\\c"' in parts.broker_config(
        1, "s", State(tmp_path).folder / '/a "b" \\c'
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no such folder")
def test_a_state_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LabBroken, match="--state"):
        State(tmp_path / "file" / "state").create()
