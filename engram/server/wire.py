"""The JSON shapes of requests and answers. Pure.

A body is checked here for shape: JSON types, required and unknown fields. What a value may mean
(lengths, ranges, ids) is the engine's to check, so that no surface lets in what another refuses.
A key that one object holds twice counts once, with its last value, as in most JSON readers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Literal,
    NoReturn,
    TypeVar,
    cast,
    get_args,
    get_type_hints,
)

import msgspec
import numpy as np

from engram import limits
from engram.errors import FieldError, Invalid, Malformed
from engram.memory.completion import Known
from engram.memory.model import (
    Changes,
    EmbeddingSpec,
    Filter,
    Kind,
    Metadata,
    Mode,
    NewMemory,
    OnConflict,
    SpaceInfo,
    Spread,
    Vector,
)
from engram.memory.quotas import Quotas, parse_quotas
from engram.memory.relations import RELATED
from engram.server.settings_bodies import QuotasBody
from wal.decoding import decoder_of

if TYPE_CHECKING:
    from engram.spaces.space import Space

_T = TypeVar("_T")
AwareTime = Annotated[datetime, msgspec.Meta(tz=True)]
_Unset = msgspec.UnsetType
_UNSET: Final = msgspec.UNSET
_JSON_WORDS: Final = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "a boolean",
    "object": "an object",
    "array": "an array",
    "datetime": "an RFC 3339 time",
}
"""What msgspec calls by Python's names."""
_HIGH, _LOW = rb"\\u[dD][89abAB]..", rb"\\u[dD][c-fC-F].."
_LONE_SURROGATE: Final = re.compile(
    rb"(?<!\\)(?:\\\\)*(?:%b(?!%b)|(?<!\\u[dD][89abAB]..)%b)" % (_HIGH, _LOW, _LOW), re.DOTALL
)


