"""Several processes train as one would."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from partcore.ranks import ALONE, Ranks

pytestmark = pytest.mark.xdist_group("ranks")  # the runs are made once


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def trained(out: Path, size: int) -> list[dict[str, torch.Tensor]]:
    """Run ``size`` interpreters as ranks; return what each kept."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.partcore.one_rank", str(out)],
            env={**os.environ, **address, "RANK": str(rank), "WORLD_SIZE": str(size)},
        )
        for rank in range(size)
    ]
    assert [rank.wait(timeout=120) for rank in ranks] == [0] * size
    return [load_file(out / f"{size}-{rank}.safetensors") for rank in range(size)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[dict, list[dict]]:
    out = tmp_path_factory.mktemp("ranks")
    return trained(out, 1)[0], trained(out, 2)


def test_two_ranks_have_one_processs_first_gradient(runs):
    alone, together = runs
    for name in (name for name in alone if name.startswith("gradient/")):
        for rank in together:
            assert (rank[name] - alone[name]).abs().max() < 1e-9, name


def test_two_ranks_have_one_processs_weights_after_twenty_steps(runs):
    alone, together = runs
    for name in (name for name in alone if not name.startswith("gradient/")):
        for rank in together:
            assert (rank[name] - alone[name]).abs().max() < 1e-9, name
    moved = alone["weight/head.linear.weight"] - alone["average/head.linear.weight"]
    assert moved.abs().max() > 1e-3, "nothing was trained"


def test_the_ranks_agree_to_the_bit(runs):
    first, second = runs[1]
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [2, 7, 128])
def test_shares_are_near_equal_and_cover_the_batch(size, count):
    shares = [Ranks(rank, size).share(count) for rank in range(size)]
    covered = [i for share in shares for i in range(count)[share]]
    assert covered == list(range(count))
    lengths = [share.stop - share.start for share in shares]
    assert max(lengths) - min(lengths) <= 1


def test_alone_nothing_is_sent(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert Ranks.from_environment() == ALONE
    tensor = torch.ones(2)
    with ALONE.joined("cpu"):
        ALONE.sum([tensor])
        ALONE.follow_first([tensor])
    assert tensor.tolist() == [1.0, 1.0]
