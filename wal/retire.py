"""Getting rid of files that are not live any more, and of checkpoints that cannot be used."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import closing
from typing import Final

from wal.live_set import CHECKPOINT_DIR, LOG_DIR
from wal.manifest import Manifest
from wal.replay import QUARANTINE_DIR, keep_aside, quarantine_of
from wal.segment import TMP_SUFFIX
from wal.vfs import Directory

CHECKPOINT_SUFFIX: Final = ".ckpt"


def remove_retired(
    space_dir: Directory, log_dir: Directory, retired: Sequence[str]
) -> tuple[str, ...]:
    """Remove files that the manifest has let go of, durably. Returns those that may still be there:
    they stay retired, and go with the next change, or when the log is opened.

    Whoever has one of them mapped keeps it: files are unlinked, never cut.
    """
    segments = [path for path in retired if path.startswith(LOG_DIR)]
    others = [path for path in retired if path.startswith(CHECKPOINT_DIR)]
    left = list(_removed(log_dir, LOG_DIR, segments)) if segments else []
    if others:
        try:
            with closing(space_dir.open_dir(CHECKPOINT_DIR)) as checkpoints:
                left += _removed(checkpoints, CHECKPOINT_DIR, others)
        except OSError:
            left += others
    return tuple(left)


def _removed(folder: Directory, where: str, paths: Sequence[str]) -> Sequence[str]:
    """Remove files of a folder, durably. Returns those for which that failed."""
    left: list[str] = []
    for path in paths:
        try:
            folder.remove(path.removeprefix(f"{where}/"))
        except FileNotFoundError:
            pass
        except OSError:
            left.append(path)
    try:
        folder.sync()
    except OSError:
        return paths
    return left


def set_aside_checkpoints(
    space_dir: Directory, manifest: Manifest, unusable: Collection[str]
) -> None:
    """Copy what cannot be used to quarantine, durably, and clear away what nothing names.

    The file itself goes once a manifest does without it.
    """
    if not space_dir.exists(CHECKPOINT_DIR):
        return
    named = {each.name for each in manifest.checkpoints}
    with closing(space_dir.open_dir(CHECKPOINT_DIR)) as checkpoints:
        found = checkpoints.names()
        for name in found:
            if name in unusable:
                with (
                    closing(quarantine_of(space_dir)) as quarantine,
                    closing(checkpoints.open(name)) as file,
                ):
                    keep_aside(quarantine, name, file.read_at(0, file.size()))
            elif name not in named and name.endswith((CHECKPOINT_SUFFIX, TMP_SUFFIX)):
                checkpoints.remove(name)
        if found != checkpoints.names():
            checkpoints.sync()


def clear_quarantine(space_dir: Directory) -> None:
    """Remove all that was set aside, durably. Raises OSError."""
    if not space_dir.exists(QUARANTINE_DIR):
        return
    with closing(space_dir.open_dir(QUARANTINE_DIR)) as quarantine:
        for name in quarantine.names():
            quarantine.remove(name)
        quarantine.sync()
