"""The manifest: which segments are live, up to and including the one that was active, and which
checkpoints stand for what they hold. Pure.

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
    """A segment that is not written any more. `final_crc` is the stored CRC of its last record,
    `time_ns` that record's time.
    """

    name: str
    segment_id: int
    first_position: int
    next_position: int
    length: int
    final_crc: int
    time_ns: int


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file that holds what the log up to `position` adds up to. `crc` stands for all of it.

    It can be made again from the log, unless it is the `base`: what the log no longer holds.
    """

    name: str
    position: int
    length: int
    crc: int
    base: bool = False


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The live set at one moment. Segments after `active` are found by their chain.

    `checkpoints` ascend by position. `retired` are files that this manifest let go of, as paths
    inside the space: who opens it removes those that are still there.
    """

    number: int
    space_uuid: str
    sealed: tuple[SealedSegment, ...]
    active: str
    checkpoints: tuple[Checkpoint, ...] = ()
    retired: tuple[str, ...] = ()

    @property
    def base_position(self) -> int:
        """Where history begins that the log holds: behind this position; 0 if it has all."""
        return max((each.position for each in self.checkpoints if each.base), default=0)

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
