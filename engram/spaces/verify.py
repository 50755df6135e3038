"""Offline verification of a space's folder, or of all spaces of a data root. Reads only.

Below the log's own checks it decodes every event and applies it, as opening would, so that a space
that verifies is one that opens. Checkpoints are read block by block, and each has to be just what
the log adds up to where it stands: whatever the log still leads to is worked out once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import msgspec

from compaction.checkpoint import open_checkpoint
from engram.errors import DataRootUnusable, SpaceInvalid
from engram.memory.columns import compact
from engram.memory.difference import difference
from engram.memory.payload import PayloadError, decode_batch
from engram.memory.state import State, StateError
from engram.spaces.compactor import state_of
from engram.spaces.identity import IDENTITY_NAME, Identity, read_identity
from engram.spaces.ids import check_space_id
from engram.spaces.layout import CONTROL_DIR
from wal.codec import Record
from wal.errors import Damaged, Unsupported
from wal.inspect import Check, Damage, LogReport, inspect_log
from wal.live_set import CHECKPOINT_DIR, LOG_DIR
from wal.manifest import Checkpoint, Manifest
from wal.os_vfs import open_root
from wal.vfs import Directory

Progress = Callable[[str, int], None]
"""Told the name of a folder and, now and then, how many more bytes of it were read."""


def untold(folder: str, more_bytes: int) -> None:
    """Nobody wants to know how far it got."""


@dataclass(slots=True)
class SpaceReport:
    """What one folder holds. `ok` is False when anything durable does not verify; `took_s` is how
    long it took to say so.

    `is_space` is False for a folder of a data root that cannot be one; nothing else is known of it.
    """

    path: str
    memory_space_id: str | None = None
    memories: int = 0
    log: LogReport = field(default_factory=LogReport)
    is_space: bool = True
    took_s: float = 0.0

    @property
    def damage(self) -> list[Damage]:
        return self.log.damage

    @property
    def ok(self) -> bool:
        return not self.log.damage


def verify(path: str | Path, progress: Progress = untold) -> list[SpaceReport]:
    """A report for each folder at `path`: a space's own, or those of a data root.

    Raises :class:`engram.errors.DataRootUnusable` when the path is neither.
    """
    folder = Path(path).absolute()
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise DataRootUnusable(f"{path} {what}. Name a data root, or the folder of one space")
    if (folder / CONTROL_DIR).is_dir():
        inner = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        return [
            verify_space(folder, progress)
            if may_be_space(folder)
            else SpaceReport(str(folder), is_space=False)
            for folder in inner
            if not folder.is_symlink()
        ]
    if not _holds_space(folder):
        raise DataRootUnusable(
            f"{path} is neither a space's folder nor a data root: it holds no {IDENTITY_NAME}, "
            f"no log and no {CONTROL_DIR}"
        )
    return [verify_space(folder, progress)]


def may_be_space(folder: Path) -> bool:
    """Whether the registry would take a folder of a data root for a space, sound or damaged."""
    try:
        check_space_id(folder.name)
    except SpaceInvalid:
        return False
    return _holds_space(folder)


def _holds_space(folder: Path) -> bool:
    try:
        return (folder / IDENTITY_NAME).exists() or (folder / LOG_DIR).exists()
    except PermissionError:
        return True  # nobody can say, until it is opened and refused


def verify_space(folder: Path, progress: Progress = untold) -> SpaceReport:
    report, started = SpaceReport(str(folder)), perf_counter()
    try:
        space_dir = open_root(str(folder))
    except OSError as error:
        raise DataRootUnusable(f"{folder} cannot be read: {error.strerror}") from error
    try:
        identity = _identity(space_dir, folder.name)
        known = None if isinstance(identity, Damage) else identity
        report.memory_space_id = None if known is None else known.memory_space_id
        report.log, report.memories = _inspected(
            space_dir, known, lambda more_bytes: progress(folder.name, more_bytes)
        )
        if isinstance(identity, Damage):
            report.log.damage.insert(0, identity)
    finally:
        space_dir.close()
    report.took_s = round(perf_counter() - started, 3)
    return report


def bytes_to_read(path: str | Path) -> int:
    """About how many bytes verifying what lies there will read."""
    folder = Path(path)
    spaces = folder.iterdir() if (folder / CONTROL_DIR).is_dir() else [folder]
    total = 0
    for space in spaces:
        for inner in (LOG_DIR, CHECKPOINT_DIR):
            with suppress(OSError):
                total += sum(each.stat().st_size for each in (space / inner).iterdir())
    return total


def _identity(space_dir: Directory, folder: str) -> Identity | Damage:
    try:
        return read_identity(space_dir, folder)
    except Damaged as error:
        return Damage(error.file, error.offset, error.reason)
    except Unsupported as error:
        return Damage(IDENTITY_NAME, 0, str(error))
    except FileNotFoundError:
        return Damage(IDENTITY_NAME, 0, "it is missing")


def _inspected(
    space_dir: Directory, identity: Identity | None, progress: Callable[[int], None]
) -> tuple[LogReport, int]:
    """The log's report, and the number of living memories of a sound one."""
    checks: list[_Check] = []

    def new_check() -> _Check:
        checks.append(_Check(identity, progress))
        return checks[-1]

    uuid = None if identity is None else identity.uuid_bytes
    try:
        log = inspect_log(space_dir, uuid, new_check)
    except FileNotFoundError as error:
        return LogReport(damage=[Damage(str(error.filename or LOG_DIR), 0, "it is missing")]), 0
    except Unsupported as error:
        return LogReport(damage=[Damage(LOG_DIR, 0, str(error))]), 0
    return log, 0 if log.damage else checks[-1].memories()


