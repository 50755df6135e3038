"""A state machine for the group committer that keeps no more than it needs to be checked by."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from wal.codec import Draft, check_draft
from wal.commit import Decided, GroupCommitter, Ticket
from wal.log import Log
from wal.opened import Ack


class Write(NamedTuple):
    """Log `payload`, which no other command may have; unless `logged`, only decide it."""

    payload: bytes
    logged: bool = True


class Refused(Exception):
    """The machine's answer to a payload it has accepted before."""


class Recorder:
    """Accepts each payload once; sees its own group's payloads before they are durable.

    While `gate` is not set, deciding waits, so that a test can let a group gather behind it.
    """

    def __init__(self, at_commit: Callable[[Sequence[bytes]], None] = lambda group: None) -> None:
        self.applied: list[bytes] = []
        self.groups: list[int] = []
        self.abandoned = 0
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()
        self._known: set[bytes] = set()
        self._overlay: set[bytes] = set()
        self._at_commit = at_commit

    def decide(self, command: Write) -> Decided[bytes]:
        self.waiting.set()
        self.gate.wait()
        if command.payload in self._known or command.payload in self._overlay:
            raise Refused(command.payload)
        draft = Draft([command.payload], 1, 0)
        check_draft(draft)
        self._overlay.add(command.payload)
        return Decided(draft if command.logged else None, command.payload)

    def commit(self, decided: Sequence[tuple[bytes, Ack | None]]) -> list[Ack | None]:
        group = [payload for payload, _ in decided]
        self._at_commit(group)
        self._overlay.clear()
        self._known.update(group)
        self.applied += group
        self.groups.append(len(group))
        return [ack for _, ack in decided]

    def abandon(self) -> None:
        self.abandoned += 1
        self._overlay.clear()


Committer = GroupCommitter[Write, bytes, Ack | None]


def committer(log: Log, machine: Recorder, idle_s: float = 5.0) -> Committer:
    return GroupCommitter(log, machine, name="writer", idle_s=idle_s)


def submit_as_one_group(
    writer: Committer, machine: Recorder, payloads: Sequence[bytes]
) -> list[Ticket[Ack | None]]:
    """Submit while the writer is held back, so that all of it is decided together."""
    machine.gate.clear()
    tickets = [writer.submit(Write(payload)) for payload in payloads]
    machine.gate.set()
    return tickets


def outcome(ticket: Ticket[Ack | None]) -> Ack | Exception | None:
    try:
        return ticket.result()
    except Exception as error:
        return error
