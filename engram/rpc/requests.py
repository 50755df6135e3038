"""What the messages of a request mean to the engine. Free of gRPC.

Only shape is checked here: enums, times, what excludes each other. What a value may be is the
engine's to check, so that no surface lets in what another refuses. Fields that were left out get
the same defaults as everywhere.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, cast

from google.protobuf.message import Message

from engram import limits
from engram.errors import Invalid
from engram.memory.completion import Known
from engram.memory.decay import Decay, checked_decay
from engram.memory.forgetting import Forgetting
from engram.memory.model import (
    AsOf,
    Changes,
    EmbeddingSpec,
    Filter,
    Kind,
    Mode,
    NewMemory,
    OnConflict,
    Spread,
    Vector,
)
from engram.memory.policies import checked_forgetting
from engram.memory.quotas import Quotas, checked_quotas
from engram.memory.retention import Retention, checked_retention
from engram.memory.rhythm import Rhythm, checked_rhythm
from engram.rpc.values import chosen, given_object, given_time, given_vector
from engram.v1 import memories_pb2, spaces_pb2, types_pb2

RECALL_LIMIT_DEFAULT: Final = 10
CLEARABLE: Final = ("tags", "metadata", "confidence", "occurred_at", "expires_at", "source")


def optional(message: Message, name: str, default: Any = None) -> Any:
    """The value of a field that knows whether it was given."""
    return getattr(message, name) if message.HasField(name) else default


def kind_of(field: str, number: int) -> Kind | None:
    return cast("Kind | None", chosen(field, types_pb2.Kind.DESCRIPTOR, number))


def on_conflict_of(number: int) -> OnConflict:
    known = chosen("on_conflict", memories_pb2.OnConflict.DESCRIPTOR, number)
    return cast("OnConflict", known or "error")


def if_match_in(given: Any) -> list[str] | None:
    """The etags of which one has to be the memory's; None where any will do."""
    return list(given.if_match) or None


def mode_of(field: str, number: int) -> Mode | None:
    return cast("Mode | None", chosen(field, types_pb2.Mode.DESCRIPTOR, number))


def _time(message: Message, name: str, field: str) -> datetime | None:
    return given_time(field + name, getattr(message, name)) if message.HasField(name) else None


def vector_in(message: Message, name: str = "embedding") -> Vector | None:
    return given_vector(getattr(message, name)) if message.HasField(name) else None


def new_memory(field: str, given: types_pb2.NewMemory) -> NewMemory:
    """`field` is what leads to the memory, with a dot behind it."""
    return NewMemory(
        content=given.content,
        id=optional(given, "id"),
        kind=kind_of(f"{field}kind", given.kind) or "episode",
        tags=tuple(given.tags),
        metadata=given_object(f"{field}metadata", given.metadata),
        confidence=optional(given, "confidence", 1.0),
        occurred_at=_time(given, "occurred_at", field),
        expires_at=_time(given, "expires_at", field),
        source=optional(given, "source"),
        embedding=vector_in(given),
    )


def new_memories(given: Any) -> list[NewMemory]:
    """Those of a batch."""
    return [new_memory(f"memories[{i}].", item) for i, item in enumerate(given)]


def filter_in(message: Message) -> Filter | None:
    """The filter of a request; None if it has none."""
    if not message.HasField("filter"):
        return None
    given: types_pb2.Filter = message.filter  # type: ignore[attr-defined]
    return Filter(
        tags_all=tuple(given.tags_all),
        tags_any=tuple(given.tags_any),
        kind=kind_of("filter.kind", given.kind),
        source=optional(given, "source"),
        since=_time(given, "since", "filter."),
        until=_time(given, "until", "filter."),
        metadata=given_object("filter.metadata", given.metadata),
    )


def known_in(given: memories_pb2.CompleteRequest) -> Known | None:
    if not given.HasField("known"):
        return None
    known = given.known
    return Known(
        content=optional(known, "content"),
        tags=tuple(known.tags),
        kind=kind_of("known.kind", known.kind),
        source=optional(known, "source"),
        since=_time(known, "since", "known."),
        until=_time(known, "until", "known."),
        metadata=given_object("known.metadata", known.metadata),
    )


def as_of_in(message: Message) -> AsOf | None:
    if not message.HasField("as_of"):
        return None
    given: types_pb2.AsOf = message.as_of  # type: ignore[attr-defined]
    match given.WhichOneof("moment"):
        case "position":
            return given.position
        case "time":
            return given_time("as_of.time", given.time)
    raise Invalid.of("as_of", "is empty; give a position or a time, or leave it out")


