"""Rank 0 when another rank ends, without training anything."""

import subprocess
import sys

import pytest

from worker.exits import EXIT_FAILED, EXIT_MATE_LOST, EXIT_OUT_OF_MEMORY

HUNG = """
import sys, time
from pathlib import Path
from worker import mates
mates.PATIENCE = 0.2
mates.ENTRY = ("-c", sys.argv[1])
held = mates.Mates(2, [], folder=Path.cwd())
if sys.argv[2] == "ends":
    time.sleep(0.1)
    held.end()
    time.sleep(1)
    sys.exit(0)
time.sleep(60)
"""


def rank_0(mate, then="hangs"):
    """The end of a rank 0 whose mate runs that code: its status and what it says."""
    done = subprocess.run(
        [sys.executable, "-c", HUNG, mate, then], capture_output=True, text=True, timeout=30
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("mate", "status", "told"),
    [
        ("import sys; sys.exit(1)", EXIT_MATE_LOST, "rank 1: the training process ended"),
        (f"import sys; sys.exit({EXIT_FAILED})", EXIT_MATE_LOST, "with status 4"),
        (f"import sys; sys.exit({EXIT_OUT_OF_MEMORY})", EXIT_OUT_OF_MEMORY, "out of memory"),
        ("import os; os.kill(os.getpid(), 9)", EXIT_MATE_LOST, "SIGKILL"),
    ],
)
def test_rank_0_does_not_wait_in_a_collective_for_a_rank_that_is_no_more(mate, status, told):
    ended, said = rank_0(mate)
    assert ended == status
    assert told in said


def test_a_rank_that_has_finished_ends_nothing():
    assert rank_0("pass", then="ends") == (0, "")


def test_a_rank_that_is_ended_on_purpose_ends_nothing():
    assert rank_0("import time; time.sleep(60)", then="ends") == (0, "")
