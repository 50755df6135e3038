"""Forgetting in an open space what has to go by itself: what has expired, and what its policy says.

An expired memory is shown to nobody from the microsecond on at which its time is up. That it is
forgotten is put on record a little later, so that many go with one record; what a policy has go is
forgotten soon after the write that made it too many, and looked for now and then where memories
fade. What goes is found in a view, by whoever asks for it or by the sweeper's thread, and decided
again in the writer's, where what was changed meanwhile stays.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import ref

import numpy as np

from engram import limits
from engram.cognition.fading import beyond, expired
from engram.errors import EngramError
from engram.memory.decide import ForgetMatching, Sweep
from engram.memory.events import MemoryForgotten
from engram.memory.forgetting import (
    FORGET_NOTHING,
    Forgetting,
    ForgettingReport,
    Judged,
    Lapsed,
    NothingLeft,
)
from engram.memory.model import Filter, ForgottenMatching
from engram.memory.times import NEVER_US
from engram.spaces.machine import Committed
from wal.errors import WalError

if TYPE_CHECKING:
    from engram.memory.view import View
    from engram.spaces.store import Store
    from engram.spaces.sweeper import Sweeper

FORGOTTEN_PER_RECORD_MAX: Final = 250
"""Other writers wait for such a record, some 10 ms, but for no more at a time."""
RECORDS_AT_ONCE: Final = 16
"""Then it is the turn of another space. Behind each, this one's users have as long as it took."""
_LOG: Final = logging.getLogger("engram.spaces")


class Pace(NamedTuple):
    """How soon what has to go is forgotten, in seconds: after it expired; after the last time
    something was forgotten; how often what fades is looked for; and when to try again after a
    failure, on a full disk for one.
    """

    expired_s: float = 5.0
    pause_s: float = 1.0
    fading_s: float = 600.0
    retry_s: float = 60.0


PACE: Final = Pace()


def _at_once(seconds: float) -> bool:
    return True


class Forgetter:
    """Forgets what has to go in one open space. Thread-safe; keeps no store alive."""

    def __init__(self, store: Store, sweeper: Sweeper | None) -> None:
        """Without a sweeper nothing happens by itself."""
        self._store = ref(store)
        self._sweeper = sweeper
        self._pace = PACE
        self._running = threading.Lock()
        self._not_before_s = 0.0
        self._looked: tuple[Forgetting, float] | None = None
        self._stuck_at = 0

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
        view, policy = store.state.view, store.state.settings.forgetting
        due = []
        if view.earliest_expiry_us != NEVER_US:
            left_us = view.earliest_expiry_us - store.now_ns() // 1_000
            due.append(left_us / 1e6 + self._pace.expired_s)
        if policy:
            due.append(self._policy_due_s(view, policy))
        if not due:
            return None
        return max(min(due), self._not_before_s - time.monotonic(), 0.0)

    def _policy_due_s(self, view: View, policy: Forgetting) -> float:
        looked = self._looked
        if looked is None or looked[0] != policy:
            return 0.0
        if policy.capacity is not None:
            # Where those that are spared are too many already, it takes one more to look again.
            living = int(np.count_nonzero(view.live))
            self._stuck_at = min(self._stuck_at, living)
            if living > max(policy.capacity, self._stuck_at):
                return 0.0
        return looked[1] + self._pace.fading_s - time.monotonic()

    def tend(self) -> None:
        """Forget what is due, but no more than a part of it at once."""
        store = self._store()
        if store is not None:
            rest = _at_once if self._sweeper is None else self._sweeper.rest
            policy = store.state.settings.forgetting
            wait_s = self._attempt(store, policy, RECORDS_AT_ONCE, rest)
            self._not_before_s = time.monotonic() + wait_s

    def sweep_if_possible(self) -> None:
        """Forget all that has expired by now, if the space takes writes; what cannot be done now is
        due later.
        """
        store = self._store()
        if store is not None:
            self._attempt(store, FORGET_NOTHING)

    def apply(self) -> ForgettingReport:
        """Forget all that has to go by now. Raises what a write does."""
        store = self._opened()
        policy, taken = store.state.settings.forgetting, list[Committed]()
        self._sweep(store, policy, took=taken.append)
        lapsed = [
            _lapsed(event, committed.ack.position + index)
            for committed in taken
            for index, event in enumerate(committed.batch.events)
            if isinstance(event, MemoryForgotten)
        ]
        return _report(store, policy, lapsed[: limits.LIST_LIMIT_MAX], len(lapsed), dry_run=False)

    def report(self) -> ForgettingReport:
        """What :meth:`apply` would do."""
        store = self._opened()
        view, settings = store.state.view, store.state.settings
        policy, now_us, most = settings.forgetting, store.now_ns() // 1_000, limits.LIST_LIMIT_MAX
        over = expired(view, now_us, most)
        more = beyond(view, policy, settings.decay, now_us, most - len(over.judged))
        lapsed = [
            Lapsed(
                id=each.id,
                revision=each.revision,
                reason=each.reason,
                base_level=each.base_level,
                bound=policy.bound(each.reason),
            )
            for each in over.judged + more.judged
        ]
        return _report(store, policy, lapsed, over.total + more.total, dry_run=True)

    def _opened(self) -> Store:
        store = self._store()
        if store is None:
            raise RuntimeError("this is the forgetter of a store that is gone")
        return store

    def _attempt(
        self,
        store: Store,
        policy: Forgetting,
        records_max: int | None = None,
        rest: Callable[[float], bool] = _at_once,
    ) -> float:
        """As :meth:`_sweep`; returns how many seconds to wait before the next attempt."""
        try:
            done = self._sweep(store, policy, records_max, rest=rest)
        except (EngramError, WalError, OSError) as error:
            if not store.closing and not store.state.deleted:
                space_id = store.identity.memory_space_id
                _LOG.warning("space %s did not forget what it should: %s", space_id, error)
            return self._pace.retry_s
        return self._pace.pause_s if done else 0.0

    def _sweep(
        self,
        store: Store,
        policy: Forgetting,
        records_max: int | None = None,
        took: Callable[[Committed], None] = lambda committed: None,
        rest: Callable[[float], bool] = _at_once,
    ) -> bool:
        """Forget what has expired by now, and what a policy has go if it is the one that holds, in
        so many records; whether that was all. `rest` is asked behind each, with the seconds it
        took, whether to go on.
        """
        with self._running:
            began_s = time.monotonic()
            for records, sweep in enumerate(self._found(store, policy)):
                if records == records_max:
                    return False
                try:
                    took(store.commit(sweep))
                except NothingLeft:
                    pass  # what was judged has moved on
                if not rest(time.monotonic() - began_s):
                    return False
                began_s = time.monotonic()
            if policy:
                living = int(np.count_nonzero(store.state.view.live))
                self._looked, self._stuck_at = (policy, time.monotonic()), living
        return True

    def _found(self, store: Store, policy: Forgetting) -> Iterator[Sweep]:
        """What is to go as of each step, a record of it at a time."""
        for judge in (self._judged_expired, self._judged_beyond):
            seen = None
            # Where nothing went, what is found in the same view again would not either.
            while (view := store.state.view) is not seen:
                seen, now_us = view, store.now_ns() // 1_000
                judged = judge(store, view, policy, now_us)
                for first in range(0, len(judged), FORGOTTEN_PER_RECORD_MAX):
                    yield Sweep(judged[first : first + FORGOTTEN_PER_RECORD_MAX], now_us, policy)
                if not judged:
                    break

    def _judged_expired(
        self, store: Store, view: View, policy: Forgetting, now_us: int
    ) -> list[Judged]:
        return expired(view, now_us, FORGOTTEN_PER_RECORD_MAX).judged

    def _judged_beyond(
        self, store: Store, view: View, policy: Forgetting, now_us: int
    ) -> list[Judged]:
        settings = store.state.settings
        if settings.forgetting != policy:
            return []
        most = RECORDS_AT_ONCE * FORGOTTEN_PER_RECORD_MAX
        return beyond(view, policy, settings.decay, now_us, most).judged


