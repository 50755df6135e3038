"""Offline verification of a space's folder, or of all spaces of a data root. Reads only.

Below the log's own checks it decodes every event and applies it, as opening would, so that a space
that verifies is one that opens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from engram.errors import DataRootUnusable
from engram.memory.payload import PayloadError, decode_batch
from engram.memory.state import State, StateError
from engram.spaces.identity import IDENTITY_NAME, Identity, read_identity
from engram.spaces.layout import CONTROL_DIR
from wal.codec import Record
from wal.errors import Damaged, Unsupported
from wal.inspect import Damage, LogReport, inspect_log
from wal.os_vfs import open_root
from wal.vfs import Directory


@dataclass(slots=True)
class SpaceReport:
    """What one folder holds. `ok` is False when anything durable does not verify."""

    path: str
    memory_space_id: str | None = None
    memories: int = 0
    log: LogReport = field(default_factory=LogReport)

    @property
    def damage(self) -> list[Damage]:
        return self.log.damage

    @property
    def ok(self) -> bool:
        return not self.log.damage


def verify(path: str | Path) -> list[SpaceReport]:
    """A report for each space at `path`: a space's folder, or a data root.

    Raises :class:`engram.errors.DataRootUnusable` when the path is neither.
    """
    folder = Path(path).absolute()
    if (folder / CONTROL_DIR).is_dir():
        inner = sorted(p for p in folder.iterdir() if p.is_dir() and p.name != CONTROL_DIR)
        return [_verify_space(space) for space in inner if not space.is_symlink()]
    if not (folder / IDENTITY_NAME).exists() and not (folder / "log").is_dir():
        raise DataRootUnusable(
            f"{path} is neither a space's folder nor a data root: it holds no {IDENTITY_NAME}, "
            f"no log and no {CONTROL_DIR}"
        )
    return [_verify_space(folder)]


def _verify_space(folder: Path) -> SpaceReport:
    report = SpaceReport(str(folder))
    try:
        space_dir = open_root(str(folder))
    except OSError as error:
        raise DataRootUnusable(f"{folder} cannot be read: {error.strerror}") from error
    try:
        identity = _identity(space_dir, folder.name, report)
        checks: list[_Check] = []

        def new_check() -> _Check:
            checks.append(_Check(identity))
            return checks[-1]

        found = report.log.damage
        uuid = None if identity is None else identity.uuid_bytes
        report.log = inspect_log(space_dir, uuid, new_check)
        report.log.damage[:0] = found
        if identity is not None:
            report.memory_space_id = identity.memory_space_id
        if report.ok:
            report.memories = checks[-1].memories()
    except FileNotFoundError as error:
        report.damage.append(Damage(str(error.filename or "log"), 0, "it is missing"))
    except Unsupported as error:
        report.damage.append(Damage("log", 0, str(error)))
    finally:
        space_dir.close()
    return report


def _identity(space_dir: Directory, folder: str, report: SpaceReport) -> Identity | None:
    try:
        return read_identity(space_dir, folder)
    except Damaged as error:
        report.log.note(error)
    except Unsupported as error:
        report.damage.append(Damage(IDENTITY_NAME, 0, str(error)))
    except FileNotFoundError:
        report.damage.append(Damage(IDENTITY_NAME, 0, "it is missing"))
    return None


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
