"""A lab from Python, from the shell (`part`), and on one's own machine (`part up`)."""

from partlab.client import Client
from partlab.errors import ClientError

__all__ = ["Client", "ClientError"]
