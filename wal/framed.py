"""Small JSON documents that a person can read and a machine can trust. Pure.

One line of frame (magic, format version, body length, CRC32C of the body in hex), then the body.
Manifests, and the identity files of the layers above, have this form.
"""

from __future__ import annotations

import re
from typing import Final, TypeVar

import msgspec
from crc32c import crc32c

from wal.decoding import decoder_of
from wal.errors import Damaged, Unsupported

_FRAME: Final = re.compile(rb"([A-Z-]+) ([0-9]{1,9}) ([0-9]{1,10}) ([0-9a-f]{8})\n")

T = TypeVar("T")


def encode_framed(magic: str, version: int, document: msgspec.Struct) -> bytes:
    body = msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"
    return f"{magic} {version} {len(body)} {crc32c(body):08x}\n".encode("ascii") + body


def decode_framed(magic: str, version: int, type_: type[T], where: str, data: bytes) -> T:
    """The document in `data`; `where` names the file in errors.

    Raises :class:`wal.errors.Damaged` when it does not verify or does not have the type's shape,
    and :class:`wal.errors.Unsupported` when it is whole but of another version.
    """
    frame = _FRAME.match(data)
    if frame is None or frame[1].decode() != magic:
        raise Damaged(where, 0, f"this file does not begin as an {magic} file does")
    body = data[frame.end() :]
    if len(body) != int(frame[3]) or crc32c(body) != int(frame[4], 16):
        raise Damaged(where, frame.end(), "the checksum does not match")
    if int(frame[2]) != version:
        raise Unsupported(
            f"{where} has format {int(frame[2])}; this version reads format {version}. "
            "Upgrade Engram to open it"
        )
    try:
        return decoder_of(type_).decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(where, frame.end(), f"it cannot be read: {error}") from error
