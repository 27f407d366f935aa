"""Errors of an experiment as what they are called in the lab: whose fault, and what to change."""

import errno
import resource
import sys
import traceback

from domain.events import Failed

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DEVICE_ERRORS = ("CUDA error", "NCCL error", "CUDNN_STATUS_", "CUBLAS_STATUS_")
"""In messages of PyTorch when a device or its driver gave way, not the code."""
OF_THE_CODE = ("device-side assert", "illegal memory access", "invalid configuration")
"""In such messages all the same, when a kernel was given what it cannot compute."""


def out_of_memory(error: BaseException) -> Failed:
    """Name the want of memory, how much was in use, and what to change."""
    return Failed(
        failure_class="out-of-memory",
        code="out-of-memory",
        message=(
            f"The device has too little memory; the most in use was {peak() / 2**30:.1f} GiB. "
            f"Halve training.batch_size (evaluation.batch_size if it was attacking). ({error})"
        ),
    )


def rank_out_of_memory() -> Failed:
    """Name the want of memory of a rank, of which only its exit status told."""
    return Failed(
        failure_class="out-of-memory",
        code="out-of-memory",
        message="A device of the run's ranks has too little memory. Halve training.batch_size.",
    )


def peak() -> int:
    """Return the most bytes this process had in use: of its GPU if it computes on one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def unexpected(error: Exception) -> Failed:
    """Keep the traceback of anything that is no error on purpose."""
    text = str(error)
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return Failed(failure_class="disk-full", code="disk-full", message=text)
    if "can't allocate memory" in text:  # PyTorch's RuntimeError on a CPU
        return out_of_memory(error)
    lost = is_of_the_device(error)
    return Failed(
        failure_class="infrastructure" if lost else "code",
        code="device" if lost else "unexpected",
        message=f"{type(error).__name__}: {text}",
        traceback="".join(traceback.format_exception(error)),
    )


def is_of_the_device(error: Exception) -> bool:
    """Whether another attempt, perhaps on another device, may well not meet this error."""
    text = str(error)
    return (
        isinstance(error, RuntimeError)
        and any(mark in text for mark in DEVICE_ERRORS)
        and not any(mark in text for mark in OF_THE_CODE)
    )
