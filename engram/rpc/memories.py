"""What each call of MemoryService does, but for those that stream: one function a call.

All functions here block; :mod:`engram.rpc.serving` runs them in worker threads. They are given the
space's handle, found by the one resolver: they cannot touch any other space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engram import limits
from engram.memory.relations import RELATED
from engram.rpc.calls import Rpc
from engram.rpc.requests import (
    RECALL_LIMIT_DEFAULT,
    after_in,
    as_of_in,
    changes_in,
    embedding_in,
    filter_in,
    if_match_in,
    known_in,
    matching_in,
    mode_of,
    new_memories,
    on_conflict_of,
    optional,
    spread_in,
    vector_in,
)
from engram.rpc.values import told
from engram.v1 import memories_pb2 as pb
from engram.v1 import types_pb2

if TYPE_CHECKING:
    from engram import PurgeReceipt, Remembered, Space


def remember(space: Space, given: pb.RememberRequest) -> pb.RememberResponse:
    return told(pb.RememberResponse, remembered(space, given))


def remembered(space: Space, given: pb.RememberRequest | pb.RememberManyRequest) -> Remembered:
    return space.remember_many(
        new_memories(given.memories),
        on_conflict=on_conflict_of(given.on_conflict),
        embedded_by=embedding_in(given, "embedded_by"),
    )


def remembering(given: pb.RememberRequest | pb.RememberManyRequest) -> str:
    """What it is called among those operations that need different rights."""
    return "remember_skipping" if given.on_conflict == pb.ON_CONFLICT_SKIP else "remember"


def recall(space: Space, given: pb.RecallRequest) -> pb.RecallResponse:
    recalled = space.recall(
        optional(given, "query"),
        embedding=vector_in(given),
        memory_ids=list(given.memory_ids),
        limit=optional(given, "limit", RECALL_LIMIT_DEFAULT),
        mode=mode_of("mode", given.mode),
        filter=filter_in(given),
        min_confidence=optional(given, "min_confidence"),
        as_of=as_of_in(given),
        spread=spread_in(given),
        explain=given.explain,
        record=optional(given, "record", True),
    )
    return told(pb.RecallResponse, recalled)


def complete(space: Space, given: pb.CompleteRequest) -> pb.CompleteResponse:
    completion = space.complete(
        optional(given, "query"),
        embedding=vector_in(given),
        known=known_in(given),
        beta=optional(given, "beta", limits.BETA_DEFAULT),
        limit=optional(given, "limit", RECALL_LIMIT_DEFAULT),
        include_embedding=given.include_embedding,
    )
    return told(pb.CompleteResponse, completion)


def get(space: Space, given: pb.GetMemoryRequest) -> types_pb2.Memory:
    as_of, included = as_of_in(given), given.include_embedding
    return told(types_pb2.Memory, space.get(given.id, include_embedding=included, as_of=as_of))


def list_memories(space: Space, given: pb.ListMemoriesRequest) -> pb.ListMemoriesResponse:
    page = space.list(
        filter_in(given),
        limit=optional(given, "limit", limits.LIST_LIMIT_DEFAULT),
        after=after_in(given),
        include_embedding=given.include_embedding,
        as_of=as_of_in(given),
    )
    return told(pb.ListMemoriesResponse, page)


def history(space: Space, given: pb.HistoryRequest) -> pb.HistoryResponse:
    events = [told(types_pb2.Event, event) for event in space.history(given.id)]
    return pb.HistoryResponse(memory_space_id=space.id, id=given.id, events=events)


def revise(space: Space, given: pb.ReviseRequest) -> types_pb2.Memory:
    return told(
        types_pb2.Memory, space.revise(given.id, changes_in(given), if_match=if_match_in(given))
    )


def forget(space: Space, given: pb.ForgetRequest) -> pb.ForgetResponse:
    wanted, if_match = matching_in(given), if_match_in(given)
    if not given.purge and wanted is None:
        gone = space.forget(given.id, if_match=if_match)
        return pb.ForgetResponse(forgotten=told(pb.Forgotten, gone))
    if not given.purge and wanted is not None:
        matching = space.forget_matching(wanted)
        return pb.ForgetResponse(matching=told(pb.ForgottenMatching, matching))
    if wanted is None:
        receipt: PurgeReceipt | None = space.purge(given.id, if_match=if_match)
    else:
        receipt = space.purge_matching(wanted)
    if receipt is None:
        return pb.ForgetResponse()
    return pb.ForgetResponse(receipt=told(types_pb2.PurgeReceipt, receipt))


def restore(space: Space, given: pb.RestoreMemoryRequest) -> types_pb2.Memory:
    return told(types_pb2.Memory, space.restore(given.id, if_match=if_match_in(given)))


def link(space: Space, given: pb.LinkRequest) -> types_pb2.Link:
    made = space.link(
        given.source,
        given.target,
        # Left out it is refused, as it is over HTTP.
        weight=optional(given, "weight", 0.0),
        relation=optional(given, "relation", RELATED),
    )
    return told(types_pb2.Link, made)


def unlink(space: Space, given: pb.UnlinkRequest) -> pb.Unlinked:
    gone = space.unlink(given.source, given.target, optional(given, "relation"))
    return told(pb.Unlinked, gone)


def links(space: Space, given: pb.LinksRequest) -> pb.LinksResponse:
    limit = optional(given, "limit", limits.LIST_LIMIT_DEFAULT)
    page = space.links(given.memory_id, limit=limit, after=after_in(given))
    return told(pb.LinksResponse, page)


def consolidate(space: Space, given: pb.ConsolidateRequest) -> pb.ConsolidateResponse:
    return told(pb.ConsolidateResponse, space.consolidate(dry_run=given.dry_run))


def apply_forgetting(space: Space, given: pb.ApplyForgettingRequest) -> pb.ApplyForgettingResponse:
    return told(pb.ApplyForgettingResponse, space.apply_forgetting(dry_run=given.dry_run))


def _forgetting(given: pb.ForgetRequest) -> str:
    done = "purge" if given.purge else "forget"
    return f"{done}_matching" if given.HasField("filter") else done


MEMORY_RPCS: Final = (
    Rpc("Remember", remembering, remember, charge="writes"),
    Rpc("Recall", "recall", recall, charge="recalls"),
    Rpc("Complete", "complete", complete, charge="recalls"),
    Rpc("Get", "get", get),
    Rpc("List", "list", list_memories),
    Rpc("History", "history", history),
    Rpc("Revise", "revise", revise, charge="writes"),
    Rpc("Forget", _forgetting, forget),
    Rpc("Restore", "restore", restore, charge="writes"),
    Rpc("Link", "link", link, charge="writes"),
    Rpc("Unlink", "unlink", unlink),
    Rpc("Links", "links", links),
    Rpc("Consolidate", "consolidate", consolidate, charge="writes"),
    Rpc("ApplyForgetting", "apply_forgetting", apply_forgetting),
)
