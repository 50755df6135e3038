"""Events as blocks of a server-sent event stream, and the ids to resume from. Pure.

In the stream of one space an id is a position. In the stream of several it is a token that holds
the position reached in each of them, so that one id resumes them all.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from engram.errors import Malformed
from engram.feed.telling import Told
from engram.server.query import POSITION_MAX

TOKEN_CHARACTERS_MAX: Final = 16 << 10
_POSITION: Final = re.compile(r"[0-9]{1,19}")
_json: Final = msgspec.json.Encoder()


class Reached(NamedTuple):
    """How far a stream has come in one space."""

    space_uuid: str
    position: int


_token_encoder: Final = msgspec.msgpack.Encoder()
_token_decoder: Final = msgspec.msgpack.Decoder(dict[str, Reached])


def event_block(stream_id: str, entry: Told) -> bytes:
    """One event. What does not depend on the subscriber is encoded once for all of them."""
    if entry.encoded is None:
        data = _json.encode(entry.event)  # JSON has no bare newline, so it is one data line
        entry.encoded = b"event: %b\ndata: %b\n\n" % (entry.type.encode(), data)
    return b"id: %b\n%b" % (stream_id.encode(), entry.encoded)


def id_block(stream_id: str) -> bytes:
    """Only says how far the stream has come; a reader shows no event for it."""
    return b": scanned\nid: %b\n\n" % stream_id.encode()


def first_block(retry_ms: int, stream_id: str | None) -> bytes:
    """How long a reader that lost the stream shall wait before it comes back, and, where a stream
    does not begin with history, the id it begins behind.
    """
    at = b"" if stream_id is None else b"id: %b\n" % stream_id.encode()
    return b"retry: %d\n%b\n" % (retry_ms, at)


def encode_token(reached: Mapping[str, Reached]) -> str:
    """`reached` by space id, as one opaque id."""
    return urlsafe_b64encode(_token_encoder.encode(reached)).decode().rstrip("=")


def decode_token(token: str) -> dict[str, Reached]:
    """Raises :class:`Malformed` for what :func:`encode_token` never made."""
    try:
        if len(token) > TOKEN_CHARACTERS_MAX:
            raise ValueError
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        reached = _token_decoder.decode(urlsafe_b64decode(padded))
    except (ValueError, msgspec.MsgspecError):
        raise Malformed(
            "`after` (or Last-Event-ID) is not the id of an event of several spaces; send the "
            "last id as it came, 0 for all of history, or nothing to see only what comes"
        ) from None
    return reached


def position_of(text: str) -> int:
    """The position that `after` or Last-Event-ID holds. Raises :class:`Malformed`."""
    if not _POSITION.fullmatch(text) or int(text) > POSITION_MAX:
        raise Malformed(
            f"`after` (or Last-Event-ID) must be a position, not {text[:40]!r}: 0 for all of "
            "history, or the id of the last event that was seen"
        )
    return int(text)
