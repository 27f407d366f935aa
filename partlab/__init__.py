"""A lab from Python, from the shell (`part`), and on one's own machine (`part up`)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partlab.client import Client
    from partlab.errors import ClientError

__all__ = ["Client", "ClientError"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name is
    """Import the client when it is asked for: `part` must be ready for Control-C before that."""
    match name:
        case "Client":
            from partlab.client import Client

            return Client
        case "ClientError":
            from partlab.errors import ClientError

            return ClientError
        case _:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
