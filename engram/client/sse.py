"""Reading an event stream (`text/event-stream`, WHATWG HTML §9.2) without any I/O.

:class:`SseParser` is fed bytes as they arrive, however they are cut, and gives back whole blocks.
It differs from a browser in two ways. A block comes out even if it has no data, because Engram's
heartbeats are blocks with nothing but an id: the position scanned so far. And data stays bytes,
because JSON decoders take bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from engram.errors import ServerAnswerInvalid
from engram.limits import BODY_BYTES_MAX

BLOCK_BYTES_MAX: Final = BODY_BYTES_MAX
"""The largest memory is 1 MiB of content, at most six times that as escaped JSON, and metadata."""

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_DIGITS: Final = re.compile(rb"[0-9]{1,9}")


class Block(NamedTuple):
    """What stood between two empty lines; None for what was not said there."""

    id: str | None = None
    event: str | None = None
    data: bytes | None = None
    retry_ms: int | None = None


class _Fields:
    """The fields of a block that has not ended yet; unknown ones are passed over."""

    def __init__(self) -> None:
        self.id: str | None = None
        self.event: str | None = None
        self.data: list[bytes] = []
        self.retry_ms: int | None = None

    def take(self, name: bytes, value: bytes) -> None:
        if name == b"data":
            self.data.append(value)
        elif name == b"event":
            self.event = _text(value)
        elif name == b"id" and b"\0" not in value:
            self.id = _text(value)
        elif name == b"retry" and _DIGITS.fullmatch(value):
            self.retry_ms = int(value)

    def block(self) -> Block:
        data = b"\n".join(self.data) if self.data else None
        return Block(self.id, self.event, data, self.retry_ms)


class SseParser:
    """Chunks in, blocks out. What a stream ends in the middle of is never given out."""

    def __init__(self, block_bytes_max: int = BLOCK_BYTES_MAX) -> None:
        self._bytes_max = block_bytes_max
        self._line: list[bytes] = []  # the beginning of a line whose end has not come
        self._line_bytes = 0
        self._block_bytes = 0
        self._after_cr = False  # a line feed that comes next belongs to the line end before it
        self._at_start = True
        self._block = _Fields()

    def feed(self, chunk: bytes) -> Iterator[Block]:
        """The blocks that `chunk` completes; to be read to the end, one chunk after the other.

        Raises :class:`engram.errors.ServerAnswerInvalid` for a block that is too large or not
        UTF-8, behind the blocks before it; the parser is of no use after that.
        """
        if not chunk:
            return
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._after_cr = chunk.endswith(b"\r")
        *ended, rest = _LINE_END.split(chunk)
        for line in ended:
            if self._line:
                line = b"".join([*self._line, line])
                self._line, self._line_bytes = [], 0
            block = self._take(line)
            if block is not None:
                yield block
        if rest:
            self._line.append(rest)
            self._line_bytes += len(rest)
            self._check_size(self._block_bytes + self._line_bytes)

    def _take(self, line: bytes) -> Block | None:
        if self._at_start:
            line = line.removeprefix(_BYTE_ORDER_MARK)
            self._at_start = False
        if not line:
            return self._dispatch()
        if line.startswith(b":"):
            return None
        self._block_bytes += len(line)
        self._check_size(self._block_bytes)
        name, _, value = line.partition(b":")
        self._block.take(name, value.removeprefix(b" "))
        return None

    def _dispatch(self) -> Block | None:
        block = self._block.block()
        self._block = _Fields()
        self._block_bytes = 0
        return None if block == Block() else block

    def _check_size(self, size: int) -> None:
        if size > self._bytes_max:
            raise ServerAnswerInvalid(
                f"the event stream holds a block of more than {self._bytes_max} bytes, which no "
                "event of Engram has"
            )


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ServerAnswerInvalid("the event stream is not UTF-8") from None
