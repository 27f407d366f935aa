from hypothesis import given
from hypothesis import strategies as st

from partlab.news import ServerEvent, lines_of, news_of, server_events


def events(*lines: str) -> list[ServerEvent]:
    return list(server_events(lines))


def test_fields_make_an_event_and_a_blank_line_ends_it():
    assert events("id: 7", "event: log", "data: {}", "", "data:a", "data: b", "") == [
        ServerEvent("7", "log", "{}"),
        ServerEvent("7", "message", "a\nb"),
    ]


def test_comments_retries_empty_and_torn_events_are_dropped():
    assert events(": still here", "", "retry: 1000", "", "event: log", "", "data: torn") == []


@given(st.text().map(str.encode), st.lists(st.integers(min_value=0, max_value=50)))
def test_lines_do_not_depend_on_how_the_bytes_arrive(text, sizes):
    blocks, rest = [], text
    for size in sizes:
        blocks.append(rest[:size])
        rest = rest[size:]
    whole = [*blocks, rest, b"\n"]
    expected = [line.removesuffix(b"\r").decode() for line in b"".join(whole).split(b"\n")[:-1]]
    assert list(lines_of(whole)) == expected


def test_news_of_a_newer_lab_are_passed_over():
    assert news_of(ServerEvent("1", "weather", "{}")) is None
