"""The state folder: what lies where, and who holds it."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from partlab.credentials import write_private
from partlab.errors import LabBroken, LabBusy


@dataclass(frozen=True)
class State:
    """A lab's folder. Everything the lab keeps is below it."""

    folder: Path

    @property
    def lock_file(self) -> Path:
        """Held while a lab runs here."""
        return self.folder / "lab.lock"

    @property
    def card(self) -> Path:
        """Address and token file of the running lab, for `part`."""
        return self.folder / "lab.json"

    @property
    def token_file(self) -> Path:
        """The administrator's token."""
        return self.folder / "token"

    @property
    def logs(self) -> Path:
        """Logs of the children."""
        return self.folder / "logs"

    @property
    def broker(self) -> Path:
        """The broker's own folder."""
        return self.folder / "broker"

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.folder / "lab.sqlite3"

    @property
    def artifacts(self) -> Path:
        """Checkpoints, figures, outcomes."""
        return self.folder / "artifacts"

    def create(self) -> None:
        """Make the folders, closed to others. Raises LabBroken."""
        try:
            for folder in (self.folder, self.logs, self.broker):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise LabBroken(
                f"The state folder {self.folder} cannot be made ({error}); name another with "
                "--state."
            ) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder against a second lab. Raises LabBusy; the kernel lets go if we die."""
        with self.lock_file.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise LabBusy(self._who(lock.name)) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def _who(self, lock: str) -> str:
        pid = Path(lock).read_text().strip() or "unknown"
        return (
            f"A lab runs on {self.folder} already: {self._address()} (process {pid}). Use it with "
            "`part ls`, stop it with Ctrl-C in its terminal, or give another --state."
        )

    def _address(self) -> str:
        try:
            return str(json.loads(self.card.read_text())["url"])
        except (OSError, ValueError, KeyError):
            return "it is starting"

    @contextmanager
    def announced(self, url: str, broker_url: str | None = None) -> Iterator[None]:
        """Tell `part` where the lab is, as long as it is there."""
        told = {
            "url": url,
            "token_file": str(self.token_file),
            "broker_url": broker_url,
            "pid": os.getpid(),
        }
        write_private(self.card, json.dumps(told, indent=2) + "\n")
        try:
            yield
        finally:
            self.card.unlink(missing_ok=True)
