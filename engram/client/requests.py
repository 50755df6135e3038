"""What callers hand in, as the JSON and the parameters of requests. Pure.

Everything is checked here by the rules of the engine, in its words, before anything is sent. That
is not for the server's sake, which checks again: JSON encoders turn what JSON cannot hold (NaN,
bytes, times without a zone) into something else without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import msgspec

from engram import limits
from engram.errors import Invalid, TooLarge
from engram.memory import validate as check
from engram.memory.etags import checked_etags
from engram.memory.model import Changes, EmbeddingSpec, Filter, NewMemory, Spread
from engram.memory.quotas import QuotasGiven, check_quotas
from engram.memory.settings import SettingsGiven, checked_settings
from engram.spaces.ids import check_space_id
from engram.spaces.requests import (
    check_beta,
    check_cue_ids,
    check_known,
    check_limit,
    checked_ends,
    checked_filter,
    filter_for,
    new_memory,
)

POSITION_MAX: Final = (1 << 63) - 1
Body = dict[str, Any]
Parameters = list[tuple[str, str]]


def encoded(body: Body) -> bytes:
    """A request's body. Raises :class:`engram.errors.TooLarge` for what no server would take."""
    data = msgspec.json.encode(body)
    if len(data) > limits.BODY_BYTES_MAX:
        raise TooLarge(
            f"the request has {len(data)} bytes as JSON; at most {limits.BODY_BYTES_MAX} are "
            "allowed. Split it"
        )
    return data


def space_path(space_id: object) -> str:
    return f"/spaces/{check_space_id(space_id)}"


def memory_path(space_id: str, memory_id: object) -> str:
    """The path of a memory. Its id is percent-encoded whole: `?`, `%` and `#` are allowed in it."""
    return (
        f"{space_path(space_id)}/memories/{quote(check.check_memory_id('id', memory_id), safe='')}"
    )


def consolidate_path(space_id: str) -> str:
    return f"{space_path(space_id)}/consolidate"


def links_path(space_id: str) -> str:
    return f"{space_path(space_id)}/links"


def link_path(space_id: str, source: object, target: object) -> str:
    """The path of the links of a memory to another."""
    ends = (quote(end, safe="") for end in checked_ends(source, target))
    return "/".join((links_path(space_id), *ends))


def link_body(source: object, target: object, weight: object, relation: object) -> Body:
    one, other = checked_ends(source, target)
    return {
        "source": one,
        "target": other,
        "relation": check.check_relation("relation", relation),
        "weight": check.check_weight("weight", weight),
    }


def unlink_parameters(relation: object) -> Parameters:
    if relation is None:
        return []
    return [("relation", check.check_relation("relation", relation))]


def links_parameters(memory_id: object, limit: object, after: object) -> Parameters:
    parameters = [("memory_id", check.check_memory_id("memory_id", memory_id))]
    check_limit("limit", limit, limits.LIST_LIMIT_MAX)
    parameters.append(("limit", str(limit)))
    if after is not None:
        parameters.append(("after", str(position("after", after))))
    return parameters


def embedding_body(spec: EmbeddingSpec | None) -> Body:
    if spec is None:
        return {}
    spec = check.check_embedding_spec(spec)
    return {"embedding": {"model": spec.model, "dimensions": spec.dimensions}}


def new_space_body(spec: EmbeddingSpec | None, quotas: QuotasGiven | None) -> Body:
    """What a space is made with."""
    body = embedding_body(spec)
    if quotas is not None:
        body["quotas"] = msgspec.to_builtins(check_quotas("quotas", quotas))
    return body


def settings_body(settings: SettingsGiven) -> Body:
    """The settings to change."""
    body: Body = msgspec.to_builtins(checked_settings(settings))
    return body


def apply_body(dry_run: object) -> Body:
    return {"dry_run": check.check_flag("dry_run", dry_run)}


def fork_body(new_id: object, as_of: object, embedding: EmbeddingSpec | None) -> Body:
    body: Body = {"memory_space_id": check_space_id(new_id), **embedding_body(embedding)}
    if as_of is not None:
        body["as_of"] = position("as_of", as_of)
    return body


def spaces_limit(limit: object) -> int | None:
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise Invalid.of("limit", "must be a whole number, or None for all spaces")
    return limit


def deleted_parameters(deleted: object) -> Parameters:
    return [("deleted", "true")] if check.check_flag("deleted", deleted) else []


