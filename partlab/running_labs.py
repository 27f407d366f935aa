"""Which labs `part up` keeps running on this machine: a note of each, so that `part` finds them.

A note says where a lab's state folder is and nothing else. It is written when the lab is up and
removed when it stops; one that a killed lab left behind is passed over, and removed by the next.
"""

import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from partlab.credentials import embedded_lab, noted_folders, notes_folder, write_private
from partlab.errors import UsageError


@contextmanager
def noted(state: Path) -> Iterator[None]:
    """Leave a note of the lab in ``state`` as long as it runs."""
    digest = hashlib.sha256(os.fsencode(state)).hexdigest()
    note = notes_folder() / f"{digest[:16]}.json"
    # A lab whose owner has no writable home is found by PARTLAB_STATE or PART_URL alone.
    with suppress(OSError):
        _forget_ended_labs()
        note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(note, json.dumps({"state": str(state), "host": socket.gethostname()}) + "\n")
    try:
        yield
    finally:
        with suppress(OSError):
            note.unlink(missing_ok=True)


def _forget_ended_labs() -> None:
    for note, folder in noted_folders():
        with suppress(UsageError):
            if embedded_lab(folder) is None:
                note.unlink(missing_ok=True)
