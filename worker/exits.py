"""Exit statuses of a child and of its ranks, and what they mean in words."""

import signal

EXIT_STOPPED, EXIT_FAILED, EXIT_ORPHANED, EXIT_EXPIRED = 3, 4, 5, 6
EXIT_MATE_LOST, EXIT_OUT_OF_MEMORY = 7, 8
_MEANINGS = {
    EXIT_ORPHANED: "saw its supervisor end",
    EXIT_EXPIRED: "was not renewed in time",
    EXIT_MATE_LOST: "lost one of its ranks",
    EXIT_OUT_OF_MEMORY: "ran out of memory",
}


def describe_exit(status: int) -> str:
    """Say in words how a child ended; negative is the number of the signal that ended it."""
    if status in _MEANINGS:
        return f"the training process {_MEANINGS[status]}"
    if status >= 0:
        return f"the training process ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"the training process was ended by {name}"
