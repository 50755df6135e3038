"""What this process knows of one life of a space: its identity, its feed, and its open store.

Every handle on a space leads here. An entry stays good for as long as the process lives: it opens
the folder of that id whenever it is used, if the folder still holds this uuid. So a handle from
before a deletion finds nothing, works again after a restoration, and never reaches a space that was
made anew.

A store may be closed between two uses, to make room for others (:mod:`engram.spaces.residency`).
Reading what is in memory goes on undisturbed, since that never changes. A command that comes too
late was not taken, and is repeated on the store that is opened then. Whoever reads files *pins* the
store meanwhile: a descriptor closed under a reader might name another space's file by the next
call.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Final

from engram.errors import InProgress, SpaceDamaged, Unavailable
from engram.feed.feed import Feed
from engram.feed.telling import SpaceName, Told
from engram.memory.answering import Keyed
from engram.memory.decide import Command, Observe
from engram.spaces.identity import Identity
from engram.spaces.machine import Committed
from engram.spaces.rates import Rates
from engram.spaces.residency import Residency
from engram.spaces.store import Store, StoreClosed

DAMAGE_REMEMBERED_S: Final = 5.0
LOOK_S_MAX: Final = 0.5
"""How long somebody who needs a space no more than this waits to see whether it is open."""
COMPUTING_MAX: Final = max(1, (os.cpu_count() or 1) // 2)
"""Recalls of one space that compute at once: half of the processors, so that others find one free.
More would not be faster for it, since most of a recall holds the interpreter.
"""
_LOG: Final = logging.getLogger("engram.spaces")


class Entry:
    """A space known to this process: its identity, and its store while it is open."""

    def __init__(
        self,
        identity: Identity,
        open_store: Callable[[Identity, Feed], Store],
        residency: Residency,
    ) -> None:
        self.identity = identity
        self.feed = Feed(SpaceName(identity.memory_space_id, identity.uuid))
        self.used_s = 0.0
        self.rates = Rates()
        self.computing = threading.BoundedSemaphore(COMPUTING_MAX)
        self._open_store = open_store
        self._residency = residency
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._unpinned = threading.Condition(self._lock)
        self._pins = 0
        self._store: Store | None = None
        self._closed = False
        self._damage: tuple[float, str] | None = None
        self._answering: set[bytes] = set()

    @property
    def opened(self) -> Store | None:
        """The store if the space is open, without opening it."""
        return self._store

    @property
    def nbytes(self) -> int:
        store = self._store
        return 0 if store is None else store.nbytes

    def store(self) -> Store:
        """The open store; opens it if need be. Lock-free once open.

        A damaged space is not read again for a few seconds: refusing must stay cheap.
        """
        check_process(self._pid, self.identity.memory_space_id)
        store = self._store
        if store is not None:
            self.used_s = time.monotonic()
            return store
        with self._lock:
            store = self._opened()
        self._residency.settle(self)
        return store

    def _opened(self) -> Store:
        """The store, opened under the lock if it is not open."""
        if self._store is not None:
            return self._store
        space_id = self.identity.memory_space_id
        if self._closed:
            raise Unavailable("the database was closed", memory_space_id=space_id)
        if self._damage is not None and time.monotonic() < self._damage[0]:
            raise SpaceDamaged(self._damage[1], memory_space_id=space_id)
        self._residency.admit(self)
        try:
            self._store = self._open_store(self.identity, self.feed)
        except SpaceDamaged as error:
            self._damage = (time.monotonic() + DAMAGE_REMEMBERED_S, error.detail)
            raise
        finally:
            if self._store is None:
                self._residency.dismiss(self)
        self.used_s = time.monotonic()
        return self._store

    @contextmanager
    def pinned(self) -> Iterator[Store]:
        """The store, which is not closed meanwhile, but with the whole database. Not to be nested,
        and not to be held for long: a deletion waits for it.
        """
        check_process(self._pid, self.identity.memory_space_id)
        with self._lock:
            self._pins += 1
        try:
            yield self.store()
        finally:
            with self._lock:
                self._pins -= 1
                self._unpinned.notify_all()

    @contextmanager
    def pinned_if_open(self) -> Iterator[Store | None]:
        """As :meth:`pinned`, but it opens nothing, and does not count as a use: None for a space
        that is closed, or is being opened or closed for longer than one would wait.
        """
        check_process(self._pid, self.identity.memory_space_id)
        store = None
        if self._lock.acquire(timeout=LOOK_S_MAX):
            store = self._store
            self._pins += store is not None
            self._lock.release()
        try:
            yield store
        finally:
            if store is not None:
                with self._lock:
                    self._pins -= 1
                    self._unpinned.notify_all()

    def commit(self, store: Store, command: Command | Keyed) -> Committed:
        """Run a command on the store that was found for it, or on the one there is by now."""
        try:
            return store.commit(command)
        except StoreClosed:
            with self.pinned() as store:
                return store.commit(command)

    @contextmanager
    def answering(self, key: bytes) -> Iterator[None]:
        """While a request is worked on that has a key of its own. Raises
        :class:`engram.errors.InProgress` if one with that key is.
        """
        with self._lock:
            if key in self._answering:
                raise InProgress(
                    "a request with this Idempotency-Key is being worked on; send it again for "
                    "its answer",
                    memory_space_id=self.identity.memory_space_id,
                )
            self._answering.add(key)
        try:
            yield
        finally:
            with self._lock:
                self._answering.discard(key)

    def observe(self, store: Store, command: Observe) -> bool:
        """As :meth:`commit`, for what nobody waits for: whether it will be recorded."""
        if store.observe(command):
            return True
        if not store.closing:
            return False
        with self.pinned() as store:
            return store.observe(command)

    def events(self, from_position: int) -> Generator[Told, None, None]:
        """The durable events from a position on, as of the first step. To be closed soon."""
        with self.pinned() as store:
            yield from store.events(from_position)

    def rest(self) -> bool:
        """Close the store if nobody needs it right now; whether it was closed."""
        if not self._lock.acquire(blocking=False):
            return False  # it is being opened, or closed: not idle in either case
        try:
            # Taken away first: who subscribes from here on finds no store and waits for the lock,
            # who did before is seen below.
            store, self._store = self._store, None
            if store is None:
                return False
            if self._pins or self.feed.followed or not store.retire():
                self._store = store
                return False
            self.feed.rest()
            self._residency.dismiss(self)
            return True
        except OSError as error:
            # All that it held was stored before the first file was closed.
            _LOG.warning("space %s was not closed cleanly: %s", self.feed.space[0], error)
            self._residency.dismiss(self)
            return True
        finally:
            self._lock.release()

    def reopen(self, *, though_damaged: bool = False) -> bool:
        """Recover a space that takes no writes from what is on disk, and verify a damaged one
        again; whether there was a reason to. One that is well is left alone, but opened.

        Raises :class:`engram.errors.SpaceDamaged` for what still does not verify. What of it is in
        memory stays readable, but for one that is given up `though_damaged`.
        """
        check_process(self._pid, self.identity.memory_space_id)
        with self._lock:
            refused, self._damage = self._damage is not None, None
            ill = self._store
            if ill is None or ill.log.failure is None:
                self._opened()
            else:
                refused = True
                if not though_damaged:
                    ill.check_readable()
                self._unpinned.wait_for(lambda: not self._pins)
                if self._store is ill:
                    self._store = None
                    self._residency.dismiss(self)
                    ill.close()
                self._opened()
        self._residency.settle(self)
        return refused

    def let_go(self) -> None:
        """Close the store, which opens again at its next use."""
        with self._lock:
            self._unpinned.wait_for(lambda: not self._pins)
            store, self._store = self._store, None
            self._residency.dismiss(self)
            if store is not None:
                store.close()

    def withdraw(self, move: Callable[[], None]) -> None:
        """Close the store for a deletion, and `move` the folder while nobody here can open it."""
        with self._lock:
            self._unpinned.wait_for(lambda: not self._pins)
            store, self._store = self._store, None
            self._residency.dismiss(self)
            try:
                if store is not None:
                    store.close()
                move()
            finally:
                self.feed.end()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            store, self._store = self._store, None
            self._residency.dismiss(self)
        try:
            if store is not None:
                store.close()
        finally:
            self.feed.close()


def check_process(pid: int, space_id: str | None = None) -> None:
    """Refuse a forked child what belongs to its parent, before any lock a lost thread may hold."""
    if pid != os.getpid():
        raise Unavailable(
            f"the database was opened by another process (pid {pid}); open it again in this one",
            memory_space_id=space_id,
        )
