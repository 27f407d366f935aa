"""What a worker sees of its host: who else uses the GPUs, clock, disk, datasets, what was left."""

import logging
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass, field

import psutil
from sqlalchemy import Engine

from store.blobs import Blobs
from store.engine import clock_skew, reading
from store.rows import Vitals
from worker import gpus, orphans
from worker.datasets import datasets
from worker.reaper import left_behind
from worker.settings import WorkerSettings
from worker.standby import Standby

log = logging.getLogger(__name__)
GPU_SECONDS = 10.0
"""How often to look who else uses the GPUs."""
VITALS_SECONDS = 30.0
"""How often to look at the host's clock, disk and processes."""


@dataclass
class Host:
    """Looks now and then; in between there is nothing new."""

    engine: Engine
    settings: WorkerSettings
    blobs: Blobs
    standby: Standby
    has_gpus: bool = False
    store_error: str = ""
    """Why nothing can be kept in the artifact store: no run is begun then."""
    _driver_error: str | None = field(default=None, init=False)
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
        if self._driver_error is None:
            self._driver_error = gpus.driver_error() if self.has_gpus else ""
        return Vitals(
            clock_skew=skew,
            disk_free=disk.free,
            disk_total=disk.total,
            orphans=orphaned,
            datasets=there,
            standby_bytes=self.standby.memory(),
            store_id=self._try_store(),
            store_error=self.store_error,
            driver_error=self._driver_error,
        )

    def _try_store(self) -> str | None:
        """Return what the artifact store is known by; where it fails, look again at the next turn.

        Whatever its driver raises is a store that cannot be used.
        """
        before, identity = self.store_error, None
        try:
            identity, self.store_error = self.blobs.try_out(), ""
        except Exception as error:  # noqa: BLE001
            self.store_error = f"{type(error).__name__}: {error}"[:300]
            self._vitals_at = 0.0
        if self.store_error and self.store_error != before:
            log.error("the artifact store cannot be used: %s", self.store_error)
        return identity
