"""What each route does: one function an operation, and the tables they are routed from.

All functions here block; :mod:`engram.server.app` runs them in worker threads. Those on memories
are given the space's handle, found by the one resolver: they cannot touch any other space. Each
of them is served twice, below `/api/v1/spaces/{space}` and, for a space named by the header, below
`/api/v1`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec

from engram.access.principal import NEEDS, Need
from engram.errors import EngramError, Invalid, Malformed, SpaceConflict
from engram.memory.model import Filter, Memory
from engram.server.answers import Answer, done
from engram.server.calls import Call
from engram.server.conditions import IDEMPOTENCY_KEY, IF_MATCH, IF_NONE_MATCH
from engram.server.resolver import agree, named_space, resolve
from engram.server.settings_bodies import SettingsBody
from engram.server.wire import (
    ApplyBody,
    ChangesBody,
    CompleteBody,
    ConsolidateBody,
    LinkBody,
    MatchingBody,
    MemoryBody,
    NewSpaceBody,
    RecallBody,
    decode,
    decode_new_memories,
    space_document,
)
from engram.spaces.ids import check_space_id

if TYPE_CHECKING:
    from engram import Database, Recall, Space
    from engram.spaces.rates import Charge

API: Final = "/api/v1"
R = TypeVar("R")
INCARNATION_HEADER: Final = "X-Memory-Space-Incarnation"
"""Says in answers by which incarnation of the space they are: what etags are made with."""
NOT_MODIFIED: Final = 304
ONCE: Final = frozenset({IDEMPOTENCY_KEY})
MATCHING: Final = ONCE | {IF_MATCH}


class SpaceOperation(NamedTuple):
    """One method of a route inside a space; `path` is what follows the part naming the space.
    `understood` are the headers under whose conditions it can be asked for.
    """

    method: str
    path: str
    run: Callable[[Space, Call], Answer]
    need: Need
    parameters: frozenset[str] = frozenset()
    takes_body: bool = False
    understood: frozenset[str] = frozenset()


class RegistryOperation(NamedTuple):
    """One method of a route on the spaces themselves."""

    method: str
    path: str
    run: Callable[[Database, Call], Answer]
    need: Need
    parameters: frozenset[str] = frozenset()
    takes_body: bool = False


def remember(space: Space, call: Call) -> Answer:
    given = decode_new_memories(call.body)
    if isinstance(given, MemoryBody):
        fields = msgspec.structs.asdict(given.new_memory())
        return done(space, call, lambda space: space.remember(**fields), _remembered_one)
    if given.on_conflict == "skip":
        call.principal.check(space.id, NEEDS["remember_skipping"])
    items = [item.new_memory() for item in given.memories]
    made_by = None if given.embedded_by is None else given.embedded_by.spec()
    return done(
        space,
        call,
        lambda space: space.remember_many(
            items, on_conflict=given.on_conflict, embedded_by=made_by
        ),
        lambda remembered: Answer(201, remembered),
    )


def _remembered_one(memory: Memory) -> Answer:
    space_id = memory.memory_space_id
    location = f"{space_path(space_id)}/memories/{quote(memory.id, safe='')}"
    document = {
        "memory_space_id": space_id,
        "position": memory.position,
        "memories": [memory],
    }
    return Answer(201, document, location, memory.etag)


def list_memories(space: Space, call: Call) -> Answer:
    query = call.query
    wanted = Filter(
        tags_all=query.many("tag"),
        kind=query.kind(),
        source=query.one("source"),
        since=query.time("from"),
        until=query.time("to"),
    )
    limit, after, as_of = query.limit(), query.position("after"), query.as_of()
    included = query.includes({"embedding"})
    try:
        page = space.list(
            wanted,
            limit=limit,
            after=after,
            include_embedding="embedding" in included,
            as_of=as_of,
        )
    except Invalid as error:
        raise _as_parameter(error) from None
    return Answer(200, page)


_FIELDS_HERE: Final = {
    "filter.since": "filter.from",
    "filter.until": "filter.to",
    "known.since": "known.from",
    "known.until": "known.to",
}
"""What the engine calls by the names of its own API."""


def _as_parameter(error: Invalid) -> Malformed:
    """The engine's words on a filter, as words on the query parameter it came from."""
    detail = error.detail
    for item in error.errors:
        field = _FIELDS_HERE.get(item.field, item.field.partition("[")[0])
        parameter = {"filter.tags_all": "tag"}.get(field, field.removeprefix("filter."))
        detail = f"the parameter '{parameter}' {item.message}"
    return Malformed(detail, memory_space_id=error.memory_space_id)


