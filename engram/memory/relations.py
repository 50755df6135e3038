"""What a link means if nobody said it. It loads nothing, so that help can show it at once."""

from __future__ import annotations

from typing import Final

RELATED: Final = "related"
