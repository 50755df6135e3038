"""Many records at once, for whoever writes a log out of another one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from wal.codec import Draft
from wal.log import Log

GROUP_BYTES: Final = 4 << 20


def append_all(log: Log, drafts: Iterable[Draft]) -> None:
    """Append them in groups, each of which is durable before the next is taken. Raises what
    :meth:`wal.log.Log.append` and `sync` raise.
    """
    group: list[Draft] = []
    size = 0
    for draft in drafts:
        group.append(draft)
        size += sum(memoryview(part).nbytes for part in draft.payload)
        if size >= GROUP_BYTES:
            log.append(group)
            log.sync()
            group, size = [], 0
    log.append(group)
    log.sync()