def get_memory(space: Space, call: Call) -> Answer:
    with_embedding = "embedding" in call.query.includes({"embedding"})
    as_of = call.query.as_of()
    memory = space.get(call.path["id"], include_embedding=with_embedding, as_of=as_of)
    if call.conditions.held_already(memory.etag):
        return Answer(NOT_MODIFIED, None, etag=memory.etag)
    return _of(memory)


def _of(memory: Memory) -> Answer:
    return Answer(200, memory, etag=memory.etag)


def revise_memory(space: Space, call: Call) -> Answer:
    changes = decode(call.body, ChangesBody).changes()
    memory_id, if_match = call.path["id"], call.conditions.if_match
    return done(space, call, lambda space: space.revise(memory_id, changes, if_match=if_match), _of)


def memory_history(space: Space, call: Call) -> Answer:
    memory_id = call.path["id"]
    document = {
        "memory_space_id": space.id,
        "id": memory_id,
        "events": space.history(memory_id),
    }
    return Answer(200, document)


def forget_memory(space: Space, call: Call) -> Answer:
    memory_id, if_match = call.path["id"], call.conditions.if_match
    if call.query.flag("purge"):
        if call.conditions.key is not None:
            raise Malformed(
                "a purge takes no Idempotency-Key: asked again, it is the same receipt. Leave it "
                "out"
            )
        return Answer(200, {"receipt": space.purge(memory_id, if_match=if_match)})
    return done(
        space,
        call,
        lambda space: space.forget(memory_id, if_match=if_match),
        lambda forgotten: Answer(200, forgotten),
    )


def forget_memories(space: Space, call: Call) -> Answer:
    by_parameter = call.query.one("purge")
    purge = call.query.flag("purge")
    body = decode(call.body, MatchingBody)
    if by_parameter is not None and body.purge not in (msgspec.UNSET, purge):
        raise Invalid.of("purge", "says something else than the parameter 'purge'")
    wanted = body.filter.filter()
    with _fields_named_as_here():
        if purge or body.purge is True:
            return Answer(200, {"receipt": space.purge_matching(wanted)})
        return Answer(200, space.forget_matching(wanted))


def apply_forgetting(space: Space, call: Call) -> Answer:
    body = decode(call.body or b"{}", ApplyBody)
    return Answer(200, space.apply_forgetting(dry_run=body.dry_run))


def compact(space: Space, call: Call) -> Answer:
    return Answer(200, space.compact())


def consolidate(space: Space, call: Call) -> Answer:
    body = decode(call.body or b"{}", ConsolidateBody)
    return Answer(200, space.consolidate(dry_run=body.dry_run))


def restore_memory(space: Space, call: Call) -> Answer:
    memory_id, if_match = call.path["id"], call.conditions.if_match
    return done(space, call, lambda space: space.restore(memory_id, if_match=if_match), _of)


def link_memories(space: Space, call: Call) -> Answer:
    body = decode(call.body, LinkBody)
    return done(
        space,
        call,
        lambda space: space.link(
            body.source, body.target, weight=body.weight, relation=body.relation
        ),
        lambda made: Answer(201, made),
    )


def list_links(space: Space, call: Call) -> Answer:
    query = call.query
    memory_id = query.one("memory_id")
    if memory_id is None:
        raise Malformed("the parameter 'memory_id' is missing; name the memory whose links to list")
    limit, after = query.limit(), query.position("after")
    try:
        return Answer(200, space.links(memory_id, limit=limit, after=after))
    except Invalid as error:
        raise _as_parameter(error) from None


def unlink_memories(space: Space, call: Call) -> Answer:
    relation = call.query.one("relation")
    try:
        return done(
            space,
            call,
            lambda space: space.unlink(call.path["source"], call.path["target"], relation),
            lambda unlinked: Answer(200, unlinked),
        )
    except Invalid as error:
        if any(item.field == "relation" for item in error.errors):
            raise _as_parameter(error) from None
        raise


def recall(space: Space, call: Call) -> Answer:
    body = decode(call.body, RecallBody)
    with _fields_named_as_here():
        return Answer(200, _recalled(space, body))


