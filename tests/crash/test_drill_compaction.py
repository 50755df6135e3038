"""What the drill takes for right and for wrong where a space is compacted, lets go of its history,
and has memories restored and purged.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engram.drill.effects import (
    COMPACTED,
    CONFIGURED,
    FORGOTTEN,
    PURGED,
    REDACTED,
    RESTORED,
    REVISED,
    STORED,
    Effect,
    Seen,
    Write,
    effect_of,
)
from engram.drill.files import find_words
from engram.drill.ledger import GONE, LIVE, Ledger
from engram.drill.model import SpaceModel
from engram.drill.server import Server
from engram.drill.subscribers import ByStream
from engram.errors import HistoryGone
from engram.memory.model import Compaction, Event, Memory, PurgeReceipt
from engram.memory.retention import Retention
from tests.crash.test_drill_model import CREATED, SPACE, TIME, acknowledge, event, memory, stored

ID = f"{SPACE}.c1.1"
RECEIPT = {"memory_space_id": SPACE, "count": 1, "purged_at": TIME, "completed_at": TIME}


def redacted(position: int) -> Event:
    return event(position, REDACTED, redacted_from=position, redacted_to=position)


def purged(number: int, position: int) -> Event:
    return event(position, PURGED, id=f"{SPACE}.c1.{number}", revision=1)


def forgotten(number: int, position: int) -> Event:
    return event(position, FORGOTTEN, id=f"{SPACE}.c1.{number}", revision=1)


def restored(number: int, position: int, revision: int = 2, **fields: Any) -> Event:
    was = {"content": f"{SPACE} c1 {number}.1", **fields}
    return event(position, RESTORED, memory=memory(number, position, revision, **was))


def compacted(position: int, *, oldest: int = 1, purged_to: int | None = None) -> Event:
    return event(
        position,
        COMPACTED,
        checkpoint_position=position - 1,
        oldest_position=oldest,
        checkpoint_bytes=4_096,
        purged_to=purged_to,
    )


def configured(position: int, positions: int) -> Event:
    return event(position, CONFIGURED, retention=Retention(positions=positions))


def purge(model: SpaceModel, number: int, position: int, completed: int) -> list[str]:
    memory_id = f"{SPACE}.c1.{number}"
    write = Write(SPACE, "purge", (Effect(PURGED, memory_id),))
    model.open.append(write)
    receipt = PurgeReceipt(
        **RECEIPT, id=memory_id, position=position, completed_position=completed, files=()
    )
    return [one.kind for one in model.acknowledge_purge(write, receipt)]


def compact(model: SpaceModel, position: int, oldest: int = 1) -> None:
    """Acknowledge a compaction up to a position."""
    sizes = dict.fromkeys(("checkpoint_bytes", "checkpoints_bytes", "log_bytes"), 4_096)
    model.acknowledge_compaction(
        Compaction(
            **sizes,
            memory_space_id=SPACE,
            checkpoint_position=position,
            oldest_position=oldest,
            segments_retired=0,
            took_ms=1.0,
        )
    )


def keep(model: SpaceModel, positions: int) -> None:
    """Acknowledge that so few positions are kept from now on."""
    retention = Retention(positions=positions)
    write = Write(SPACE, "configure", (Effect(CONFIGURED, "", str(retention)),))
    model.ask_to_keep(positions)
    model.open.append(write)
    model.acknowledge_unplaced(write)


def unanswered(model: SpaceModel, *events: Event) -> None:
    model.open.append(Write(SPACE, "a write", tuple(map(effect_of, events))))


def settle(
    model: SpaceModel, *events: Event, listed: list[Memory], oldest: int = 1, kept: str = "all"
) -> list[str]:
    shown = [CREATED, *events] if oldest == 1 else list(events)
    return [one.kind for one in model.settle(Seen(shown, listed, oldest, kept))]


def purged_once() -> SpaceModel:
    model = SpaceModel(SPACE)
    acknowledge(model, stored(1, 2))
    acknowledge(model, stored(2, 3))
    assert purge(model, 1, 4, 5) == []
    return model


AFTER_A_PURGE = (redacted(2), stored(2, 3), purged(1, 4), compacted(5, purged_to=4))


def test_a_purged_memory_leaves_redactions_and_nothing_else() -> None:
    model = purged_once()
    assert model.purged_words == {"1.1"}
    assert settle(model, *AFTER_A_PURGE, listed=[memory(2, 3)]) == []
    assert settle(model, *AFTER_A_PURGE, listed=[memory(2, 3)]) == []
    assert list(model.living) == [f"{SPACE}.c1.2"]
    assert model.purged_words == {"1.1"}


@pytest.mark.parametrize(
    ("shown", "listed", "expected"),
    [
        (AFTER_A_PURGE, [memory(1, 2), memory(2, 3)], "phantom"),  # it is listed again
        ((stored(1, 2), *AFTER_A_PURGE[1:]), [memory(2, 3)], "purged"),  # and told again
        ((redacted(2), redacted(3), *AFTER_A_PURGE[2:]), [memory(2, 3)], "lost"),
        (AFTER_A_PURGE[:3], [memory(2, 3)], "lost"),  # that it is complete was acknowledged
        (AFTER_A_PURGE[:2], [memory(2, 3)], "lost"),
        (AFTER_A_PURGE, [], "lost"),
    ],
)
def test_a_purge_that_is_undone_or_reaches_too_far_is_found(
    shown: tuple[Event, ...], listed: list[Memory], expected: str
) -> None:
    assert expected in settle(purged_once(), *shown, listed=listed)


def test_what_was_read_is_redacted_by_a_purge_alone() -> None:
    model = SpaceModel(SPACE)
    acknowledge(model, stored(1, 2))
    assert settle(model, stored(1, 2), listed=[memory(1, 2)]) == []
    by_nobody = replace(model, marks=list(model.marks))
    assert "history changed" in settle(by_nobody, redacted(2), listed=[memory(1, 2)])
    assert purge(model, 1, 3, 4) == []
    assert settle(model, redacted(2), purged(1, 3), compacted(4, purged_to=3), listed=[]) == []


def test_a_purge_without_an_answer_has_happened_or_not() -> None:
    for shown, listed in (
        ((stored(1, 2),), [memory(1, 2)]),
        ((redacted(2), purged(1, 3), compacted(4, purged_to=3)), []),
    ):
        model = SpaceModel(SPACE)
        acknowledge(model, stored(1, 2))
        unanswered(model, purged(1, 3))
        assert settle(model, *shown, listed=listed) == []
        assert model.purged_words == (set() if listed else {"1.1"})


def test_a_write_without_an_answer_may_be_redacted_already() -> None:
    model = SpaceModel(SPACE)
    unanswered(model, stored(1, 2), stored(2, 3))
    assert purge(model, 1, 4, 5) == []
    assert settle(model, *AFTER_A_PURGE, listed=[memory(2, 3)]) == []
    assert model.found_unanswered == 1


def test_two_who_purge_the_same_get_the_same_receipt() -> None:
    model = purged_once()
    assert purge(model, 1, 4, 5) == []
    assert settle(model, *AFTER_A_PURGE, listed=[memory(2, 3)]) == []
    assert purge(model, 1, 4, 5) == []
    assert purge(model, 2, 4, 6) == ["position reused"]


def test_a_purged_id_goes_on_with_its_revision() -> None:
    for revision, expected in ((2, []), (1, ["wrong revision"]), (3, ["wrong revision"])):
        model = purged_once()
        settle(model, *AFTER_A_PURGE, listed=[memory(2, 3)])
        again = event(6, STORED, memory=memory(1, 6, revision))
        acknowledge(model, again)
        listed = [memory(2, 3), memory(1, 6, revision)]
        assert settle(model, *AFTER_A_PURGE, again, listed=listed) == expected


def forgotten_once() -> SpaceModel:
    model = SpaceModel(SPACE)
    acknowledge(model, stored(1, 2))
    acknowledge(model, forgotten(1, 3))
    assert settle(model, stored(1, 2), forgotten(1, 3), listed=[]) == []
    return model


def test_a_restored_memory_is_what_it_was() -> None:
    model = forgotten_once()
    back = restored(1, 4)
    assert back.memory is not None
    assert acknowledge(model, back) == []
    shown = (stored(1, 2), forgotten(1, 3), back)
    assert settle(model, *shown, listed=[back.memory]) == []


@pytest.mark.parametrize(
    ("back", "told", "listed", "expected"),
    [
        (restored(1, 4), False, False, "lost"),
        (restored(1, 4), True, False, "lost"),
        (restored(1, 4, content=f"{SPACE} c1 other"), True, True, "changed"),
        (restored(1, 4, tags=("other",)), True, True, "changed"),
        (restored(1, 4, revision=1), True, True, "wrong revision"),
        (restored(2, 4), True, True, "changed"),  # it never was there
    ],
)
def test_a_restoration_that_is_lost_or_wrong_is_found(
    back: Event, told: bool, listed: bool, expected: str
) -> None:
    model = forgotten_once()
    acknowledge(model, back)
    assert back.memory is not None
    shown = (stored(1, 2), forgotten(1, 3), *([back] if told else []))
    assert expected in settle(model, *shown, listed=[back.memory] if listed else [])


def test_a_revision_that_goes_back_is_found() -> None:
    model = SpaceModel(SPACE)
    acknowledge(model, stored(1, 2))
    acknowledge(model, stored(1, 3, revision=2))
    assert settle(model, stored(1, 2), stored(1, 3, 2), listed=[memory(1, 2)]) == ["changed"]
    other = replace(model, marks=[], living={}, revisions={})
    acknowledge(other, stored(1, 2))
    acknowledge(other, stored(1, 3, revision=2))
    back = event(3, REVISED, memory=memory(1, 3, 1, content=f"{SPACE} c1 1.2"))
    assert "wrong revision" in settle(other, stored(1, 2), back, listed=[memory(1, 3, 1)])


def test_a_compaction_may_come_by_itself_and_is_told_if_it_was_acknowledged() -> None:
    by_itself, asked = SpaceModel(SPACE), SpaceModel(SPACE)
    assert settle(by_itself, compacted(2), compacted(3), listed=[]) == []
    assert by_itself.compacted == 2
    compact(asked, 2)
    assert settle(asked, compacted(2), listed=[]) == ["lost compaction"]
    compact(asked, 2)  # joined, with what is known already
    assert settle(asked, compacted(2), listed=[]) == []
    compact(asked, 3)
    assert settle(asked, compacted(2), configured(3, 5), compacted(4), listed=[]) == [
        "phantom",
        "changed",
    ]


def test_a_compaction_that_is_impossible_is_found() -> None:
    strange = event(2, COMPACTED, checkpoint_position=2, oldest_position=1)
    assert settle(SpaceModel(SPACE), strange, listed=[]) == ["impossible event"]


def brief() -> SpaceModel:
    """It keeps two positions of six, of which nothing was ever read."""
    model = SpaceModel(SPACE)
    keep(model, 2)
    acknowledge(model, stored(1, 3))
    acknowledge(model, stored(2, 4))
    acknowledge(model, stored(3, 5))
    return model


KEPT = {"oldest": 5, "kept": "positions:2"}
TAIL = (stored(3, 5), compacted(6, oldest=5))
ALL_OF_THEM = [memory(1, 3), memory(2, 4), memory(3, 5)]


def test_what_lives_is_there_whatever_history_was_let_go_of() -> None:
    model = brief()
    compact(model, 5, oldest=5)
    assert settle(model, *TAIL, listed=ALL_OF_THEM, **KEPT) == []
    assert model.retention == "positions:2"
    assert settle(model, *TAIL, listed=ALL_OF_THEM, **KEPT) == []


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (ALL_OF_THEM[1:], ["lost"]),
        ([*ALL_OF_THEM, memory(9, 2)], ["phantom"]),
        ([memory(1, 3, revision=2), *ALL_OF_THEM[1:]], ["changed"]),
    ],
)
def test_what_is_missing_behind_history_that_was_let_go_of_is_found(
    listed: list[Memory], expected: list[str]
) -> None:
    assert settle(brief(), *TAIL, listed=listed, **KEPT) == expected


def test_history_stays_as_far_as_was_asked_for() -> None:
    kept = {"oldest": 6, "kept": "positions:2"}
    assert settle(brief(), compacted(6, oldest=6), listed=ALL_OF_THEM, **kept) == ["lost"]
    whole = SpaceModel(SPACE)
    acknowledge(whole, stored(1, 2))
    shown = (compacted(3, oldest=3),)
    assert settle(whole, *shown, listed=[memory(1, 2)], oldest=3) == ["lost"]


def test_history_that_comes_back_is_found() -> None:
    model = brief()
    compact(model, 5, oldest=5)
    shown = (configured(2, 2), stored(1, 3), stored(2, 4), *TAIL)
    found = settle(model, *shown, listed=ALL_OF_THEM, kept="positions:2")
    assert "lost compaction" in found


def test_writes_without_an_answer_may_be_done_where_nothing_can_be_read() -> None:
    """Position 2 is of something else than the retention, which stands at no known place."""
    revised = stored(1, 6, revision=2)
    assert revised.memory is not None
    tail, kept = (compacted(7, oldest=7),), {"oldest": 7, "kept": "positions:1"}
    for listed, expected in (
        (ALL_OF_THEM, []),
        ([*ALL_OF_THEM[1:], revised.memory], []),
        ([*ALL_OF_THEM[1:], memory(1, 6, 2, content=f"{SPACE} c1 other")], ["changed"]),
        (ALL_OF_THEM[1:], ["lost"]),
    ):
        model = brief()
        model.ask_to_keep(1)
        unanswered(model, configured(2, 1))
        unanswered(model, revised)
        assert settle(model, *tail, listed=listed, **kept) == expected


def test_a_retention_that_is_lost_is_found() -> None:
    model = SpaceModel(SPACE)
    keep(model, 2)
    assert settle(model, listed=[]) == ["lost"]
    changed = SpaceModel(SPACE)
    keep(changed, 2)
    assert settle(changed, configured(2, 2), listed=[]) == ["changed"]


def test_an_id_begins_again_only_where_its_end_was_let_go_of() -> None:
    again = event(7, STORED, memory=memory(1, 7))
    for kept, expected in ((2, []), (4, ["wrong revision"])):
        model = SpaceModel(SPACE)
        keep(model, kept)
        acknowledge(model, stored(1, 3))
        acknowledge(model, forgotten(1, 4))
        acknowledge(model, stored(2, 5))
        acknowledge(model, again)
        shown = (forgotten(1, 4), stored(2, 5), compacted(6), again)
        shown, oldest = (shown[2:], 6) if kept == 2 else (shown, 4)
        listed = [memory(2, 5), memory(1, 7)]
        told = f"positions:{kept}"
        assert settle(model, *shown, listed=listed, oldest=oldest, kept=told) == expected


def subscriber_at(last: int, tmp_path: Path) -> ByStream:
    subscriber = ByStream(SPACE, Server(tmp_path))
    subscriber.last = last
    return subscriber


@pytest.mark.parametrize(
    ("last", "oldest", "expected"),
    [
        (2, 5, []),
        (2, 6, ["refused"]),  # history begins before
        (4, 5, ["refused"]),  # it leads on
        (2, None, ["refused"]),
    ],
)
def test_a_subscriber_is_told_rightly_that_history_is_gone(
    last: int, oldest: int | None, expected: list[str], tmp_path: Path
) -> None:
    model = brief()
    assert settle(model, *TAIL, listed=ALL_OF_THEM, **KEPT) == []
    subscriber = subscriber_at(last, tmp_path)
    subscriber.begin_again(HistoryGone("gone", oldest_position=oldest))
    if not expected:
        for one in TAIL:
            subscriber.take(one)
    assert [one.kind for one in subscriber.check(model)] == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (stored(1, 2), []),  # before it was purged
        (redacted(2), []),
        (stored(3, 2), ["told what is not logged"]),
        (configured(2, 2), ["told what is not logged"]),
    ],
)
def test_a_subscriber_is_told_what_was_or_that_it_is_redacted(
    told: Event, expected: list[str], tmp_path: Path
) -> None:
    model = purged_once()
    assert settle(model, *AFTER_A_PURGE, listed=[memory(2, 3)]) == []
    subscriber = subscriber_at(1, tmp_path)
    subscriber.take(told)
    assert [one.kind for one in subscriber.check(model)] == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ((configured(2, 2), stored(1, 3)), []),
        ((configured(2, 2), stored(2, 3)), ["told what is not logged"]),
        ((configured(2, 3), stored(1, 3)), ["told what is not logged"]),
    ],
)
def test_subscribers_agree_about_what_was_let_go_of(
    told: tuple[Event, ...], expected: list[str], tmp_path: Path
) -> None:
    model = brief()
    assert settle(model, *TAIL, listed=ALL_OF_THEM, **KEPT) == []
    for shown, found in (((configured(2, 2), stored(1, 3)), []), (told, expected)):
        subscriber = subscriber_at(1, tmp_path)
        for one in shown:
            subscriber.take(one)
        assert [one.kind for one in subscriber.check(model)] == found


def test_a_compaction_told_behind_the_look_is_looked_for_at_the_next(tmp_path: Path) -> None:
    model = SpaceModel(SPACE)
    assert settle(model, listed=[]) == []
    subscriber = subscriber_at(1, tmp_path)
    subscriber.take(compacted(2))
    assert list(subscriber.check(model)) == []
    acknowledge(model, stored(1, 2))
    assert settle(model, stored(1, 2), listed=[memory(1, 2)]) == []
    assert [one.kind for one in subscriber.check(model)] == ["told what is not logged"]


def test_the_words_of_what_was_purged_are_found_in_any_file(tmp_path: Path) -> None:
    word = "0123456789ab"
    gone = {word: SPACE, "fedcba987654": SPACE}
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "1.seg").write_bytes(b"\x00 0123456789a fedcba98765 \xff")
    assert list(find_words(tmp_path, gone)) == []
    (tmp_path / "log" / "2.seg").write_bytes(b"\x00abc" + word.encode() + b"\xff")
    assert list(find_words(tmp_path, {})) == []
    (found,) = find_words(tmp_path, gone)
    assert (found.kind, found.space) == ("purged", SPACE)
    assert "log/2.seg, at byte 4" in found.detail


def test_a_space_that_is_purged_leaves_no_word() -> None:
    ledger = Ledger()
    ledger.announce(SPACE, LIVE)
    ledger.settle_state(SPACE, LIVE)
    acknowledge(ledger.models[SPACE], stored(1, 2))
    unanswered(ledger.models[SPACE], stored(2, 3))
    assert ledger.gone_words() == {}
    ledger.settle_state(SPACE, GONE)
    ledger.announce(SPACE, LIVE)
    assert ledger.gone_words() == {"1.1": SPACE, "2.1": SPACE}
