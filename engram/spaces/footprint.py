"""What a state takes in memory: found by looking, so that no column can be left out.

Walks through a state's own objects and its indexes' to the arrays that they hold. Buffers are
counted whole, spare room included, each once however many views of it there are. Bytes mapped from
a file are counted apart: the system takes them back when it needs to.
"""

from __future__ import annotations

import mmap
from typing import Any, Final, NamedTuple

import numpy as np

from engram.memory.state import State
from engram.memory.view import View

_DICT_ENTRY_BYTES: Final = 160
"""A key, a value and their place in the table, about."""
_LOOKED_INTO: Final = (State, View)
_INDEXES: Final = "engram.indexes."


class Footprint(NamedTuple):
    """Bytes of memory held, about; and of files mapped, which may be in memory or not."""

    held: int
    mapped: int


def footprint(state: State) -> Footprint:
    """What a state takes now. May be called beside the thread that applies to it."""
    held = mapped = 0
    seen: set[int] = set()
    found: list[Any] = [state]
    while found:
        thing = found.pop()
        if isinstance(thing, np.ndarray):
            thing = _owner(thing)
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, np.ndarray):
            held += thing.nbytes
        elif isinstance(thing, mmap.mmap):
            mapped += len(thing)
        elif isinstance(thing, bytes | bytearray):
            held += len(thing)
        elif isinstance(thing, dict):
            held += len(thing) * _DICT_ENTRY_BYTES  # not gone through: it may change meanwhile
        elif isinstance(thing, tuple):
            found += thing
        elif isinstance(thing, _LOOKED_INTO) or type(thing).__module__.startswith(_INDEXES):
            found += _attributes(thing)
    return Footprint(held, mapped)


def _owner(array: np.ndarray[Any, Any]) -> object:
    """What has the memory of an array: the array it is a view of, a mapped file, or bytes."""
    base: Any = array
    while True:
        below = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
        if below is None:
            return base
        base = below


def _attributes(thing: object) -> list[Any]:
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    return [
        *list(getattr(thing, "__dict__", {}).values()),
        *[getattr(thing, name) for name in slots if hasattr(thing, name)],
    ]