def complete(space: Space, call: Call) -> Answer:
    included = call.query.includes({"embedding"})
    body = decode(call.body, CompleteBody)
    with _fields_named_as_here():
        completion = space.complete(
            body.query,
            embedding=body.embedding,
            known=None if body.known is None else body.known.known(),
            beta=body.beta,
            limit=body.limit,
            include_embedding="embedding" in included,
        )
    return Answer(200, completion)


@contextmanager
def _fields_named_as_here() -> Iterator[None]:
    """The engine's words on a field of a body, with its name over HTTP."""
    try:
        yield
    except Invalid as error:
        for item in error.errors:
            if item.field in _FIELDS_HERE:
                raise Invalid.of(_FIELDS_HERE[item.field], item.message) from None
        raise


def _recalled(space: Space, body: RecallBody) -> Recall:
    return space.recall(
        body.query,
        embedding=body.cue_vector(),
        memory_ids=body.memory_ids,
        limit=body.limit,
        mode=body.mode,
        filter=body.filter.filter() if body.filter is not None else None,
        min_confidence=body.min_confidence,
        as_of=body.as_of,
        spread=body.spread,
        explain=body.explain,
        record=body.record,
    )


def reopen(space: Space, call: Call) -> Answer:
    return Answer(200, space_document(space.reopen()))


def create_space(db: Database, call: Call) -> Answer:
    header_space = named_space(None, call.space_header)
    call.check()
    body = decode(call.body or b"{}", NewSpaceBody)
    if body.memory_space_id is not None:
        check_space_id(body.memory_space_id)
    agree(header_space, body.memory_space_id)
    spec = body.embedding.spec() if body.embedding is not None else None
    space = db.create_space(body.memory_space_id, embedding=spec, quotas=body.given_quotas())
    return Answer(201, space_document(space.info()), space_path(space.id))


def put_space(db: Database, call: Call) -> Answer:
    space_id = resolve(call.path["space"], call.space_header)
    call.check()
    body = decode(call.body or b"{}", NewSpaceBody)
    if body.memory_space_id is not None and check_space_id(body.memory_space_id) != space_id:
        raise SpaceConflict(
            f"the path names the space '{space_id}', the body '{body.memory_space_id}'; leave "
            "memory_space_id out of the body"
        )
    spec = body.embedding.spec() if body.embedding is not None else None
    space, created = db.ensure_space(space_id, embedding=spec, quotas=body.given_quotas())
    document = space_document(space.info())
    return Answer(201, document, space_path(space_id)) if created else Answer(200, document)


def show_space(db: Database, call: Call) -> Answer:
    space_id = resolve(call.path["space"], call.space_header)
    _check_in_order(db, call, space_id)
    deleted = call.query.flag("deleted") and call.principal.rules
    return Answer(200, space_document(db.space_info(space_id, deleted=deleted)))


def configure_space(db: Database, call: Call) -> Answer:
    space_id = resolve(call.path["space"], call.space_header)
    space = db.space(space_id)
    call.check()
    return Answer(200, space_document(space.configure(**decode(call.body, SettingsBody).given())))


def delete_space(db: Database, call: Call) -> Answer:
    space_id = resolve(call.path["space"], call.space_header)
    _check_in_order(db, call, space_id)
    return Answer(200, db.delete_space(space_id))


def restore_space(db: Database, call: Call) -> Answer:
    space_id = resolve(call.path["space"], call.space_header)
    _check_in_order(db, call, space_id)
    return Answer(200, space_document(db.restore_space(space_id).info()))


def purge_space(db: Database, call: Call) -> Answer:
    space_id = resolve(call.path["space"], call.space_header)
    _check_in_order(db, call, space_id)
    return Answer(200, {"receipt": db.purge_space(space_id)})


def _check_in_order(db: Database, call: Call, space_id: str) -> None:
    """Raise what else is wrong with a request; but if there is no such space, then that."""
    try:
        call.check()
    except EngramError:
        db.space_info(space_id, deleted=call.principal.rules)
        raise


def list_spaces(db: Database, call: Call) -> Answer:
    # The header of a client that always sends it does no harm here, if it names one space.
    named_space(None, call.space_header)
    limit = call.query.limit()
    after = call.query.one("after")
    if after is not None:
        check_space_id(after)
    deleted = call.query.flag("deleted") and call.principal.rules
    visible = call.principal.spaces
    found = db.spaces_among(visible, limit=limit + 1, after=after, deleted=deleted)
    shown = found[:limit]
    following = shown[-1].memory_space_id if len(found) > limit else None
    return Answer(200, {"spaces": [space_document(info) for info in shown], "next": following})


