"""Forgetting in an open space what has to go by itself: what has expired.

An expired memory is shown to nobody from the microsecond on at which its time is up. That it is
forgotten is put on record a little later, so that many go with one record. What goes is found in a
view, by whoever asks for it or by the sweeper's thread, and decided again in the writer's, where
a memory that was revised meanwhile stays.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import ref

from engram.errors import EngramError
from engram.memory.decide import Sweep
from engram.memory.forgetting import EXPIRED, Judged, NothingLeft
from engram.memory.times import NEVER_US
from wal.errors import WalError

if TYPE_CHECKING:
    from engram.memory.view import View
    from engram.spaces.store import Store
    from engram.spaces.sweeper import Sweeper

FORGOTTEN_PER_RECORD_MAX: Final = 1_000
"""As many as one request may store: other writers wait for a record of these no longer."""
RECORDS_AT_ONCE: Final = 16
"""Then it is the turn of another space."""
_LOG: Final = logging.getLogger("engram.spaces")


class Pace(NamedTuple):
    """How soon what has to go is forgotten, in seconds: after it expired; after the last time
    something was forgotten; and after that failed, on a full disk for one.
    """

    expired_s: float = 5.0
    pause_s: float = 1.0
    retry_s: float = 60.0


PACE: Final = Pace()


class Forgetter:
    """Forgets what has to go in one open space. Thread-safe; keeps no store alive."""

    def __init__(self, store: Store, sweeper: Sweeper | None) -> None:
        """Without a sweeper nothing happens by itself."""
        self._store = ref(store)
        self._sweeper = sweeper
        self._pace = PACE
        self._running = threading.Lock()
        self._not_before_s = 0.0

    def notice(self) -> None:
        """See to it that what is due is done. Where the space is opened, and for its writer, after
        a group. Never raises.
        """
        if self._sweeper is not None and (due_s := self.due_s()) is not None:
            self._sweeper.expect(self, due_s)

    def due_s(self) -> float | None:
        """In how many seconds something has to be forgotten; None if nothing is due, or in a space
        that is not well, or is no longer open.
        """
        store = self._store()
        if store is None or store.closing or store.state.deleted or store.log.failure is not None:
            return None
        expires_us = store.state.view.earliest_expiry_us
        if expires_us == NEVER_US:
            return None
        due_s = (expires_us - store.now_ns() // 1_000) / 1e6 + self._pace.expired_s
        return max(due_s, self._not_before_s - time.monotonic(), 0.0)

    def tend(self) -> None:
        """Forget what is due, but no more than a part of it at once."""
        store = self._store()
        if store is not None:
            wait_s = self._attempt(store, RECORDS_AT_ONCE)
            self._not_before_s = time.monotonic() + wait_s

    def sweep(self) -> None:
        """Forget all that has expired by now. Raises what a write does."""
        store = self._store()
        if store is not None:
            self._sweep(store, None)

    def sweep_if_possible(self) -> None:
        """:meth:`sweep`, if the space takes writes; what cannot be done now is due later."""
        store = self._store()
        if store is not None:
            self._attempt(store, None)

    def _attempt(self, store: Store, records_max: int | None) -> float:
        """As :meth:`_sweep`; returns how many seconds to wait before the next attempt."""
        try:
            return self._pace.pause_s if self._sweep(store, records_max) else 0.0
        except (EngramError, WalError, OSError) as error:
            if not store.closing and not store.state.deleted:
                space_id = store.identity.memory_space_id
                _LOG.warning("space %s did not forget what it should: %s", space_id, error)
            return self._pace.retry_s

    def _sweep(self, store: Store, records_max: int | None) -> bool:
        """Forget what has expired by now, in so many records; whether that was all."""
        now_us = store.now_ns() // 1_000
        records = 0
        with self._running:
            while judged := expired(store.state.view, now_us, FORGOTTEN_PER_RECORD_MAX):
                if records == records_max:
                    return False
                try:
                    store.commit(Sweep(judged, now_us))
                except NothingLeft:
                    pass  # what was judged has moved on, and the view with it
                records += 1
        return True


def expired(view: View, now_us: int, most: int) -> list[Judged]:
    """Memories whose time was up by then, at most so many, those first that were stored first."""
    versions = [view.version(row) for row in view.expired(now_us)[:most].tolist()]
    return [Judged(version.id, version.revision, EXPIRED) for version in versions]
