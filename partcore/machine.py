"""What kind of machine computes: whatever else than the spec decides the bits of a result.

Sums are ordered by the CPU's vector units, by the number of threads and by PyTorch's release, so a
run that goes on elsewhere ends near the same figures, not in the same bits.
"""

import os
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, assert_never

import torch

from domain import spec as s
from domain.errors import EmulatedPrecision
from partcore.environment import Environment

Spec = s.TrainSpec | s.EvaluateSpec | s.VisualiseSpec
Machine = Mapping[str, str | int]
"""Names of what decides the bits, and their values."""
CPUINFO = Path("/proc/cpuinfo")
_WITHOUT_BF16 = frozenset({"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI"})
"""What ONEDNN_MAX_CPU_ISA may say that has no bfloat16 arithmetic."""
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"})


def machine(environment: Environment) -> Machine:
    """Return the kind of machine that an attempt runs on."""
    if environment.device != "cpu":
        return {"device_name": torch.cuda.get_device_name(), "torch": torch.__version__}
    return {
        "device_name": processor(),
        "cpu_capability": capability(),
        "threads": environment.threads,
        "torch": torch.__version__,
    }


def capability() -> str:
    """Return the vector units in use, by PyTorch and, where an operator caps it, by oneDNN."""
    name = torch.backends.cpu.get_cpu_capability()
    cap = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return f"{name}, oneDNN at most {cap.upper()}" if cap else name


def processor() -> str:
    """Return the processor's name where Linux tells it, else its architecture."""
    return _cpuinfo("model name") or platform.machine()


@cache
def _cpuinfo(*names: str) -> str:
    """Return the first value under one of the names; empty where Linux does not tell it."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    values = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in values if name.strip() in names), "")


def in_words(made_on: Machine) -> str:
    """Name a machine for people: ``Intel Xeon, AVX512, 2 threads, torch 2.9``."""
    values = dict(made_on)
    count = values.get("threads")
    if count is not None:
        values["threads"] = f"{count} thread{'' if count == 1 else 's'}"
    return ", ".join(
        [*(str(v) for k, v in values.items() if k != "torch"), f"torch {values['torch']}"]
    )


def moved(earlier: list[dict[str, Any]], here: Machine) -> list[dict[str, Any]]:
    """Return the kinds of machine a result was made on, in order, when it goes on here."""
    last = earlier[-1] if earlier else None
    return earlier if last == here else [*earlier, dict(here)]


def warning(earlier: list[dict[str, Any]], here: Machine) -> str:
    """Say that what was begun elsewhere goes on here."""
    return (
        f"resumed on another kind of machine: it ran on {in_words(earlier[-1])}, and goes on on "
        f"{in_words(here)}; the bits of the result may differ from those of a run that stays on one"
    )


# -- narrow number types ----------------------------------------------------------------------


def emulates(precision: str, device: str) -> bool:
    """Whether a device computes ``bf16`` or ``fp16`` only by way of float32.

    A training step was then measured to take 6 to 15 times what it takes in float32 (bf16, AVX2),
    and 180 times (fp16, whose backward passes PyTorch has in no CPU's own arithmetic).
    """
    if device != "cpu" or precision == "fp32":
        return False
    return precision == "fp16" or not _has_bf16()


def _has_bf16() -> bool:
    """Whether this CPU, as far as the operator lets it be used, has bfloat16 arithmetic."""
    if os.environ.get("ATEN_CPU_CAPABILITY", "").lower() in ("default", "avx2"):
        return False
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _WITHOUT_BF16:
        return False
    flags = _cpuinfo("flags", "Features").split()
    if flags:
        return not _BF16_FLAGS.isdisjoint(flags)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - no public one


def refuse_emulation(spec: Spec, device: str) -> None:
    """Raise EmulatedPrecision where a device only emulates what the spec does not insist on."""
    if spec.resources.emulate_precision:
        return
    for field, precision in _precisions(spec).items():
        if emulates(precision, device):
            raise EmulatedPrecision(field, precision, f"{processor()} ({capability()})")


def _precisions(spec: Spec) -> dict[str, str]:
    """Return the number types a spec asks for, by its fields; evaluation is always fp32."""
    match spec:
        case s.TrainSpec():
            training = spec.training
            wanted: dict[str, str] = {"training.update_precision": training.update_precision}
            if not isinstance(spec.method, s.Standard):
                wanted["training.attack_precision"] = training.attack_precision
            if isinstance(spec.method, s.Part):
                wanted["method.cam.scores.precision"] = _scoring(spec.method.cam)
            return wanted
        case s.VisualiseSpec():
            own = spec.method.cam if isinstance(spec.method, s.Part) else None
            cam = spec.cam or own
            return {} if cam is None else {"cam.scores.precision": _scoring(cam)}
        case s.EvaluateSpec():
            return {}
        case _:
            assert_never(spec)


def _scoring(cam: s.CamSpec) -> str:
    is_scored = any(name.startswith("score-cam") for name in cam.members)
    return getattr(cam.scores, "precision", "fp32") if is_scored else "fp32"
