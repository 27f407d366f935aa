"""This host's NVIDIA GPUs and who uses them, as the driver's own tool tells (it reads NVML)."""

import logging
import re
import shutil
import subprocess
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

log = logging.getLogger(__name__)
TOOL = "nvidia-smi"
TOOL_SECONDS = 5.0
"""How long it may take. With a driver that hangs it never ends."""
LEAST_DRIVER = {11: (450, 80), 12: (525, 60), 13: (580, 65)}
"""Of Linux, by the major version of CUDA."""
_HUNG: list[subprocess.Popen[str]] = []
"""The one that was killed last; it lives on while it waits in the kernel."""


@dataclass(frozen=True)
class Gpu:
    """A device, in the order of its ordinal."""

    name: str
    memory: int
    """Bytes."""
    uuid: str


def devices() -> list[Gpu] | None:
    """Return this host's GPUs, none where there is no driver; None if the driver did not answer."""
    lines = _asked("--query-gpu=name,memory.total,uuid")
    if lines is None:
        return None
    found = []
    for line in lines:
        name, memory, uuid = line.rsplit(", ", 2)
        found.append(Gpu(name, int(memory) << 20 if memory.isdigit() else 0, uuid))
    return found


def driver_error(find: Callable[[str], ModuleSpec | None] = find_spec) -> str:
    """Say why the driver cannot run the CUDA that the installed PyTorch was built with.

    Empty if it can, or where there is no driver, no PyTorch or none with CUDA. PyTorch is not
    imported. Source: NVIDIA, CUDA Compatibility, minor version compatibility.
    """
    versions, cuda = _asked("--query-gpu=driver_version"), _cuda(find("torch"))
    least = LEAST_DRIVER.get(int(cuda.partition(".")[0])) if cuda else None
    if not versions or least is None:
        return ""
    driver = tuple(int(part) for part in re.findall(r"\d+", versions[0])[:2])
    if driver >= least:
        return ""
    needed = ".".join(map(str, least))
    return f"its driver {versions[0]} is too old for CUDA {cuda} of PyTorch, which needs {needed}"


def _cuda(torch: ModuleSpec | None) -> str:
    """Return the CUDA version in PyTorch's version file; empty without one."""
    if torch is None or torch.origin is None:
        return ""
    try:
        text = Path(torch.origin).with_name("version.py").read_text()
    except OSError:
        return ""
    found = re.search(r"^cuda\b.*= '(\d+\.\d+)'", text, re.MULTILINE)
    return found[1] if found else ""


def foreign_use(own: Collection[int]) -> dict[int, str] | None:
    """Return which GPUs other programs compute on, by ordinal, and which programs.

    own: ids of processes of this worker and its children. A process that the driver does not name,
    as those outside a container, counts as somebody else's. None if the driver did not answer.
    """
    known = devices()
    programs = None if known is None else _asked("--query-compute-apps=gpu_uuid,pid,process_name")
    if known is None or programs is None:
        return None
    ordinals = {gpu.uuid: i for i, gpu in enumerate(known)}
    found: dict[int, str] = {}
    for line in programs:
        uuid, pid, name = line.split(", ", 2)
        if uuid in ordinals and not (pid.isdigit() and int(pid) in own):
            found[ordinals[uuid]] = f"process {pid}, {name.rsplit('/', 1)[-1]}"
    return found


def _asked(query: str) -> list[str] | None:
    tool = shutil.which(TOOL)
    if tool is None:
        return []
    try:
        return _answer([tool, query, "--format=csv,noheader,nounits"])
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("the GPUs could not be looked at: %s", error)
        return None


def _answer(command: list[str]) -> list[str]:
    """Run the tool. Raises OSError and SubprocessError, within little more than TOOL_SECONDS."""
    if any(process.poll() is None for process in _HUNG):
        raise subprocess.TimeoutExpired(command, TOOL_SECONDS)
    _HUNG.clear()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace"
    )
    try:
        told, _ = process.communicate(timeout=TOOL_SECONDS)
    except subprocess.TimeoutExpired:
        _give_up(process)
        raise
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return [line for line in told.splitlines() if line]


def _give_up(process: subprocess.Popen[str]) -> None:
    """Kill the tool without waiting, as it may not die: another is asked when it has."""
    process.kill()
    assert process.stdout is not None
    process.stdout.close()
    _HUNG.append(process)
