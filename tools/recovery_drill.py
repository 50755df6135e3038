"""The crash-recovery drill, as `engram drill crash` runs it.

    python tools/recovery_drill.py [--iterations N] [--seed N] [--report FILE] [--json]

Exit codes: 0 every promise was kept, 5 one was not, 1 the drill failed, 130 ended by Ctrl-C.
"""

from __future__ import annotations

import sys

from engram.cli.app import main

if __name__ == "__main__":
    sys.exit(main(["drill", "crash", *sys.argv[1:]]))
