"""Repairing a space that refuses to open, where that is an operator's to decide.

What can be repaired, and how, is :mod:`wal.mend`'s. Around it: nothing is touched before a whole
copy of the folder lies beside it, durably; the space's lock is held meanwhile; and the space is
verified at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from engram.errors import SpaceDamaged, SpaceExists, SpaceLocked
from engram.inspect.locks import lock_owner
from engram.inspect.sources import NewerFormat, NoLog, Source, find_sources, parent_of
from engram.spaces.identity import Identity, read_identity
from engram.spaces.verify import SpaceReport, verify_space
from wal.errors import Damaged, Unsupported
from wal.live_set import CHECKPOINT_DIR
from wal.log import LOCK_NAME
from wal.mend import AcceptEnd, DropCheckpoint, MoveAside, Step, mend, plan_mending
from wal.segment import write_all
from wal.vfs import Directory

COPY_NAME: Final = "{folder}.before-repair-{number}"
UNFINISHED_SUFFIX: Final = ".copying"
PIECE_BYTES: Final = 1 << 20
OWNER: Final = "engram log repair"


@dataclass(slots=True)
class Repaired:
    """What was done, or with `dry_run` would be. `copy` is the folder as it was before; `kept`
    what lies in quarantine now. Without steps nothing needed repair.
    """

    path: str
    memory_space_id: str
    dry_run: bool
    steps: list[dict[str, Any]] = field(default_factory=list)
    copy: str | None = None
    kept: list[str] = field(default_factory=list)


def repair(path: str | Path, *, output: Path | None = None, dry_run: bool = False) -> Repaired:
    """Repair the space at `path`, after copying it to `output`, or beside it.

    Raises :class:`engram.errors.SpaceDamaged` for what cannot be repaired, `SpaceLocked` while
    it is in use, `SpaceExists` for an `output` that is there, and what
    :mod:`engram.inspect.sources` raises.
    """
    source = _one_space(path)
    with _refused(source), parent_of(source.path) as parent, ExitStack() as stack:
        space_dir = stack.enter_context(closing(parent.open_dir(source.path.name)))
        identity = _identity(space_dir, source)
        report = Repaired(str(source.path), identity.memory_space_id, dry_run)
        broken = _broken_checkpoints(source)
        steps = plan_mending(space_dir, identity.uuid_bytes, broken)
        if not steps:
            _check(verify_space(source.path), "")
            return report
        if dry_run:
            if owner := lock_owner(source.path):
                raise SpaceLocked(f"{source.path} is in use by {owner}; stop it first")
            report.steps = [step_document(step) for step in steps]
            return report
        stack.callback(space_dir.lock(LOCK_NAME, OWNER).release)
        # What it looked like before the lock was held may have changed since.
        broken = _broken_checkpoints(source)
        steps = plan_mending(space_dir, identity.uuid_bytes, broken)
        target = _free_copy(source.path) if output is None else output.absolute()
        with parent_of(target) as copies:
            if copies.exists(target.name):
                raise SpaceExists(f"{target} exists already; name another folder for the copy")
            copy_folder(space_dir, copies, target.name)
        report.copy = str(target)
        report.steps = [step_document(step) for step in steps]
        report.kept = mend(space_dir, steps)
        _check(verify_space(source.path), f"; as it was before, it lies in {target}")
    return report


def _one_space(path: str | Path) -> Source:
    sources = find_sources(path)
    if len(sources) != 1 or sources[0].kind != "space" or Path(path).resolve() != sources[0].path:
        raise NoLog(f"{path} is not the folder of one space, which is what can be repaired")
    return sources[0]


def _identity(space_dir: Directory, source: Source) -> Identity:
    try:
        return read_identity(space_dir, source.path.name)
    except FileNotFoundError:
        raise Damaged("space.json", 0, "it is missing") from None


def _broken_checkpoints(source: Source) -> dict[str, str]:
    """What is wrong with checkpoints, by their names: also that one is not what the log says."""
    return {
        damage.file.removeprefix(f"{CHECKPOINT_DIR}/"): damage.reason
        for damage in verify_space(source.path).damage
        if damage.file.startswith(f"{CHECKPOINT_DIR}/")
    }


def _check(found: SpaceReport, copy: str) -> None:
    for damage in found.damage[:1]:
        raise Damaged(damage.file, damage.offset, damage.reason + copy)


@contextmanager
def _refused(source: Source) -> Iterator[None]:
    try:
        yield
    except Unsupported as error:
        raise NewerFormat(f"{source.path} cannot be read: {error}") from error
    except (Damaged, SpaceDamaged) as error:
        if isinstance(error.__cause__, Unsupported):
            raise NewerFormat(f"{source.path} cannot be read: {error.__cause__}") from error
        detail = error.__cause__ if isinstance(error.__cause__, Damaged) else error
        raise SpaceDamaged(
            f"{source.path} cannot be repaired: {detail}. Put it back from a backup, or rescue "
            "what can be read with `engram log salvage`"
        ) from error


def _free_copy(folder: Path) -> Path:
    number = 1
    while (copy := folder.with_name(COPY_NAME.format(folder=folder.name, number=number))).exists():
        number += 1
    return copy


def copy_folder(source: Directory, parent: Directory, name: str) -> None:
    """Copy a folder to a new name, which it has only once it is whole and durable. The lock file
    stays behind.
    """
    unfinished = name + UNFINISHED_SUFFIX
    if parent.exists(unfinished):
        parent.remove_tree(unfinished)
    with closing(parent.make_dir(unfinished)) as target:
        _copy_into(source, target)
    parent.rename(unfinished, parent, name)
    parent.sync()


def _copy_into(source: Directory, target: Directory) -> None:
    for name in source.names():
        if name == LOCK_NAME:
            continue
        try:
            file = source.open(name)
        except IsADirectoryError:
            with closing(source.open_dir(name)) as inner, closing(target.make_dir(name)) as copy:
                _copy_into(inner, copy)
            continue
        with closing(file), closing(target.create(name)) as copied:
            offset = 0
            while piece := file.read_at(offset, PIECE_BYTES):
                write_all(copied, offset, piece)
                offset += len(piece)
            copied.sync_data()
    target.sync()


def step_document(step: Step) -> dict[str, Any]:
    """A step for programs."""
    match step:
        case MoveAside(name, size, reason):
            return {"step": "move-aside", "file": f"log/{name}", "bytes": size, "reason": reason}
        case DropCheckpoint(name, size, reason):
            file = f"{CHECKPOINT_DIR}/{name}"
            return {"step": "drop-checkpoint", "file": file, "bytes": size, "reason": reason}
        case AcceptEnd(name, offset, size, first, last, reason):
            return {
                "step": "accept-end",
                "file": f"log/{name}",
                "offset": offset,
                "bytes": size,
                "lost": {"first": first, "last": last},
                "reason": reason,
            }
        case _:
            return {
                "step": "restore-manifest",
                "file": step.manifest.name,
                "segments": len(step.manifest.sealed) + 1,
                "broken": step.broken,
                "reason": step.reason,
            }
