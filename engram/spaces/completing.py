"""What a handle can do with a partial cue: check it, make evidence of it, and have it filled in."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np

from engram import limits
from engram.cognition.completion import Cue, Floats, Part
from engram.cognition.completion import complete as completed
from engram.errors import Invalid
from engram.memory import validate as check
from engram.memory.completion import Completion, Known
from engram.memory.model import EmbeddingSpec, Filter, Vector
from engram.memory.view import View
from engram.spaces.requests import check_beta, check_known, check_limit

if TYPE_CHECKING:
    from engram.spaces.entry import Entry
    from engram.spaces.store import Store


class _Handle(Protocol):
    """What completing needs of the handle it is a part of."""

    _entry: Entry
    _spec: EmbeddingSpec

    def _store(self) -> Store: ...

    def _embed(self, texts: Sequence[str]) -> Vector: ...


class Completing:
    """The part of :class:`engram.Space` that completes patterns."""

    def complete(
        self: _Handle,
        query: str | None = None,
        *,
        embedding: Sequence[float | None] | Vector | None = None,
        known: Known | Mapping[str, Any] | None = None,
        beta: float = limits.BETA_DEFAULT,
        limit: int = 10,
        include_embedding: bool = False,
    ) -> Completion:
        """Fill in a partial cue from what the space remembers (modern Hopfield retrieval).

        The cue is a text, a vector that may be noisy or partial (None or NaN where a component is
        not known), fields that are `known`, or several of these. It settles on the memories that
        it is nearest to; the fields they agree on are the answer, each with how much of the
        attention says so and which memories. `beta`, from 0.01 to 1000, is how sharply memories
        are told apart: low answers are what many have in common, high ones a single memory.
        `limit` bounds the memories named for each field. It only reads, and leaves no event.

        Raises :class:`engram.errors.Invalid`, `TooLarge` and `EmbedderUnavailable`.
        """
        started = time.perf_counter()
        check_limit("limit", limit, limits.RECALL_LIMIT_MAX)
        beta = check_beta(beta)
        check.check_flag("include_embedding", include_embedding)
        given = check_known(known)
        if query is not None:
            query = check.check_query("query", query)
        parts = []
        if embedding is not None:
            vector, there = check.check_partial_vector(
                "embedding", embedding, self._spec.dimensions
            )
            parts.append(Part(vector, None if there.all() else there))
        if query is None and not parts and given == Known():
            raise Invalid("no cue was given: name at least one of query, embedding, known")
        store = self._store()
        texts = [text for text in (query, given.content) if text is not None]
        if texts and self._spec.model != check.CALLER:
            parts += [Part(vector) for vector in self._embed(texts)]
        now_us = store.now_ns() // 1_000
        view = store.state.view
        with self._entry.computing:
            completion = completed(
                view,
                Cue(tuple(parts), tuple(_agreements(view, query, given, now_us))),
                beta=beta,
                limit=limit,
                now_us=now_us,
                include_embedding=include_embedding,
            )
        took_ms = round((time.perf_counter() - started) * 1_000, 3)
        return msgspec.structs.replace(completion, took_ms=took_ms)


def _agreements(view: View, query: str | None, known: Known, now_us: int) -> Iterator[Floats]:
    """How far each row agrees with each thing that is known, float64 (rows,) within [0, 1]."""
    visible = view.visible(now_us)
    for text in (query, known.content):
        if text is not None:
            lexical = view.lexicon.score(text, visible)
            if lexical.query_terms:
                yield lexical.coverage.astype(np.float64)
    conditions = [Filter(tags_all=(tag,)) for tag in known.tags]
    conditions += [Filter(metadata={key: value}) for key, value in known.metadata.items()]
    if known.kind is not None:
        conditions.append(Filter(kind=known.kind))
    if known.source is not None:
        conditions.append(Filter(source=known.source))
    if known.since is not None or known.until is not None:
        conditions.append(Filter(since=known.since, until=known.until))
    for condition in conditions:
        yield view.matching(condition, visible).astype(np.float64)
