"""Decoders of JSON, each made once. Pure.

msgspec prepares a type of struct when it is first asked to decode one. A second thread that decodes
the same type meanwhile finds it half prepared and ends the process (0.22, a null pointer), which is
what a server's first requests do. So every type that threads decode gets its decoder here, or while
its module is imported.
"""

from __future__ import annotations

import threading
from typing import Any, Final, TypeVar

import msgspec

T = TypeVar("T")

_making: Final = threading.Lock()
_made: Final[dict[Any, msgspec.json.Decoder[Any]]] = {}


def decoder_of(type_: type[T]) -> msgspec.json.Decoder[T]:
    """The one decoder of a type, which several threads may ask for and use at once."""
    decoder = _made.get(type_)
    if decoder is None:
        with _making:
            decoder = _made.get(type_)
            if decoder is None:
                decoder = _made[type_] = msgspec.json.Decoder(type_)
    return decoder
