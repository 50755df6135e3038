"""Forks that are embedded anew: the same memories with other vectors, and gone on with."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import engram
from engram.embedding.registry import DEFAULT
from engram.errors import (
    EmbedderUnavailable,
    EngramError,
    HistoryGone,
    Invalid,
    PositionBeyondEnd,
    SpaceDeleted,
    SpaceExists,
    SpaceInvalid,
    SpaceLocked,
    SpaceNotFound,
)
from engram.memory.columns import compact
from engram.spaces import reembedding
from engram.spaces.as_of import moment
from engram.spaces.compactor import Compactor
from engram.spaces.staged import DIGEST_BYTES, KEPT_S
from engram.spaces.verify import verify
from tests.unit.conftest import CALLER, UNIT, SetClock
from tests.unit.test_embedding_openai import MODEL, Server, says, server, vector_of
from wal.errors import DiskFull as NoRoom

__all__ = ["server"]
MINILM = engram.EmbeddingSpec(model="all-minilm-l6-v2-int8", dimensions=384)
Space = engram.Space
DAY_S = 24 * 3_600


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reembedding, "PIECE_MEMORIES_MAX", 3)


@pytest.fixture
def clock() -> SetClock:
    """It stands still, but not so long ago that another process would find it too old."""
    clock = SetClock()
    clock.now_ns = time.time_ns()
    return clock


@pytest.fixture
def alpha(db: engram.Database) -> Space:
    """Ten living memories, two of one text; a revised, a forgotten and a purged one; links."""
    space = db.create_space("alpha")
    for number in range(9):
        space.remember(
            f"the number {number} is on the door", id=f"m{number}", tags=["door"], source="a walk"
        )
    space.remember("the number 0 is on the door", id="again", metadata={"n": 1}, kind="fact")
    space.revise("m1", engram.Changes(content="it was painted over"))
    space.link("m1", "m2", weight=0.5, relation="explains")
    space.link("m3", "m4", weight=0.25)
    space.remember("what nobody is to read again", id="secret")
    space.purge("secret")
    space.forget("m3")
    space.configure(retention="positions:1000")
    return space


EMBEDDED = 10
"""Of `alpha`: those that live, and the one that is forgotten."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def staged(db: engram.Database) -> list[str]:
    return names(db.path / ".engram" / "staged")


def half_made(db: engram.Database) -> list[str]:
    return names(db.path / ".engram" / "tmp")


def memories(space: Space) -> list[engram.Memory]:
    listed = space.list(limit=1_000).memories
    return [msgspec.structs.replace(memory, memory_space_id="") for memory in listed]


def vectors(space: Space) -> dict[str, list[float]]:
    listed = space.list(limit=1_000, include_embedding=True).memories
    return {m.id: np.asarray(m.embedding).tolist() for m in listed}


def bytes_below(root: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file())


class Stop(Exception):
    """Raised by a callback that has had enough."""


def stop_at(done: int) -> Callable[[int, int], None]:
    def progress(now: int, total: int) -> None:
        if now >= done:
            raise Stop

    return progress


def test_the_copy_has_the_vectors_of_a_space_that_remembered_the_same(
    db: engram.Database, alpha: Space
) -> None:
    told: list[tuple[int, int]] = []
    before, position = memories(alpha), alpha.info().position
    copy = alpha.fork("copy", embedding=MINILM, progress=lambda *at: told.append(at))
    assert told == [(n, EMBEDDED) for n in (0, 3, 6, 9, 10)]
    direct = db.create_space("direct", embedding=MINILM)
    direct.remember_many([{"id": m.id, "content": m.content} for m in before])
    assert vectors(copy) == vectors(direct)
    assert memories(copy) == memories(alpha) == before
    assert copy.links("m1").links[0].position == alpha.links("m1").links[0].position
    info = copy.info()
    assert (info.position, info.oldest_position) == (position, position + 1)
    assert info.embedding == MINILM
    assert info.retention == alpha.info().retention
    assert copy.origin == engram.Origin(
        memory_space_id="alpha",
        space_uuid=alpha.info().uuid or "",
        position=position or 0,
        reembedded=engram.Reembedded(
            model=MINILM.model, dimensions=384, memories=EMBEDDED, resumed=0
        ),
    )
    assert (half_made(db), staged(db)) == ([], [])
    assert [hit.memory.id for hit in copy.recall("painted", limit=1).results] == ["m1"]