class NewSpaceBody(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /spaces`; `PUT` takes it too, its memory_space_id then has to match the path."""

    memory_space_id: str | None = None
    embedding: EmbeddingBody | None = None
    quotas: QuotasBody | str | None = None

    def given_quotas(self) -> Quotas | None:
        quotas = self.quotas
        if quotas is None:
            return None
        if isinstance(quotas, str):
            return parse_quotas("quotas", quotas)
        return quotas.checked("quotas")


class ForkBody(msgspec.Struct, forbid_unknown_fields=True):
    """`POST …/fork`: the id of the copy, the position to copy up to, and what to embed it with."""

    memory_space_id: str
    as_of: int | None = None
    embedding: EmbeddingBody | None = None


class EmbeddingBody(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    dimensions: int

    def spec(self) -> EmbeddingSpec:
        return EmbeddingSpec(model=self.model, dimensions=self.dimensions)


class ApplyBody(msgspec.Struct, forbid_unknown_fields=True):
    """`POST …/forgetting`."""

    dry_run: bool = False


class MemoryBody(msgspec.Struct, forbid_unknown_fields=True):
    content: str
    id: str | None = None
    kind: Kind = "episode"
    tags: list[str] = []
    metadata: Metadata = {}
    confidence: float = 1.0
    occurred_at: AwareTime | None = None
    expires_at: AwareTime | None = None
    source: str | None = None
    embedding: list[float] | None = None

    def new_memory(self) -> NewMemory:
        return NewMemory(
            content=self.content,
            id=self.id,
            kind=self.kind,
            tags=tuple(self.tags),
            metadata=self.metadata,
            confidence=self.confidence,
            occurred_at=self.occurred_at,
            expires_at=self.expires_at,
            source=self.source,
            embedding=_vector(self.embedding),
        )


class BatchBody(msgspec.Struct, forbid_unknown_fields=True):
    """Memories to be stored together, and what to do about those whose id lives."""

    memories: list[MemoryBody]
    on_conflict: OnConflict = "error"
    embedded_by: EmbeddingBody | None = None


class ChangesBody(msgspec.Struct, forbid_unknown_fields=True):
    """`PATCH` of a memory: absent stays, null clears."""

    content: str | _Unset = _UNSET
    tags: list[str] | _Unset | None = _UNSET
    metadata: Metadata | _Unset | None = _UNSET
    confidence: float | _Unset | None = _UNSET
    occurred_at: AwareTime | _Unset | None = _UNSET
    expires_at: AwareTime | _Unset | None = _UNSET
    source: str | _Unset | None = _UNSET
    embedding: list[float] | _Unset = _UNSET

    def changes(self) -> Changes:
        return Changes(
            content=self.content,
            tags=tuple(self.tags) if isinstance(self.tags, list) else self.tags,
            metadata=self.metadata,
            confidence=self.confidence,
            occurred_at=self.occurred_at,
            expires_at=self.expires_at,
            source=self.source,
            embedding=_vector(self.embedding),
        )


class LinkBody(msgspec.Struct, forbid_unknown_fields=True):
    source: str
    target: str
    weight: float
    relation: str = RELATED


class FilterBody(msgspec.Struct, forbid_unknown_fields=True):
    tags_all: list[str] = []
    tags_any: list[str] = []
    kind: Kind | None = None
    source: str | None = None
    from_: AwareTime | None = msgspec.field(default=None, name="from")
    to: AwareTime | None = None
    metadata: Metadata = {}

    def filter(self) -> Filter:
        return Filter(
            tags_all=tuple(self.tags_all),
            tags_any=tuple(self.tags_any),
            kind=self.kind,
            source=self.source,
            since=self.from_,
            until=self.to,
            metadata=self.metadata,
        )


class MatchingBody(msgspec.Struct, forbid_unknown_fields=True):
    """`DELETE …/memories`: what matches is forgotten or, with `purge`, gone for good."""

    filter: FilterBody
    purge: bool | _Unset = _UNSET


class RecallBody(msgspec.Struct, forbid_unknown_fields=True):
    """A recall; `mode` left out lets the engine choose."""

    query: str | None = None
    embedding: list[float] | None = None
    memory_ids: list[str] = []
    limit: int = 10
    mode: Mode | None = None
    filter: FilterBody | None = None
    min_confidence: float | None = None
    as_of: int | AwareTime | None = None
    spread: Spread | None = None
    explain: bool = False
    record: bool = True

    def cue_vector(self) -> Vector | None:
        return _vector(self.embedding)


class ConsolidateBody(msgspec.Struct, forbid_unknown_fields=True):
    """Whether only to tell what would be formed."""

    dry_run: bool = False


class KnownBody(msgspec.Struct, forbid_unknown_fields=True):
    """Fields of a memory that are known."""

    content: str | None = None
    tags: list[str] = []
    kind: Kind | None = None
    source: str | None = None
    from_: AwareTime | None = msgspec.field(default=None, name="from")
    to: AwareTime | None = None
    metadata: Metadata = {}

    def known(self) -> Known:
        return Known(
            content=self.content,
            tags=tuple(self.tags),
            kind=self.kind,
            source=self.source,
            since=self.from_,
            until=self.to,
            metadata=self.metadata,
        )


class CompleteBody(msgspec.Struct, forbid_unknown_fields=True):
    """A partial cue; null stands for components of its vector that are not known."""

    query: str | None = None
    embedding: list[float | None] | None = None
    known: KnownBody | None = None
    beta: float = limits.BETA_DEFAULT
    limit: int = 10


class _MemoriesKey(msgspec.Struct):
    """Tells a batch from a single memory; everything else in the body is skipped."""

    memories: msgspec.Raw | _Unset = _UNSET


def decode(body: bytes, shape: type[_T]) -> _T:
    """`body` as `shape`. Raises :class:`Malformed` for what is not JSON, else :class:`Invalid`."""
    try:
        return _decode_json(body, shape)
    except msgspec.ValidationError as error:
        # The decoder stops at the first oddity; whether all of it is JSON is the prior question.
        # Asked without making values of it: a number may be one that no value can hold.
        _check_utf8(body)
        _decode_json(body, msgspec.Raw)
        _refuse_shape(str(error), shape)


def _decode_json(body: bytes, shape: type[_T]) -> _T:
    try:
        return decoder_of(shape).decode(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError as error:
        raise Malformed(_what_is_malformed(body, str(error))) from None
    except UnicodeDecodeError:
        _check_utf8(body)
        raise
    except RecursionError:
        raise Malformed("the body is nested too deeply to be read") from None


def _check_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError:
        what = "UTF-16" if body.startswith((b"\xff\xfe", b"\xfe\xff")) else "not UTF-8"
        raise Malformed(f"the body is {what}; encode the JSON as UTF-8") from None


def decode_new_memories(body: bytes) -> MemoryBody | BatchBody:
    """What `POST …/memories` was given: one memory, or `{"memories": […]}` and nothing else."""
    if decode(body, _MemoriesKey).memories is _UNSET:
        return decode(body, MemoryBody)
    try:
        batch = decode(body, BatchBody)
    except Invalid as error:
        for item in error.errors:
            if item.field in MemoryBody.__struct_encode_fields__:
                raise Invalid.of(
                    item.field, "stands beside 'memories'; send one memory, or a list of them alone"
                ) from None
        raise
    return batch


def _what_is_malformed(body: bytes, message: str) -> str:
    if not body.strip():
        return "the body is empty; send a JSON object"
    if body.startswith(b"\xef\xbb\xbf"):
        return "the body begins with a byte order mark; send the JSON without it"
    if b"\0" in body[:4]:
        return "the body looks like UTF-16 or UTF-32; encode the JSON as UTF-8"
    if lone := _LONE_SURROGATE.search(body):
        escape = lone[0].lstrip(b"\\").decode(errors="replace")
        return (
            f"the body holds \\{escape} without the other half of its pair; send the character "
            "itself in UTF-8, or both escapes"
        )
    detail = f"the body is not JSON: {message}"
    if at := re.search(r"\(byte (\d+)\)$", message):
        rest = body[int(at[1]) :].lstrip(b"-")
        if rest.startswith((b"NaN", b"Inf")):
            detail += "; JSON has neither NaN nor infinities"
    return detail


def _refuse_shape(message: str, shape: object) -> NoReturn:
    """Turn a msgspec message, `what - at `$.path``, into an error that names the field."""
    what, _, path = message.partition(" - at `$")
    # Keys of objects that may hold anything are not told: `metadata[...][...][1]`.
    field = path.rstrip("`").removeprefix(".").partition("[...]")[0]
    known = _type_at(shape, field)
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL):
        field, what = _join(field, unknown[1]), "unknown field"
        if names := getattr(known, "__struct_encode_fields__", ()):
            what += f"; known are: {', '.join(names)}"
    elif missing := re.fullmatch(r"Object missing required field `(.*)`", what):
        field, what = _join(field, missing[1]), "is required"
    elif what.startswith("Invalid enum value") and (choices := get_args(known)):
        what += f"; choose one of {', '.join(map(str, choices))}"
    elif what.startswith("Invalid RFC3339") or what.endswith("with a timezone component"):
        what = "must be an RFC 3339 time with its zone, for example 2026-05-01T09:00:00Z"
    elif what == "Number out of range":
        what = "holds a number that cannot be represented; the largest is about 1.8e308"
    elif types := re.fullmatch(r"Expected `(.*)`, got `(.*)`", what):
        what = f"must be {_in_json_words(types[1])}, not {_in_json_words(types[2])}"
        if shape is _MemoriesKey and types[2] == "array":
            what += '; wrap a list as {"memories": […]}'
    raise Invalid(f"{field or 'body'}: {what}", errors=(FieldError(field or "body", what),))


