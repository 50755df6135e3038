"""One call, in the order that the contract has for every surface: who makes it, which space it
means, whether that is there, whether it may be done to it, and only then what else is wrong.

So what is wrong with a message beside its space is kept as a refusal, and raised by
:meth:`Call.check` once the space was found.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from google.protobuf.message import DecodeError, Message

from engram.access.gate import Access, admit
from engram.access.principal import NEEDS, Need
from engram.errors import EngramError, Malformed, SpaceConflict, TooLarge, Unavailable
from engram.limits import BODY_BYTES_MAX
from engram.rpc.values import read
from engram.server.resolver import Places, named_space, resolve

if TYPE_CHECKING:
    from engram import Database, Space
    from engram.server.default_space import DefaultSpace
    from engram.spaces.rates import Charge

SPACE_METADATA: Final = "x-memory-space"
KEY_METADATA: Final = "authorization"
OVER_GRPC: Final = Places(
    "the field memory_space_id",
    f"the metadata {SPACE_METADATA}",
    f"fill in the field memory_space_id, or send the metadata {SPACE_METADATA}",
)
MADE_OF_SPACES: Final = frozenset(
    {"create_space", "show_space", "configure_space", "delete_space", "restore_space"}
    | {"purge_space", "import", "fork"}
)
"""Operations on a space as a whole: no default stands in for those."""
Metadata = Iterable[tuple[str, str | bytes]]
_M = TypeVar("_M", bound=Message)


class Rpc(NamedTuple):
    """One method of a service that takes one message and answers with one.

    `operation` is what it is called among those that :data:`engram.access.principal.NEEDS` lists,
    or says so of a request. `run` is given the space, or, where it is not `inside` of one that has
    to be there, the call; and the request. What is `slow` is given few threads, and a `charge`
    counts against that rate among the space's quotas.
    """

    name: str
    operation: str | Callable[[Any], str]
    run: Callable[[Any, Any], Message]
    inside: bool = True
    slow: bool = False
    charge: Charge | None = None


class Door(NamedTuple):
    """What a server lets in, and to what."""

    db: Database
    access: Access
    default_space: DefaultSpace | None = None


class Call:
    """One call: what came beside its message, and which space it has named so far."""

    def __init__(
        self,
        door: Door,
        operation: str | Callable[[Any], str],
        metadata: Metadata,
        client: str,
    ) -> None:
        """Raises :class:`engram.errors.Unauthenticated`: nothing else about a call is looked at
        before that is known. `client` is the address that it comes from.
        """
        sent = self._sent = [(key, _text(value)) for key, value in metadata]
        self._keys = [value for key, value in sent if key == KEY_METADATA]
        self.principal = door.access.authenticate(self._keys)
        self.db = door.db
        self.beside = tuple(value for key, value in sent if key == SPACE_METADATA)
        self.deprecated = False
        """Whether it named no space where it should have."""
        self._door = door
        self._client = client
        self.space_id: str | None = None
        self.refusal: EngramError | None = None
        self.left = threading.Event()
        """Set once nobody waits for the answer any more."""
        self.told: dict[str, str] = {}
        """What the details of an error tell of what was done before."""
        self._operation = operation
        if any(key == "idempotency-key" for key, _ in sent):
            self.refusal = Malformed(
                "idempotency keys are not supported over gRPC in this release; leave the metadata "
                "out and give memories ids of your own, so that a repeated call is refused"
            )

    def take(self, kind: type[_M], data: bytes) -> _M:
        """The message that came. Raises Malformed for what is none, if it could have named the
        space.
        """
        if len(data) > BODY_BYTES_MAX:
            self.refusal = TooLarge(
                f"the message has {len(data)} bytes; at most {BODY_BYTES_MAX} are taken. Split it"
            )
        try:
            message, unknown = read(kind, data)
        except DecodeError:
            self.refusal = Malformed(f"what came is no message of the type {kind.DESCRIPTOR.name}")
            if not self.beside:
                raise self.refusal from None
            return kind()
        self.refusal = self.refusal or unknown
        return message

    def named(self, message: Message) -> str | None:
        """The space that the call names, if it names one."""
        self.space_id = named_space(_field(message), self.beside, OVER_GRPC)
        return self.space_id

    def resolve(self, message: Message) -> str:
        """The space that the call means, and may mean. Raises SpaceRequired, SpaceInvalid,
        SpaceConflict; SpaceNotFound for one that may not be seen; Forbidden.
        """
        if (space_id := self._stand_in(message)) is None:
            space_id = resolve(_field(message), self.beside, OVER_GRPC)
        self.space_id = space_id
        self._admit(message)
        return space_id

    def _stand_in(self, message: Message) -> str | None:
        """The default space, if it may serve where nobody so much as tried to name one."""
        default = self._door.default_space
        if default is None or self._operation in MADE_OF_SPACES or _field(message) is not None:
            return None
        if any("memory" in key and "space" in key for key, _ in self._sent):
            return None
        self.deprecated = True
        return default.stand_in(self._client)

    def need(self, message: Message) -> Need:
        """What it takes to do what the call is about."""
        operation = self._operation
        return NEEDS[operation if isinstance(operation, str) else operation(message)]

    def seems_to_mean(self, message: Message) -> str | None:
        """The space that it names first, whether or not that is one; to wait in the right queue."""
        named = _field(message)
        return named if named is not None else next(iter(self.beside), None)

    def _admit(self, message: Message) -> None:
        if self.space_id is not None:
            admit(self.db, self.principal, self.space_id, self.need(message))

    def space(self, message: Message, charge: Charge | None = None) -> Space:
        """The handle of that space, once nothing is wrong. Blocks while the space opens."""
        space = self.db.space(self.resolve(message))
        if charge is not None:
            space.charge(charge)
        self.check()
        return space

    def go_on(self, message: Message) -> None:
        """With a later message of a stream, which must not name another space than the first. Whose
        key was revoked meanwhile does not go on. Raises what is wrong with it.
        """
        given = _field(message)
        if given is not None and given != self.space_id:
            raise SpaceConflict(
                f"the stream began for the space '{self.space_id}', a later message names "
                f"'{given[:64]}'; open a stream for each"
            )
        self.principal = self._door.access.authenticate(self._keys)
        self._admit(message)
        self.check()

    def progress(self, done: int, total: int) -> None:
        """Called between pieces of work that may take minutes."""
        if self.left.is_set():
            raise Unavailable(
                f"nobody waits for the copy any more. {done} of {total} memories are embedded and "
                "kept: the same request goes on from there"
            )

    def check(self) -> None:
        """Raise what is wrong with the message apart from the space it names."""
        if self.refusal is not None:
            raise self.refusal

    def check_in_order(self) -> None:
        """:meth:`check`; but if there is no such space, raise that."""
        if self.refusal is not None and self.space_id is not None:
            self.db.space_info(self.space_id, deleted=self.principal.rules)
        self.check()


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _field(message: Message) -> str | None:
    if "memory_space_id" not in message.DESCRIPTOR.fields_by_name:
        return None
    if not message.HasField("memory_space_id"):
        return None
    space_id: str = message.memory_space_id  # type: ignore[attr-defined]
    return space_id