def test_all_but_the_vectors_is_what_it_was(alpha: Space) -> None:
    alpha.recall("painted")
    alpha.recall("number 4", filter=engram.Filter(kind="fact"))
    alpha.compact()  # so that what is observed is on record
    copy = alpha.fork("copy", embedding=MINILM)
    assert copy.origin is not None
    state = moment(alpha._entry, copy.origin.position).state
    ours = dict(compact(state.freeze(), copy.origin.position, ended_to=0).named())
    theirs = dict(compact(copy._store().state.freeze()).named())
    assert ours.keys() == theirs.keys()
    differing = {n for n in ours if ours[n].tobytes() != theirs[n].tobytes()}
    assert {"vectors.0"} <= differing <= {"vectors.0", "vectors.1"}


def test_the_history_of_the_copy_begins_with_it(alpha: Space) -> None:
    copy = alpha.fork("copy", embedding=MINILM)
    position = copy.info().position or 0
    with pytest.raises(HistoryGone) as gone:
        copy.events(after=0)
    assert gone.value.oldest_position == position + 1
    with pytest.raises(HistoryGone):
        copy.list(as_of=position - 1)
    assert memories(copy) == [
        msgspec.structs.replace(m, memory_space_id="")
        for m in copy.list(as_of=position, limit=100).memories
    ]
    assert copy.history("m1") == ()
    copy.remember("later", id="later")
    assert [event.type for event in copy.events()] == ["memory.stored"]


def test_what_is_forgotten_can_be_restored_in_the_copy(db: engram.Database, alpha: Space) -> None:
    alpha.fork("copy", embedding=MINILM)
    root = db.path
    db.close()
    with engram.open(root) as again:
        copy = again.space("copy")
        copy.remember("later", id="later")
        copy.compact()
        copy.reopen()
    with engram.open(root) as again:
        copy = again.space("copy")
        assert copy.restore("m3").revision == 2
        assert copy.links("m3").links[0].target == "m4"
        direct = again.create_space("direct", embedding=MINILM)
        direct.remember("the number 3 is on the door", id="m3")
        assert vectors(copy)["m3"] == vectors(direct)["m3"]
        assert copy.remember("an id that was purged", id="secret").revision == 2
    assert [report.ok for report in verify(root)] == [True, True, True]


def test_what_is_forgotten_goes_with_history_that_is_let_go_of(alpha: Space) -> None:
    copy = alpha.fork("copy", embedding=MINILM)
    copy.configure(retention="positions:1")
    for _ in range(2):
        copy.remember("later")
        copy.compact()
    with pytest.raises(engram.MemoryNotFound):
        copy.restore("m3")
    assert memories(copy)[:9] == memories(alpha)


def test_what_is_forgotten_can_be_purged_in_the_copy(db: engram.Database, alpha: Space) -> None:
    copy = alpha.fork("copy", embedding=MINILM)
    folder = db.path / "copy"
    assert b"the number 3" in bytes_below(folder)
    copy.purge("m3")
    assert b"the number 3" not in bytes_below(folder)
    assert b"the number 4" in bytes_below(folder)


def test_beliefs_come_along_with_what_they_rest_on(db: engram.Database) -> None:
    space = db.create_space("episodes")
    for name in ("Ann", "Bob", "Cleo", "Dan"):
        space.remember(f"The deploy key is rotated every Monday, as {name} said", id=name)
    (belief,) = space.consolidate().beliefs
    copy = space.fork("copy", embedding=MINILM)
    assert copy.get(belief.id).content == belief.content
    assert copy.consolidate().beliefs == ()
    space.forget("Ann")  # and the belief with it, which is carried as something forgotten
    later = space.fork("later", embedding=MINILM)
    later.compact()
    assert b"as Cleo" in bytes_below(db.path / "later")
    later.purge("Cleo")
    assert b"as Cleo" not in bytes_below(db.path / "later")


