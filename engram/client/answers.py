"""What a server answered, as models or as a typed error. Pure.

An answer is trusted with nothing: a proxy's page, another program on the port, a body cut short or
one of a later version all end in :class:`engram.errors.ServerAnswerInvalid`, which says what was
asked, what came back and what to do. Unknown fields are passed over, so that a server may be newer.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import numpy as np

from engram import errors
from engram.errors import EngramError, FieldError, HistoryGone, ServerAnswerInvalid
from engram.memory.model import (
    Event,
    LinksPage,
    Memory,
    Origin,
    Page,
    PurgeReceipt,
    Recall,
    Receipt,
    Remembered,
    SpaceInfo,
    Vector,
    with_etag,
)

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
EVENT_STREAM: Final = "text/event-stream"
_DETAIL_CHARACTERS_MAX: Final = 2_000
_T = TypeVar("_T")


def invalid_answer(what: str, write: bool) -> ServerAnswerInvalid:
    detail = f"{what}. Check that the URL leads to an Engram server that fits this client"
    if write:
        detail += "; whether the write was done is not known, so read before repeating it"
    return ServerAnswerInvalid(detail)


class Answer(NamedTuple):
    """An HTTP answer. `asked` is its method and URL, for errors; `write` whether it may change;
    `incarnation` the uuid of the space that answered, where it says so.
    """

    asked: str
    write: bool
    status: int
    media_type: str
    body: bytes
    incarnation: str | None = None
    retry_after_s: float | None = None

    def invalid(self, what: str) -> ServerAnswerInvalid:
        """The error for an answer that cannot be used because of `what`."""
        return invalid_answer(f"{self.asked} answered {self.status} with {what}", self.write)


class SpacesPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of the spaces in order of id; `next` continues it, None at the end."""

    spaces: tuple[SpaceInfo, ...]
    next: str | None


class MemoryPurgeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What purging a memory is answered with."""

    receipt: PurgeReceipt


class MatchingPurgeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What purging by a filter is answered with: None if nothing matched."""

    receipt: PurgeReceipt | None


class PurgeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What purging a space is answered with."""

    receipt: Receipt


class MadeSpace(msgspec.Struct, frozen=True, kw_only=True):
    """A space that was made from another; what else is said of it is not needed."""

    memory_space_id: str
    origin: Origin


class EventsPage(msgspec.Struct, frozen=True, kw_only=True):
    """The events of one memory, oldest first."""

    events: tuple[Event, ...]


class _ProblemField(msgspec.Struct, frozen=True):
    field: str
    message: str


class _Problem(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    title: str | None = None
    detail: str | None = None
    memory_space_id: str | None = None
    errors: tuple[_ProblemField, ...] = ()
    oldest_position: int | None = None
    position: int | None = None
    space_uuid: str | None = None
    retry_after_s: int | None = None


ERROR_CLASSES: Final[dict[str, type[EngramError]]] = {
    kind.problem: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, EngramError)
}
"""From the name of a problem to its error."""


def read(answer: Answer, shape: type[_T], space_id: str | None = None) -> _T:
    """The document of an answer, which must speak of the space `space_id` alone, if one is given.

    Raises the typed error that the server answered with, or `ServerAnswerInvalid`.
    """
    if not 200 <= answer.status < 300:
        raise error_of(answer)
    if answer.media_type != JSON:
        raise answer.invalid(f"{answer.media_type or 'no media type'} instead of {JSON}")
    document = _decoded(answer, shape)
    if space_id is not None:
        for named in _spaces_in(document):
            if named != space_id:
                raise answer.invalid(f"what belongs to the space {named!r}, not to {space_id!r}")
    if answer.incarnation is not None:
        for memory in _memories_in(document):
            with_etag(memory, answer.incarnation)
    return document


def _memories_in(document: object) -> Iterator[Memory]:
    if isinstance(document, Memory):
        yield document
    elif isinstance(document, Recall):
        yield from (hit.memory for hit in document.results)
    elif isinstance(document, Page | Remembered):
        yield from document.memories


def error_of(answer: Answer) -> EngramError:
    """The error that an answer is, whatever it is."""
    if answer.media_type != PROBLEM:
        return answer.invalid(f"{answer.media_type or 'no media type'} instead of {PROBLEM}")
    try:
        problem = _decoded(answer, _Problem)
    except ServerAnswerInvalid as error:
        return error
    detail = (problem.detail or problem.title or problem.type)[:_DETAIL_CHARACTERS_MAX]
    name = problem.type.rpartition("/")[2]
    kind = ERROR_CLASSES.get(name) or _unknown_kind(name, problem.title or name, answer.status)
    if issubclass(kind, HistoryGone):
        return kind(
            detail,
            memory_space_id=problem.memory_space_id,
            oldest_position=problem.oldest_position,
            position=problem.position,
            space_uuid=problem.space_uuid,
        )
    return kind(
        detail,
        memory_space_id=problem.memory_space_id,
        errors=tuple(FieldError(item.field, item.message) for item in problem.errors),
        retry_after_s=problem.retry_after_s,
    )


def event_of(data: bytes, asked: str, space_id: str) -> Event:
    """One event of a feed of `space_id`."""
    answer = Answer(asked, False, 200, JSON, data)
    return read(answer, Event, space_id)


def _unknown_kind(problem: str, title: str, status: int) -> type[EngramError]:
    """An error that this version has no class for: the root, with what is known of it."""
    return type(
        "UnknownProblem",
        (EngramError,),
        {
            "__doc__": "A problem of a kind that this version of the client does not know.",
            "problem": problem,
            "title": title,
            "status": status,
        },
    )


def _spaces_in(document: object) -> set[str]:
    """The ids of all spaces that a document speaks of."""
    named = getattr(document, "memory_space_id", None)
    spaces = set() if named is None else {named}
    if isinstance(document, Recall):
        inner: tuple[Any, ...] = tuple(hit.memory for hit in document.results)
    elif isinstance(document, PurgeAnswer | MemoryPurgeAnswer | MatchingPurgeAnswer):
        inner = (document.receipt,)
    elif isinstance(document, EventsPage):
        inner = document.events
    elif isinstance(document, Event):
        inner = () if document.memory is None else (document.memory,)
    elif isinstance(document, LinksPage):
        inner = document.links
    else:
        inner = getattr(document, "memories", ())
    return spaces.union(*map(_spaces_in, inner)) if isinstance(inner, tuple) else spaces


def _decoded(answer: Answer, shape: type[_T]) -> _T:
    try:
        document: _T = _decoder(shape).decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise answer.invalid(f"a body that cannot be read as {shape.__name__} ({error})") from None
    return document


_making: Final = threading.Lock()
_made: Final[dict[type[Any], msgspec.json.Decoder[Any]]] = {}


def _decoder(shape: type[Any]) -> msgspec.json.Decoder[Any]:
    with _making:  # for the reason that wal.decoding gives
        if shape not in _made:
            _made[shape] = msgspec.json.Decoder(shape, dec_hook=_from_json)
        return _made[shape]


def _from_json(kind: type[Any], value: object) -> object:
    if kind is not Vector and getattr(kind, "__origin__", None) is not np.ndarray:
        raise TypeError(f"{kind} has no JSON form")
    vector = np.asarray(value, dtype=np.float32)
    if vector.ndim != 1:
        raise ValueError("Expected an array of numbers")
    return vector
