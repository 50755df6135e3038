"""The kinds of memory there are."""

from __future__ import annotations

from typing import Final, Literal

Kind = Literal["episode", "belief", "fact"]
KINDS: Final[tuple[Kind, ...]] = ("episode", "belief", "fact")
