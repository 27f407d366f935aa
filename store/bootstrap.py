"""Make sure there is an administrator and a file with a working token.

``python -m store.bootstrap --token-file PATH`` creates user ``admin`` if need be and writes a token
(mode 0600) unless the file holds a valid one. It prints nothing secret.
"""

import argparse
import os
import sys
from pathlib import Path

from sqlalchemy import Connection

from domain.errors import NotFound, Unauthenticated
from store.engine import database_now, make_engine, writing
from store.settings import StoreSettings, from_environment
from store.users import authenticate, create_user, get_user, issue_token

ADMIN = "admin"


def ensure_token(connection: Connection, file: Path) -> bool:
    """Write a working administrator's token to ``file``; False if it held one already."""
    if file.exists() and _works(connection, file.read_text().strip()):
        return False
    now = database_now(connection)
    try:
        get_user(connection, ADMIN)
    except NotFound:
        create_user(connection, ADMIN, "admin", now)
    secret = issue_token(connection, ADMIN, label=f"bootstrap {file.name}", now=now)
    part = file.with_name(file.name + ".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(secret + "\n")
    part.replace(file)
    return True


def _works(connection: Connection, secret: str) -> bool:
    try:
        return authenticate(connection, secret).role == "admin"
    except Unauthenticated:
        return False


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 on success."""
    parser = argparse.ArgumentParser(prog="python -m store.bootstrap", description=__doc__)
    parser.add_argument("--token-file", type=Path, required=True)
    options = parser.parse_args(arguments)
    engine = make_engine(from_environment(StoreSettings).database)
    with writing(engine) as connection:
        wrote = ensure_token(connection, options.token_file)
    engine.dispose()
    state = "new" if wrote else "unchanged"
    sys.stdout.write(f"administrator's token: {options.token_file} ({state})\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
