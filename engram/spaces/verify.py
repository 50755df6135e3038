"""Offline verification of a space's folder, or of all spaces of a data root. Reads only.

Below the log's own checks it decodes every event and applies it, as opening would, so that a space
that verifies is one that opens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from engram.errors import DataRootUnusable, SpaceInvalid
from engram.memory.payload import PayloadError, decode_batch
from engram.memory.state import State, StateError
from engram.spaces.identity import IDENTITY_NAME, Identity, read_identity
from engram.spaces.ids import check_space_id
from engram.spaces.layout import CONTROL_DIR
from wal.codec import Record
from wal.errors import Damaged, Unsupported
from wal.inspect import Damage, LogReport, inspect_log
from wal.live_set import LOG_DIR
from wal.os_vfs import open_root
from wal.vfs import Directory


@dataclass(slots=True)
class SpaceReport:
    """What one folder holds. `ok` is False when anything durable does not verify.

    `is_space` is False for a folder of a data root that cannot be one; nothing else is known of it.
    """

    path: str
    memory_space_id: str | None = None
    memories: int = 0
    log: LogReport = field(default_factory=LogReport)
    is_space: bool = True

    @property
    def damage(self) -> list[Damage]:
        return self.log.damage

    @property
    def ok(self) -> bool:
        return not self.log.damage


def verify(path: str | Path) -> list[SpaceReport]:
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
            verify_space(folder)
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
    return [verify_space(folder)]


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


def verify_space(folder: Path) -> SpaceReport:
    report = SpaceReport(str(folder))
    try:
        space_dir = open_root(str(folder))
    except OSError as error:
        raise DataRootUnusable(f"{folder} cannot be read: {error.strerror}") from error
    try:
        identity = _identity(space_dir, folder.name)
        known = None if isinstance(identity, Damage) else identity
        report.memory_space_id = None if known is None else known.memory_space_id
        report.log, report.memories = _inspected(space_dir, known)
        if isinstance(identity, Damage):
            report.log.damage.insert(0, identity)
    finally:
        space_dir.close()
    return report


def _identity(space_dir: Directory, folder: str) -> Identity | Damage:
    try:
        return read_identity(space_dir, folder)
    except Damaged as error:
        return Damage(error.file, error.offset, error.reason)
    except Unsupported as error:
        return Damage(IDENTITY_NAME, 0, str(error))
    except FileNotFoundError:
        return Damage(IDENTITY_NAME, 0, "it is missing")


def _inspected(space_dir: Directory, identity: Identity | None) -> tuple[LogReport, int]:
    """The log's report, and the number of living memories of a sound one."""
    checks: list[_Check] = []

    def new_check() -> _Check:
        checks.append(_Check(identity))
        return checks[-1]

    uuid = None if identity is None else identity.uuid_bytes
    try:
        log = inspect_log(space_dir, uuid, new_check)
    except FileNotFoundError as error:
        return LogReport(damage=[Damage(str(error.filename or LOG_DIR), 0, "it is missing")]), 0
    except Unsupported as error:
        return LogReport(damage=[Damage(LOG_DIR, 0, str(error))]), 0
    return log, 0 if log.damage else checks[-1].memories()


class _Check:
    """Decodes every event, and applies them for as long as none is missing in between."""

    def __init__(self, identity: Identity | None) -> None:
        self._next = 1
        self._state: State | None = None
        if identity is not None:
            self._state = State(identity.memory_space_id, identity.embedding.dimensions)

    def __call__(self, record: Record) -> None:
        try:
            batch = decode_batch(record.payload)
            if self._state is not None and record.position == self._next:
                self._state.apply(batch, record.position, record.time_ns)
                self._next = record.next_position
        except (PayloadError, StateError) as error:
            raise Damaged("log", record.offset, str(error)) from error

    def memories(self) -> int:
        if self._state is None:
            return 0
        self._state.publish()
        return self._state.view.live_count(0)
