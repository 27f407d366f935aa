"""A worker's messages: taken at once, or given up at once."""

import signal
import threading

import pytest

from tests.worker.processes import Broker
from worker import post
from worker.post import Order, Post

ORDER = Order("0" * 18, 1, ("cpu 0",))


@pytest.fixture
def broker(tmp_path):
    with Broker(tmp_path) as made:
        yield made


@pytest.fixture
def sender(broker, monkeypatch):
    monkeypatch.setattr(post, "PAUSE_SECONDS", 0.0)
    made = Post(broker.url, "celery@tests")
    yield made
    made.close()


def answers(sender):
    """What came of an order and of a call; both are over soon, whatever the broker does."""
    found = []
    ask = lambda: found.extend([sender.send(ORDER, expires=60), sender.wake([ORDER.run_id])])  # noqa: E731
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout=30)
    assert not thread.is_alive(), "it would hold up everything that this worker does"
    return found


def test_a_broker_that_goes_and_comes_again_costs_what_was_said_meanwhile(broker, sender):
    assert answers(sender) == [True, True]
    broker.stop()
    assert answers(sender) == [False, False]
    broker.start()
    assert answers(sender) == [True, True]


def test_a_broker_that_hangs_is_given_up(broker, sender):
    assert answers(sender) == [True, True]
    broker.process.send_signal(signal.SIGSTOP)
    assert answers(sender) == [False, False]
    broker.process.send_signal(signal.SIGCONT)
    assert answers(sender) == [True, True]


def test_after_a_failure_it_is_left_alone_for_a_while(broker, sender, monkeypatch):
    monkeypatch.setattr(post, "PAUSE_SECONDS", 3600.0)
    broker.stop()
    assert answers(sender) == [False, False]
    broker.start()
    assert answers(sender) == [False, False]
