"""What has to hold before a space is made, anew or from a bundle."""

from __future__ import annotations

import secrets
from contextlib import suppress

from engram.embedding.protocol import TriedEmbedder
from engram.embedding.registry import embedder_for
from engram.errors import OutcomeUnknown, SpaceExists
from engram.memory.events import Event, SpaceConfigured, SpaceCreated
from engram.memory.model import EmbeddingSpec
from engram.memory.payload import NO_VECTORS, Batch, encode_batch
from engram.memory.quotas import NO_QUOTAS, Quotas
from engram.memory.validate import CALLER, check_embedding_spec
from engram.spaces.identity import Identity, write_identity
from engram.spaces.layout import TMP_DIR
from engram.spaces.lifecycle import Lifecycle
from engram.spaces.store import NONCE_BYTES, translated
from wal.codec import Draft
from wal.create import create_log
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


def build_space(
    root: Directory, control: Directory, identity: Identity, quotas: Quotas | None, now_ns: int
) -> None:
    """Lay a new space out in tmp, durably, then rename it into place, durably.

    Raises OSError with nothing there, and :class:`engram.errors.OutcomeUnknown`.
    """
    space_id = identity.memory_space_id
    created = SpaceCreated(
        memory_space_id=space_id,
        generation=identity.generation,
        embedding_model=identity.embedding.model,
        dimensions=identity.embedding.dimensions,
    )
    # One record, so that no crash leaves a space without the quotas it was to have.
    events: list[Event] = [created]
    if quotas is not None and quotas != NO_QUOTAS:
        events.append(SpaceConfigured(quotas=quotas))
    payload = encode_batch(Batch(events, NO_VECTORS))
    tmp = control.open_dir(TMP_DIR)
    try:
        space_dir = tmp.make_dir(identity.uuid)
        try:
            write_identity(space_dir, identity)
            create_log(
                space_dir,
                space_uuid=identity.uuid_bytes,
                nonce=secrets.token_bytes(NONCE_BYTES),
                now_ns=now_ns,
                first=Draft(payload, len(events), now_ns),
            )
        finally:
            space_dir.close()
        tmp.rename(identity.uuid, root, space_id)
    except OSError:
        # What is half made takes room, which may be what was missing. What cannot be removed
        # now is removed at the next start.
        with suppress(OSError):
            tmp.remove_tree(identity.uuid)
        raise
    finally:
        tmp.close()
    try:
        root.sync()
    except OSError as error:
        raise OutcomeUnknown(
            f"space {space_id!r} was made, but may not outlive a power failure: "
            f"{error.strerror}. See whether it is there, and create it again if not",
            memory_space_id=space_id,
        ) from error
