"""Runs the command line with files so small that a drill fills many of them.

    python -m engram.drill.small serve …

It is the same server in everything but these sizes, which decide how often a log goes on in another
segment, and when it is compacted without being asked.
"""

from __future__ import annotations

import sys
from typing import Final

from engram.spaces import compactor
from engram.spaces.store import Store
from wal.opened import DEFAULT_OPTIONS, LogOptions

SEGMENT_BYTES: Final = 32 << 10
SIZES: Final = {
    "TAIL_BYTES_MAX": 96 << 10,
    "CLOSING_TAIL_BYTES_MIN": 16 << 10,
    "NOTICED_BYTES": 4 << 10,
}


def make_small() -> None:
    for name, size in SIZES.items():
        if not isinstance(getattr(compactor, name), int):
            raise TypeError(f"engram.spaces.compactor.{name} is not a size")
        setattr(compactor, name, size)
    defaults = Store.__init__.__kwdefaults__ or {}
    if defaults.get("options") != DEFAULT_OPTIONS:
        raise TypeError("engram.spaces.store.Store takes no options any more")
    defaults["options"] = LogOptions(segment_bytes=SEGMENT_BYTES)


if __name__ == "__main__":
    from engram.cli.app import main

    make_small()
    sys.exit(main(sys.argv[1:]))
