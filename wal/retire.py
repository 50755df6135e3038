"""Getting rid of files that are not live any more, and of checkpoints that cannot be used."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import closing, suppress
from typing import Final

from wal.live_set import CHECKPOINT_DIR, LOG_DIR
from wal.manifest import Manifest
from wal.replay import QUARANTINE_DIR, keep_aside, quarantine_of
from wal.segment import TMP_SUFFIX
from wal.vfs import Directory

CHECKPOINT_SUFFIX: Final = ".ckpt"


def remove_retired(space_dir: Directory, log_dir: Directory, retired: Iterable[str]) -> None:
    """Remove files that the manifest has let go of. What fails is done when the log is opened.

    Whoever has one of them mapped keeps it: files are unlinked, never cut.
    """
    segments = [path.removeprefix(f"{LOG_DIR}/") for path in retired if path.startswith(LOG_DIR)]
    others = [path for path in retired if path.startswith(CHECKPOINT_DIR)]
    with suppress(OSError):
        for name in segments:
            with suppress(FileNotFoundError):
                log_dir.remove(name)
        if segments:
            log_dir.sync()
        if others:
            with closing(space_dir.open_dir(CHECKPOINT_DIR)) as checkpoints:
                for path in others:
                    with suppress(FileNotFoundError):
                        checkpoints.remove(path.removeprefix(f"{CHECKPOINT_DIR}/"))
                checkpoints.sync()


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
        for name in checkpoints.names():
            if name in unusable:
                with (
                    closing(quarantine_of(space_dir)) as quarantine,
                    closing(checkpoints.open(name)) as file,
                ):
                    keep_aside(quarantine, name, file.read_at(0, file.size()))
            elif name not in named and name.endswith((CHECKPOINT_SUFFIX, TMP_SUFFIX)):
                checkpoints.remove(name)
        checkpoints.sync()


def clear_quarantine(space_dir: Directory) -> None:
    """Remove all that was set aside, durably. Raises OSError."""
    if not space_dir.exists(QUARANTINE_DIR):
        return
    with closing(space_dir.open_dir(QUARANTINE_DIR)) as quarantine:
        for name in quarantine.names():
            quarantine.remove(name)
        quarantine.sync()