def spread_in(given: memories_pb2.RecallRequest) -> Spread | None:
    if not given.HasField("spread"):
        return None
    spread = {field.name: value for field, value in given.spread.ListFields()}
    return Spread(**spread)


def after_in(message: Message) -> int | None:
    """A position to go on behind."""
    after: int | None = optional(message, "after")
    if after is not None and after < 0:
        raise Invalid.of("after", "must be a position, as `next` gave it")
    return after


def changes_in(given: memories_pb2.ReviseRequest) -> Changes:
    """A revision. Raises :class:`Invalid` for what is both given and cleared."""
    fields: dict[str, Any] = {}
    if given.HasField("tags"):
        fields["tags"] = tuple(given.tags.values)
    if given.HasField("metadata"):
        fields["metadata"] = given_object("metadata", given.metadata)
    for name in ("content", "confidence", "source"):
        if given.HasField(name):
            fields[name] = getattr(given, name)
    for name in ("occurred_at", "expires_at"):
        if given.HasField(name):
            fields[name] = given_time(name, getattr(given, name))
    if given.HasField("embedding"):
        fields["embedding"] = given_vector(given.embedding)
    for i, name in enumerate(given.clear):
        if name not in CLEARABLE:
            raise Invalid.of(f"clear[{i}]", f"{name[:64]!r} cannot be cleared; {_CLEARABLE} can")
        if fields.get(name) is not None:
            raise Invalid.of(f"clear[{i}]", f"{name!r} is given a value too; do one of the two")
        fields[name] = None
    return Changes(**fields)


_CLEARABLE: Final = ", ".join(CLEARABLE)


def embedding_in(message: Message, name: str = "embedding") -> EmbeddingSpec | None:
    if not message.HasField(name):
        return None
    given: types_pb2.EmbeddingSpec = getattr(message, name)
    return EmbeddingSpec(model=given.model, dimensions=given.dimensions)


def settings_in(given: spaces_pb2.ConfigureSpaceRequest) -> dict[str, Any]:
    """What is to be configured, as :meth:`engram.Space.configure` takes it."""
    settings: dict[str, Retention | Decay | Forgetting | Rhythm | Quotas] = {}
    if given.HasField("retention"):
        keep = given.retention
        settings["retention"] = checked_retention(
            "retention", optional(keep, "positions"), optional(keep, "age_s")
        )
    if given.HasField("decay"):
        law = given.decay
        settings["decay"] = checked_decay(
            "decay",
            law.family or "power",
            optional(law, "exponent"),
            optional(law, "half_life_s"),
            optional(law, "weight"),
        )
    if given.HasField("forgetting"):
        policy = given.forgetting
        settings["forgetting"] = checked_forgetting(
            "forgetting",
            capacity=optional(policy, "capacity"),
            threshold=optional(policy, "threshold"),
            grace_s=optional(policy, "grace_s"),
            spare_kinds=[
                _spared(f"forgetting.spare_kinds[{i}]", kind)
                for i, kind in enumerate(policy.spare_kinds)
            ],
            spare_tags=list(policy.spare_tags),
        )
    if given.HasField("consolidation"):
        rhythm = given.consolidation
        settings["consolidation"] = checked_rhythm(
            "consolidation", optional(rhythm, "after"), optional(rhythm, "every_s")
        )
    if given.HasField("quotas"):
        settings["quotas"] = checked_quotas("quotas", _quotas(given.quotas))
    return settings


def _quotas(given: types_pb2.Quotas) -> dict[str, int]:
    return {field.name: most for field, most in given.ListFields()}


def quotas_in(given: spaces_pb2.CreateSpaceRequest) -> Quotas | None:
    return checked_quotas("quotas", _quotas(given.quotas)) if given.HasField("quotas") else None


def _spared(field: str, number: int) -> Kind:
    kind = kind_of(field, number)
    if kind is None:
        raise Invalid.of(field, "is unspecified; name a kind")
    return kind


def spaces_limit_in(given: spaces_pb2.ListSpacesRequest) -> int:
    limit: int = optional(given, "limit", limits.LIST_LIMIT_DEFAULT)
    if not 1 <= limit <= limits.LIST_LIMIT_MAX:
        raise Invalid.of("limit", f"must be from 1 to {limits.LIST_LIMIT_MAX}")
    return limit


def matching_in(given: memories_pb2.ForgetRequest) -> Filter | None:
    """The filter of what to forget; None where a single memory is meant."""
    wanted = filter_in(given)
    if (wanted is None) != given.HasField("id"):
        raise Invalid.of("id", "give the id of a memory or a filter, and not both")
    if wanted is not None and given.if_match:
        raise Invalid.of("if_match", "goes with the id of a memory, not with a filter")
    return wanted
