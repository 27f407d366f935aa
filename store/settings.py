"""Where the lab keeps things."""

from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

import sqlalchemy as sa
from pydantic import AfterValidator, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.exc import ArgumentError

from domain.wording import sentence

PREFIX = "PARTLAB_"
DRIVERS = ("sqlite", "postgresql+psycopg")
BROKERS = ("redis", "rediss")


def _broker(url: str) -> str:
    """Refuse what no broker can be reached at. The URL may hold a password: it is not repeated."""
    try:
        parts = urlsplit(url)
        well_formed = parts.scheme in BROKERS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        well_formed = False
    if not well_formed:
        raise ValueError("is no address of a broker; write redis://host:6379/0")
    if not parts.path.removeprefix("/").isdecimal() and parts.path not in ("", "/"):
        raise ValueError("names no database of a broker; write a number, redis://host:6379/0")
    return url


def _database(url: str) -> str:
    """Refuse what is no database's URL, without repeating its password."""
    try:
        driver = sa.make_url(url).drivername
    except (ArgumentError, ValueError):
        raise ValueError(
            "is no database's URL; write sqlite:////folder/lab.sqlite3 or "
            "postgresql+psycopg://user:password@host:5432/name"
        ) from None
    if driver not in DRIVERS:
        raise ValueError(f"names the driver {driver!r}; allowed: {', '.join(DRIVERS)}")
    return url


def _artifacts(url: str) -> str:
    """Refuse a kind of store that fsspec does not know."""
    scheme, separator, _ = url.partition("://")
    if separator:
        from fsspec import available_protocols

        if scheme not in available_protocols():
            raise ValueError("names no kind of store that fsspec knows; write a folder or s3://…")
    return url


BrokerUrl = Annotated[str, AfterValidator(_broker)]
DatabaseUrl = Annotated[str, AfterValidator(_database)]
ArtifactsUrl = Annotated[str, AfterValidator(_artifacts)]


class StoreSettings(BaseSettings):
    """Read by every process of the lab."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    state: Path = Path("~/.partlab")
    """Folder for the database, artifacts and work files of an embedded lab."""
    database_url: DatabaseUrl | None = None
    """SQLAlchemy URL: `sqlite:///…` or `postgresql+psycopg://…` (default: `lab.sqlite3` in the
    state folder)."""
    artifacts_url: ArtifactsUrl | None = None
    """Where artifacts go: a folder or any URL fsspec knows (default: `artifacts` in the state
    folder)."""

    @property
    def state_folder(self) -> Path:
        """The state folder, absolute."""
        return self.state.expanduser().resolve()

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.state_folder / 'lab.sqlite3'}"

    @property
    def artifacts(self) -> str:
        """The artifact store's URL."""
        return self.artifacts_url or str(self.state_folder / "artifacts")


S = TypeVar("S", bound=BaseSettings)


def from_environment(kind: type[S]) -> S:
    """Return a program's settings; end it, with a line for each that is wrong."""
    try:
        return kind()
    except ValidationError as error:
        wrong = [
            f"{PREFIX}{'_'.join(map(str, e['loc'])).upper()}: {sentence(e)}."
            for e in error.errors(include_url=False)
        ]
        raise SystemExit("\n".join(wrong)) from None