def _in_json_words(types: str) -> str:
    return " or ".join(_JSON_WORDS.get(name, name) for name in types.split(" | "))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _type_at(shape: object, path: str) -> object:
    """The struct or Literal that a path such as `filter.kind` or `memories[0]` leads to."""
    current: object = shape
    for name in re.sub(r"\[[^\]]*\]", "", path).split(".") if path else ():
        fields = dict(
            zip(
                getattr(current, "__struct_encode_fields__", ()),
                getattr(current, "__struct_fields__", ()),
                strict=True,
            )
        )
        if name not in fields:
            return None
        current = _described(get_type_hints(current, include_extras=True)[fields[name]])
    return current


def _described(annotation: object) -> object:
    """The struct or Literal inside an annotation such as `list[MemoryBody] | None`, or None."""
    if hasattr(annotation, "__struct_fields__") or _is_literal(annotation):
        return annotation
    for part in get_args(annotation):
        if (found := _described(part)) is not None:
            return found
    return None


def _is_literal(annotation: object) -> bool:
    return getattr(annotation, "__origin__", None) is Literal


_MaybeVector = TypeVar("_MaybeVector", None, _Unset)


def _vector(numbers: Sequence[float] | _MaybeVector) -> Vector | _MaybeVector:
    if numbers is None or numbers is _UNSET:
        return numbers
    # As wide as they came: what float32 cannot hold is the engine's to refuse.
    return cast(Vector, np.asarray(numbers, dtype=np.float64))


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")


_ENCODER: Final = msgspec.json.Encoder(enc_hook=_plain)


def encode(document: object) -> bytes:
    """A struct of :mod:`engram.memory.model`, or a dict of them, as JSON."""
    return _ENCODER.encode(document)


def origin_document(space: Space) -> dict[str, Any]:
    """A space that was just made from another, and what it was made from."""
    return {**space_document(space.info()), "origin": space.origin}


def space_document(info: SpaceInfo) -> dict[str, Any]:
    """A space as it is shown: figures not known are null; `detail` and the times of a deletion are
    there only where there is one.
    """
    document = msgspec.structs.asdict(info)
    for name in ("detail", "deleted_at", "purge_after"):
        if document[name] is None:
            del document[name]
    return document
