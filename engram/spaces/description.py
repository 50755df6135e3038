"""Spaces as their users are told of them."""

from __future__ import annotations

import msgspec

from engram.errors import SpaceDamaged
from engram.memory.model import SpaceInfo
from engram.memory.times import from_us
from engram.spaces.entry import Entry
from engram.spaces.identity import Identity
from engram.spaces.trash import Buried


def describe(entry: Entry, *, opened_only: bool) -> SpaceInfo:
    """A space's description; with `opened_only`, figures only if it is open already."""
    info = _identified(entry.identity)
    try:
        store = entry.opened if opened_only else entry.store()
    except SpaceDamaged as error:
        return msgspec.structs.replace(info, state="damaged", detail=error.detail)
    if store is None:
        return info
    view = store.state.view
    state, detail = store.condition
    return msgspec.structs.replace(
        info,
        state=state,
        detail=detail,
        retention=store.state.settings.retention,
        decay=store.state.settings.decay,
        forgetting=store.state.settings.forgetting,
        consolidation=store.state.settings.consolidation,
        quotas=store.state.settings.quotas,
        position=view.position,
        memories=view.live_count(store.now_ns() // 1_000),
        bytes=store.log.size_bytes,
        oldest_position=store.log.oldest_position,
        checkpoint_bytes=sum(each.length for each in store.log.checkpoints),
    )


def describe_damaged(space_id: str, error: SpaceDamaged) -> SpaceInfo:
    """One that cannot even say who it is."""
    return SpaceInfo(memory_space_id=space_id, state="damaged", detail=error.detail)


def describe_deleted(buried: Buried) -> SpaceInfo:
    """A space in the trash, from what lies beside it and, if it can be read, its identity."""
    info = SpaceInfo(memory_space_id=buried.memory_space_id, uuid=buried.uuid)
    if buried.identity is not None:
        info = _identified(buried.identity)
    tombstone = buried.tombstone
    return msgspec.structs.replace(
        info,
        state="deleted",
        generation=info.generation if tombstone is None else tombstone.generation,
        deleted_at=None if tombstone is None else from_us(tombstone.deleted_us),
        purge_after=None if tombstone is None else from_us(tombstone.purge_after_us),
        detail=None if tombstone is None else tombstone.damage,
    )


def _identified(identity: Identity) -> SpaceInfo:
    return SpaceInfo(
        memory_space_id=identity.memory_space_id,
        uuid=identity.uuid,
        generation=identity.generation,
        created_at=from_us(identity.created_us),
        embedding=identity.embedding,
    )
