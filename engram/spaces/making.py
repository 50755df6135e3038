"""What has to hold before a space is made, anew or from a bundle."""

from __future__ import annotations

import secrets

from engram.embedding.protocol import TriedEmbedder
from engram.embedding.registry import embedder_for
from engram.errors import SpaceExists
from engram.memory.model import EmbeddingSpec
from engram.memory.validate import CALLER, check_embedding_spec
from engram.spaces.identity import Identity
from engram.spaces.lifecycle import Lifecycle
from engram.spaces.store import translated
from wal.vfs import Directory


def check_embedder(spec: EmbeddingSpec) -> None:
    """Refuse an embedding that cannot be made here. Takes as long as the network does."""
    check_embedding_spec(spec)
    if spec.model != CALLER:
        embedder = embedder_for(spec)
        if isinstance(embedder, TriedEmbedder):
            embedder.check()


def new_identity(lifecycle: Lifecycle, space_id: str, spec: EmbeddingSpec, now_ns: int) -> Identity:
    """Who a space that is made now is."""
    with translated(space_id):
        generation = lifecycle.next_generation(space_id)
    return Identity(
        memory_space_id=space_id,
        uuid=secrets.token_hex(16),
        generation=generation,
        created_us=now_ns // 1_000,
        embedding=spec,
    )


def check_free(
    root: Directory, lifecycle: Lifecycle, space_id: str, generation: int | None = None
) -> None:
    """Raise :class:`engram.errors.SpaceExists` or `SpaceDeleted` if no space of that id can be
    made, or not any more in that generation.
    """
    lifecycle.refuse_deleted(space_id)
    if root.exists(space_id):
        raise SpaceExists(
            f"the id {space_id!r} is taken already. Choose another one, or delete what is there",
            memory_space_id=space_id,
        )
    with translated(space_id):
        now = lifecycle.next_generation(space_id)
    if generation not in {None, now}:
        raise SpaceExists(
            f"a space {space_id!r} was made and deleted meanwhile. Do it again",
            memory_space_id=space_id,
        )
