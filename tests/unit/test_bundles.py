"""A space as a bundle, and a space from one: the same memories, under another name."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import engram
from compaction.columns import ColumnFile, write_columns
from engram.bundles import incoming
from engram.bundles.codec import (
    BasePart,
    BundleDecoder,
    BundleDocument,
    BundledRecord,
    BundleEncoder,
)
from engram.errors import (
    DiskFull,
    HistoryGone,
    Invalid,
    Malformed,
    MemoryExists,
    MemoryNotFound,
    PositionBeyondEnd,
    SpaceDeleted,
    SpaceExists,
    SpaceInvalid,
    SpaceNotFound,
)
from engram.memory.columns import compact
from engram.memory.events import SpaceCreated
from engram.memory.events import SpaceDeleted as DeletedEvent
from engram.memory.model import Changes
from engram.memory.payload import NO_VECTORS, Batch, decode_batch, encode_batch
from engram.memory.state import State
from engram.spaces.compactor import Compactor
from engram.spaces.registry import Registry
from engram.spaces.space import Space
from tests.unit.conftest import CALLER, UNIT, SetClock
from wal.errors import DiskFull as NoRoom
from wal.opened import LogOptions
from wal.sim_vfs import SimDisk

SMALL = LogOptions(segment_bytes=6_000, allocate_bytes_min=512, allocate_bytes_max=512)


def exported(space: Space) -> bytes:
    file = io.BytesIO()
    report = space.export(file)
    assert report.bytes == len(file.getvalue())
    return file.getvalue()


def filled(db: engram.Database, name: str = "alpha") -> Space:
    space = db.create_space(name, embedding=CALLER)
    for number in range(6):
        space.remember(f"memory {number}", id=f"m{number}", tags=["t"], embedding=[1.0, number, 0])
    space.revise("m1", Changes(tags=["revised"]))
    space.forget("m2")
    batch = [{"content": f"of a batch {n}", "id": f"b{n}", "embedding": UNIT} for n in range(3)]
    space.remember_many(batch)  # positions 10 to 12
    return space


def state_of(space: Space) -> dict[str, Any]:
    """All that the space adds up to, in columns without what is derived from where it lies."""
    named = compact(space._store().state.freeze()).named()
    return {name: (values.shape, values.dtype.str, values.tobytes()) for name, values in named}


def told(space: Space) -> list[Any]:
    """Its events, but for those fields that say whose they are."""
    events = []
    for event in space.events():
        assert event.memory_space_id == space.id
        memory = event.memory and msgspec.structs.replace(event.memory, memory_space_id="")
        events.append(
            msgspec.structs.replace(
                event, memory_space_id="", space_uuid="", generation=None, memory=memory
            )
        )
    return events


def below(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name not in {"LOCK", "WATERMARK"}
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def half_made(root: Path) -> list[str]:
    return names(root / ".engram" / "tmp")


def test_what_was_exported_is_imported_with_its_positions_and_times(
    db: engram.Database, clock: SetClock
) -> None:
    alpha = filled(db)
    data = exported(alpha)
    clock.go_on(60)
    copy = db.import_space("copy", io.BytesIO(data))
    assert (copy.id, copy.info().position) == ("copy", alpha.info().position)
    assert copy.info().uuid != alpha.info().uuid
    assert copy.origin == engram.Origin(
        memory_space_id="alpha", space_uuid=str(alpha.info().uuid), position=copy.info().position
    )
    assert not copy.origin.rounded
    assert told(copy) == told(alpha)
    assert state_of(copy) == state_of(alpha)
    assert copy.recall("memory 3").results[0].memory.id == "m3"
    assert copy.restore("m2").revision == 2
    assert alpha.info().memories == 8  # the other one went its own way
    assert half_made(db.path) == []


def test_an_imported_space_outlives_its_process(db: engram.Database, tmp_path: Path) -> None:
    alpha = filled(db)
    before = state_of(alpha)
    db.import_space("copy", io.BytesIO(exported(alpha)))
    root = db.path
    db.close()
    with engram.open(root) as again:
        assert state_of(again.space("copy")) == before
        assert again.space("copy").origin is None
        again.space("copy").remember("goes on", embedding=UNIT)


def test_the_same_space_gives_the_same_records_every_time(db: engram.Database) -> None:
    alpha = filled(db)

    def records(data: bytes) -> list[Any]:
        return [p for p in BundleDecoder().feed(data) if isinstance(p, BundledRecord)]

    first = records(exported(alpha))
    assert first == records(exported(alpha))
    second = records(exported(db.import_space("copy", io.BytesIO(exported(alpha)))))
    assert first[1:] == second[1:]
    assert first[0] != second[0]  # which says whose it is
    assert sum(record.events for record in first) == alpha.info().position


def test_a_default_embedder_comes_along(db: engram.Database) -> None:
    alpha = db.create_space("alpha")
    alpha.remember("Lunch is at noon", id="lunch")
    copy = db.import_space("copy", io.BytesIO(exported(alpha)))
    assert copy.info().embedding == alpha.info().embedding
    assert copy.recall("when do we eat?").results[0].memory.id == "lunch"


@pytest.mark.parametrize(("as_of", "ends"), [(1, 1), (7, 7), (9, 9), (10, 9), (11, 9), (12, 12)])
def test_a_fork_ends_where_it_is_told_or_before_the_batch_that_falls_into(
    db: engram.Database, as_of: int, ends: int
) -> None:
    alpha = filled(db)
    copy = alpha.fork("copy", as_of=as_of)
    assert copy.info().position == ends
    assert copy.origin is not None
    assert (copy.origin.position, copy.origin.as_of) == (ends, as_of)
    assert copy.origin.rounded == (ends != as_of)
    assert told(copy) == told(alpha)[:ends]
    assert copy.remember("goes its own way", embedding=UNIT).position == ends + 1


def test_a_fork_is_a_copy_of_all_without_a_position(db: engram.Database) -> None:
    alpha = filled(db)
    copy = alpha.fork("copy")
    assert state_of(copy) == state_of(alpha)
    assert copy.fork("copy-of-copy").origin == engram.Origin(
        memory_space_id="copy",
        space_uuid=str(copy.info().uuid),
        position=int(copy.info().position or 0),
    )


@pytest.mark.parametrize("as_of", [0, -1, True, "5", 2.0])
def test_what_is_no_position_is_refused(db: engram.Database, as_of: Any) -> None:
    with pytest.raises(Invalid):
        filled(db).fork("copy", as_of=as_of)
    assert [info.memory_space_id for info in db.spaces()] == ["alpha"]


def test_a_position_that_is_not_there_yet_is_refused(db: engram.Database) -> None:
    alpha = filled(db)
    with pytest.raises(PositionBeyondEnd):
        alpha.fork("copy", as_of=int(alpha.info().position or 0) + 1)


def shortened(db: engram.Database) -> Space:
    """A space whose history begins behind position 1."""
    alpha = filled(db)
    for name in ("one", "two", "three"):
        alpha.remember(f"{name} of a kind", id=f"kind-{name}", embedding=UNIT)
    assert alpha.consolidate().beliefs
    alpha.configure(retention="positions:1")
    alpha.compact()
    alpha.remember("after the first", id="later", embedding=UNIT)
    alpha.compact()
    alpha.remember("after the second", id="latest", embedding=UNIT)
    assert int(alpha.info().oldest_position or 0) > 1
    return alpha


def test_history_that_is_gone_stays_gone_and_what_is_remembered_comes_along(
    db: engram.Database,
) -> None:
    alpha = shortened(db)
    copy = db.import_space("copy", io.BytesIO(exported(alpha)))
    assert copy.info().oldest_position == alpha.info().oldest_position
    assert copy.info().retention == alpha.info().retention
    assert told(copy) == told(alpha)
    assert state_of(copy) == state_of(alpha)
    assert half_made(db.path) == []
    copy.compact()
    before = state_of(copy)
    root = db.path
    db.close()
    with engram.open(root) as again:
        assert state_of(again.space("copy")) == before
        assert again.space("copy").fork("third").get("latest").content == "after the second"


def with_base(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The bundle with other columns in its base, and all checksums right."""
    pieces = list(BundleDecoder().feed(data))
    document = pieces[0]
    assert isinstance(document, BundleDocument)
    joined = b"".join(piece.data for piece in pieces if isinstance(piece, BasePart))
    file = ColumnFile("it", memoryview(joined), bytes.fromhex(document.space_uuid))
    columns = {name: file.column(name).copy() for name in file.names}
    change(columns)
    written = SimDisk().root().create("base")
    write_columns(written, file.identity, columns.items())
    base = written.read_at(0, written.size())
    encoder = BundleEncoder(b"n" * 16)
    parts = [encoder.begin(msgspec.structs.replace(document, base_bytes=len(base)))]
    parts.append(encoder.base(base))
    parts += [encoder.record(piece) for piece in pieces if isinstance(piece, BundledRecord)]
    return b"".join([*parts, encoder.end()])


