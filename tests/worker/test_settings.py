import os

import pytest
from pydantic import ValidationError

from worker.settings import WorkerSettings, gpu_names


def test_a_host_offers_its_gpus_and_its_cpu(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H200'\necho 'NVIDIA L4'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    offered = WorkerSettings(cpu_slots=1).slots()
    assert [(s.kind, s.ordinal, s.device_name) for s in offered] == [
        ("gpu", 0, "NVIDIA H200"),
        ("gpu", 1, "NVIDIA L4"),
        ("cpu", 0, "CPU"),
    ]
    assert [s.kind for s in WorkerSettings(cpu_slots=0, gpu_slots=3).slots()] == ["gpu"] * 3
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert gpu_names() == []


def test_no_driver_means_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_names() == []


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
