"""What an operator may set for the API."""

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from store.settings import BrokerUrl, StoreSettings


class ApiSettings(StoreSettings):
    """Read by the API, beside what every process reads."""

    broker_url: BrokerUrl | None = None
    """Redis or Valkey that wakes workers up, such as `redis://…`; without it they find runs by
    polling."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ("localhost", "127.0.0.1", "[::1]")
    """Host names the API answers to, comma-separated; `*` for any."""
    max_body_bytes: int = Field(default=1_048_576, ge=1024)
    """Longest request body that is read, uploads aside."""
    max_upload_bytes: int = Field(default=1 << 30, ge=1024)
    """Largest file of weights that is taken."""
    request_threads: int = Field(default=4, ge=1, le=64)
    """Requests that are worked on at once; each may hold one database connection."""
    watch_seconds: float = Field(default=0.5, gt=0, le=60)
    """How often a long-poll or a live stream looks for news."""
    heartbeat_seconds: float = Field(default=15.0, gt=0, le=300)
    """A silent live stream sends a comment this often, so that proxies keep it open."""
    stream_seconds: float = Field(default=600.0, gt=0)
    """Longest life of a live stream; clients resume it, and are authenticated again."""
    session_hours: float = Field(default=72.0, gt=0, le=24 * 365)
    """How long a dashboard login lasts."""
    session_key: SecretStr | None = None
    """Signs dashboard logins (default: made once and kept in the state folder, mode 0600)."""

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(value.replace(" ", "").split(",")) if isinstance(value, str) else value