BASE_COLUMNS = [
    name for name, _ in compact(State("any", 3).freeze()).named() if not name.startswith("vectors")
]


def dropped(columns: dict[str, Any], name: str) -> None:
    del columns[name]


def emptied(columns: dict[str, Any], name: str) -> None:
    columns[name] = columns[name][:0]


def made_huge(columns: dict[str, Any], name: str) -> None:
    values = columns[name]
    columns[name] = np.full(values.shape, np.iinfo(np.int16).max).astype(values.dtype)


def turned_around(columns: dict[str, Any], name: str) -> None:
    columns[name] = columns[name][::-1].copy()


def of_another_kind(columns: dict[str, Any], name: str) -> None:
    columns[name] = columns[name].astype("<f4")


@pytest.mark.parametrize("wrong", [dropped, emptied, made_huge, turned_around, of_another_kind])
def test_a_base_that_contradicts_itself_is_refused_or_can_be_used(
    db: engram.Database, wrong: Callable[[dict[str, Any], str], None]
) -> None:
    """Its checksums are right, so it may say what its maker wanted; but nothing breaks on it."""
    data = exported(shortened(db))
    same = with_base(data, lambda columns: None)
    assert db.import_space("fine", io.BytesIO(same)).info().position
    refused = 0
    for number, name in enumerate(BASE_COLUMNS):

        def change(columns: dict[str, Any], name: str = name) -> None:
            wrong(columns, name)

        try:
            copy = db.import_space(f"copy-{number}", io.BytesIO(with_base(data, change)))
        except Malformed:
            refused += 1
            continue
        state_of(copy)
        copy.recall("memory of a batch", record=False)
        copy.list(limit=100)
    assert half_made(db.path) == []
    # Without its settings, one column alone, it is a base of before there were any.
    every = len(BASE_COLUMNS) - (wrong is dropped)
    assert refused >= (every if wrong in {dropped, of_another_kind} else 5)


