"""Memory space ids: which are valid, and how one is minted. Pure.

An id is also a folder's name, so it must mean the same on every file system: lower-case ASCII, no
dots, and none of the names that Windows reserves for devices.
"""

from __future__ import annotations

import re
from typing import Final

from engram.errors import SpaceInvalid
from engram.limits import SPACE_ID_CHARACTERS_MAX

_VALID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_RESERVED: Final = frozenset(
    ["con", "prn", "aux", "nul"]
    + [f"{device}{digit}" for device in ("com", "lpt") for digit in range(10)]
)
_MINT_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_MINT_CHARACTERS: Final = 16


def check_space_id(text: object) -> str:
    """`text` if it is a valid space id; raises :class:`engram.errors.SpaceInvalid` if not."""
    if not isinstance(text, str):
        raise SpaceInvalid(f"a memory space id is a string, not {type(text).__name__}")
    shown = text if len(text) <= SPACE_ID_CHARACTERS_MAX else text[:SPACE_ID_CHARACTERS_MAX] + "…"
    if len(text) > SPACE_ID_CHARACTERS_MAX:
        raise SpaceInvalid(
            f"the memory space id {shown!r} has {len(text)} characters; at most "
            f"{SPACE_ID_CHARACTERS_MAX} are allowed"
        )
    if not _VALID.fullmatch(text):
        raise SpaceInvalid(
            f"{shown!r} is not a memory space id: use 1 to {SPACE_ID_CHARACTERS_MAX} of a-z, 0-9, "
            "'_' and '-', beginning with a letter or digit"
        )
    if text in _RESERVED:
        raise SpaceInvalid(f"{text!r} is a name that Windows reserves; choose another id")
    return text


def mint_space_id(randomness: bytes) -> str:
    """A new id from 16 random bytes, for a space created without a name; 80 bits of them count."""
    number = int.from_bytes(randomness, "big")
    letters = []
    for _ in range(_MINT_CHARACTERS):
        number, index = divmod(number, len(_MINT_ALPHABET))
        letters.append(_MINT_ALPHABET[index])
    return "m-" + "".join(letters)
