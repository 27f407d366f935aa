import os
import subprocess

import pytest
from pydantic import ValidationError

from tests.waiting import until
from worker import gpus
from worker.settings import WorkerSettings

TOOL = """#!/bin/sh
case "$1" in
  --query-gpu=*)
    echo "NVIDIA H200, 143771, GPU-aaaa"
    echo "NVIDIA L4, 23034, GPU-bbbb" ;;
  --query-compute-apps=*)
    echo "GPU-aaaa, 41, /usr/bin/python3"
    echo "GPU-bbbb, 42, /opt/other/train" ;;
esac
"""


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """The driver's tool of a host with two GPUs, each with a process on it."""
    file = tmp_path / "nvidia-smi"
    file.write_text(TOOL)
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return file


@pytest.mark.usefixtures("tool")
def test_the_drivers_tool_says_which_gpus_there_are():
    offered = WorkerSettings(cpu_slots=1, gpu_queue="night").slots()
    assert [(s.kind, s.ordinal, s.device_name, s.memory >> 20, s.queue) for s in offered] == [
        ("gpu", 0, "NVIDIA H200", 143771, "night"),
        ("gpu", 1, "NVIDIA L4", 23034, "night"),
        ("cpu", 0, "CPU", 0, "cpu"),
    ]
    assert [s.kind for s in WorkerSettings(cpu_slots=0, gpu_slots=3).slots()] == ["gpu"] * 3


@pytest.mark.usefixtures("tool")
def test_what_other_programs_compute_on_is_told_by_ordinal():
    assert gpus.foreign_use({41}) == {1: "process 42, train"}
    assert gpus.foreign_use({41, 42}) == {}


@pytest.mark.parametrize(
    "script", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\nexec sleep 60\n", "#!/no/such/shell\n"]
)
def test_a_tool_that_fails_or_hangs_says_nothing(tool, script, monkeypatch, caplog):
    monkeypatch.setattr(gpus, "TOOL_SECONDS", 0.5)
    tool.write_text(script)
    assert gpus.devices() is None
    assert gpus.foreign_use(set()) is None, "nobody looked: no GPU is free for that"
    assert "nvidia-smi" in caplog.text
    assert [s.kind for s in WorkerSettings(cpu_slots=1).slots()] == ["cpu"]
    assert [s.kind for s in WorkerSettings(cpu_slots=0, gpu_slots=3).slots()] == ["gpu"] * 3


def test_no_second_tool_is_started_while_one_hangs_that_cannot_be_killed(tool, monkeypatch):
    """As one does that waits in the kernel for a driver that does not answer."""
    monkeypatch.setattr(gpus, "TOOL_SECONDS", 0.2)
    monkeypatch.setattr(subprocess.Popen, "kill", lambda _: None)
    started = tool.with_name("started")
    tool.write_text(f"#!/bin/sh\necho x >> {started}\nexec sleep 3\n")
    assert gpus.devices() is None
    assert gpus.devices() is None
    assert started.read_text() == "x\n"
    tool.write_text(TOOL)
    until(lambda: gpus.devices() is not None, seconds=20)


def test_no_driver_means_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.devices() == []


def test_cores_are_divided_among_slots(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert WorkerSettings(cpu_slots=4).threads_per_run == 2
    assert WorkerSettings(cpu_slots=0).threads_per_run == 8
    assert WorkerSettings(cpu_slots=16).threads_per_run == 1
    assert WorkerSettings(threads=3).threads_per_run == 3


def test_settings_come_from_the_environment_and_are_checked(monkeypatch, tmp_path):
    monkeypatch.setenv("PARTLAB_STATE", str(tmp_path))
    monkeypatch.setenv("PARTLAB_LEASE_SECONDS", "7")
    settings = WorkerSettings()
    assert settings.lease.total_seconds() == 7
    assert settings.data_root == tmp_path / "data"
    monkeypatch.setenv("PARTLAB_LEASE_SECONDS", "0")
    with pytest.raises(ValidationError, match="lease_seconds"):
        WorkerSettings()
