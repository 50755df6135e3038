"""The manifest: which segments are live, up to and including the one that was active. Pure.

A manifest under its final name that does not verify is corruption; it is never a reason to fall
back to an older one, because that would resurrect what it retired.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from wal import format as f
from wal.errors import Damaged
from wal.framed import decode_framed, encode_framed

_NAME: Final = re.compile(r"MANIFEST-([1-9][0-9]{0,18})")
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
    return encode_framed(f.MANIFEST_MAGIC, _FORMAT, manifest)


def decode_manifest(name: str, data: bytes) -> Manifest:
    """The manifest in a file of that name.

    Raises :class:`wal.errors.Damaged` when it does not verify and
    :class:`wal.errors.Unsupported` when a newer version wrote it.
    """
    manifest = decode_framed(f.MANIFEST_MAGIC, _FORMAT, Manifest, name, data)
    if manifest.name != name:
        raise Damaged(name, 0, f"the file holds {manifest.name}: it was renamed or copied")
    return manifest