def test_a_fork_as_of_history_that_is_gone_is_refused(db: engram.Database) -> None:
    alpha = shortened(db)
    oldest = int(alpha.info().oldest_position or 0)
    with pytest.raises(HistoryGone) as gone:
        alpha.fork("copy", as_of=oldest - 2)
    assert gone.value.oldest_position == oldest
    base = alpha.fork("base", as_of=oldest - 1)  # nothing but what the base stands for
    assert base.info().position == oldest - 1
    assert base.get("m1").tags == ("revised",)
    assert list(base.events()) == []
    assert base.remember("goes on", embedding=UNIT).position == oldest


def test_a_copy_of_a_space_that_was_deleted_once_ends_before_that(db: engram.Database) -> None:
    filled(db)
    db.delete_space("alpha")
    alpha = db.restore_space("alpha")
    types = [event.type for event in alpha.events()]
    at = types.index("space.deleted") + 1
    copy = alpha.fork("copy", as_of=at)
    assert copy.info().position == at - 1
    assert copy.origin is not None
    assert copy.origin.rounded
    assert alpha.fork("whole").info().position == alpha.info().position


def test_an_id_that_is_taken_is_refused_before_anything_is_read(db: engram.Database) -> None:
    data = exported(filled(db))

    class Unread:
        def read(self, length: int, /) -> bytes:
            raise AssertionError("it was read")

    with pytest.raises(SpaceExists):
        db.import_space("alpha", Unread())
    db.delete_space("alpha")
    with pytest.raises(SpaceDeleted):
        db.import_space("alpha", Unread())
    with pytest.raises(SpaceInvalid):
        db.import_space("../alpha", Unread())
    (db.path / "taken").mkdir()
    with pytest.raises(SpaceExists):
        db.import_space("taken", Unread())
    db.purge_space("alpha")
    again = db.import_space("alpha", io.BytesIO(data))
    assert again.info().generation == 2


