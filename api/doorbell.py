"""Wake every worker up. A lost call costs one poll interval, so no request ever waits for it."""

import logging
import threading

from store.calls import call_workers

log = logging.getLogger(__name__)

SOCKET_SECONDS = 1.0
PAUSE_AFTER_FAILURE = 2.0


class Doorbell:
    """Calls from a thread of its own; calls that come while one is on its way are one call."""

    def __init__(self, broker_url: str | None) -> None:
        """Ring over ``broker_url``; None rings nowhere."""
        self._url = broker_url
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        self._runs: set[str] = set()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.rings = 0
        """Messages the broker has taken."""

    def start(self) -> None:
        """Begin to ring."""
        if self._url is not None:
            self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop; a ring on its way gets a moment."""
        self._closing.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(timeout=3 * SOCKET_SECONDS)

    def ring(self, *runs: str) -> None:
        """Ask for a call and return at once.

        runs: those whose owners should look at once at what they were asked to do.
        """
        with self._lock:
            self._runs.update(runs)
        self._wanted.set()

    def silence(self) -> str | None:
        """Ask the broker for a sign of life; return what is wrong, empty if nothing.

        None where there is no broker.
        """
        if self._url is None:
            return None
        from redis import Redis
        from redis.exceptions import RedisError

        try:
            with Redis.from_url(
                self._url, socket_timeout=SOCKET_SECONDS, socket_connect_timeout=SOCKET_SECONDS
            ) as broker:
                broker.ping()
        except (RedisError, OSError, ValueError) as error:
            return type(error).__name__
        return ""

    def _take(self) -> list[str]:
        with self._lock:
            runs, self._runs = sorted(self._runs), set()
        return runs

    def _run(self) -> None:
        # Celery is imported here: the API answers half a second earlier without it.
        from celery import Celery
        from kombu.exceptions import OperationalError
        from redis.exceptions import RedisError

        app = Celery("partlab-api", broker=self._url, set_as_current=False)
        app.conf.update(
            broker_connection_timeout=SOCKET_SECONDS,
            broker_transport_options={
                "socket_timeout": SOCKET_SECONDS,
                "socket_connect_timeout": SOCKET_SECONDS,
                "retry_on_timeout": False,
                "max_retries": 0,
            },
        )
        while self._wanted.wait() and not self._closing.is_set():
            self._wanted.clear()
            try:
                call_workers(app, self._take())
                self.rings += 1
            except (OperationalError, RedisError, OSError) as error:
                log.warning("the broker did not take the call; workers poll: %s", error)
                self._closing.wait(PAUSE_AFTER_FAILURE)
        app.close()
