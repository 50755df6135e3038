"""Pattern completion: a partial cue settles on what a space remembers and is filled in. Pure.

Modern Hopfield retrieval (Ramsauer et al. 2020, "Hopfield Networks is All You Need"). With X the
unit vectors of the visible memories as rows, and ξ the state, one step is

    p = softmax(β · (X ξ + a))        ξ ← Xᵀ p

and p is the attention. a, in [0, 1], is how far each memory agrees with the fields that are known,
as the mean over the conditions; it stays throughout, as clamped components of a longer pattern
would. A step never raises the energy

    E(ξ) = ½ ξᵀξ − 1/β · log Σ exp(β · (X ξ + a))

so the state comes to rest, mostly after two or three steps: on one memory where it is told apart
well, between several where they are alike. The first step has no state yet, only the cue: X ξ is
then the mean of the cosines with each vector given, over the components that are known of it.
A cue without any vector takes one step, by the fields alone: further ones would favour whichever
of the memories that agree happen to lie near to each other.

Each field is then put to the vote, every memory having its attention: the value with the most is
the answer, and that attention its confidence. Weights are rounded to WEIGHT_DECIMALS before they
are ordered, and equal ones are ordered by id.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from engram.indexes.vectors import VectorsView
from engram.memory.completion import Completion, Filled, Voter
from engram.memory.model import Memory, Vector
from engram.memory.view import BoolArray, View

STEPS_MAX: Final = 50
MOVED_MIN: Final = 1e-5
"""A state that moves by less, in Euclidean length, has come to rest."""
WEIGHT_DECIMALS: Final = 6
NEGLIGIBLE: Final = 1e-9
"""Attention below this moves no state."""
VOTERS_MAX: Final = 1_000
"""Memories that vote, at most: those with the most attention."""
SINGLE_WEIGHT_MIN: Final = 0.9

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
_T = TypeVar("_T")


class Part(NamedTuple):
    """A vector of the cue, float32 (D,), and which of its components are known, bool (D,); None
    for all of them.
    """

    vector: Vector
    known: BoolArray | None = None


class Cue(NamedTuple):
    """What is given. `agreements` has one array a known field, float64 (rows,) within [0, 1]."""

    parts: tuple[Part, ...]
    agreements: tuple[Floats, ...]


class Settled(NamedTuple):
    """Where a cue came to rest: the attention, float64 (n,), and the state, float64 (D,)."""

    attention: Floats
    state: Floats
    steps: int
    converged: bool


class _Vote(NamedTuple):
    """A memory, its attention, and how it is named in answers."""

    memory: Memory
    voter: Voter


def complete(
    view: View,
    cue: Cue,
    *,
    beta: float,
    limit: int,
    now_us: int,
    include_embedding: bool,
) -> Completion:
    """The cue, filled in from the memories visible at `now_us`; without any, an empty answer.

    `limit` bounds the memories that are named, for each field and in the attractor. `took_ms` is
    left at 0, for whoever has a clock.
    """
    rows = np.flatnonzero(view.visible(now_us))
    if not len(rows):
        return _answer(view, (), beta=beta, limit=limit, settled=None, embedding=None)
    settled = settle(view.vectors, rows, cue, beta)
    embedding = None
    length = float(np.linalg.norm(settled.state))
    if include_embedding and length > 0:
        embedding = (settled.state / length).astype(np.float32)
    votes = _votes(view, rows, settled.attention)
    return _answer(view, votes, beta=beta, limit=limit, settled=settled, embedding=embedding)


def settle(vectors: VectorsView, rows: Rows, cue: Cue, beta: float) -> Settled:
    """Let the cue settle on the vectors in `rows`, of which there must be one at least."""
    bias = np.zeros(len(rows))
    if cue.agreements:
        bias = np.mean([agreement[rows] for agreement in cue.agreements], axis=0)
    overlap = np.zeros(len(rows))
    for part in cue.parts:
        cosine = (
            vectors.cosine(part.vector)
            if part.known is None
            else vectors.cosine_over(part.vector, part.known)
        )
        overlap += cosine[rows] / len(cue.parts)
    attention = _softmax(beta * (overlap + bias))
    state = _mean(vectors, rows, attention)
    if not cue.parts:
        return Settled(attention, state, 1, True)
    for step in range(2, STEPS_MAX + 1):
        attention = _softmax(beta * (_overlap(vectors, state)[rows] + bias))
        moved_to = _mean(vectors, rows, attention)
        moved = float(np.linalg.norm(moved_to - state))
        state = moved_to
        if moved <= MOVED_MIN:
            return Settled(attention, state, step, True)
    return Settled(attention, state, STEPS_MAX, False)


def energy(vectors: VectorsView, rows: Rows, bias: Floats, state: Floats, beta: float) -> float:
    """E(ξ) of the module's head."""
    logits = beta * (_overlap(vectors, state)[rows] + bias)
    high = logits.max()
    return float(state @ state / 2 - (high + np.log(np.exp(logits - high).sum())) / beta)


def _overlap(vectors: VectorsView, state: Floats) -> Floats:
    """X ξ over all rows, float64 (rows,)."""
    overlap: Floats = vectors.cosine(state.astype(np.float32)) * np.linalg.norm(state)
    return overlap


