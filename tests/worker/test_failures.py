"""What an error of an experiment is called."""

import errno

import pytest

from worker.failures import out_of_memory, peak, unexpected

CALLED = [
    (RuntimeError("CUDA error: unspecified launch failure"), "infrastructure"),
    (RuntimeError("CUDA error: uncorrectable ECC error encountered"), "infrastructure"),
    (RuntimeError("NCCL error in: ProcessGroupNCCL.cpp: remote process exited"), "infrastructure"),
    (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "infrastructure"),
    (RuntimeError("CUDA error: device-side assert triggered"), "code"),
    (RuntimeError("CUDA error: an illegal memory access was encountered"), "code"),
    (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "code"),
    (ValueError("CUDA error"), "code"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out-of-memory"),
    (OSError(errno.ENOSPC, "No space left on device"), "disk-full"),
]


@pytest.mark.parametrize(("error", "name"), CALLED)
def test_an_error_is_called_by_whose_fault_it_is(error, name):
    assert unexpected(error).failure_class == name


def test_the_want_of_memory_tells_the_peak_and_what_to_change():
    before = peak()
    assert before > 1 << 20
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])
    assert peak() >= before
    told = out_of_memory(MemoryError("of that step")).message
    assert f"{peak() / 2**30:.1f} GiB" in told
    assert "training.batch_size" in told
    assert "of that step" in told
