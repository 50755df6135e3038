"""Many callers on one log, with the disk failing or dying under them."""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence
from itertools import count
from random import Random

import pytest

from tests.crash.histories import FIRST, fresh_space, joined, open_log, recover
from tests.crash.machines import (
    Committer,
    Recorder,
    Refused,
    Write,
    committer,
    outcome,
    submit_as_one_group,
)
from wal.errors import Closed, DiskFull, NoDescriptor, OutcomeUnknown, Poisoned
from wal.opened import Ack
from wal.sim_vfs import SimDisk, keep_everything, lose_everything, sample

PAYLOADS = [b"%d " % n * (1 + n * 37 % 900) for n in range(24)]


def durable(disk: SimDisk) -> list[bytes]:
    """The payloads that would be there if the power failed now."""
    _, facts = recover(disk.clone().crash(lose_everything()))
    return [fact.payload for fact in facts]


def calls(disk: SimDisk, op: str) -> int:
    """How often that operation was called since the first time this was asked."""
    far = 1 << 40
    for failure in disk._failures:
        if failure.op == op and failure.code == 0:
            return far - failure.calls_left
    disk.fail(op, far, 0)
    return 0


class Caller(threading.Thread):
    """Submits its payloads one after the other and keeps the answers.

    With a disk, it looks at each success whether the disk has it.
    """

    def __init__(
        self, writer: Committer, payloads: Sequence[bytes], disk: SimDisk | None = None
    ) -> None:
        super().__init__()
        self.answers: list[tuple[bytes, Ack | Exception | None]] = []
        self.too_early: list[bytes] = []
        self._writer, self._disk, self._payloads = writer, disk, payloads

    def run(self) -> None:
        for payload in self._payloads:
            answer = outcome(self._writer.submit(Write(payload)))
            if self._disk and isinstance(answer, Ack) and payload not in durable(self._disk):
                self.too_early.append(payload)
            self.answers.append((payload, answer))


