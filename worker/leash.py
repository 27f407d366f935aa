"""How a child is tied to its supervisor: the control pipe, the lease, the parent's death."""

import ctypes
import os
import signal
import sys
import threading
import time
from typing import BinaryIO

from domain.control import Begin, Renew, Stop, TakeCheckpoint, read_line
from worker.exits import EXIT_EXPIRED, EXIT_ORPHANED

_PR_SET_PDEATHSIG = 1


class Leash:
    """What the supervisor says, and the death that follows when it falls silent."""

    def __init__(self, control: BinaryIO, deadline: float) -> None:
        """Be bound by ``control``. deadline: the first, on the clock of :class:`Renew`."""
        self._control = control
        self._deadline = deadline
        self._checkpoint = threading.Event()
        self.stopped = threading.Event()

    def attach(self) -> None:
        """Start listening and watching."""
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    def checkpoint_requested(self) -> bool:
        """Whether a checkpoint was asked for since the last question."""
        if self._checkpoint.is_set():
            self._checkpoint.clear()
            return True
        return False

    def _listen(self) -> None:
        for line in self._control:
            match read_line(line):
                case Renew(deadline=deadline):
                    self._deadline = deadline
                case TakeCheckpoint():
                    self._checkpoint.set()
                case Stop():
                    self.stopped.set()
                case Begin():
                    os._exit(EXIT_ORPHANED)  # one attempt, never a second
        os._exit(EXIT_ORPHANED)

    def _watch(self) -> None:
        while (left := self._deadline - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
        os._exit(EXIT_EXPIRED)


def die_with_parent() -> None:
    """Ask Linux for a SIGKILL when the supervisor dies, even if this process is frozen then."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
