"""The other ranks of a run that trains on several slots: children of the child, in its group.

Rank 0 is the child itself. It starts the others with what torchrun would set, tells for all, and
ends with the first that is lost: half a network is no network.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from worker.exits import EXIT_MATE_LOST, EXIT_OUT_OF_MEMORY, describe_exit

ENTRY = ("-m", "worker.mate")
PATIENCE = 5.0
"""Seconds after an error of rank 0 in which another rank's end explains it."""


class Mates:
    """Ranks 1 to size - 1, and the environment that all ranks share."""

    def __init__(self, size: int, arguments: Sequence[str], *, folder: Path) -> None:
        """Start them. arguments: those of :mod:`worker.mate`. Sets this process's own rank."""
        shared = {
            "WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(_free_port()),
        }
        os.environ |= {**shared, "RANK": "0"}
        self._ending = threading.Event()
        self.processes = [
            subprocess.Popen(
                [sys.executable, *ENTRY, *arguments],
                cwd=folder,
                env={**os.environ, "RANK": str(rank)},
                stdin=subprocess.DEVNULL,
            )
            for rank in range(1, size)
        ]
        for rank, process in enumerate(self.processes, start=1):
            threading.Thread(target=self._watch, args=[rank, process], daemon=True).start()

    def _watch(self, rank: int, process: subprocess.Popen[bytes]) -> None:
        """End this process with its rank.

        Of a rank that had an error rank 0 mostly hears by one of its own, and has time to tell it;
        but with NCCL it may wait in a collective for ever.
        """
        status = process.wait()
        if status == 0 or self._ending.wait(0 if status < 0 else 2 * PATIENCE):
            return
        sys.stderr.write(f"rank {rank}: {describe_exit(status)}\n")
        sys.stderr.flush()
        os._exit(EXIT_OUT_OF_MEMORY if status == EXIT_OUT_OF_MEMORY else EXIT_MATE_LOST)

    def want_memory(self) -> bool:
        """Whether another rank ran out of memory, which then is why rank 0 failed.

        A rank that was killed ends this process while it waits here.
        """
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            ended = [process.poll() for process in self.processes]
            if EXIT_OUT_OF_MEMORY in ended:
                return True
            if None not in ended:
                return False
            time.sleep(0.05)
        return False

    def end(self) -> None:
        """Kill whoever is left."""
        self._ending.set()
        for process in self.processes:
            process.send_signal(signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
