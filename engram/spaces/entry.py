"""What this process knows of one life of a space: its identity, its feed, and its open store.

Every handle on a space leads here. An entry stays good for as long as the process lives: it opens
the folder of that id whenever it is used, if the folder still holds this uuid. So a handle from
before a deletion finds nothing, works again after a restoration, and never reaches a space that was
made anew.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Final

from engram.errors import SpaceDamaged, Unavailable
from engram.feed.feed import Feed
from engram.feed.telling import SpaceName
from engram.spaces.identity import Identity
from engram.spaces.store import Store

DAMAGE_REMEMBERED_S: Final = 5.0


class Entry:
    """A space known to this process: its identity, and its store once it has been used."""

    def __init__(self, identity: Identity, open_store: Callable[[Identity, Feed], Store]) -> None:
        self.identity = identity
        self.feed = Feed(SpaceName(identity.memory_space_id, identity.uuid))
        self._open_store = open_store
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._closed = False
        self._damage: tuple[float, str] | None = None

    @property
    def opened(self) -> Store | None:
        """The store if the space is open, without opening it."""
        return self._store

    def store(self) -> Store:
        """The open store; opens it at first use. Lock-free once open.

        A damaged space is not read again for a few seconds: refusing must stay cheap.
        """
        check_process(self._pid, self.identity.memory_space_id)
        store = self._store
        if store is not None:
            return store
        with self._lock:
            if self._store is not None:
                return self._store
            space_id = self.identity.memory_space_id
            if self._closed:
                raise Unavailable("the database was closed", memory_space_id=space_id)
            if self._damage is not None and time.monotonic() < self._damage[0]:
                raise SpaceDamaged(self._damage[1], memory_space_id=space_id)
            try:
                self._store = self._open_store(self.identity, self.feed)
            except SpaceDamaged as error:
                self._damage = (time.monotonic() + DAMAGE_REMEMBERED_S, error.detail)
                raise
            return self._store

    def writable_store(self) -> Store:
        """As :meth:`store`; one whose log takes no more writes is recovered first."""
        store = self.store()
        if store.log.failure is None:
            return store
        with self._lock:
            if self._store is store:
                self._store = None
                store.close()
        return self.store()

    def withdraw(self, move: Callable[[], None]) -> None:
        """Close the store for a deletion, and `move` the folder while nobody here can open it."""
        with self._lock:
            store, self._store = self._store, None
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
