"""Embedding anew what a space remembers, in pieces that are kept as they are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple

import numpy as np

from engram.embedding.protocol import Embedder
from engram.embedding.registry import KNOWN, is_known
from engram.errors import EmbedderUnavailable, Invalid
from engram.indexes.vectors import Float32Array
from engram.memory.carried import to_embed
from engram.memory.columns import StateColumns
from engram.memory.events import MemoryVersion
from engram.memory.model import EmbeddingSpec, Vector
from engram.memory.validate import CALLER, check_embedding_spec
from engram.spaces.portable import Progress
from engram.spaces.staged import Staged

PIECE_MEMORIES_MAX: Final = 128
PIECE_BYTES_MAX: Final = 64 << 10
"""So that what is lost by a cut is seconds of work, also with texts that take a second each."""
Piece = list[tuple[int, MemoryVersion]]
Errors = Callable[[], AbstractContextManager[None]]


class Embedded(NamedTuple):
    """One vector per row, zero for what was purged; how many were made, and how many before."""

    vectors: Float32Array
    memories: int
    resumed: int


def check_target(spec: EmbeddingSpec, own: EmbeddingSpec) -> None:
    """Refuse an embedding that a space cannot be copied into; asks nobody and loads nothing."""
    check_embedding_spec(spec)
    if spec == own:
        raise Invalid.of(
            "embedding",
            f"{spec.model} is what the space has already. Leave it out for a copy with the same "
            "vectors, and all of the history",
        )
    if spec.model == CALLER:
        raise Invalid.of(
            "embedding.model",
            f"{CALLER!r} means vectors that come with the memories, so there is nothing to embed "
            f"with; use one of {KNOWN}",
        )
    if not is_known(spec.model):
        raise Invalid.of("embedding.model", f"{spec.model!r} is not known; use one of {KNOWN}")


def embedded(
    columns: StateColumns,
    embedder: Embedder,
    staged: Staged,
    errors: Errors,
    progress: Progress | None,
) -> Embedded:
    """The vectors of all rows. Raises `Invalid` for a text that the embedder can make nothing of,
    `EmbedderUnavailable`, what `errors` makes of a failing disk, and what `progress` raises; what
    was done is staged then.
    """
    total = sum(1 for _ in to_embed(columns))
    vectors = np.zeros((len(columns.documents), embedder.dimensions), np.float32)
    done = resumed = 0
    if progress is not None:
        progress(done, total)
    for piece in _pieces(columns):
        try:
            resumed += _embed(piece, embedder, staged, errors, vectors)
        except EmbedderUnavailable as error:
            error.detail = (
                f"{error.detail}. {done} of {total} memories are embedded and kept: the same "
                "command goes on from there"
            )
            raise
        done += len(piece)
        if progress is not None:
            progress(done, total)
    return Embedded(vectors, done, resumed)


def _pieces(columns: StateColumns) -> Iterator[Piece]:
    piece: Piece = []
    size = 0
    for row, version in to_embed(columns):
        piece.append((row, version))
        size += len(version.content)
        if len(piece) >= PIECE_MEMORIES_MAX or size >= PIECE_BYTES_MAX:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _embed(
    piece: Piece, embedder: Embedder, staged: Staged, errors: Errors, vectors: Float32Array
) -> int:
    """Fill in the vectors of a piece; how many of its memories an attempt before had staged."""
    digests = [staged.digest(version.content) for _, version in piece]
    with errors():
        known = {digest: staged.get(digest) for digest in digests}
    missing: dict[bytes, MemoryVersion] = {}
    for digest, (_, version) in zip(digests, piece, strict=True):
        if known[digest] is None:
            missing.setdefault(digest, version)
    if missing:
        made = _made(list(missing.values()), embedder)
        with errors():
            staged.put(missing, made)
        known |= zip(missing, made, strict=True)
    for digest, (row, _) in zip(digests, piece, strict=True):
        vectors[row] = known[digest]
    return sum(staged.is_older(digest) for digest in digests)


def _made(versions: Sequence[MemoryVersion], embedder: Embedder) -> Vector:
    try:
        return embedder.embed([version.content for version in versions])
    except Invalid:
        for version in versions:
            try:
                embedder.embed([version.content])
            except Invalid as error:
                raise Invalid.of(
                    "embedding",
                    f"{embedder.model} can make nothing of memory {version.id!r} ({error.detail}). "
                    "Revise it, or purge it if it is forgotten",
                ) from error
        raise