def batch_body(
    memories: object, on_conflict: object, embedded_by: EmbeddingSpec | None = None
) -> Body:
    """The body of a batch, from `NewMemory` values, mappings with its fields, or texts, and what
    made their vectors where that is said.
    """
    if isinstance(memories, str | Mapping) or not isinstance(memories, Iterable):
        raise Invalid.of("memories", f"must be a list, not {type(memories).__name__}")
    items = list(memories)
    if not items:
        raise Invalid.of("memories", "is empty; there is nothing to remember")
    if len(items) > limits.MEMORIES_PER_REQUEST_MAX:
        raise TooLarge(
            f"memories has {len(items)} items; at most {limits.MEMORIES_PER_REQUEST_MAX} go into "
            "one atomic batch. Split it"
        )
    fields = [f"memories[{i}]." for i in range(len(items))]
    made_by = embedding_body(embedded_by)
    body: Body = {
        "memories": [
            memory_body(field, new_memory(field, item))
            for field, item in zip(fields, items, strict=True)
        ],
        **({"embedded_by": made_by["embedding"]} if made_by else {}),
    }
    choice = check.check_on_conflict("on_conflict", on_conflict)
    return body if choice == "error" else {**body, "on_conflict": choice}


def matching_headers(if_match: object) -> dict[str, str]:
    """The condition that a memory is still one of those that etags stand for."""
    etags = checked_etags("if_match", if_match)
    for etag in etags or ():
        if not re.fullmatch(r"[!\x23-\x7e]+", etag):
            raise Invalid.of("if_match", "must be the etag of a memory, as `memory.etag` gives it")
    return {} if etags is None else {"If-Match": ", ".join(f'"{etag}"' for etag in etags)}


def memory_body(field: str, new: NewMemory) -> Body:
    """One memory; `field` leads to it in errors. What has its default is left out."""
    tags = check.check_tags(field + "tags", new.tags)
    metadata = check.check_metadata(field + "metadata", new.metadata)
    body = {
        "content": check.check_content(field + "content", new.content),
        "id": None if new.id is None else check.check_memory_id(field + "id", new.id),
        "kind": check.check_kind(field + "kind", new.kind),
        "tags": tags or None,
        "metadata": metadata or None,
        "confidence": check.check_confidence(field + "confidence", new.confidence),
        "occurred_at": check.check_time(field + "occurred_at", new.occurred_at),
        "expires_at": check.check_time(field + "expires_at", new.expires_at),
        "source": check.check_source(field + "source", new.source),
        "embedding": _vector(field + "embedding", new.embedding),
    }
    return _given(body)


def changes_body(changes: object) -> Body:
    """A revision: fields left UNSET stay out, None clears."""
    if not isinstance(changes, Changes):
        raise Invalid.of("changes", f"must be engram.Changes, not {type(changes).__name__}")
    checks = {
        "content": check.check_content,
        "tags": check.check_tags,
        "metadata": check.check_metadata,
        "confidence": check.check_confidence,
        "occurred_at": check.check_time,
        "expires_at": check.check_time,
        "source": check.check_source,
        "embedding": _cue_vector,
    }
    body: Body = {}
    for name, checked in checks.items():
        value = getattr(changes, name)
        if value is msgspec.UNSET:
            continue
        clears = value is None and name not in {"content", "embedding"}
        body[name] = None if clears else checked(name, value)
    if not body:
        raise Invalid(f"nothing to change was given; name at least one of {', '.join(checks)}")
    return body


def get_parameters(*, include_embedding: bool, as_of: object) -> Parameters:
    parameters: Parameters = [("include", "embedding")] if include_embedding else []
    when = check.check_as_of("as_of", as_of)
    if when is not None:
        parameters.append(("as_of", _time(when) if isinstance(when, datetime) else str(when)))
    return parameters


def list_parameters(
    filter: Filter | None, limit: int, after: object, *, include_embedding: bool, as_of: object
) -> Parameters:
    """The query of a listing. Raises `Invalid` for conditions that its route does not know."""
    check_limit("limit", limit, limits.LIST_LIMIT_MAX)
    parameters: Parameters = [("limit", str(limit))]
    if after is not None:
        parameters.append(("after", str(position("after", after))))
    parameters += get_parameters(include_embedding=include_embedding, as_of=as_of)
    given = _filter_body(filter)
    for name in ("tags_any", "metadata"):
        if name in given:
            raise Invalid.of(
                f"filter.{name}",
                "cannot be listed by over HTTP in this release; recall can, and a listing knows "
                "tags_all, kind, source, since and until",
            )
    parameters += [("tag", tag) for tag in given.pop("tags_all", ())]
    for name, value in given.items():
        parameters.append((name, _time(value) if isinstance(value, datetime) else value))
    return parameters