def space_path(space_id: str) -> str:
    return f"{API}/spaces/{space_id}"


SPACE_OPERATIONS: Final = (
    SpaceOperation(
        "POST", "/memories", remember, NEEDS["remember"], takes_body=True, understood=ONCE
    ),
    SpaceOperation(
        "GET",
        "/memories",
        list_memories,
        NEEDS["list"],
        frozenset({"tag", "kind", "source", "from", "to", "as_of", "limit", "after", "include"}),
    ),
    SpaceOperation(
        "GET",
        "/memories/{id}",
        get_memory,
        NEEDS["get"],
        frozenset({"as_of", "include"}),
        understood=frozenset({IF_NONE_MATCH}),
    ),
    SpaceOperation(
        "PATCH",
        "/memories/{id}",
        revise_memory,
        NEEDS["revise"],
        takes_body=True,
        understood=MATCHING,
    ),
    SpaceOperation(
        "DELETE",
        "/memories/{id}",
        forget_memory,
        NEEDS["forget"],
        frozenset({"purge"}),
        understood=MATCHING,
    ),
    SpaceOperation(
        "DELETE",
        "/memories",
        forget_memories,
        NEEDS["forget_matching"],
        frozenset({"purge"}),
        takes_body=True,
    ),
    SpaceOperation(
        "POST", "/memories/{id}/restore", restore_memory, NEEDS["restore"], understood=MATCHING
    ),
    SpaceOperation("POST", "/consolidate", consolidate, NEEDS["consolidate"], takes_body=True),
    SpaceOperation(
        "POST", "/forgetting", apply_forgetting, NEEDS["apply_forgetting"], takes_body=True
    ),
    SpaceOperation("POST", "/compact", compact, NEEDS["compact"]),
    SpaceOperation("GET", "/memories/{id}/history", memory_history, NEEDS["history"]),
    SpaceOperation(
        "POST", "/links", link_memories, NEEDS["link"], takes_body=True, understood=ONCE
    ),
    SpaceOperation(
        "GET", "/links", list_links, NEEDS["links"], frozenset({"memory_id", "limit", "after"})
    ),
    SpaceOperation(
        "DELETE",
        "/links/{source}/{target}",
        unlink_memories,
        NEEDS["unlink"],
        frozenset({"relation"}),
        understood=ONCE,
    ),
    SpaceOperation("POST", "/recall", recall, NEEDS["recall"], takes_body=True),
    SpaceOperation(
        "POST", "/complete", complete, NEEDS["complete"], frozenset({"include"}), takes_body=True
    ),
    SpaceOperation("POST", "/reopen", reopen, NEEDS["reopen"]),
)

CHARGES: Final[Mapping[Callable[[Space, Call], Answer], Charge]] = {
    remember: "writes",
    revise_memory: "writes",
    restore_memory: "writes",
    link_memories: "writes",
    consolidate: "writes",
    recall: "recalls",
    complete: "recalls",
}
"""What counts against a rate among the quotas. What gives something up does not."""

REGISTRY_OPERATIONS: Final = (
    RegistryOperation("POST", "/spaces", create_space, NEEDS["create_space"], takes_body=True),
    RegistryOperation(
        "GET",
        "/spaces",
        list_spaces,
        NEEDS["list_spaces"],
        frozenset({"limit", "after", "deleted"}),
    ),
    RegistryOperation("PUT", "/spaces/{space}", put_space, NEEDS["create_space"], takes_body=True),
    RegistryOperation(
        "GET", "/spaces/{space}", show_space, NEEDS["show_space"], frozenset({"deleted"})
    ),
    RegistryOperation(
        "PATCH", "/spaces/{space}", configure_space, NEEDS["configure_space"], takes_body=True
    ),
    RegistryOperation("DELETE", "/spaces/{space}", delete_space, NEEDS["delete_space"]),
    RegistryOperation("POST", "/spaces/{space}/restore", restore_space, NEEDS["restore_space"]),
    RegistryOperation("POST", "/spaces/{space}/purge", purge_space, NEEDS["purge_space"]),
)
