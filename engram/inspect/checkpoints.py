"""Checkpoint files as they lie there: those that a manifest names, those left behind, and single
ones that somebody sent in.

They are mapped, which a running server does not mind: it only ever unlinks them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

import msgspec

from compaction.columns import ColumnFile
from engram.memory.columns import from_named
from engram.memory.state import State, StateError
from engram.memory.times import from_us
from wal.errors import Damaged, Unsupported
from wal.inspect import Damage
from wal.live_set import CHECKPOINT_DIR
from wal.manifest import Checkpoint, Manifest
from wal.retire import CHECKPOINT_SUFFIX
from wal.vfs import Directory

NS_PER_US: Final = 1_000
Standing = Literal["base", "live", "leftover", "loose"]
"""What history begins behind; named by the manifest; not named; nobody knows, without a manifest"""


@dataclass(slots=True)
class HeldCheckpoint:
    """A checkpoint file, mapped. Of one that is `whole` every block has verified and the columns
    make a `state`; of any other, `damage` says why it is not.
    """

    shown: str
    standing: Standing
    size: int
    file: ColumnFile | None = None
    state: State | None = None
    damage: Damage | None = None

    @property
    def whole(self) -> bool:
        return self.damage is None

    @property
    def position(self) -> int | None:
        return None if self.file is None else self.file.identity.position


@dataclass(frozen=True, slots=True)
class ColumnFigures:
    """One column; `ok` if all blocks it touches verify."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    ok: bool


@dataclass(frozen=True, slots=True)
class CheckpointFigures:
    """One checkpoint file. What is not known, because it does not verify, is None or empty."""

    file: str
    standing: Standing
    bytes: int
    ok: bool
    position: int | None = None
    time: datetime | None = None
    space_uuid: str | None = None
    memories: int | None = None
    columns: tuple[ColumnFigures, ...] = field(default=())


def open_checkpoints(
    space_dir: Directory, manifest: Manifest | None, space_uuid: bytes | None
) -> list[HeldCheckpoint]:
    """The checkpoints of a space, by name."""
    return list(_held(space_dir, manifest, space_uuid))


def _held(
    space_dir: Directory, manifest: Manifest | None, space_uuid: bytes | None
) -> Iterator[HeldCheckpoint]:
    named = {each.name: each for each in manifest.checkpoints} if manifest else {}
    present: list[str] = []
    if space_dir.exists(CHECKPOINT_DIR):
        with closing(space_dir.open_dir(CHECKPOINT_DIR)) as folder:
            present = [name for name in folder.names() if name.endswith(CHECKPOINT_SUFFIX)]
            for name in present:
                checkpoint, standing = named.get(name), _standing(named.get(name), manifest)
                with closing(folder.open(name)) as file:
                    path = f"{CHECKPOINT_DIR}/{name}"
                    view = file.map()
                yield read_checkpoint(path, view, space_uuid, standing, checkpoint)
    for name in sorted(named.keys() - set(present)):
        path = f"{CHECKPOINT_DIR}/{name}"
        missing = Damage(path, 0, "the manifest names this checkpoint; it is missing")
        yield HeldCheckpoint(path, _standing(named[name], manifest), 0, damage=missing)


def _standing(checkpoint: Checkpoint | None, manifest: Manifest | None) -> Standing:
    if manifest is None:
        return "loose"
    if checkpoint is None:
        return "leftover"
    is_base = checkpoint.base and checkpoint.position == manifest.base_position
    return "base" if is_base else "live"


def read_checkpoint(
    shown: str,
    view: memoryview,
    space_uuid: bytes | None,
    standing: Standing,
    named: Checkpoint | None = None,
) -> HeldCheckpoint:
    """Verify all of a checkpoint file, which is to be the one that is `named`."""
    held = HeldCheckpoint(shown, standing, len(view))
    try:
        held.file = file = ColumnFile(shown, view, space_uuid)
        if named is not None and (len(view), file.identity.position, file.trailer_crc) != (
            named.length,
            named.position,
            named.crc,
        ):
            raise Damaged(shown, 0, "this is not the checkpoint that the manifest names")
        file.verify()
        held.state = _state_of(file)
    except Damaged as error:
        held.damage = Damage(error.file, error.offset, error.reason)
    except Unsupported as error:
        held.damage = Damage(shown, 0, str(error))
    return held


def _state_of(file: ColumnFile) -> State:
    """What the columns hold, each text decoded once. Nobody asks for the space's id here."""
    try:
        columns = from_named({name: file.column(name) for name in file.names})
        state = State.of("", columns.vectors[0].shape[-1], columns)
        for row in range(state.view.rows):
            state.view.version(row)
    except (KeyError, ValueError, StateError, msgspec.MsgspecError) as error:
        raise Damaged(file.where, 0, f"its columns make no state: {error}") from error
    return state


def figures_of(held: HeldCheckpoint) -> CheckpointFigures:
    """What there is to know about a checkpoint file."""
    file = held.file
    if file is None:
        return CheckpointFigures(held.shown, held.standing, held.size, held.whole)
    return CheckpointFigures(
        held.shown,
        held.standing,
        held.size,
        held.whole,
        file.identity.position,
        from_us(file.identity.time_ns // NS_PER_US),
        file.identity.space_uuid.hex(),
        None if held.state is None else held.state.view.live_count(0),
        tuple(_column_figures(file, name) for name in file.names),
    )


def _column_figures(file: ColumnFile, name: str) -> ColumnFigures:
    try:
        column = file.column(name)
    except Damaged:
        return ColumnFigures(name, "", (), file.length_of(name), False)
    return ColumnFigures(name, column.dtype.str, column.shape, column.nbytes, True)
