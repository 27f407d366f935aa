"""What a worker sees of its host: who else uses the GPUs, clock, disk, datasets, what was left."""

import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass, field

import psutil
from sqlalchemy import Engine

from store.engine import clock_skew, reading
from store.rows import Vitals
from worker import gpus, orphans
from worker.datasets import datasets
from worker.reaper import left_behind
from worker.settings import WorkerSettings
from worker.standby import Standby

GPU_SECONDS = 10.0
"""How often to look who else uses the GPUs."""
VITALS_SECONDS = 30.0
"""How often to look at the host's clock, disk and processes."""


@dataclass
class Host:
    """Looks now and then; in between there is nothing new."""

    engine: Engine
    settings: WorkerSettings
    standby: Standby
    has_gpus: bool = False
    _gpus_at: float = field(default=0.0, init=False)
    _vitals_at: float = field(default=0.0, init=False)

    def foreign_use(self) -> dict[int, str] | None:
        """Return what others do on the GPUs, by ordinal; None in between and if it is unseen."""
        if not self.has_gpus or time.monotonic() < self._gpus_at:
            return None
        mine = psutil.Process()
        try:
            return gpus.foreign_use({mine.pid, *(p.pid for p in mine.children(recursive=True))})
        finally:  # the time from look to look is for work, however long one takes
            self._gpus_at = time.monotonic() + GPU_SECONDS

    def vitals(self, supervised: Collection[str]) -> Vitals | None:
        """Return the host's state, after ending what was left behind; None in between.

        supervised: attempts of this process, by name.
        """
        if time.monotonic() < self._vitals_at:
            return None
        self._vitals_at = time.monotonic() + VITALS_SECONDS
        settings = self.settings
        with reading(self.engine) as connection:
            skew = clock_skew(connection, time.time)
            left = left_behind(connection, settings, supervised=set(supervised))
        disk, there = shutil.disk_usage(settings.state_folder), datasets(settings.data_root)
        orphaned = orphans.end(settings.work_folder, left) if left else 0
        orphans.forget(settings.work_folder)
        held = self.standby.memory()
        return Vitals(skew, disk.free, disk.total, orphaned, there, held)
