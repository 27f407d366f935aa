"""A network between client and lab that breaks when a test says so."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Proxy:
    """Forwards bytes; each entry of ``cuts`` ends one connection after so many bytes of answer."""

    url: str
    target: tuple[str, int]
    cuts: list[int] = field(default_factory=list)
    connections: int = 0
    answers: list[bytes] = field(default_factory=list)
    """If any: said instead of asking the lab, one a connection."""


@contextmanager
def proxied(url: str) -> Iterator[Proxy]:
    """A proxy to ``url`` on a port of its own."""
    parts = urlsplit(url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        proxy = Proxy(f"http://127.0.0.1:{port}", (str(parts.hostname), int(parts.port or 0)))
        threading.Thread(target=_accept, args=(listener, proxy), daemon=True).start()
        yield proxy


def _accept(listener: socket.socket, proxy: Proxy) -> None:
    with suppress(OSError):
        while True:
            inner, _ = listener.accept()
            proxy.connections += 1
            threading.Thread(target=_serve, args=(inner, proxy), daemon=True).start()


def _serve(inner: socket.socket, proxy: Proxy) -> None:
    with inner, suppress(OSError):
        if proxy.answers:
            inner.recv(65536)
            inner.sendall(proxy.answers.pop(0))
            return
        left = proxy.cuts.pop(0) if proxy.cuts else None
        with socket.create_connection(proxy.target) as outer:
            threading.Thread(target=_copy, args=(inner, outer, None), daemon=True).start()
            _copy(outer, inner, left)
            for end in (inner, outer):
                end.shutdown(socket.SHUT_RDWR)


def _copy(source: socket.socket, sink: socket.socket, left: int | None) -> None:
    with suppress(OSError):
        while left != 0 and (block := source.recv(65536 if left is None else min(left, 65536))):
            sink.sendall(block)
            left = None if left is None else left - len(block)
