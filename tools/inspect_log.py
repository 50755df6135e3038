"""`engram log` out of the repository: `python tools/inspect_log.py inspect PATH`, and so on."""

from __future__ import annotations

import sys
from pathlib import Path

# Run as a file, Python looks for modules beside it; the packages are one folder up.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engram.cli.app import main

if __name__ == "__main__":
    sys.exit(main(["log", *sys.argv[1:]]))
