"""Files on their way from the child to the recorder.

Each gets a name of its own beside the file it is: the next checkpoint replaces
`checkpoints/last.safetensors` while the recorder may still be storing the one before.
"""

import os
import shutil
import time
from pathlib import Path

from domain.events import ArtifactSaved, CheckpointSaved, Event

FOLDER = "outbox"
MOST = 3
"""Files under way at most; then the child waits for the recorder."""
LOOK_SECONDS = 0.02


class Outbox:
    """The child's end."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._count = 0

    def hand_over(self, event: Event) -> Event:
        """Give an event's file a lasting name and return the event that says so.

        Waits while the recorder is behind. Raises OSError when the file is not there or there is
        no space.
        """
        if not isinstance(event, CheckpointSaved | ArtifactSaved):
            return event
        self._wait_for_room()
        self._count += 1
        name = f"{FOLDER}/{self._count}"
        try:
            os.link(self._work / event.file, self._work / name)
        except OSError:  # a file system without hard links
            shutil.copyfile(self._work / event.file, self._work / name)
        return event.model_copy(update={"file": name})

    def _wait_for_room(self) -> None:
        folder = self._work / FOLDER
        folder.mkdir(exist_ok=True)
        while sum(1 for _ in folder.iterdir()) >= MOST:
            time.sleep(LOOK_SECONDS)


def take_away(file: Path) -> None:
    """Make room once a file is stored; a file that is not in the outbox stays."""
    if file.parent.name == FOLDER:
        file.unlink(missing_ok=True)