def test_the_copy_can_be_copied_and_carried_elsewhere(
    db: engram.Database, alpha: Space, tmp_path: Path
) -> None:
    copy = alpha.fork("copy", embedding=MINILM)
    copy.remember("later", id="later")
    copy.export(tmp_path / "copy.engram")
    for other in (db.import_space("carried", tmp_path / "copy.engram"), copy.fork("third")):
        assert vectors(other) == vectors(copy)
        assert memories(other) == memories(copy)
        assert other.restore("m3").content == "the number 3 is on the door"
    back = copy.fork("back", embedding=DEFAULT)
    of_source = vectors(alpha)
    assert {k: v for k, v in vectors(back).items() if k != "later"} == of_source


def test_a_copy_of_what_was_ends_where_it_is_told_or_before_the_batch(
    db: engram.Database, alpha: Space
) -> None:
    copy = alpha.fork("copy", 5, embedding=MINILM)
    assert [m.id for m in memories(copy)] == ["m0", "m1", "m2", "m3"]
    first = alpha.remember_many([{"content": "one", "id": "a"}, {"content": "two", "id": "b"}])
    other = alpha.fork("other", first.position - 1, embedding=MINILM)
    assert other.origin is not None
    assert other.origin.rounded
    assert other.info().position == other.origin.position == first.position - 2
    assert "a" not in vectors(other)


def test_vectors_of_the_callers_give_way_to_those_of_an_embedder(db: engram.Database) -> None:
    space = db.create_space("vectors", embedding=CALLER)
    space.remember("the deploy key", id="one", embedding=UNIT)
    copy = space.fork("copy", embedding=DEFAULT)
    assert [hit.memory.id for hit in copy.recall("key", mode="similarity").results] == ["one"]


