"""Group commit on a healthy disk; tests/crash has the rest."""

from __future__ import annotations

import errno
import threading

import pytest

from tests.crash.histories import FIRST, fresh_space, joined, open_log, recover
from tests.crash.machines import (
    Recorder,
    Refused,
    Write,
    committer,
    outcome,
    submit_as_one_group,
)
from wal import format as f
from wal.commit import GROUP_BYTES_MAX, GROUP_COMMANDS_MAX, OBSERVED_MAX, GroupCommitter
from wal.errors import Closed, DiskFull, OutcomeUnknown, Poisoned, RecordTooLarge
from wal.opened import Ack
from wal.sim_vfs import SimDisk


def stored(disk: SimDisk) -> list[bytes]:
    return [fact.payload for fact in recover(disk.clone())[1]][1:]


def test_commands_are_decided_in_order_and_share_a_sync() -> None:
    disk = fresh_space()
    machine = Recorder()
    writer = committer(open_log(disk), machine)
    payloads = [b"%d" % n for n in range(50)]
    tickets = submit_as_one_group(writer, machine, payloads)
    positions = [ticket.result().position for ticket in tickets]  # type: ignore[union-attr]
    assert positions == list(range(2, 52))
    assert machine.groups == [50]
    writer.close()
    assert stored(disk) == machine.applied == payloads


def test_a_refusal_that_rests_on_a_queued_command_waits_for_it() -> None:
    disk = fresh_space()
    log = open_log(disk)
    machine = Recorder()
    writer = committer(log, machine)
    syncing, go_on = threading.Event(), threading.Event()
    sync = log.sync

    def held_sync() -> None:
        syncing.set()
        go_on.wait()
        sync()

    log.sync = held_sync  # type: ignore[method-assign]
    tickets = submit_as_one_group(writer, machine, [b"a", b"a"])
    syncing.wait()
    assert tickets[0]._lock.locked()
    assert tickets[1]._lock.locked(), "refused before the command it rests on was durable"
    go_on.set()
    assert [type(outcome(ticket)) for ticket in tickets] == [Ack, Refused]
    writer.close()


def test_a_command_without_a_record_is_answered_with_its_group() -> None:
    disk = fresh_space()
    machine = Recorder()
    writer = committer(open_log(disk), machine)
    assert writer.submit(Write(b"nothing", logged=False)).result() is None
    machine.gate.clear()
    first = writer.submit(Write(b"a"))
    second = writer.submit(Write(b"b", logged=False))
    third = writer.submit(Write(b"c"))
    machine.gate.set()
    assert [type(outcome(t)) for t in (first, second, third)] == [Ack, type(None), Ack]
    writer.close()
    assert stored(disk) == [b"a", b"c"]


def test_one_command_too_large_does_not_hurt_its_group() -> None:
    disk = fresh_space()
    machine = Recorder()
    writer = committer(open_log(disk), machine)
    payloads = [b"a", bytes(f.PAYLOAD_BYTES_MAX + 1), b"b"]
    answers = [outcome(ticket) for ticket in submit_as_one_group(writer, machine, payloads)]
    assert [type(answer) for answer in answers] == [Ack, RecordTooLarge, Ack]
    writer.close()
    assert stored(disk) == [b"a", b"b"]


def test_a_long_queue_is_taken_in_bounded_groups() -> None:
    machine = Recorder()
    writer = committer(open_log(fresh_space()), machine)
    payloads = [b"%d" % n for n in range(3 * GROUP_COMMANDS_MAX + 10)]
    for ticket in submit_as_one_group(writer, machine, payloads):
        ticket.result()
    writer.close()
    assert machine.applied == payloads
    assert machine.groups == [GROUP_COMMANDS_MAX] * 3 + [10]


def test_large_commands_are_taken_in_bounded_groups() -> None:
    machine = Recorder()
    writer = committer(open_log(fresh_space()), machine)
    size = GROUP_BYTES_MAX // 4
    payloads = [bytes([n]) * size for n in range(10)]
    for ticket in submit_as_one_group(writer, machine, payloads):
        ticket.result()
    writer.close()
    assert machine.groups == [4, 4, 2]


def test_a_writer_thread_that_idled_out_is_followed_by_another() -> None:
    disk = fresh_space()
    machine = Recorder()
    writer = committer(open_log(disk), machine, idle_s=0.0)
    for number in range(100):
        writer.submit(Write(b"%d" % number)).result()
        thread = writer._thread
        if thread is not None:
            thread.join()
        assert writer._thread is None
    writer.close()
    assert len(stored(disk)) == 100


def test_callers_that_meet_a_writer_about_to_end_are_all_answered() -> None:
    disk = fresh_space()
    machine = Recorder()
    writer = committer(open_log(disk), machine, idle_s=0.0)
    answers: list[object] = []

    def call(caller: int) -> None:
        for number in range(200):
            answers.append(outcome(writer.submit(Write(b"%d/%d" % (caller, number)))))

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert len(answers) == 1_000
    assert {type(answer) for answer in answers} == {Ack}
    assert sorted(stored(disk)) == sorted(machine.applied)


def test_closing_finishes_what_is_queued_and_takes_no_more() -> None:
    disk = fresh_space()
    machine = Recorder()
    writer = committer(open_log(disk), machine)
    machine.gate.clear()
    tickets = [writer.submit(Write(b"%d" % n)) for n in range(20)]
    closers = [threading.Thread(target=writer.close) for _ in range(3)]
    for closer in closers:
        closer.start()
    machine.gate.set()
    for closer in closers:
        closer.join()
    assert {type(outcome(ticket)) for ticket in tickets} == {Ack}
    with pytest.raises(Closed):
        writer.submit(Write(b"late"))
    writer.close()
    assert len(stored(disk)) == 20