def _mean(vectors: VectorsView, rows: Rows, attention: Floats) -> Floats:
    heard = attention > NEGLIGIBLE
    return vectors.combined(rows[heard], attention[heard])


def _softmax(logits: Floats) -> Floats:
    grown = np.exp(logits - logits.max())
    share: Floats = grown / grown.sum()
    return share


def entropy(attention: Floats) -> float:
    """How widely attention is spread, in nats: 0 on one memory, log(n) evenly on n."""
    heard = attention[attention > 0]
    return abs(float((heard * np.log(heard)).sum()))


def _votes(view: View, rows: Rows, attention: Floats) -> Sequence[_Vote]:
    """The memories with any attention to speak of, most first."""
    weights = attention.round(WEIGHT_DECIMALS)
    heard = np.flatnonzero(weights > 0)
    if len(heard) > VOTERS_MAX:
        # All at or above the last place, so that ties there are broken by id.
        last = np.partition(weights[heard], -VOTERS_MAX)[-VOTERS_MAX]
        above, at = heard[weights[heard] > last], heard[weights[heard] == last]
        by_id = sorted(at.tolist(), key=lambda i: view.version(int(rows[i])).id)
        heard = np.concatenate([above, np.array(by_id, np.intp)])[:VOTERS_MAX]
    votes = []
    for i in heard.tolist():
        memory = view.memory(int(rows[i]))
        voter = Voter(id=memory.id, position=memory.position, weight=float(weights[i]))
        votes.append(_Vote(memory, voter))
    return sorted(votes, key=lambda vote: (-vote.voter.weight, vote.voter.id))


def _answer(
    view: View,
    votes: Sequence[_Vote],
    *,
    beta: float,
    limit: int,
    settled: Settled | None,
    embedding: Vector | None,
) -> Completion:
    def of(value_of: Callable[[Memory], _T | None]) -> Filled[_T] | None:
        return _elected(((vote.voter, value_of(vote.memory)) for vote in votes), limit)

    keys = dict.fromkeys(key for vote in votes for key in vote.memory.metadata)
    metadata = {
        key: _elected(((vote.voter, vote.memory.metadata.get(key)) for vote in votes), limit)
        for key in sorted(keys)
    }
    return Completion(
        memory_space_id=view.memory_space_id,
        position=view.position,
        beta=beta,
        steps=0 if settled is None else settled.steps,
        converged=settled is None or settled.converged,
        entropy=0.0 if settled is None else round(entropy(settled.attention), WEIGHT_DECIMALS),
        single=bool(votes) and votes[0].voter.weight >= SINGLE_WEIGHT_MIN,
        attractor=tuple(vote.voter for vote in votes[:limit]),
        content=of(lambda memory: memory.content),
        kind=of(lambda memory: str(memory.kind)),
        source=of(lambda memory: memory.source),
        occurred_at=of(_occurred_at),
        tags=tuple(_shared_tags(votes, limit)),
        metadata={key: filled for key, filled in metadata.items() if filled is not None},
        took_ms=0.0,
        embedding=embedding,
    )


def _occurred_at(memory: Memory) -> datetime | None:
    return memory.occurred_at


def _elected(votes: Iterable[tuple[Voter, Any]], limit: int) -> Filled[Any] | None:
    """The value with the most attention; None where most is on memories without one.

    Of values with as much attention the one that stands first wins, so votes come in order.
    """
    values: dict[Hashable, Any] = {}
    voters: dict[Hashable, list[Voter]] = {}
    for voter, value in votes:
        key = _comparable(value)
        values.setdefault(key, value)
        voters.setdefault(key, []).append(voter)
    if not values:
        return None
    winner = max(voters, key=lambda key: _mass(voters[key]))
    if values[winner] is None:
        return None
    return _filled(values[winner], voters[winner], limit)


def _shared_tags(votes: Sequence[_Vote], limit: int) -> list[Filled[str]]:
    """The tags that at least half of the attention is on, surest first."""
    voters: dict[str, list[Voter]] = {}
    for vote in votes:
        for tag in vote.memory.tags:
            voters.setdefault(tag, []).append(vote.voter)
    shared = [_filled(tag, those, limit) for tag, those in voters.items() if _mass(those) >= 0.5]
    return sorted(shared, key=lambda filled: (-filled.confidence, filled.value))


def _filled(value: _T, voters: Sequence[Voter], limit: int) -> Filled[_T]:
    return Filled(value=value, confidence=_mass(voters), evidence=tuple(voters[:limit]))


def _mass(voters: Iterable[Voter]) -> float:
    """Attention in all, within [0, 1] whatever rounding did to its parts."""
    return min(1.0, round(sum(voter.weight for voter in voters), WEIGHT_DECIMALS))


def _comparable(value: Any) -> Hashable:
    """Equal for equal values; a JSON value that cannot be hashed is its text."""
    if isinstance(value, list | dict | bool | int | float):
        return ("json", msgspec.json.encode(value, order="sorted"))
    return value  # type: ignore[no-any-return]  # text, a time, or nothing