class _Check(Check):
    """Decodes every event, and applies them for as long as none is missing in between: from the
    start, or behind the base. What comes of it is compared with the checkpoints on the way.
    """

    def __init__(self, identity: Identity | None, progress: Callable[[int], None]) -> None:
        self._identity = identity
        self._progress = progress
        self._next = 1
        self._base_position = 0
        self._state: State | None = None
        if identity is not None:
            self._state = State(identity.memory_space_id, identity.embedding.dimensions)
        self._expected: list[tuple[Checkpoint, State]] = []
        self._differences: list[Damage] = []

    def begin(self, space_dir: Directory, manifest: Manifest) -> Iterator[Damage]:
        self._base_position = manifest.base_position
        for checkpoint in manifest.checkpoints:
            is_base = checkpoint.base and checkpoint.position == self._base_position
            state = None
            try:
                state = self._opened(space_dir, manifest, checkpoint)
            except (Damaged, Unsupported) as error:
                yield _damage_of(f"{CHECKPOINT_DIR}/{checkpoint.name}", error)
            if is_base:
                self._state, self._next = state, checkpoint.position + 1
            elif state is not None:
                self._expected.append((checkpoint, state))

    def _opened(
        self, space_dir: Directory, manifest: Manifest, checkpoint: Checkpoint
    ) -> State | None:
        """What a checkpoint holds, all of which is verified; None if nobody knows whose it is."""
        identity = self._identity
        uuid = bytes.fromhex(manifest.space_uuid) if identity is None else identity.uuid_bytes
        file = open_checkpoint(space_dir, checkpoint, uuid)
        file.verify()
        self._progress(checkpoint.length)
        if identity is None:
            return None
        state = state_of(identity, file)
        try:
            for row in range(state.view.rows):
                state.view.version(row)
        except msgspec.MsgspecError as error:
            raise Damaged(file.where, 0, f"its row {row} cannot be read: {error}") from error
        return state

    def record(self, record: Record) -> None:
        self._progress(record.end - record.offset)
        try:
            batch = decode_batch(record.payload)
            if self._state is not None and record.position == self._next:
                self._state.apply(batch, record.position, record.time_ns)
                self._next = record.next_position
                self._compare(self._state)
        except (PayloadError, StateError) as error:
            raise Damaged("log", record.offset, str(error)) from error

    def _compare(self, state: State) -> None:
        """Hold the state against the checkpoints that stand where it is now."""
        while self._expected and self._expected[0][0].position < self._next:
            checkpoint, held = self._expected.pop(0)
            reason = None
            if checkpoint.position == self._next - 1:
                state.publish()
                ours = compact(state.freeze(), self._base_position)
                name = difference(ours, compact(held.freeze(), self._base_position))
                if name is not None:
                    reason = f"its column {name!r} is not what the log adds up to"
            else:
                reason = f"no record of the log ends at its position {checkpoint.position}"
            if reason is not None:
                path = f"{CHECKPOINT_DIR}/{checkpoint.name}"
                self._differences.append(Damage(path, 0, reason))

    def end(self) -> list[Damage]:
        return self._differences

    def memories(self) -> int:
        if self._state is None:
            return 0
        self._state.publish()
        return self._state.view.live_count(0)


def _damage_of(file: str, error: Damaged | Unsupported) -> Damage:
    if isinstance(error, Damaged):
        return Damage(error.file, error.offset, error.reason)
    return Damage(file, 0, str(error))