def test_closing_a_writer_that_never_wrote_is_nothing() -> None:
    writer = committer(open_log(fresh_space()), Recorder())
    writer.close()
    writer.close()


def test_a_result_can_be_asked_for_again_and_from_other_threads() -> None:
    writer = committer(open_log(fresh_space()), Recorder())
    ticket = writer.submit(Write(b"a"))
    answers: list[object] = []
    threads = [threading.Thread(target=lambda: answers.append(ticket.result())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [ticket.result()] * 4
    writer.close()


@pytest.mark.parametrize("returned", [None, []], ids=["raises", "answers too few"])
def test_a_state_machine_that_cannot_apply_poisons_the_log(returned: list[Ack] | None) -> None:
    disk = fresh_space()
    log = open_log(disk)
    machine = Recorder()
    writer = committer(log, machine)

    def broken(decided: object) -> list[Ack | None]:
        if returned is None:
            raise RuntimeError("a bug")
        return list(returned)

    machine.commit = broken  # type: ignore[assignment]
    answers = [outcome(ticket) for ticket in submit_as_one_group(writer, machine, [b"a", b"b"])]
    assert {type(answer) for answer in answers} == {OutcomeUnknown}
    assert isinstance(outcome(writer.submit(Write(b"c"))), Poisoned)
    assert isinstance(log.failure, Poisoned)
    writer.close()
    assert stored(disk) == [b"a", b"b"], "durable all the same: that is why it is unknown"


def test_each_waiter_gets_an_error_of_its_own() -> None:
    log = open_log(fresh_space())
    machine = Recorder()
    writer = committer(log, machine)
    log.poison("for a test")
    errors = [outcome(t) for t in submit_as_one_group(writer, machine, [b"a", b"b"])]
    assert len({id(error) for error in errors} | {id(log.failure)}) == 3
    assert log.failure is not None
    assert log.failure.__traceback__ is None, "raised again and again, it would only grow"
    writer.close()


def test_a_thread_that_cannot_start_refuses_its_command_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = fresh_space()
    writer = committer(open_log(disk), Recorder())

    def cannot(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", cannot)
        with pytest.raises(RuntimeError):
            writer.submit(Write(b"refused"))
    assert isinstance(outcome(writer.submit(Write(b"taken"))), Ack)
    writer.close()
    assert stored(disk) == [b"taken"]
    assert joined(FIRST) not in stored(disk)


def test_an_observed_command_becomes_durable_without_anybody_waiting() -> None:
    disk = fresh_space()
    committed = threading.Event()
    machine = Recorder(at_commit=lambda group: committed.set())
    writer = committer(open_log(disk), machine)
    assert writer.observe(Write(b"seen"))
    assert committed.wait(10)
    assert stored(disk) == [b"seen"]
    writer.close()


def test_observed_commands_ride_along_with_the_next_group() -> None:
    disk = fresh_space()
    machine = Recorder()
    log = open_log(disk)
    writer = GroupCommitter(log, machine, name="writer", observed_delay_s=3_600)
    assert writer.observe(Write(b"seen"))
    assert writer.observe(Write(b"seen again"))
    writer.submit(Write(b"told")).result()
    assert machine.groups == [3]
    writer.close()
    assert stored(disk) == [b"seen", b"seen again", b"told"]


def test_closing_records_what_was_observed() -> None:
    disk = fresh_space()
    machine = Recorder()
    writer = GroupCommitter(open_log(disk), machine, name="writer", observed_delay_s=3_600)
    assert writer.observe(Write(b"seen"))
    writer.close()
    assert stored(disk) == [b"seen"]
    assert not writer.observe(Write(b"too late"))


def test_a_poisoned_log_records_nothing_and_says_so() -> None:
    disk = fresh_space()
    log = open_log(disk)
    writer = committer(log, Recorder())
    log.poison("it was")
    assert not writer.observe(Write(b"seen"))
    writer.close()


def test_a_flood_of_observed_commands_is_bounded() -> None:
    disk = fresh_space()
    machine = Recorder()
    writer = GroupCommitter(open_log(disk), machine, name="writer", observed_delay_s=3_600)
    accepted = [writer.observe(Write(b"%d" % n)) for n in range(OBSERVED_MAX + 2)]
    assert accepted == [True] * OBSERVED_MAX + [False] * 2
    writer.close()
    assert len(stored(disk)) == OBSERVED_MAX


def test_on_a_full_disk_observing_is_refused_until_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wal.commit.NO_ROOM_DELAY_S", 0.01)
    disk = fresh_space()
    machine = Recorder()
    writer = committer(open_log(disk), machine)
    disk.fail("allocate", 1, errno.ENOSPC, persistent=True)
    disk.fail("write_at", 1, errno.ENOSPC, persistent=True)
    with pytest.raises(DiskFull):
        writer.submit(Write(b"told")).result()
    assert not writer.observe(Write(b"seen"))
    disk.heal()
    numbers = iter(range(1_000_000))
    while not writer.observe(Write(b"%d" % next(numbers))):
        threading.Event().wait(0.001)  # it looks for room by itself, in a time of its own
    writer.close()
    assert machine.applied
