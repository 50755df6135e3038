"""Group commit: many callers, one writer thread, one sync for all that is waiting.

The thread takes what is queued, lets the state machine decide each command in order (against
durable state plus what was decided before it in the same group), writes all resulting records with
one write and one sync, applies them, and only then releases the callers. Nothing resolves before
its group is durable, not even a refusal that rests on a command in the same group.

Commands are either *committed* (`submit`: somebody waits for them) or *observed* (`observe`: nobody
does). Observed ones ride along with the next group, and have one made for them when none comes
within their delay. A crash may lose the last of them.

The thread starts with the first command and ends after a quiet while, so an idle log costs none.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from wal.codec import Draft, check_draft
from wal.errors import Closed, DiskFull, NoDescriptor, OutcomeUnknown, Poisoned, WalError
from wal.log import Log
from wal.opened import Ack

C = TypeVar("C")
S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")
C_contra = TypeVar("C_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

GROUP_COMMANDS_MAX = 4_096
GROUP_BYTES_MAX = 16 << 20
OBSERVED_MAX = 4_096
"""Observed commands that may wait; more are dropped, which their callers are told."""
OBSERVED_DELAY_S = 0.05
NO_ROOM_DELAY_S = 1.0
"""How often observed commands look for room on a full disk."""


class Decided(NamedTuple, Generic[S]):
    """A command turned into at most one record; `staged` comes back at commit. Its `draft` is None
    when there is nothing to log.
    """

    draft: Draft | None
    staged: S


class StateMachine(Protocol[C_contra, S, R_co]):
    """What the writer thread runs. Called by that thread alone, one call at a time."""

    def decide(self, command: C_contra) -> Decided[S]:
        """Turn a command into a record, or raise what its caller is to get.

        A command that is refused leaves no trace in what later ones are decided against; so a
        record that may be too large has to be checked here (:func:`wal.codec.check_draft`).
        """

    def commit(self, decided: Sequence[tuple[S, Ack | None]]) -> Sequence[R_co]:
        """Apply a durable group, in order; must not fail."""

    def abandon(self) -> None:
        """Forget what was decided since the last commit: the group was not stored."""


class Ticket(Generic[R]):
    """A caller's claim on the outcome of its command."""

    __slots__ = ("_error", "_lock", "_result")

    def __init__(self) -> None:
        # One bare lock per waiter: releasing it wakes exactly that caller, with no condition
        # variable for sixteen writers to contend on.
        self._lock = threading.Lock()
        self._lock.acquire()
        self._result: R | None = None
        self._error: BaseException | None = None

    def resolve(self, result: R) -> None:
        self._result = result
        self._lock.release()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._lock.release()

    def result(self) -> R:
        """Wait until the command is durable or refused; returns its result or raises."""
        self._lock.acquire()
        self._lock.release()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]


