"""Settings of a worker."""

import logging
import os
import socket
from datetime import timedelta
from pathlib import Path

from pydantic import Field

from domain import forms
from store.rows import SlotSpec
from store.settings import BrokerUrl, StoreSettings
from worker import gpus

log = logging.getLogger(__name__)


class WorkerSettings(StoreSettings):
    """Read from the environment when a worker starts."""

    broker_url: BrokerUrl | None = None
    """Redis or Valkey URL whose messages wake this worker; without one it polls."""
    data: Path | None = None
    """Data root that datasets are read from (default: `data` in the state folder)."""
    worker_name: str = Field(default_factory=socket.gethostname, max_length=120)
    """Name under which this worker registers; one worker a name."""
    cpu_slots: int = Field(default=1, ge=0, le=256)
    """Runs this host trains on its CPU at once."""
    gpu_slots: int | None = Field(default=None, ge=0, le=64)
    """GPUs offered, from device 0 on (default: as many as `nvidia-smi` shows)."""
    cpu_queue: str = Field(default="cpu", pattern=forms.QUEUE)
    """Which queue the CPU slots serve."""
    gpu_queue: str = Field(default="gpu", pattern=forms.QUEUE)
    """Which queue the GPUs serve."""
    cores: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=0)
    """CPU cores that `resources.cores` of runs may count on; 0 counts none."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads a run (default: cores divided by CPU slots)."""
    standby: int | None = Field(default=None, ge=0, le=256)
    """Interpreters kept ready at most, so that a run begins seconds sooner; one holds about 0.4 GiB
    of memory (default: one for each free slot, and at least one; 0 keeps none)."""
    poll_seconds: float = Field(default=2.0, gt=0)
    """Longest time between two looks at the queue."""
    lease_seconds: float = Field(default=60.0, gt=0)
    """How long a run belongs to this worker without a renewal."""
    renew_seconds: float = Field(default=10.0, gt=0)
    """Time between renewals."""
    max_attempts: int = Field(default=5, ge=1)
    """Attempts after which a run that keeps being lost fails."""
    stuck_minutes: float = Field(default=60.0, gt=0)
    """How long a run may say nothing before it is stopped, with the stack of every thread kept."""
    stop_seconds: float = Field(default=30.0, gt=0)
    """How long a stopping worker waits for its runs' checkpoints."""

    @property
    def data_root(self) -> Path:
        """The data root, absolute."""
        return (self.data or self.state_folder / "data").expanduser().resolve()

    @property
    def work_folder(self) -> Path:
        """Where every attempt has a folder."""
        return self.state_folder / "work"

    @property
    def lease(self) -> timedelta:
        """The lease as a duration."""
        return timedelta(seconds=self.lease_seconds)

    @property
    def threads_per_run(self) -> int:
        """CPU threads a run gets."""
        return self.threads or max(1, (os.cpu_count() or 1) // max(1, self.cpu_slots))

    def slots(self) -> list[SlotSpec]:
        """Return the slots this host offers."""
        seen = self._seen()
        wanted = len(seen) if self.gpu_slots is None else self.gpu_slots
        seen += [gpus.Gpu(f"GPU {i}", 0, "") for i in range(len(seen), wanted)]
        return [
            *(
                SlotSpec("gpu", i, gpu.name, gpu.memory, self.gpu_queue)
                for i, gpu in enumerate(seen[:wanted])
            ),
            *(SlotSpec("cpu", i, "CPU", 0, self.cpu_queue) for i in range(self.cpu_slots)),
        ]

    def _seen(self) -> list[gpus.Gpu]:
        seen = gpus.devices()
        if seen is None and self.gpu_slots is None:
            log.warning(
                "no GPU is offered, as %s did not answer: start this worker again when it does, "
                "or say how many there are with PARTLAB_GPU_SLOTS",
                gpus.TOOL,
            )
        return seen or []
