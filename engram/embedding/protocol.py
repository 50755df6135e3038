"""What an embedder is: a named, pinned function from texts to vectors.

A space is pinned to one embedder by name and number of dimensions when it is created; the same name
must therefore always mean the same vectors, bit for bit, whatever else changes. An embedder that
cannot work says so; it never answers with a vector that does not come from the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt


class Embedder(Protocol):
    """Turns texts into vectors; safe to call from several threads at once."""

    @property
    def model(self) -> str:
        """The name spaces are pinned to."""
        ...

    @property
    def dimensions(self) -> int:
        """The length of every vector."""
        ...

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """One vector per text: float32 (n, dimensions), finite, never all zero.

        A text's vector does not depend on what else is in the batch. Raises EmbedderUnavailable
        where the model cannot be used, Invalid for a text it can make nothing of.
        """
        ...


@runtime_checkable
class TriedEmbedder(Embedder, Protocol):
    """An embedder that depends on what may be missing here (a server, an optional package)."""

    def check(self) -> None:
        """Try it, over the network or on disk, so that no space is pinned to what does not work.

        Raises EmbedderUnavailable or EmbedderMismatch, saying what to do.
        """
        ...