class GroupCommitter(Generic[C, S, R]):
    """The one writer of a log. `submit` may be called from any thread."""

    def __init__(
        self,
        log: Log,
        machine: StateMachine[C, S, R],
        *,
        name: str,
        idle_s: float = 5.0,
        observed_delay_s: float = OBSERVED_DELAY_S,
    ) -> None:
        self._log = log
        self._machine = machine
        self._name = name
        self._idle_s = idle_s
        self._observed_delay_s = observed_delay_s
        self._no_room = False
        self._queue: deque[tuple[C, Ticket[R]]] = deque()
        self._observed: deque[tuple[C, Ticket[R]]] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._closing = False

    def call(self, what: Callable[[], T]) -> T:
        """Run `what` in the writer's thread, between two groups, and return what it returns.

        What it raises is raised here. Raises :class:`wal.errors.Closed` as :meth:`submit` does.
        """
        ticket: Ticket[T] = Ticket()

        def run() -> None:
            try:
                ticket.resolve(what())
            except BaseException as error:
                ticket.fail(error)

        with self._wake:
            if self._closing:
                raise Closed("the log is closed; open the space again")
            self._start_thread()
            self._calls.append(run)
            self._wake.notify()
        return ticket.result()

    def submit(self, command: C) -> Ticket[R]:
        """Queue a command. Raises :class:`wal.errors.Closed` once :meth:`close` was called."""
        ticket: Ticket[R] = Ticket()
        with self._wake:
            if self._closing:
                raise Closed("the log is closed; open the space again")
            self._start_thread()
            self._queue.append((command, ticket))
            self._wake.notify()
        return ticket

    def observe(self, command: C) -> bool:
        """Queue a command that nobody waits for; whether it will be recorded, but for a crash.

        It will not be where the log takes no writes, or has no room (as far as is known).
        """
        with self._wake:
            refused = self._closing or self._log.failure is not None
            if refused or len(self._observed) >= OBSERVED_MAX:
                return False
            # On a full disk one goes ahead now and then, to see whether there is room again.
            if not self._no_room or not self._observed:
                try:
                    self._start_thread()
                except RuntimeError:
                    return False
                self._observed.append((command, Ticket()))
                if len(self._observed) == 1:
                    self._wake.notify()
            return not self._no_room

    @property
    def no_room(self) -> bool:
        """Whether the last group failed for want of room. The next one may succeed."""
        return self._no_room

    def _start_thread(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            thread.start()  # waits for `_wake`; if it cannot start, nothing was queued
            self._thread = thread

    def close(self) -> None:
        """Finish what is queued, then stop. Idempotent."""
        with self._wake:
            self._closing = True
            self._wake.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        marked = False
        while True:
            with self._wake:
                if not self._waits() and not self._observed and not self._closing:
                    self._wake.wait(self._idle_s)
                if not self._waits() and self._observed:
                    delay_s = NO_ROOM_DELAY_S if self._no_room else self._observed_delay_s
                    self._wake.wait_for(lambda: self._waits() or self._closing, delay_s)
                called = bool(self._calls)
                idle = not self._waits() and not self._observed
                if idle and (marked or self._closing):
                    self._thread = None
                    return
            if called:
                self._calls.popleft()()
            elif idle:
                self._log.mark()
            else:
                self._commit_group()
            marked = idle

    def _waits(self) -> bool:
        """Whether somebody waits for something to be done."""
        return bool(self._queue or self._calls)

    def _commit_group(self) -> None:
        taken: list[Ticket[R]] = []
        refused: dict[int, Exception] = {}
        try:
            failure = self._log.failure
            if failure is not None:
                self._fail(self._take_all(), type(failure), str(failure))
                return
            decided = self._decide_group(taken, refused)
            drafts = [d.draft for d in decided if d.draft is not None]
            acks = iter(self._log.append(drafts) if drafts else ())
            if drafts:
                self._log.sync()
                self._no_room = False
            results = iter(
                self._apply(
                    [(d.staged, next(acks) if d.draft is not None else None) for d in decided]
                )
            )
        except (DiskFull, NoDescriptor, Poisoned, Closed) as error:
            self._no_room = isinstance(error, DiskFull)
            self._fail(taken, type(error), str(error))
        except BaseException as error:
            # Neither the log nor the state machine may fail in any other way: what is on disk and
            # what is in memory can no longer be assumed to agree.
            reason = f"the writer failed ({error!r}); close and reopen to see what is held"
            self._log.poison(reason)
            self._fail(taken, OutcomeUnknown, reason)
        else:
            for index, ticket in enumerate(taken):
                refusal = refused.get(index)
                if refusal is None:
                    ticket.resolve(next(results))
                else:
                    ticket.fail(refusal)

    def _take_all(self) -> list[Ticket[R]]:
        waiting = (self._observed, self._queue)
        return [queue.popleft()[1] for queue in waiting for _ in range(len(queue))]

    def _decide_group(
        self, taken: list[Ticket[R]], refused: dict[int, Exception]
    ) -> list[Decided[S]]:
        """Decide queued commands in order until the group is full or nothing is left.

        Observed ones come first: they happened before whatever made the group start.

        Tickets go into `taken` in that order; `refused` holds the errors by index.
        """
        decided: list[Decided[S]] = []
        size = 0
        while size < GROUP_BYTES_MAX and len(taken) < GROUP_COMMANDS_MAX:
            waiting = self._observed or self._queue
            if not waiting:
                break
            command, ticket = waiting.popleft()
            taken.append(ticket)
            try:
                choice = self._machine.decide(command)
                if choice.draft is not None:
                    size += check_draft(choice.draft)
            except Exception as error:
                refused[len(taken) - 1] = error
            else:
                decided.append(choice)
        return decided

    def _fail(self, taken: Sequence[Ticket[R]], kind: type[WalError], message: str) -> None:
        self._machine.abandon()
        for ticket in taken:
            ticket.fail(kind(message))

    def _apply(self, durable: Sequence[tuple[S, Ack | None]]) -> Sequence[R]:
        results = self._machine.commit(durable)
        if len(results) != len(durable):
            raise RuntimeError(f"{len(results)} results for {len(durable)} commands")
        return results
