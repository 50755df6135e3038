"""What a recall begins with and what it leaves: a cue out of what was given, the way to search by
it, and the event that says what was recalled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final

import numpy as np

from engram import limits
from engram.cognition.matching import Cue
from engram.cognition.recall import Answer, activated
from engram.errors import Invalid, MemoryNotFound
from engram.memory import validate as check
from engram.memory.decide import Observe
from engram.memory.events import ActivationSpread, MemoryRecalled
from engram.memory.model import Hit, Mode, Spread, Vector
from engram.memory.view import View
from engram.spaces.identity import Identity

_DIGEST_BYTES: Final = 16


def check_how(
    mode: object, min_confidence: object, spread: object, *, explain: object, record: object
) -> None:
    """Raise :class:`engram.errors.Invalid` for a way of recalling that there is not."""
    if min_confidence is not None:
        check.check_confidence("min_confidence", min_confidence)
    check.check_spread("spread", spread)
    check.check_flag("explain", explain)
    check.check_flag("record", record)
    check.check_mode("mode", mode)


def found(space_id: str, memory_ids: Sequence[str], rows: Sequence[int | None]) -> Sequence[int]:
    """The rows of memories given as a cue. Raises `MemoryNotFound` for the first without one."""
    present = [row for row in rows if row is not None]
    if len(present) < len(rows):
        index = rows.index(None)
        raise MemoryNotFound(
            f"memory_ids[{index}]: there is no memory {memory_ids[index]!r} in space {space_id!r}",
            memory_space_id=space_id,
        )
    return present


def cue_of(
    view: View,
    rows: Sequence[int],
    query: str | None,
    embedding: Sequence[float] | Vector | None,
    *,
    dimensions: int,
    embed: Callable[[Sequence[str]], Vector] | None,
) -> Cue:
    """Words joined, directions averaged. `rows` hold the memories that are cues; `embed` makes a
    direction of the query, where the space has an embedder and the mode asks for one.

    Raises :class:`engram.errors.Invalid`, and what `embed` raises.
    """
    if query is None and embedding is None and not rows:
        raise Invalid("no cue was given: name at least one of query, embedding, memory_ids")
    texts, vectors = list[str](), list[Vector]()
    if query is not None:
        texts.append(check.check_query("query", query))
        if embed is not None:
            vectors.append(embed([query])[0])
    if embedding is not None:
        vectors.append(check.check_cue_vector("embedding", embedding, dimensions))
    for row in rows:
        texts.append(view.version(row).content)
        vectors.append(view.vectors.row(row))
    vector = None
    if vectors:
        directions = np.stack(vectors).astype(np.float64)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        vector = directions.mean(axis=0).astype(np.float32)
    return Cue(" ".join(texts) if texts else None, vector, tuple(rows))


def mode_for(cue: Cue, asked: Mode | None, spread: Spread | None) -> Mode:
    """The mode asked for, or else the one that uses all of a cue.

    Raises :class:`engram.errors.Invalid` if the cue lacks what the mode needs, or the mode what
    `spread` is about.
    """
    if spread is not None and asked not in {None, "spreading"}:
        raise Invalid.of("spread", f"has no meaning in mode {asked}; it needs spreading")
    if asked == "similarity" and cue.vector is None:
        raise Invalid.of(
            "mode",
            "similarity needs a vector, and this space has no embedder to make one: give "
            "`embedding` or `memory_ids`",
        )
    if asked == "lexical" and cue.text is None:
        raise Invalid.of("mode", "lexical needs words: give `query` or `memory_ids`")
    if asked is not None:
        return asked
    return "spreading" if spread is not None or cue.text is not None else "similarity"


def observed(
    identity: Identity, view: View, recall_id: str, mode: Mode, query: str | None, answer: Answer
) -> Observe:
    """What to put on record of a recall: its answer, and what was lit where anything was."""
    event = _recalled(identity, recall_id, mode, query, answer.hits)
    if answer.lit is None:
        return Observe((event,))
    lit = activated(view, answer.lit, limits.ACTIVATED_IDS_RECORDED_MAX)
    if not lit:
        return Observe((event,))
    spread = ActivationSpread(
        recall_id=recall_id,
        ids=tuple(each.id for each in lit),
        activations=tuple(each.activation for each in lit),
        hops=tuple(each.hop for each in lit),
    )
    return Observe((event, spread))


def _recalled(
    identity: Identity, recall_id: str, mode: Mode, query: str | None, hits: Sequence[Hit]
) -> MemoryRecalled:
    """The event. Of the query it has a digest under the space's uuid, not the words."""
    noted = hits[: limits.RECALLED_IDS_RECORDED_MAX]
    digest = None
    if query is not None:
        key = identity.uuid_bytes
        digest = blake2b(query.encode(), digest_size=_DIGEST_BYTES, key=key).hexdigest()
    return MemoryRecalled(
        recall_id=recall_id,
        mode=mode,
        query_digest=digest,
        ids=tuple(hit.memory.id for hit in noted),
        scores=tuple(hit.score for hit in noted),
    )
