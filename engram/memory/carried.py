"""What a space takes with it that begins with the memories of another one, and other vectors. Pure.

Its history begins behind the position they are of: what was before holds vectors that another
embedder made. So it is a base like one that retention leaves, with one difference: what is
forgotten comes along too, so that it can be restored there and its revisions count on.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from engram.indexes.vectors import ROWS_PER_BLOCK, Float32Array, inverse_norms
from engram.memory.columns import StateColumns, compact
from engram.memory.events import MemoryVersion
from engram.memory.purges import is_husk
from engram.memory.state import State
from engram.memory.view import version_in


def carried(state: State) -> StateColumns:
    """The newest row of each id, living, forgotten or purged, with its links and the settings. The
    vectors are still those of the state.
    """
    return compact(state.freeze(), state.view.position, ended_to=0)


def to_embed(columns: StateColumns) -> Iterator[tuple[int, MemoryVersion]]:
    """The rows that have a content, and what is in them; what was purged has none."""
    for row in range(len(columns.documents)):
        version = version_in(columns.documents.get(row))
        if not is_husk(version):
            yield row, version


def with_vectors(columns: StateColumns, vectors: Float32Array) -> StateColumns:
    """The same with other vectors, float32 (rows, D)."""
    norms = np.empty(len(vectors), np.float32)
    for first in range(0, len(vectors), ROWS_PER_BLOCK):  # they are widened, so not all at once
        block = slice(first, first + ROWS_PER_BLOCK)
        norms[block] = inverse_norms(vectors[block])
    return columns._replace(vectors=(vectors, norms))
