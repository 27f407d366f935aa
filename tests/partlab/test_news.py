import httpx
import pytest
from httpx_sse import EventSource, ServerSentEvent

from partlab.news import Ended, Logged, news_of

LINE = (
    '{"id": 1, "attempt": 1, "at": "2026-01-01T00:00:00Z", "level": "info", "message": "a\u2028b"}'
)


def streamed(*blocks: bytes):
    response = httpx.Response(
        200, headers={"content-type": "text/event-stream"}, content=iter(blocks)
    )
    return [(event.id, news_of(event)) for event in EventSource(response).iter_sse()]


def test_a_line_that_comes_in_pieces_and_holds_other_separators_is_one_event():
    whole = f"id: 7\nevent: log\ndata: {LINE}\n\n".encode()
    for cut in range(1, len(whole)):
        ((identifier, news),) = streamed(whole[:cut], whole[cut:])
        assert identifier == "7"
        assert isinstance(news, Logged)
        assert news.line.message == "a\u2028b"


@pytest.mark.parametrize(
    "event",
    [
        ServerSentEvent(event="weather", data="{}"),
        ServerSentEvent(event="log", data=""),
        ServerSentEvent(event="", data="", id="7"),
    ],
)
def test_what_says_nothing_or_is_of_a_newer_lab_is_passed_over(event):
    assert news_of(event) is None


def test_signs_of_life_and_a_torn_event_are_no_news():
    kept = [news for _, news in streamed(b": still here\n\n", b"event: end\ndata: {") if news]
    assert not any(isinstance(news, Ended) for news in kept)
