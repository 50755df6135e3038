"""The parser of event streams: what is a block, and that no chunking can change it."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.client.sse import Block, SseParser
from engram.errors import ServerAnswerInvalid


def parse(*chunks: bytes) -> list[Block]:
    parser = SseParser()
    return [block for chunk in chunks for block in parser.feed(chunk)]


EXAMPLES = {
    "an event": (
        b'id: 7\nevent: memory.stored\ndata: {"a":1}\n\n',
        [Block("7", "memory.stored", b'{"a":1}')],
    ),
    "only an id": (b"id: 9\n\n", [Block("9")]),
    "only a retry": (b"retry: 1500\n\n", [Block(retry_ms=1500)]),
    "data in lines": (b"data: a\ndata: b\ndata:\n\n", [Block(data=b"a\nb\n")]),
    "no space after the colon": (b"id:7\ndata:x\n\n", [Block("7", None, b"x")]),
    "one space only belongs to the colon": (b"data:  x\n\n", [Block(data=b" x")]),
    "a colon in the value": (b"data: a: b\n\n", [Block(data=b"a: b")]),
    "a field without a colon": (b"data\nid\n\n", [Block("", None, b"")]),
    "a comment": (b": ping\n\nid: 1\n: within\ndata: x\n\n", [Block("1", None, b"x")]),
    "an unknown field": (b"colour: red\nid: 1\n\n", [Block("1")]),
    "empty lines": (b"\n\n\nid: 1\n\n\n\n", [Block("1")]),
    "carriage returns": (b"id: 1\r\rid: 2\r\r", [Block("1"), Block("2")]),
    "both": (b"id: 1\r\ndata: x\r\n\r\nid: 2\r\n\r\n", [Block("1", None, b"x"), Block("2")]),
    "a byte order mark": (b"\xef\xbb\xbfid: 1\n\n", [Block("1")]),
    "an id with a NUL": (b"id: 1\0\ndata: x\n\n", [Block(None, None, b"x")]),
    "a retry that is no number": (b"retry: soon\nretry: -1\nid: 1\n\n", [Block("1")]),
    "the last of two": (b"id: 1\nid: 2\n\n", [Block("2")]),
    "an end in the middle": (b"id: 1\n\nid: 2\ndata: never whole\n", [Block("1")]),
    "text beyond ASCII": ("data: Zürich\n\n".encode(), [Block(data="Zürich".encode())]),
}


@pytest.mark.parametrize(("stream", "blocks"), EXAMPLES.values(), ids=EXAMPLES.keys())
def test_a_stream_means_these_blocks_whole_and_byte_by_byte(
    stream: bytes, blocks: list[Block]
) -> None:
    assert parse(stream) == blocks
    assert parse(*(bytes([byte]) for byte in stream)) == blocks


LINE_ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])
VALUES = st.text(
    st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=8
).map(str.encode)
LINES = st.one_of(
    st.builds(lambda name, value: name + b": " + value, st.sampled_from([b"id", b"data"]), VALUES),
    st.builds(lambda value: b"event:" + value, VALUES),
    st.builds(lambda number: b"retry: %d" % number, st.integers(0, 10**8)),
    st.builds(lambda value: b":" + value, VALUES),
    st.just(b""),
)
STREAMS = st.lists(st.tuples(LINES, LINE_ENDS), max_size=30).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


@given(STREAMS, st.lists(st.integers(0, 400), max_size=12))
def test_chunking_changes_nothing(stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[start:end] for start, end in pairwise(edges)]
    assert parse(*chunks) == parse(stream)


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(0, 10**18).map(str),
            st.none() | st.sampled_from(["memory.stored", "memory.recalled"]),
            st.none() | st.lists(VALUES, min_size=1, max_size=3).map(b"\n".join),
        ).filter(any),
        max_size=8,
    ),
    LINE_ENDS,
)
def test_what_was_written_is_read(
    blocks: list[tuple[str | None, str | None, bytes | None]], end: bytes
) -> None:
    stream = b""
    for id_, event, data in blocks:
        lines = [b"id: " + id_.encode()] if id_ is not None else []
        lines += [b"event: " + event.encode()] if event is not None else []
        lines += [b"data: " + line for line in data.split(b"\n")] if data is not None else []
        stream += b"".join(line + end for line in [*lines, b""])
    assert parse(stream) == [Block(*block) for block in blocks]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_no_bytes_raise_anything_else_than_our_error(stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parser = SseParser(64)
    with suppress(ServerAnswerInvalid):
        for start, end in pairwise(edges):
            list(parser.feed(stream[start:end]))


@pytest.mark.parametrize(
    "stream",
    [b"data: " + b"x" * 100, b"data: 1234567890\n" * 10, b": a comment without an end" * 10],
    ids=["one line", "many lines", "a comment"],
)
@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_a_block_beyond_the_bound_is_refused(stream: bytes, size: int) -> None:
    parser = SseParser(64)

    def feed_all() -> None:
        for start in range(0, len(stream), size):
            list(parser.feed(stream[start : start + size]))

    with pytest.raises(ServerAnswerInvalid, match="more than 64 bytes"):
        feed_all()


def test_small_blocks_and_comments_never_add_up_to_the_bound() -> None:
    parser = SseParser(64)
    for number in range(100):
        stream = b": ping\nid: %d\n\n: ping\n" % number
        assert list(parser.feed(stream)) == [Block(str(number))]


@pytest.mark.parametrize("stream", [b"id: \xff\n\n", b"event: \xc3\n\n"])
def test_names_that_are_not_utf8_are_refused(stream: bytes) -> None:
    with pytest.raises(ServerAnswerInvalid, match="UTF-8"):
        parse(stream)


def test_what_stands_before_a_fault_comes_out() -> None:
    blocks = SseParser().feed(b"id: 1\n\nid: \xff\n\n")
    assert next(blocks) == Block("1")
    with pytest.raises(ServerAnswerInvalid):
        next(blocks)
