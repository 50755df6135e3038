"""The one thread of a database that looks after its open spaces when something falls due in them.

A space says when it next has to be looked at, and says nothing if nothing is due, so that spaces in
which nothing expires cost nothing; the thread ends when there is nothing to wait for. It keeps no
space open, and none from being closed: what it does is a command like any other, which a store that
is being closed no longer takes. One that opens again says anew what is due in it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Final, Protocol
from weakref import WeakKeyDictionary

LOOK_S_MAX: Final = 60.0
"""Whatever is due later is looked at this often: the clock by which it falls due may be set."""
LINGER_S: Final = 5.0
"""How long the thread stays when there is nothing to wait for."""
_LOG: Final = logging.getLogger("engram.spaces")


class Tended(Protocol):
    """A space that is looked after."""

    def due_s(self) -> float | None:
        """In how many seconds it has to be looked at, 0 for at once; None if nothing is due."""

    def tend(self) -> None:
        """Do a bounded part of what is due. Whatever goes wrong is left for later."""


class Sweeper:
    """Looks after spaces in a thread of its own. Thread-safe."""

    def __init__(self) -> None:
        self._wake = threading.Condition(threading.Lock())
        self._due: WeakKeyDictionary[Tended, float] = WeakKeyDictionary()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._pid = os.getpid()

    def expect(self, tended: Tended, due_s: float) -> None:
        """Look after a space in so many seconds, or earlier. Never raises."""
        at = time.monotonic() + min(due_s, LOOK_S_MAX)
        with self._wake:
            if self._stopping.is_set() or self._due.get(tended, at + 1.0) <= at:
                return
            self._due[tended] = at
            if self._thread is None:
                self._start()
            else:
                self._wake.notify()

    def rest(self, seconds: float) -> bool:
        """Leave the machine to others for a while; whether to go on afterwards."""
        return not self._stopping.wait(seconds)

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="engram-sweeper", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            _LOG.warning("nothing is swept for now: %s", error)
        else:
            self._thread = thread

    def stop(self) -> None:
        """Stop, behind what is being done. Idempotent. A forked child has no thread to stop."""
        if self._pid != os.getpid():
            return
        with self._wake:
            self._stopping.set()
            self._wake.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while (tended := self._next()) is not None:
            try:
                self._look_after(tended)
            except Exception:  # of one space, which must not leave the others alone
                _LOG.exception("a space could not be looked after")
            del tended  # so that it is not kept while this waits

    def _look_after(self, tended: Tended) -> None:
        due_s = tended.due_s()
        if due_s == 0.0:
            tended.tend()
            due_s = tended.due_s()
        if due_s is not None:
            self.expect(tended, due_s)

    def _next(self) -> Tended | None:
        """Wait for what falls due first; None if the thread is to end."""
        with self._wake:
            while not self._stopping.is_set():
                due = list(self._due.items())
                if not due:
                    if self._wake.wait(LINGER_S) or self._due:
                        continue
                    break
                tended, at = min(due, key=lambda item: item[1])
                del due
                left_s = at - time.monotonic()
                if left_s <= 0.0:
                    del self._due[tended]
                    return tended
                del tended
                self._wake.wait(left_s)
            self._thread = None
            return None