def position(field: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= POSITION_MAX:
        raise Invalid.of(field, "must be a position: a whole number, as `next` or an event gave it")
    return int(value)


def recall_body(
    query: object,
    *,
    embedding: object,
    memory_ids: Sequence[str],
    limit: int,
    mode: object,
    filter: Filter | None,
    min_confidence: object,
    as_of: object,
    spread: Spread | None,
    explain: bool,
    record: bool,
) -> Body:
    """A recall. `record` is said only where it differs from the default."""
    check_limit("limit", limit, limits.RECALL_LIMIT_MAX)
    check_cue_ids(memory_ids)
    check.check_mode("mode", mode)
    certain = None
    if min_confidence is not None:
        certain = check.check_confidence("min_confidence", min_confidence)
    body = {
        "query": None if query is None else check.check_query("query", query),
        "embedding": _vector("embedding", embedding),
        "memory_ids": list(memory_ids) or None,
        "limit": limit,
        "mode": mode,
        "filter": _filter_body(filter) or None,
        "min_confidence": certain,
        "as_of": check.check_as_of("as_of", as_of),
        "spread": check.check_spread("spread", spread),
        "explain": True if explain else None,
        "record": None if record else False,
    }
    if all(body[cue] is None for cue in ("query", "embedding", "memory_ids")):
        raise Invalid("no cue was given: name at least one of query, embedding, memory_ids")
    return _given(body)


def complete_body(
    query: object,
    *,
    embedding: object,
    known: object,
    beta: object,
    limit: int,
) -> Body:
    """A partial cue; of its vector, null stands for what is not known."""
    check_limit("limit", limit, limits.RECALL_LIMIT_MAX)
    sharpness = check_beta(beta)
    given = check_known(known)
    fields = {
        "content": given.content,
        "tags": given.tags or None,
        "kind": given.kind,
        "source": given.source,
        "from": given.since,
        "to": given.until,
        "metadata": given.metadata or None,
    }
    body = {
        "query": None if query is None else check.check_query("query", query),
        "embedding": None if embedding is None else _partial_vector("embedding", embedding),
        "known": _given(fields) or None,
    }
    if not _given(body):
        raise Invalid("no cue was given: name at least one of query, embedding, known")
    return {**_given(body), "beta": sharpness, "limit": limit}


def include_parameters(include_embedding: object) -> Parameters:
    included = check.check_flag("include_embedding", include_embedding)
    return [("include", "embedding")] if included else []


def forget_body(filter: Filter) -> Body:
    checked = filter_for(filter, "to forget everything, delete the space")
    return {"filter": _filter_body(checked)}


def purge_body(filter: Filter) -> Body:
    checked = filter_for(filter, "to purge everything, purge the space")
    return {"filter": _filter_body(checked), "purge": True}


def _filter_body(filter: Filter | None) -> Body:
    """The conditions given, by the names they have over HTTP."""
    checked = checked_filter(filter)
    if checked is None:
        return {}
    body = {
        "tags_all": checked.tags_all or None,
        "tags_any": checked.tags_any or None,
        "kind": checked.kind,
        "source": checked.source,
        "from": checked.since,
        "to": checked.until,
        "metadata": checked.metadata or None,
    }
    return _given(body)


def _vector(field: str, value: object) -> list[float] | None:
    return None if value is None else _cue_vector(field, value)


def _cue_vector(field: str, value: object) -> list[float]:
    """A vector as numbers that float32 holds exactly; only the server knows its right length."""
    try:
        dimensions = len(value)  # type: ignore[arg-type]  # that is what is being tried
    except TypeError:
        dimensions = 0
    if dimensions == 0:
        raise Invalid.of(field, "must be a list of numbers")
    numbers: list[float] = check.check_cue_vector(field, value, dimensions).tolist()
    return numbers


def _partial_vector(field: str, value: object) -> list[float | None]:
    """As :func:`_cue_vector`, with None where a component is not known."""
    try:
        dimensions = len(value)  # type: ignore[arg-type]  # that is what is being tried
    except TypeError:
        dimensions = 0
    if dimensions == 0:
        raise Invalid.of(field, "must be a list of numbers")
    vector, known = check.check_partial_vector(field, value, dimensions)
    return [x if there else None for x, there in zip(vector.tolist(), known, strict=True)]


def _time(value: datetime) -> str:
    text: str = msgspec.to_builtins(value)
    return text


def _given(body: Body) -> Body:
    return {name: value for name, value in body.items() if value is not None}
