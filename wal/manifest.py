"""The manifest: which segments are live, up to and including the one that was active. Pure.

One line of frame (magic, format, length, CRC32C) and one JSON document, so that a person can read
it and a machine can trust it. A manifest under its final name that does not verify is corruption;
it is never a reason to fall back to an older one, because that would resurrect what it retired.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from crc32c import crc32c

from wal import format as f
from wal.errors import Damaged, Unsupported

_NAME: Final = re.compile(r"MANIFEST-([1-9][0-9]{0,18})")
_FRAME: Final = re.compile(rb"([A-Z-]+) ([0-9]+) ([0-9]{1,10}) ([0-9a-f]{8})\n")
_FORMAT: Final = 1


class SealedSegment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A segment that is not written any more. `final_crc` is the stored CRC of its last record."""

    name: str
    segment_id: int
    first_position: int
    next_position: int
    length: int
    final_crc: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The live set at one moment. Segments after `active` are found by their chain."""

    number: int
    space_uuid: str
    sealed: tuple[SealedSegment, ...]
    active: str

    @property
    def name(self) -> str:
        return f"MANIFEST-{self.number}"


def manifest_number(name: str) -> int | None:
    """The number in a manifest's file name, or None for any other name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def encode_manifest(manifest: Manifest) -> bytes:
    body = msgspec.json.encode(manifest) + b"\n"
    frame = f"{f.MANIFEST_MAGIC} {_FORMAT} {len(body)} {crc32c(body):08x}\n"
    return frame.encode("ascii") + body


def decode_manifest(name: str, data: bytes) -> Manifest:
    """The manifest in a file of that name.

    Raises :class:`wal.errors.Damaged` when it does not verify and
    :class:`wal.errors.Unsupported` when a newer version wrote it.
    """
    frame = _FRAME.match(data)
    if frame is None or frame[1].decode() != f.MANIFEST_MAGIC:
        raise Damaged(name, 0, "this is not a manifest")
    body = data[frame.end() :]
    if len(body) != int(frame[3]) or crc32c(body) != int(frame[4], 16):
        raise Damaged(name, frame.end(), "the manifest's checksum does not match")
    if int(frame[2]) != _FORMAT:
        raise Unsupported(
            f"{name} has format {int(frame[2])}; this version reads format {_FORMAT}. "
            "Upgrade Engram to open it"
        )
    try:
        manifest = msgspec.json.decode(body, type=Manifest)
    except msgspec.MsgspecError as error:
        raise Damaged(name, frame.end(), f"the manifest cannot be read: {error}") from error
    if manifest.name != name:
        raise Damaged(name, 0, f"the file holds {manifest.name}: it was renamed or copied")
    return manifest
