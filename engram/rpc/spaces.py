"""What each call of SpaceService does, but for those that stream. All functions here block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engram.errors import SpaceRequired
from engram.rpc.calls import OVER_GRPC, Call, Rpc
from engram.rpc.requests import embedding_in, optional, quotas_in, settings_in, spaces_limit_in
from engram.rpc.values import told
from engram.server.resolver import agree
from engram.spaces.ids import check_space_id
from engram.v1 import spaces_pb2 as pb

if TYPE_CHECKING:
    from engram import Space


def create(call: Call, given: pb.CreateSpaceRequest) -> pb.CreateSpaceResponse:
    call.named(given)
    call.principal.check_create()
    call.check()
    space_id = optional(given, "memory_space_id")
    agree(call.space_id, space_id, OVER_GRPC)
    spec, quotas = embedding_in(given), quotas_in(given)
    if not given.if_not_exists:
        space, created = call.db.create_space(space_id, embedding=spec, quotas=quotas), True
    elif space_id is None:
        raise SpaceRequired("if_not_exists needs to know which space: fill in memory_space_id")
    else:
        space, created = call.db.ensure_space(space_id, embedding=spec, quotas=quotas)
    return pb.CreateSpaceResponse(space=told(pb.Space, space.info()), created=created)


def show(call: Call, given: pb.GetSpaceRequest) -> pb.Space:
    space_id = call.resolve(given)
    call.check_in_order()
    deleted = given.deleted and call.principal.rules
    return told(pb.Space, call.db.space_info(space_id, deleted=deleted))


def list_spaces(call: Call, given: pb.ListSpacesRequest) -> pb.ListSpacesResponse:
    # The metadata of a client that always sends it does no harm here, if it names one space.
    call.named(given)
    call.check()
    limit, after = spaces_limit_in(given), optional(given, "after")
    if after is not None:
        check_space_id(after)
    who = call.principal
    # To all but admins a deleted space is none.
    deleted = given.deleted and who.rules
    found = call.db.spaces_among(who.spaces, limit=limit + 1, after=after, deleted=deleted)
    shown = [told(pb.Space, info) for info in found[:limit]]
    following = shown[-1].memory_space_id if len(found) > limit else None
    return pb.ListSpacesResponse(spaces=shown, next=following)


def configure(space: Space, given: pb.ConfigureSpaceRequest) -> pb.Space:
    return told(pb.Space, space.configure(**settings_in(given)))


def delete(call: Call, given: pb.DeleteSpaceRequest) -> pb.DeletedSpace:
    space_id = call.resolve(given)
    call.check_in_order()
    return told(pb.DeletedSpace, call.db.delete_space(space_id))


def restore(call: Call, given: pb.RestoreSpaceRequest) -> pb.Space:
    space_id = call.resolve(given)
    call.check_in_order()
    return told(pb.Space, call.db.restore_space(space_id).info())


def purge(call: Call, given: pb.PurgeSpaceRequest) -> pb.SpaceReceipt:
    space_id = call.resolve(given)
    call.check_in_order()
    return told(pb.SpaceReceipt, call.db.purge_space(space_id))


def compact(space: Space, given: pb.CompactRequest) -> pb.Compaction:
    return told(pb.Compaction, space.compact())


def reopen(space: Space, given: pb.ReopenRequest) -> pb.Space:
    return told(pb.Space, space.reopen())


def fork(call: Call, given: pb.ForkRequest) -> pb.MadeSpace:
    made = call.space(given).fork(
        given.new_memory_space_id,
        optional(given, "as_of"),
        embedding=embedding_in(given),
        progress=call.progress,
    )
    return made_space(made)


def made_space(space: Space) -> pb.MadeSpace:
    """A space that was just made from another, and what it was made from."""
    return pb.MadeSpace(space=told(pb.Space, space.info()), origin=told(pb.Origin, space.origin))


SPACE_RPCS: Final = (
    Rpc("Create", "create_space", create, inside=False),
    Rpc("Get", "show_space", show, inside=False),
    Rpc("List", "list_spaces", list_spaces, inside=False),
    Rpc("Configure", "configure_space", configure),
    Rpc("Delete", "delete_space", delete, inside=False),
    Rpc("Restore", "restore_space", restore, inside=False),
    Rpc("Purge", "purge_space", purge, inside=False),
    Rpc("Compact", "compact", compact),
    Rpc("Reopen", "reopen", reopen),
    Rpc("Fork", "fork", fork, inside=False, slow=True),
)
