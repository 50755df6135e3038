"""What the checkpoints of earlier versions lack, worked out from the memories they hold. Pure."""

from __future__ import annotations

import numpy as np

from engram.indexes.forward import Forward, ForwardColumns
from engram.indexes.sequences import SequenceColumns, Sequences
from engram.indexes.tokens import tokenise_many
from engram.indexes.uses import CompanyColumns, UseColumns, no_company, no_uses
from engram.memory.columns import Int64Array, StateColumns
from engram.memory.view import version_in


def newer_columns(
    columns: StateColumns,
) -> tuple[ForwardColumns, SequenceColumns, UseColumns, CompanyColumns]:
    """The terms, sequences and uses of a checkpoint, and the company of these, also of one that has
    none. Raises msgspec.MsgspecError for what is no memory.
    """
    uses, company = columns.uses, columns.company
    if uses is None:
        uses = no_uses(np.minimum(times_of(columns), columns.stored_us), columns.position)
    if company is None:
        company = no_company(uses, columns.position)
    if columns.forward is not None and columns.sequences is not None:
        return columns.forward, columns.sequences, uses, company
    versions = [version_in(columns.documents.get(row)) for row in range(len(columns.documents))]
    forward, sequences = Forward(), Sequences()
    forward.extend(tokenise_many([version.content for version in versions]))
    sequences.extend([version.source for version in versions], times_of(columns))
    return forward.view().columns, sequences.view().columns(), uses, company


def times_of(columns: StateColumns) -> Int64Array:
    """The time of each row in microseconds, int64 (rows,)."""
    times, rows = columns.timeline
    found = np.zeros(len(rows), np.int64)
    found[rows] = times
    return found
