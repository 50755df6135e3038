"""The one gate of all surfaces: who asks, whether they may, and until when.

    principal = access.authenticate(values of the Authorization header or metadata)
    admit(db, principal, space_id, NEEDS["remember"])

A surface authenticates first of all, checks the syntax of the id, then admits, and looks at the
rest of the request only then. Whoever goes on for longer, as a stream does, is watched: they are
told when their key was revoked or has expired.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from engram.access.key_file import KeyFile, Keys
from engram.access.keys import recognised
from engram.access.principal import ANYBODY, Need, Principal, principal_of
from engram.errors import KeysDamaged, SpaceDamaged
from engram.memory.times import NEVER_US

if TYPE_CHECKING:
    from engram import Database

WATCH_S: Final = 0.25
"""How often is looked whether those who are watched may go on."""


class _Known(NamedTuple):
    """The keys as of a look at their file; `keys` None: there is no file."""

    stamp: object
    keys: Keys | None
    damage: KeysDamaged | None = None


class Access:
    """Who may do what on one server. Thread-safe.

    Keys are needed from the moment there is a file of them, or from the start if `required`; and
    never again not, as long as this lives, whatever becomes of the file.
    """

    def __init__(
        self,
        keys: KeyFile | None,
        *,
        required: bool = False,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`keys` None: a server inside a process, without any. Raises
        :class:`engram.errors.KeysDamaged` for a file that cannot be read.
        """
        self._file = keys
        self._required = required
        self._clock = clock
        self._guard = threading.Lock()
        self._known = _Known(None, None)
        self._watched: dict[object, tuple[Principal, Callable[[], None]]] = {}
        self._judged: _Known | None = None
        self._judge_again_us = 0
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        if damage := self._look().damage:
            raise damage

    @property
    def required(self) -> bool:
        """Whether requests need a key, now."""
        self._look()
        return self._required

    def authenticate(self, values: Sequence[str]) -> Principal:
        """Who sends a request, by all values that its `Authorization` has.

        Raises :class:`engram.errors.Unauthenticated`, and `KeysDamaged` while nobody can be let in.
        """
        known = self._look()
        if known.damage is not None:
            raise KeysDamaged(known.damage.detail)
        if not self._required:
            return ANYBODY
        return principal_of(recognised(values, known.keys or {}, self._clock() // 1_000))

    def watch(self, principal: Principal, ended: Callable[[], None]) -> Callable[[], None]:
        """Have `ended` called, once and in another thread, when `principal` may not go on. Returns
        what stops that.
        """
        mark = object()
        with self._guard:
            self._watched[mark] = principal, ended
            self._judged = None
            if self._thread is None and self._file is not None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="keys", daemon=True)
                self._thread.start()
        return lambda: self._forget(mark)

    def close(self) -> None:
        """Stop watching. Idempotent; the file of keys is the caller's."""
        self._closing.set()
        with self._guard:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _forget(self, mark: object) -> None:
        with self._guard:
            self._watched.pop(mark, None)

    def _look(self) -> _Known:
        """The keys as they are now; the file is read if it was changed."""
        if self._file is None:
            return self._known
        stamp = self._file.stamp()  # before reading: what changes behind it is seen the next time
        if stamp == self._known.stamp:
            return self._known
        with self._guard:
            try:
                known = _Known(stamp, None if stamp is None else self._file.read())
            except KeysDamaged as error:
                known = _Known(stamp, None, error)
            if known.keys is not None or known.damage is not None:
                self._required = True
            self._known = known
            return known

    def _run(self) -> None:
        while not self._closing.wait(WATCH_S):
            for ended in self._over():
                ended()
            with self._guard:
                if not self._watched:
                    self._thread = None
                    return

    def _over(self) -> list[Callable[[], None]]:
        """What is to be called, and is watched no more."""
        known = self._look()
        now_us = self._clock() // 1_000
        with self._guard:
            if known is self._judged and now_us < self._judge_again_us:
                return []  # thousands may be watched
            until = {
                mark: self._until_us(principal, known)
                for mark, (principal, _) in self._watched.items()
            }
            over = [self._watched.pop(mark)[1] for mark, us in until.items() if us <= now_us]
            self._judged = known
            self._judge_again_us = min((us for us in until.values() if us > now_us), default=0)
        return over

    def _until_us(self, principal: Principal, known: _Known) -> int:
        """When somebody's time is up; 0 if it is over."""
        if principal.key_id is None:
            return 0 if self._required else NEVER_US
        record = None if known.keys is None else known.keys.get(principal.key_id)
        if record is None:
            return 0
        return NEVER_US if record.expires_us is None else record.expires_us


def admit(db: Database, principal: Principal, space_id: str, need: Need) -> None:
    """Let a request on a space pass, or raise what it is refused with: in this order
    :class:`engram.errors.SpaceNotFound`, for a space that is not there or may not be seen, and
    `Forbidden`. A space that may not be seen is not looked for, so its answer takes no longer.
    """
    if need.makes:
        principal.check_create()
        return
    principal.check_visible(space_id)
    if principal.lacks(need):
        with suppress(SpaceDamaged):
            db.space(space_id)  # if it is not there, that is what is said
        principal.check(space_id, need)
