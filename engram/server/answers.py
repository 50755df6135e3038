"""What an operation answers, and that a request with a key of its own is done once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from engram.memory.answering import Answered, AnsweredBefore
from engram.memory.model import Forgotten, Link, Memory, Remembered, Unlinked
from engram.server.calls import Call
from engram.server.wire import encode
from engram.spaces.keyed import KeyedRequest

if TYPE_CHECKING:
    from engram import Space

R = TypeVar("R")


class Answer(NamedTuple):
    """A JSON answer; `location` is the path of what was created, `etag` that of a memory. One that
    was kept is there as it was encoded, `raw`; `replayed` says that it was told before.
    """

    status: int
    document: Any
    location: str | None = None
    etag: str | None = None
    raw: bytes | None = None
    replayed: bool = False

    def encoded(self) -> bytes:
        return encode(self.document) if self.raw is None else self.raw

    def kept(self, ids: Iterable[str]) -> Answered:
        """As it is kept, which names the memories of these ids."""
        headers = (("location", self.location), ("etag", self.etag))
        given = tuple((name, value) for name, value in headers if value is not None)
        return Answered(self.status, given, self.encoded(), tuple(ids))

    @classmethod
    def of(cls, answered: Answered, *, replayed: bool) -> Answer:
        headers = dict(answered.headers)
        return cls(
            answered.status,
            None,
            headers.get("location"),
            headers.get("etag"),
            answered.body,
            replayed,
        )


def done(
    space: Space, call: Call, act: Callable[[Space], R], answer: Callable[[R], Answer]
) -> Answer:
    """What a write is answered: `answer` of what `act` returns. One that has a key is done once."""
    key = call.key_parts
    if key is None:
        return answer(act(space))
    request = KeyedRequest(
        bytes.fromhex(space.incarnation),
        key,
        call.request_parts,
        lambda result: answer(result).kept(_named_in(result)),
    )
    try:
        with space.answering(request):
            act(space.keyed(request))
    except AnsweredBefore as before:
        return Answer.of(before.answered, replayed=True)
    if request.answered is None:
        raise RuntimeError("a request with a key was done without an answer to keep")
    return Answer.of(request.answered, replayed=False)


def _named_in(result: object) -> tuple[str, ...]:
    """The ids of the memories that a result speaks of."""
    match result:
        case Remembered():
            return tuple(memory.id for memory in result.memories)
        case Memory() | Forgotten():
            return (result.id,)
        case Link() | Unlinked():
            return (result.source, result.target)
    raise TypeError(f"{type(result).__name__} is not answered to requests with a key")
