"""Requests to a space in checked form: what a caller gave, as commands and recall take it.

Values are judged by :mod:`engram.memory.validate`; here is which fields a request has.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from engram import limits
from engram.errors import EngramError, FieldError, Invalid
from engram.indexes.attributes import validate_metadata_filter
from engram.memory import validate as check
from engram.memory.completion import Known
from engram.memory.events import MemoryStored
from engram.memory.model import Changes, Filter, NewMemory
from engram.memory.times import to_us

_ID_BYTES: Final = 12


def new_id() -> str:
    """An id for what its caller did not name."""
    return secrets.token_hex(_ID_BYTES)


def new_memory(field: str, item: object) -> NewMemory:
    if isinstance(item, NewMemory):
        return item
    if isinstance(item, str):
        return NewMemory(content=item)
    if isinstance(item, Mapping):
        unknown = sorted(str(key) for key in set(item) - set(NewMemory.__struct_fields__))
        if unknown:
            known = ", ".join(NewMemory.__struct_fields__)
            raise Invalid.of(f"{field}{unknown[0]}", f"is not a field of a memory: {known}")
        if "content" not in item:
            raise Invalid.of(f"{field}content", "is missing")
        return NewMemory(**item)
    raise Invalid.of(
        field.rstrip("."), f"must be text or a memory's fields, not {type(item).__name__}"
    )


@contextmanager
def told_of_one() -> Iterator[None]:
    """What is wrong with a batch of one memory, told of that memory."""
    try:
        yield
    except EngramError as error:
        error.detail = error.detail.replace("memories[0].", "", 1)
        error.errors = tuple(
            FieldError(each.field.removeprefix("memories[0]."), each.message)
            for each in error.errors
        )
        raise


def checked_ends(source: object, target: object) -> tuple[str, str]:
    """The ids of the two ends of a link."""
    one = check.check_memory_id("source", source)
    other = check.check_memory_id("target", target)
    if one == other:
        raise Invalid.of("target", "is the source itself; a link leads to another memory")
    return one, other


def check_limit(field: str, value: object, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise Invalid.of(field, f"must be a whole number from 1 to {most}")


def check_spaces_limit(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Invalid.of("limit", "must be a whole number from 0 on, or None for all spaces")
    return value


def check_cue_ids(memory_ids: object) -> None:
    if isinstance(memory_ids, str) or not isinstance(memory_ids, Sequence):
        raise Invalid.of("memory_ids", f"must be a list of ids, not {type(memory_ids).__name__}")
    if len(memory_ids) > limits.RECALL_MEMORY_IDS_MAX:
        raise Invalid.of(
            "memory_ids", f"must be a list of at most {limits.RECALL_MEMORY_IDS_MAX} ids"
        )
    for index, memory_id in enumerate(memory_ids):
        check.check_memory_id(f"memory_ids[{index}]", memory_id)


def checked_filter(filter: Filter | None) -> Filter | None:
    """The filter in plain values, if it is one that can be evaluated."""
    if filter is None:
        return None
    if not isinstance(filter, Filter):
        raise Invalid.of("filter", f"must be an engram.Filter, not {type(filter).__name__}")
    return Filter(
        tags_all=check.check_tags("filter.tags_all", filter.tags_all),
        tags_any=check.check_tags("filter.tags_any", filter.tags_any),
        kind=None if filter.kind is None else check.check_kind("filter.kind", filter.kind),
        source=check.check_source("filter.source", filter.source),
        since=check.check_time("filter.since", filter.since),
        until=check.check_time("filter.until", filter.until),
        metadata=validate_metadata_filter(filter.metadata),
    )


def filter_for(filter: Filter, instead: str) -> Filter:
    """As :func:`checked_filter`, for what is to go: it has a condition. `instead` says what one
    does who wants everything to go.
    """
    checked = checked_filter(filter)
    if checked is None or checked == Filter():
        raise Invalid.of("filter", f"needs a condition; {instead}")
    return checked


def check_beta(value: object) -> float:
    """The sharpness of attention, or a refusal."""
    low, high = limits.BETA_MIN, limits.BETA_MAX
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Invalid.of("beta", f"must be a number from {low:g} to {high:g}")
    return float(value)


def check_known(known: object) -> Known:
    """The known fields in plain values, if they can be compared with those of memories."""
    if known is None:
        return Known()
    if isinstance(known, Mapping):
        unknown = sorted(str(key) for key in set(known) - set(Known.__struct_fields__))
        if unknown:
            names = ", ".join(Known.__struct_fields__)
            raise Invalid.of(f"known.{unknown[0]}", f"is not a field of a cue: {names}")
        known = Known(**known)
    if not isinstance(known, Known):
        raise Invalid.of("known", f"must be an engram.Known, not {type(known).__name__}")
    content, kind = known.content, known.kind
    return Known(
        content=None if content is None else check.check_query("known.content", content),
        tags=check.check_tags("known.tags", known.tags),
        kind=None if kind is None else check.check_kind("known.kind", kind),
        source=check.check_source("known.source", known.source),
        since=check.check_time("known.since", known.since),
        until=check.check_time("known.until", known.until),
        metadata=validate_metadata_filter(known.metadata, "known.metadata"),
    )


def version_of(field: str, new: NewMemory) -> MemoryStored:
    content = check.check_content(field + "content", new.content)
    kind = check.check_kind(field + "kind", new.kind)
    occurred_at = check.check_time(field + "occurred_at", new.occurred_at)
    expires_at = check.check_time(field + "expires_at", new.expires_at)
    return MemoryStored(
        id=new_id() if new.id is None else check.check_memory_id(field + "id", new.id),
        revision=0,
        kind=kind,
        content=content,
        tags=check.check_tags(field + "tags", new.tags),
        metadata=check.check_metadata(field + "metadata", new.metadata),
        confidence=check.check_confidence(field + "confidence", new.confidence),
        occurred_us=None if occurred_at is None else to_us(occurred_at),
        expires_us=None if expires_at is None else to_us(expires_at),
        source=check.check_source(field + "source", new.source),
    )


def changed_fields(changes: Changes) -> dict[str, Any]:
    """The given fields, checked, by the names that events use."""
    if not isinstance(changes, Changes):
        raise Invalid.of("changes", f"must be engram.Changes, not {type(changes).__name__}")
    fields: dict[str, Any] = {}
    if changes.content is not msgspec.UNSET:
        fields["content"] = check.check_content("content", changes.content)
    if changes.tags is not msgspec.UNSET:
        fields["tags"] = check.check_tags("tags", () if changes.tags is None else changes.tags)
    if changes.metadata is not msgspec.UNSET:
        given = {} if changes.metadata is None else changes.metadata
        fields["metadata"] = check.check_metadata("metadata", given)
    if changes.confidence is not msgspec.UNSET:
        certain = 1.0 if changes.confidence is None else changes.confidence
        fields["confidence"] = check.check_confidence("confidence", certain)
    if changes.occurred_at is not msgspec.UNSET:
        occurred_at = check.check_time("occurred_at", changes.occurred_at)
        fields["occurred_us"] = None if occurred_at is None else to_us(occurred_at)
    if changes.expires_at is not msgspec.UNSET:
        expires_at = check.check_time("expires_at", changes.expires_at)
        fields["expires_us"] = None if expires_at is None else to_us(expires_at)
    if changes.source is not msgspec.UNSET:
        fields["source"] = check.check_source("source", changes.source)
    return fields