def test_what_is_purged_meanwhile_is_not_in_it_where_that_finds_no_room(
    db: engram.Database, alpha: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ["m3", "m4"]  # one that is forgotten, and one that is not

    def full(self: Compactor) -> None:
        raise NoRoom("no room left")

    def purge(done: int, total: int) -> None:
        while wanted:
            with pytest.raises(engram.DiskFull):
                alpha.purge(wanted.pop())

    with monkeypatch.context() as patched:
        patched.setattr(Compactor, "run", full)
        copy = alpha.fork("copy", embedding=MINILM, progress=purge)
    copied = bytes_below(db.path / "copy")
    assert [f"the number {n} is".encode() in copied for n in (3, 4, 5)] == [False, False, True]
    with pytest.raises(engram.MemoryNotFound):
        copy.restore("m3")


def test_an_empty_space_is_copied_too(db: engram.Database) -> None:
    told: list[tuple[int, int]] = []
    copy = db.create_space("empty").fork(
        "copy", embedding=MINILM, progress=lambda *at: told.append(at)
    )
    assert told == [(0, 0)]
    assert copy.remember("the first", id="one").position == 2
    assert [hit.memory.id for hit in copy.recall("first").results] == ["one"]


def refusals() -> dict[str, tuple[dict[str, Any], type[EngramError], str]]:
    def spec(model: Any, dimensions: Any) -> engram.EmbeddingSpec:
        return engram.EmbeddingSpec(model=model, dimensions=dimensions)

    return {
        "the same": ({"embedding": DEFAULT}, Invalid, "is what the space has already"),
        "caller": ({"embedding": spec("caller", 8)}, Invalid, "use one of all-minilm"),
        "unknown": ({"embedding": spec("word2vec", 8)}, Invalid, "not known; use one of all-mi"),
        "dimensions": ({"embedding": spec(MINILM.model, 8)}, Invalid, "384 dimensions, not 8"),
        "no number": ({"embedding": spec("openai:x", 0)}, Invalid, "between 1 and 4096"),
        "no spec": ({"embedding": "minilm"}, Invalid, "must be an EmbeddingSpec"),
        "taken": ({"new_id": "other"}, SpaceExists, "taken"),
        "itself": ({"new_id": "alpha"}, SpaceExists, "taken"),
        "deleted": ({"new_id": "gone"}, SpaceDeleted, "was deleted"),
        "no id": ({"new_id": "A b"}, SpaceInvalid, "not a memory space id"),
        "as_of": ({"as_of": 1_000}, PositionBeyondEnd, "behind position"),
        "as_of 0": ({"as_of": 0}, Invalid, "must be a position"),
        "progress": ({"progress": 3}, Invalid, "must be callable"),
    }


@pytest.mark.parametrize("case", refusals())
def test_what_cannot_be_is_refused_and_leaves_nothing(
    db: engram.Database, alpha: Space, case: str
) -> None:
    db.create_space("other")
    db.create_space("gone")
    db.delete_space("gone")
    given, kind, reason = refusals()[case]
    with pytest.raises(kind) as refused:
        alpha.fork(**{"new_id": "copy", "embedding": MINILM, **given})
    assert reason in refused.value.detail
    assert (half_made(db), staged(db)) == ([], [])
    assert [info.memory_space_id for info in db.spaces()] == ["alpha", "other"]


def test_an_embedder_that_fails_half_way_is_gone_on_with(
    db: engram.Database, alpha: Space, server: Server
) -> None:
    server.script = [fine, fine, fine]  # one to try it, two pieces
    server.always = says(400, {"error": {"message": "out of order"}})
    with pytest.raises(EmbedderUnavailable) as failed:
        alpha.fork("copy", embedding=MODEL)
    assert "6 of 10 memories are embedded and kept" in failed.value.detail
    assert [info.memory_space_id for info in db.spaces()] == ["alpha"]
    root, position = db.path, alpha.info().position
    db.close()
    with engram.open(root) as again:
        alpha = again.space("alpha")
        alpha.remember("written meanwhile", id="later")
        server.always = fine
        server.requests.clear()
        copy = alpha.fork("copy", position, embedding=MODEL)
        asked = [text for _, _, body in server.requests[1:] for text in body["input"]]
        left = [f"the number {n} is on the door" for n in (7, 8)]
        assert sorted(asked) == ["it was painted over", *left]
        assert copy.origin is not None
        assert copy.origin.reembedded is not None
        assert copy.origin.reembedded.resumed == 7  # two have the same text
        expected = {m.id: vector_of(m.content) for m in memories(alpha) if m.id != "later"}
        assert vectors(copy) == expected
        assert staged(again) == []


def fine(handler: Any, body: Any) -> None:
    items = [{"index": i, "embedding": vector_of(t)} for i, t in enumerate(body["input"])]
    handler.answer(200, {"data": items})


def test_a_model_that_has_other_dimensions_is_refused(
    db: engram.Database, alpha: Space, server: Server
) -> None:
    with pytest.raises(engram.EmbedderMismatch, match="32 dimensions, not 16"):
        alpha.fork("copy", embedding=msgspec.structs.replace(MODEL, dimensions=16))
    server.kill()
    with pytest.raises(EmbedderUnavailable):
        alpha.fork("copy", embedding=MODEL)
    assert (half_made(db), staged(db)) == ([], [])


def stopped(alpha: Space, done: int = 6) -> Path:
    """A stage that was left after so many memories; the file of its vectors."""
    with pytest.raises(Stop):
        alpha.fork("copy", embedding=MINILM, progress=stop_at(done))
    (stage,) = (alpha_root(alpha) / ".engram" / "staged").iterdir()
    return stage / "vectors"


def alpha_root(space: Space) -> Path:
    return Path(space._store().space_dir.path).parent


def resumed(space: Space, **given: Any) -> int:
    copy = space.fork("copy", **{"embedding": MINILM, **given})
    assert copy.origin is not None
    assert copy.origin.reembedded is not None
    return copy.origin.reembedded.resumed


ENTRY = DIGEST_BYTES + 4 * 384 + 4


def damages() -> dict[str, tuple[Callable[[bytes], bytes], int]]:
    """What may happen to six entries, and how many memories they are of use for afterwards: the
    first for two of them.
    """

    def flipped(at: int) -> Callable[[bytes], bytes]:
        return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return {
        "none": (lambda data: data, 7),
        "a digest": (flipped(3), 5),
        "a number": (flipped(ENTRY + 100), 6),
        "a checksum": (flipped(3 * ENTRY - 1), 6),
        "cut short": (lambda data: data[:-10], 6),
        "a torn end": (lambda data: data + b"\0" * 700, 7),
        "zeros": (lambda data: bytes(len(data)), 0),
        "empty": (lambda data: b"", 0),
        "shifted": (lambda data: data[1:], 0),
        "no number at all": (
            lambda data: data[:DIGEST_BYTES] + struct.pack("<f", np.nan) * 384 + data[ENTRY - 4 :],
            5,
        ),
    }


@pytest.mark.parametrize("case", damages())
def test_what_was_staged_and_is_damaged_is_embedded_again(
    db: engram.Database, alpha: Space, case: str
) -> None:
    damage, _ = damages()[case]
    file = stopped(alpha)
    data = file.read_bytes()
    assert len(data) == 6 * ENTRY
    file.write_bytes(damage(data))
    with pytest.raises(Stop):  # and what is embedded again takes its place
        alpha.fork("copy", embedding=MINILM, progress=stop_at(6))
    assert resumed(alpha) == 7
    whole = alpha.fork("whole", embedding=MINILM)
    assert vectors(db.space("copy")) == vectors(whole)


@pytest.mark.parametrize("case", damages())
def test_what_was_staged_and_is_whole_is_used(alpha: Space, case: str) -> None:
    damage, good = damages()[case]
    file = stopped(alpha)
    file.write_bytes(damage(file.read_bytes()))
    assert resumed(alpha) == good


def test_the_same_target_with_another_embedder_begins_afresh(
    db: engram.Database, alpha: Space, server: Server
) -> None:
    file = stopped(alpha)
    assert resumed(alpha, embedding=MODEL) == 0
    assert not file.exists()
    alpha.fork("third", embedding=MINILM)


@pytest.mark.parametrize("name", ["stage.json", "vectors", "LOCK"])
def test_a_stage_that_lacks_a_file_is_begun_anew_or_gone_on_with(alpha: Space, name: str) -> None:
    file = stopped(alpha)
    (file.parent / name).unlink()
    assert resumed(alpha) == (7 if name == "LOCK" else 0)


def test_what_is_remembered_meanwhile_is_not_in_it(alpha: Space) -> None:
    position = alpha.info().position

    def progress(done: int, total: int) -> None:
        alpha.remember("meanwhile", id=f"at{done}")
        alpha.revise("m2", engram.Changes(content=f"revised {done}"))

    copy = alpha.fork("copy", embedding=MINILM, progress=progress)
    assert copy.info().position == position
    assert copy.get("m2").revision == 1
    assert "at0" not in vectors(copy)


def test_what_is_purged_meanwhile_is_neither_in_it_nor_staged(
    db: engram.Database, alpha: Space
) -> None:
    told: list[int] = []

    def progress(done: int, total: int) -> None:
        told.append(total)
        if done == 9 and total == EMBEDDED:
            assert len(staged(db)) == 1
            alpha.purge("m5")
            assert staged(db) == []

    copy = alpha.fork("copy", embedding=MINILM, progress=progress)
    assert told[-1] == EMBEDDED - 1
    assert "m5" not in vectors(copy)
    assert b"the number 5" not in bytes_below(db.path / "copy")
    assert copy.remember("used again", id="m5").revision == 1
    assert memories(alpha) == [m for m in memories(copy) if m.id != "m5"]


def test_a_purge_leaves_nothing_staged(db: engram.Database, alpha: Space) -> None:
    vector = stopped(alpha).read_bytes()[DIGEST_BYTES : ENTRY - 4]
    assert vector in bytes_below(db.path)
    alpha.purge("m0")
    assert staged(db) == []
    assert vector not in bytes_below(db.path)
    assert resumed(alpha) == 0


def test_a_space_that_is_deleted_meanwhile_leaves_nothing(
    db: engram.Database, alpha: Space
) -> None:
    def progress(done: int, total: int) -> None:
        if done == 6:
            db.delete_space("alpha")

    with pytest.raises(SpaceNotFound):
        alpha.fork("copy", embedding=MINILM, progress=progress)
    assert db.spaces() == []
    assert (half_made(db), staged(db)) == ([], [])


def test_an_id_that_is_taken_meanwhile_is_left_alone(db: engram.Database, alpha: Space) -> None:
    def progress(done: int, total: int) -> None:
        if done == 6:
            db.create_space("copy").remember("mine", id="mine")

    with pytest.raises(SpaceExists):
        alpha.fork("copy", embedding=MINILM, progress=progress)
    assert [m.id for m in memories(db.space("copy"))] == ["mine"]
    assert (half_made(db), staged(db)) == ([], [])


def test_two_do_not_make_the_same_copy(db: engram.Database, alpha: Space) -> None:
    refused: list[str] = []

    def progress(done: int, total: int) -> None:
        if done == 6:
            with pytest.raises(SpaceLocked) as error:
                alpha.fork("copy", embedding=MINILM)
            refused.append(error.value.detail)
            alpha.fork("other", embedding=MINILM)
            with engram.open(db.path, owner="another"):
                assert len(staged(db)) == 1

    copy = alpha.fork("copy", embedding=MINILM, progress=progress)
    assert "is being made of 'alpha' already, by a test" in refused[0]
    assert vectors(copy) == vectors(db.space("other"))


@pytest.mark.parametrize("later_s", [0, KEPT_S - DAY_S, KEPT_S + DAY_S])
def test_what_is_abandoned_is_removed_after_a_week(
    db: engram.Database, alpha: Space, clock: SetClock, later_s: int
) -> None:
    stopped(alpha)
    clock.go_on(later_s)
    with pytest.raises(Stop):  # any other one sweeps
        alpha.fork("other", embedding=MINILM, progress=stop_at(0))
    left = {name.partition(".")[0] for name in staged(db)}
    assert left == ({"copy", "other"} if later_s < KEPT_S else {"other"})


@pytest.mark.parametrize("how", ["source deleted", "target made", "strange"])
def test_what_cannot_be_gone_on_with_is_swept_at_a_start(
    db: engram.Database, alpha: Space, how: str
) -> None:
    file = stopped(alpha)
    root = db.path
    if how == "target made":
        db.create_space("copy")
    elif how == "source deleted":
        db.close()
        (root / "alpha").rename(root / "elsewhere")
    else:
        (file.parent / "stage.json").write_bytes(b"{}")
    db.close()
    with engram.open(root):
        assert names(root / ".engram" / "staged") == []


def test_deleting_the_space_removes_what_was_staged(db: engram.Database, alpha: Space) -> None:
    stopped(alpha)
    db.delete_space("alpha")
    assert staged(db) == []


def test_a_memory_that_the_model_can_make_nothing_of_is_named(
    db: engram.Database, alpha: Space
) -> None:
    alpha.remember("\u200b", id="nothing")
    with pytest.raises(Invalid) as refused:
        alpha.fork("copy", embedding=MINILM)
    assert "'nothing'" in refused.value.detail
    alpha.forget("nothing")
    alpha.purge("nothing")
    assert alpha.fork("copy", embedding=MINILM).info().memories == 9
