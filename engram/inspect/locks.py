"""Who holds a space's lock, without asking for it: trying would keep a starting server out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from wal.log import LOCK_NAME

KERNEL_LOCKS: Final = Path("/proc/locks")
_FLOCK: Final = re.compile(r"FLOCK +\w+ +WRITE +\d+ +[0-9a-f]+:[0-9a-f]+:(\d+) ")
_OWNER_CHARACTERS_MAX: Final = 4_096


def lock_owner(space: Path) -> str | None:
    """What the holder of the lock calls itself; None if nobody holds it, or nobody can say.

    Linux lists the locks of the processes one may see. Device numbers are not compared: on some
    file systems (btrfs, overlays) that list has others than files report.
    """
    lock = space / LOCK_NAME
    try:
        inode = lock.stat().st_ino
        held = {int(found[1]) for found in _FLOCK.finditer(KERNEL_LOCKS.read_text())}
        if inode not in held:
            return None
        with lock.open(encoding="utf-8", errors="replace") as file:
            return file.read(_OWNER_CHARACTERS_MAX).strip() or "another process"
    except OSError:
        return None
