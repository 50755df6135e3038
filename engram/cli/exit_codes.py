"""Exit codes that are no error's; those of errors stand with them in :mod:`engram.errors`."""

from __future__ import annotations

from typing import Final

INTERRUPTED: Final = 130
"""What shells give for a command that Ctrl-C ended."""
