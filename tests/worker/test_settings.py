import os

import pytest
from pydantic import ValidationError

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


def test_what_other_programs_compute_on_is_told_by_ordinal(tool):
    assert gpus.foreign_use({41}) == {1: "process 42, train"}
    assert gpus.foreign_use({41, 42}) == {}
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert gpus.devices() == []
    assert gpus.foreign_use(set()) == {}


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