def test_an_id_that_is_taken_while_a_bundle_is_read_is_refused_too(db: engram.Database) -> None:
    data = exported(filled(db))

    class Late:
        def __init__(self) -> None:
            self.rest = io.BytesIO(data)

        def read(self, length: int, /) -> bytes:
            chunk = self.rest.read(100)
            if not chunk:
                db.create_space("copy", embedding=CALLER).remember("was first", embedding=UNIT)
            return chunk

    with pytest.raises(SpaceExists):
        db.import_space("copy", Late())
    assert db.space("copy").info().memories == 1
    assert half_made(db.path) == []


def test_another_life_of_an_id_meanwhile_is_noticed(db: engram.Database) -> None:
    data = exported(filled(db))

    class Late:
        def __init__(self) -> None:
            self.rest = io.BytesIO(data)

        def read(self, length: int, /) -> bytes:
            chunk = self.rest.read(100)
            if not chunk:
                db.create_space("copy", embedding=CALLER)
                db.delete_space("copy")
                db.purge_space("copy")
            return chunk

    with pytest.raises(SpaceExists, match="meanwhile"):
        db.import_space("copy", Late())
    assert db.import_space("copy", io.BytesIO(data)).info().generation == 2


def test_damage_leaves_nothing_behind(db: engram.Database) -> None:
    data = exported(filled(db))
    before = below(db.path)
    for cut in (0, 10, 63, 64, 100, 400, len(data) // 2, len(data) - 1):
        with pytest.raises(Malformed):
            db.import_space("copy", io.BytesIO(data[:cut]))
    for at in range(0, len(data), 97):
        changed = bytearray(data)
        changed[at] ^= 0x10
        with pytest.raises(Malformed):
            db.import_space("copy", io.BytesIO(bytes(changed)))
    with pytest.raises(Malformed):
        db.import_space("copy", io.BytesIO(data + b"x"))
    with pytest.raises(SpaceNotFound):
        db.space("copy")
    assert half_made(db.path) == []
    assert below(db.path) == before


def rebuilt(data: bytes, **changes: Any) -> bytes:
    """The bundle with other records, or another document, and all checksums right."""
    pieces = list(BundleDecoder().feed(data))
    records = [piece for piece in pieces if isinstance(piece, BundledRecord)]
    records = changes.pop("records", lambda found: found)(records)
    document = pieces[0]
    assert isinstance(document, BundleDocument)
    document = msgspec.structs.replace(document, position=records[-1].next_position - 1)
    document = msgspec.structs.replace(document, **changes)
    encoder = BundleEncoder(b"n" * 16)
    parts = [encoder.begin(document), *(encoder.record(record) for record in records)]
    return b"".join([*parts, encoder.end()])


def payload(*events: Any) -> bytes:
    return b"".join(encode_batch(Batch(list(events), NO_VECTORS)))


def first_of_another(records: list[BundledRecord]) -> list[BundledRecord]:
    first = decode_batch(memoryview(bytes(records[0].payload))).events[0]
    assert isinstance(first, SpaceCreated)
    changed = msgspec.structs.replace(first, dimensions=77)
    return [records[0]._replace(payload=payload(changed)), *records[1:]]


def changed_memory(vector: float = 1.0, **fields: Any) -> Any:
    """The second record with another memory in it."""

    def change(found: list[BundledRecord]) -> list[BundledRecord]:
        batch = decode_batch(memoryview(bytes(found[1].payload)))
        event = msgspec.structs.replace(batch.events[0], **fields)  # type: ignore[type-var]
        vectors = np.full_like(batch.vectors, vector)
        data = b"".join(encode_batch(Batch([event], vectors)))
        return [found[0], found[1]._replace(payload=data)]

    return change


HOSTILE: dict[str, Any] = {
    "an id that is a path": changed_memory(id="../../up"),
    "surer than sure": changed_memory(confidence=77.0),
    "sure of nothing": changed_memory(confidence=float("nan")),
    "a vector without numbers": changed_memory(vector=float("inf")),
    "no space is made": lambda found: [found[0]._replace(payload=found[1].payload), *found[1:]],
    "of other dimensions": first_of_another,
    "no payload": lambda found: [*found[:2], found[2]._replace(payload=b""), *found[3:]],
    "a payload of nonsense": lambda found: [*found[:-1], found[-1]._replace(payload=b"x" * 40)],
    "stored twice": lambda found: [*found[:2], found[2]._replace(payload=found[1].payload)],
    "more events than it counts": lambda found: [
        found[0],
        found[1]._replace(payload=found[-2].payload),
    ],
    "counts more than it has": lambda found: [*found[:2], found[2]._replace(events=60_000)],
    "ends deleted": lambda found: [
        *found,
        found[-1]._replace(
            position=found[-1].next_position,
            events=1,
            payload=payload(DeletedEvent(purge_after_us=1)),
        ),
    ],
    "of a later kind": lambda found: [
        found[0],
        found[1]._replace(payload=payload(["later.thing"])),
    ],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_contradicts_itself_is_refused_although_every_checksum_is_right(
    db: engram.Database, name: str
) -> None:
    data = exported(filled(db))
    assert db.import_space("fine", io.BytesIO(rebuilt(data))).info().position
    with pytest.raises(Malformed):
        db.import_space("copy", io.BytesIO(rebuilt(data, records=HOSTILE[name])))
    assert half_made(db.path) == []
    with pytest.raises(SpaceNotFound):
        db.space("copy")


def test_an_embedder_that_is_not_there_is_refused_as_at_creation(db: engram.Database) -> None:
    data = exported(filled(db))
    for spec in (
        engram.EmbeddingSpec(model="of-the-future", dimensions=3),
        engram.EmbeddingSpec(model="caller", dimensions=1 << 30),
    ):
        with pytest.raises(Invalid):
            db.import_space("copy", io.BytesIO(rebuilt(data, embedding=spec)))
    assert half_made(db.path) == []


def test_what_a_document_says_of_its_space_leads_nowhere(db: engram.Database) -> None:
    data = rebuilt(exported(filled(db)), memory_space_id="../../outside")
    copy = db.import_space("copy", io.BytesIO(data))
    assert copy.info().position
    assert sorted(path.name for path in db.path.iterdir()) == [".engram", "alpha", "copy"]


def test_a_space_is_exported_as_it_was_at_one_position_while_writes_go_on(
    db: engram.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engram.spaces import reading

    monkeypatch.setattr(reading, "STEP_BYTES", 1)  # one record each time it is pinned
    alpha = filled(db)
    expected, before = told(alpha), state_of(alpha)
    bundle = alpha.outgoing()
    chunks = bundle.chunks()
    taken = [next(chunks), next(chunks)]
    for number in range(5):
        alpha.remember("meanwhile", id=f"new{number}", embedding=UNIT)
        taken.append(next(chunks))
    alpha.compact()
    alpha.forget("m0")
    taken += chunks
    copy = db.import_space("copy", io.BytesIO(b"".join(taken)))
    assert told(copy) == expected
    assert state_of(copy) == before
    assert bundle.report.position == bundle.position == copy.info().position


def test_nothing_that_was_purged_is_in_a_bundle(db: engram.Database) -> None:
    alpha = filled(db)
    alpha.remember("nobody may read this again", id="secret", embedding=UNIT)
    assert b"nobody may read" in exported(alpha)
    alpha.purge("secret")
    data = exported(alpha)
    assert b"nobody may read" not in data
    copy = db.import_space("copy", io.BytesIO(data))
    assert told(copy) == told(alpha)
    assert state_of(copy) == state_of(alpha)
    assert copy.purge("secret").position == alpha.purge("secret").position


def test_a_purge_that_found_no_room_is_completed_before_anything_leaves(
    db: engram.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = filled(db)
    alpha.remember("nobody may read this again", id="secret", embedding=UNIT)

    def full(self: Compactor) -> None:
        raise NoRoom("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Compactor, "run", full)
        with pytest.raises(DiskFull):
            alpha.purge("secret")
        with pytest.raises(DiskFull):
            exported(alpha)
    assert b"nobody may read" not in exported(alpha)


def test_a_deletion_does_not_wait_for_who_takes_a_bundle(db: engram.Database) -> None:
    alpha = filled(db)
    chunks = alpha.outgoing().chunks()
    next(chunks)
    deletion = threading.Thread(target=db.delete_space, args=("alpha",))
    deletion.start()
    deletion.join(30)
    assert not deletion.is_alive()
    with pytest.raises(SpaceNotFound):
        list(chunks)


def test_a_file_gets_its_name_once_it_is_whole(db: engram.Database, tmp_path: Path) -> None:
    alpha = filled(db)
    folder = tmp_path / "bundles"
    folder.mkdir()
    report = alpha.export(folder / "alpha.bundle")
    assert (folder / "alpha.bundle").stat().st_size == report.bytes
    assert (folder / "alpha.bundle").stat().st_mode & 0o777 == 0o600
    before = (folder / "alpha.bundle").read_bytes()
    with pytest.raises(FileExistsError):
        alpha.export(str(folder / "alpha.bundle"))
    assert (folder / "alpha.bundle").read_bytes() == before
    alpha.export(folder / "alpha.bundle", force=True)
    assert names(folder) == ["alpha.bundle"]
    assert db.import_space("copy", folder / "alpha.bundle").info().memories == 8
    with pytest.raises(FileNotFoundError):
        alpha.export(folder / "no" / "such.bundle")
    for nameless in ("a\0b", ""):
        with pytest.raises(Invalid, match="must name a file"):
            alpha.export(nameless)
    with pytest.raises(Malformed, match="No such file"):
        db.import_space("other", folder / "nothing.bundle")


def test_an_export_that_fails_leaves_no_file(
    db: engram.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engram.bundles import outgoing

    alpha = filled(db)
    folder = tmp_path / "bundles"
    folder.mkdir()
    monkeypatch.setattr(outgoing, "read_in_steps", lambda entry, position, last: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        alpha.export(folder / "alpha.bundle")
    assert names(folder) == []


def test_what_is_being_built_is_not_cleared_away_by_another_process(
    db: engram.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = exported(filled(db))
    seen: list[list[str]] = []
    real = incoming._Building.run

    def run(self: Any, bundle: Any) -> None:
        with engram.open(db.path, owner="another"):
            seen.append(half_made(db.path))
        real(self, bundle)

    monkeypatch.setattr(incoming._Building, "run", run)
    assert db.import_space("copy", io.BytesIO(data)).info().memories == 8
    assert len(seen[0]) == 1


def test_what_a_killed_process_left_is_cleared_away(db: engram.Database) -> None:
    left = db.path / ".engram" / "tmp" / ("ab" * 16)
    (left / "space").mkdir(parents=True)
    (left / "LOCK").touch()
    with engram.open(db.path, owner="another"):
        assert half_made(db.path) == []


@pytest.fixture
def sim() -> Iterator[Registry]:
    with closing(Registry(SimDisk().root(), owner="a test", options=SMALL)) as registry:
        yield registry


STEP = st.one_of(
    st.tuples(
        st.sampled_from(["remember", "revise", "forget", "restore", "purge"]), st.integers(0, 5)
    ),
    st.tuples(st.just("batch"), st.integers(1, 4)),
    st.tuples(st.just("recall"), st.just(0)),
    st.tuples(st.just("compact"), st.just(0)),
    st.tuples(st.just("retain"), st.integers(1, 12)),
)


def do(space: Space, step: tuple[str, int], number: int) -> None:
    what, which = step
    with suppress(MemoryExists, MemoryNotFound):
        match what:
            case "remember":
                space.remember(f"text {number}", id=f"m{which}", embedding=[1.0, number, which])
            case "revise":
                space.revise(f"m{which}", Changes(tags=[f"t{number}"]))
            case "forget":
                space.forget(f"m{which}")
            case "restore":
                space.restore(f"m{which}")
            case "purge":
                space.purge(f"m{which}")
            case "batch":
                vector = [number, 1.0, 1.0]
                space.remember_many([{"content": "b", "embedding": vector} for _ in range(which)])
            case "recall":
                space.recall("text")
            case "compact":
                space.compact()
            case _:
                space.configure(retention=f"positions:{which}")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEP, max_size=40), st.data())
def test_whatever_happened_to_a_space_its_copy_is_the_same(
    steps: list[tuple[str, int]], data: st.DataObject
) -> None:
    with closing(Registry(SimDisk().root(), owner="a test", options=SMALL)) as registry:
        space = registry.create("alpha", CALLER)
        for number, step in enumerate(steps):
            do(space, step, number)
        # Recalls are put on record with the next write, or a little later.
        space.remember("last", embedding=[1.0, 2.0, 3.0])
        bundle = space.outgoing()
        copy = registry.receive("copy", bundle.chunks())
        wanted, position = told(space), bundle.position
        assert told(copy) == [event for event in wanted if event.position <= position]
        if space._store().state.view.position == position:
            assert state_of(copy) == state_of(space)
        oldest = int(space.info().oldest_position or 0)
        as_of = data.draw(st.integers(max(oldest - 1, 1), position))
        part = space.fork("part", as_of)
        ends = int(part.info().position or 0)
        assert oldest - 1 <= ends <= as_of
        assert told(part) == [event for event in wanted if event.position <= ends]
        whole = np.array([m.position for m in part.list(limit=1_000).memories])
        assert (whole <= ends).all()


@pytest.mark.parametrize("linked", [False, True])
def test_force_replaces_no_pipe_and_no_folder(
    db: engram.Database, tmp_path: Path, linked: bool
) -> None:
    alpha, pipe, folder = filled(db), tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    before = names(tmp_path)
    for kept in (pipe, folder):
        target = kept
        if linked:
            target = tmp_path / f"{kept.name}-link"
            target.symlink_to(kept)
            before = sorted([*before, target.name])
        with pytest.raises(OSError, match=r"regular file|directory"):
            alpha.export(target, force=True)
    with pytest.raises(IsADirectoryError):
        alpha.export("/", force=True)
    assert pipe.is_fifo()
    assert folder.is_dir()
    assert names(tmp_path) == before