def run_callers(
    writer: Committer, payloads: Sequence[bytes], n: int, disk: SimDisk | None = None
) -> list[Caller]:
    """Run `n` callers at once, with a share of the payloads each, until all have ended."""
    threads = [Caller(writer, payloads[i::n], disk) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return threads


def test_no_caller_hears_of_success_before_the_disk_has_it() -> None:
    disk = fresh_space()
    applied_early: list[bytes] = []

    def at_commit(group: Sequence[bytes]) -> None:
        applied_early.extend(set(group) - set(durable(disk)))

    machine = Recorder(at_commit)
    writer = committer(open_log(disk), machine)
    threads = run_callers(writer, PAYLOADS, 6, disk)
    assert [thread.too_early for thread in threads] == [[]] * 6
    assert applied_early == []
    submit_as_one_group(writer, machine, [b"a", b"b", b"c"])
    writer.close()
    assert applied_early == []
    assert sorted(durable(disk)) == sorted([*PAYLOADS, b"a", b"b", b"c", joined(FIRST)])


def check_answers(disk: SimDisk, answers: Sequence[tuple[bytes, Ack | Exception | None]]) -> None:
    """A prefix of each caller's requests is there, and at its position if it was acknowledged."""
    log, facts = recover(disk)
    held = {fact.payload: fact.position for fact in facts}
    assert len(held) == len(facts), "a request was stored twice"
    assert set(held) <= {payload for payload, _ in answers} | {joined(FIRST)}
    for payload, answer in answers:
        if isinstance(answer, Ack):
            assert held.get(payload) == answer.position, "an acknowledged request is gone"
        elif isinstance(answer, DiskFull | NoDescriptor):
            assert payload not in held, "a request that failed definitely was stored"
    log.close()


def test_a_crash_under_many_callers_loses_nothing_acknowledged() -> None:
    for point in count(1):
        disk = fresh_space()
        writer = committer(open_log(disk), Recorder())
        disk.crash_at(disk.mutations + point, after=point % 2 == 0)
        answers = [a for caller in run_callers(writer, PAYLOADS[:9], 3) for a in caller.answers]
        writer.close()
        for choice in (lose_everything(), keep_everything(), sample(Random(point))):
            try:
                check_answers(disk.crash(choice), answers)
            except Exception as error:
                raise AssertionError(f"crash in change {point}: {error!r}") from error
        if all(isinstance(answer, Ack) for _, answer in answers):
            return
        unknown = [answer for _, answer in answers if isinstance(answer, Exception)]
        assert all(isinstance(error, Poisoned) for error in unknown), unknown


def test_a_failed_sync_is_unknown_to_all_its_waiters_and_never_retried() -> None:
    disk = fresh_space()
    machine = Recorder()
    writer = committer(open_log(disk), machine)
    assert isinstance(outcome(writer.submit(Write(b"before"))), Ack)
    calls(disk, "sync_data")
    disk.fail("sync_data", 1, errno.EIO)
    answers = [outcome(t) for t in submit_as_one_group(writer, machine, PAYLOADS)]
    assert {type(answer) for answer in answers} == {OutcomeUnknown}
    assert machine.abandoned >= 1
    assert machine.applied == [b"before"]
    assert calls(disk, "sync_data") == 1
    for _ in range(3):
        assert isinstance(outcome(writer.submit(Write(b"later"))), Poisoned)
    assert calls(disk, "sync_data") == 1
    writer.close()
    for found in (disk.clone(), disk.crash(lose_everything()), disk.crash(keep_everything())):
        payloads = [fact.payload for fact in recover(found)[1]][1:]
        assert payloads == [b"before", *PAYLOADS][: len(payloads)]
        assert payloads[:1] == [b"before"]


@pytest.mark.parametrize("op", ["write_at", "allocate", "create", "rename"])
@pytest.mark.parametrize("persistent", [False, True], ids=["once", "for good"])
def test_a_full_disk_fails_the_whole_group_and_the_next_one_goes_on(
    op: str, persistent: bool
) -> None:
    disk = fresh_space()
    machine = Recorder()
    writer = committer(open_log(disk), machine)
    large = bytes(7_000)
    assert isinstance(outcome(writer.submit(Write(large))), Ack)  # the next group rotates
    disk.fail(op, 1, errno.ENOSPC, persistent=persistent)
    group = [b"a", b"b", b"a", bytes(6_000)]
    answers = [outcome(ticket) for ticket in submit_as_one_group(writer, machine, group)]
    assert {type(answer) for answer in answers} == {DiskFull}, "also what rested on the group"
    assert machine.applied == [large]
    assert durable(disk) == [joined(FIRST), large]
    disk.heal()
    answers = [outcome(ticket) for ticket in submit_as_one_group(writer, machine, group)]
    assert [type(answer) for answer in answers] == [Ack, Ack, Refused, Ack]
    writer.close()
    assert durable(disk) == [joined(FIRST), large, b"a", b"b", bytes(6_000)]


def test_a_write_error_stops_the_writer_and_closing_still_works() -> None:
    disk = fresh_space()
    log = open_log(disk)
    machine = Recorder()
    writer = committer(log, machine)
    disk.fail("write_at", 1, errno.EIO)
    answers = [outcome(ticket) for ticket in submit_as_one_group(writer, machine, [b"a", b"b"])]
    assert {type(answer) for answer in answers} == {OutcomeUnknown}
    assert isinstance(outcome(writer.submit(Write(b"c"))), Poisoned)
    writer.close()
    log.close()
    with pytest.raises(Closed):
        writer.submit(Write(b"d"))
    assert durable(disk) == [joined(FIRST)]


@pytest.mark.parametrize("seed", range(12))
def test_many_callers_with_random_failures_are_told_the_truth(seed: int) -> None:
    rng = Random(seed)
    disk = fresh_space()
    log = open_log(disk)
    writer = committer(log, Recorder())
    for _ in range(3):
        op = rng.choice(["write_at", "allocate", "sync_data", "create", "sync"])
        code = rng.choice([errno.ENOSPC, errno.ENOSPC, errno.EIO, errno.EMFILE])
        disk.fail(op, rng.randrange(1, 12), code)
    payloads = [rng.randbytes(rng.choice((9, 60, 2_000))) for _ in range(24)]
    answers = [a for caller in run_callers(writer, payloads, 4) for a in caller.answers]
    writer.close()
    log.close()
    disk.heal()
    for found in (disk.clone(), disk.crash(lose_everything()), disk.crash(keep_everything())):
        check_answers(found, answers)
