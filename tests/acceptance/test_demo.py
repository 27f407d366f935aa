"""`part demo` from beginning to end, shortened."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("embedded-lab")]
DEMO = [sys.executable, "-P", "-m", "partlab", "demo"]
ATTACKS = "evaluation.attacks=[{kind: pgd, steps: 20}, {kind: cw, steps: 20}]"
SHORTENED = ["--set", "training.epochs=4", "--set", "data.test_limit=100", "--set", ATTACKS]


def test_the_demo_tells_its_story_and_stops_cleanly(tmp_path: Path):
    done = subprocess.run(
        [*DEMO, *SHORTENED],
        cwd=tmp_path,
        env={
            **os.environ,
            "PARTLAB_THREADS": "1",
            "PARTLAB_STATE": str(tmp_path / "not-here"),
            "COLUMNS": "80",
        },
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("method", "PGD-20", "worst case", "part++", "pgd-at", "standard", "verdict"):
        assert words in done.stdout
    assert "\x1b" not in done.stdout
    assert "…" not in done.stdout, "a figure is cut in a window of 80 columns"
    folder = tmp_path / "demo-output"
    assert (folder / "budget.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((folder / "results.json").read_text())
    assert [one["state"] for one in results] == ["succeeded"] * 3
    assert {one["spec"]["seed"] for one in results} == {42}
    assert "| standard |" in (folder / "results.md").read_text()
    assert not (tmp_path / "not-here").exists()
    assert nobody_is_left(folder)


def test_an_interrupted_demo_leaves_nobody(tmp_path: Path):
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*DEMO, "--json", "--set", "training.epochs=1000"], cwd=tmp_path, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 120
        while ": train, epoch" not in (tmp_path / "log").read_text():
            assert time.monotonic() < deadline
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 130
    finally:
        process.kill()
        process.wait(timeout=30)
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert nobody_is_left(tmp_path)


def nobody_is_left(folder: Path) -> bool:
    """Whether no process has a file or working folder of the demo's."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        lines = [p.info["cmdline"] or [] for p in psutil.process_iter(["cmdline"])]
        if not any(str(folder) in word for line in lines for word in line):
            return True
        time.sleep(0.1)
    return False


TINY = ("training.epochs=2", "data.train_limit=128", "data.test_limit=40", "evaluation.suite=quick")


def test_a_table_is_made_by_one_command_and_found_again(tmp_path: Path):
    command = [sys.executable, "-P", "-m", "partlab", "reproduce", "table-1", "--format", "json"]
    command += ["--own-lab", "lab", *(part for one in TINY for part in ("--set", one))]
    tables = []
    for _ in range(2):
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
        )
        tables.append(json.loads(done.stdout))
        sound = all(row["verdict"] == "sound" for row in tables[-1])
        assert done.returncode == (0 if sound else 1), done.stderr
    first, again = tables
    assert [row["name"] for row in first] == ["PGD-AT", "PART", "PART++"]
    assert {result["n"] for row in first for result in row["results"]} == {40}
    assert again == first, "the same command finds the same runs"
    assert nobody_is_left(tmp_path)