def forget_matching(store: Store, filter: Filter) -> ForgottenMatching:
    """Forget what lives and matches as of now, a record of it at a time. What somebody changes
    before its turn comes is looked at again, as it is then.
    """
    view, now_us = store.state.view, store.now_ns() // 1_000
    rows = np.flatnonzero(view.matching(filter, view.visible(now_us))).tolist()
    matched = [(named.id, named.revision) for named in map(view.named, rows)]
    ids = {memory_id for memory_id, _ in matched}
    count, position = 0, view.position
    while matched:
        for first in range(0, len(matched), FORGOTTEN_PER_RECORD_MAX):
            wanted = matched[first : first + FORGOTTEN_PER_RECORD_MAX]
            try:
                done = store.commit(ForgetMatching(wanted, store.now_ns() // 1_000))
            except NothingLeft:
                continue
            gone = [each for each in done.batch.events if isinstance(each, MemoryForgotten)]
            count += sum(each.id in ids for each in gone)
            position = done.ack.last_position
        matched = _still_matching(store, filter, matched)
    return ForgottenMatching(
        memory_space_id=store.identity.memory_space_id, count=count, position=position
    )


def _still_matching(
    store: Store, filter: Filter, ids: Sequence[tuple[str, int]]
) -> list[tuple[str, int]]:
    """Those of the ids that live, and match, in another revision than before."""
    view, rows = store.state.find_all([each for each, _ in ids], store.now_ns() // 1_000)
    lives = np.zeros(view.rows, np.bool_)
    lives[[row for row in rows if row is not None]] = True
    found = map(view.named, np.flatnonzero(view.matching(filter, lives)).tolist())
    return [(named.id, named.revision) for named in found]


def _lapsed(event: MemoryForgotten, position: int) -> Lapsed:
    return Lapsed(
        id=event.id,
        revision=event.revision,
        reason=event.reason,
        base_level=event.base_level,
        bound=event.bound,
        position=position,
    )


def _report(
    store: Store, policy: Forgetting, lapsed: list[Lapsed], count: int, *, dry_run: bool
) -> ForgettingReport:
    return ForgettingReport(
        memory_space_id=store.identity.memory_space_id,
        dry_run=dry_run,
        forgetting=policy,
        count=count,
        memories=tuple(lapsed),
        position=store.state.view.position,
    )
