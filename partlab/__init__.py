"""A lab from Python, from the shell (`part`), and on one's own machine (`part up`)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partlab.client import Client
    from partlab.errors import ClientError

__all__ = ["Client", "ClientError"]
_HOMES = {"Client": "partlab.client", "ClientError": "partlab.errors"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    """Import a public name when it is asked for.

    Importing ``partlab`` itself must need no other package: :mod:`partlab.installation` looks
    whether the others are the lab's own.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
