"""Run a program that ends when its parent does: ``python bound.py SIGNAL PARENT PROGRAM …``.

Started as a file, without site packages, so that it costs little and imports nothing from the
current folder. Where the kernel has no such service (all but Linux), the program is merely run.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def bind(signal_number: int, parent: int) -> None:
    """Ask the kernel to send ``signal_number`` when the parent ends; end now if it has already."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    bind(int(sys.argv[1]), int(sys.argv[2]))
    os.execvp(sys.argv[3], sys.argv[3:])
