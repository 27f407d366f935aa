"""Where the lab keeps things."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class StoreSettings(BaseSettings):
    """Read by every process of the lab."""

    model_config = SettingsConfigDict(env_prefix="PARTLAB_", use_attribute_docstrings=True)

    state: Path = Path("~/.partlab")
    """Folder for the database, artifacts and work files of an embedded lab."""
    database_url: str | None = None
    """SQLAlchemy URL: `sqlite:///…` or `postgresql+psycopg://…` (default: `lab.sqlite3` in the
    state folder)."""
    artifacts_url: str | None = None
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
