"""This host's NVIDIA GPUs and who uses them, as the driver's own tool tells (it reads NVML)."""

import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass

TOOL = "nvidia-smi"


@dataclass(frozen=True)
class Gpu:
    """A device, in the order of its ordinal."""

    name: str
    memory: int
    """Bytes."""
    uuid: str


def devices() -> list[Gpu]:
    """Return this host's GPUs; none where there is no driver."""
    found = []
    for line in _asked("--query-gpu=name,memory.total,uuid"):
        name, memory, uuid = line.rsplit(", ", 2)
        found.append(Gpu(name, int(memory) << 20 if memory.isdigit() else 0, uuid))
    return found


def foreign_use(own: Collection[int]) -> dict[int, str]:
    """Return which GPUs other programs compute on, by ordinal, and which programs.

    own: ids of processes of this worker and its children. A process that the driver does not name,
    as those outside a container, counts as somebody else's.
    """
    ordinals = {gpu.uuid: i for i, gpu in enumerate(devices())}
    found: dict[int, str] = {}
    for line in _asked("--query-compute-apps=gpu_uuid,pid,process_name"):
        uuid, pid, name = line.split(", ", 2)
        if uuid in ordinals and not (pid.isdigit() and int(pid) in own):
            found[ordinals[uuid]] = f"process {pid}, {name.rsplit('/', 1)[-1]}"
    return found


def _asked(query: str) -> list[str]:
    tool = shutil.which(TOOL)
    if tool is None:
        return []
    command = [tool, query, "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return [line for line in done.stdout.splitlines() if line] if done.returncode == 0 else []
