"""The past states of a data root that are kept: what its spaces were at earlier positions.

:mod:`engram.spaces.as_of` builds them. A few are kept for the next who asks, for all spaces
together: within a bound in bytes, and those used least recently go first. They go with a compaction
of their space, which may let go of the files that they are mapped from, and when it is closed or
deleted.

History does not change, with one exception: what is purged is gone from the past too. So each has
the *mark* of the purges it was built under, and is of use only as long as that stands, which is
until a purge begins or is completed (:attr:`engram.memory.purges.Purges.mark`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, NamedTuple, TypeAlias

from engram.errors import Unavailable
from engram.memory.state import State

PAST_STATES_MAX: Final = 16
"""However small they are: each may keep the blocks of a file that is removed."""
BUILT_AT_ONCE_MAX: Final = 2
ASKED_FOR_MAX: Final = 16
"""That are not kept: who asks for one more is refused, lest all threads of a server wait here."""

Mark: TypeAlias = tuple[int, int]
Key: TypeAlias = tuple[str, int]
"""A space's uuid, and a position."""


class Built(NamedTuple):
    """A past state, the mark of the purges that it was built under, and its bytes in memory."""

    state: State
    mark: Mark
    nbytes: int


class _Flight(NamedTuple):
    """A past state that is being built, for all who ask for it meanwhile."""

    mark: Mark
    future: Future[State]


class PastStates:
    """See the module. Thread-safe. At most `bytes_max` bytes of memory, about, are kept; of a state
    that is larger, and with 0 of any, nothing is.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._guard = threading.Lock()
        self._kept: OrderedDict[Key, Built] = OrderedDict()
        self._flights: dict[Key, _Flight] = {}
        self._turns = threading.Semaphore(BUILT_AT_ONCE_MAX)

    @property
    def kept(self) -> list[Key]:
        """Which states are kept, those used least recently first."""
        return list(self._kept)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that all of them take, about; files mapped into it left out."""
        return sum(built.nbytes for built in list(self._kept.values()))

    def nbytes_of(self, uuid: str) -> int:
        """Bytes of memory that those of one space take, about."""
        return sum(built.nbytes for key, built in list(self._kept.items()) if key[0] == uuid)

    def let_go(self, uuid: str) -> None:
        """Keep none of a space any more, nor what is being built of it just now."""
        with self._guard:
            for key in [key for key in self._kept if key[0] == uuid]:
                del self._kept[key]
            for key in [key for key in self._flights if key[0] == uuid]:
                del self._flights[key]

    def state_at(self, key: Key, mark: Mark, build: Callable[[], Built]) -> State:
        """The state kept under `key` if it is of that mark; else what `build` gives, which is built
        once for all who ask meanwhile. Raises what that raises, and `Unavailable` where many wait.
        """
        with self._guard:
            kept = self._kept.get(key)
            if kept is not None and kept.mark == mark:
                self._kept.move_to_end(key)
                return kept.state
            self._kept.pop(key, None)
            flight = self._flights.get(key)
            waits = flight is not None and flight.mark == mark
            if not waits and len(self._flights) >= ASKED_FOR_MAX:
                raise Unavailable(
                    f"{len(self._flights)} past states are being built; ask again later"
                )
            if flight is None or not waits:
                flight = self._flights[key] = _Flight(mark, Future())
        if waits:
            return flight.future.result()
        try:
            with self._turns:
                built = build()
        except BaseException as error:
            # Those who wait are not interrupted by what interrupted this thread alone.
            told = error if isinstance(error, Exception) else Unavailable("interrupted; try again")
            self._land(key, flight, None)
            flight.future.set_exception(told)
            raise
        self._land(key, flight, built)
        flight.future.set_result(built.state)
        return built.state

    def _land(self, key: Key, flight: _Flight, built: Built | None) -> None:
        with self._guard:
            if self._flights.get(key) is not flight:
                return  # it was let go of meanwhile
            del self._flights[key]
            if built is None or not 0 < built.nbytes <= self.bytes_max:
                return
            self._kept[key] = built
            while len(self._kept) > PAST_STATES_MAX or self.nbytes > self.bytes_max:
                self._kept.popitem(last=False)
