"""Rescuing damaged logs: exactly what verifies, as a space that opens or as JSON Lines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

import engram
from engram.errors import SpaceDamaged, SpaceExists
from engram.inspect.figures import Gap
from engram.inspect.rescue import Change, Rescue
from engram.inspect.salvage import (
    UNFINISHED_SUFFIX,
    Salvaged,
    salvage_to_lines,
    salvage_to_space,
    write_lines,
)
from engram.inspect.sources import find_sources, opened, parent_of
from engram.memory.events import (
    Event,
    MemoryConsolidated,
    MemoryForgotten,
    MemoryLinked,
    MemoryRecalled,
    MemoryRestored,
    MemoryRevised,
    MemoryStored,
    MemoryUnlinked,
    MemoryVersion,
    SpaceConfigured,
    SpaceCreated,
)
from engram.memory.model import Kind
from engram.memory.payload import Batch
from engram.memory.retention import Retention
from engram.memory.state import State
from engram.spaces.database import Database
from engram.spaces.registry import Registry
from engram.spaces.verify import verify
from wal import format as f
from wal.errors import Locked
from wal.opened import LogOptions
from wal.os_vfs import open_root
from wal.sim_vfs import SimCrash, SimDisk, keep_everything, lose_everything, sample

CALLER = engram.EmbeddingSpec(model="caller", dimensions=2)
TINY = LogOptions(segment_bytes=4_600, allocate_bytes_min=512, allocate_bytes_max=1_024)
NOW_NS = 1_800_000_000_000_000_000


def make_space(root: Path, memories: int = 12, *, options: LogOptions = TINY) -> Path:
    """A space of several segments: memories, and of every third a revision or a forgetting."""
    root.mkdir(parents=True)
    with Database(Registry(open_root(root), owner="a test", options=options), root) as db:
        space = db.create_space("alpha", embedding=CALLER)
        for n in range(memories):
            space.remember(f"memory {n} " * 5, id=f"m{n}", embedding=[1, n])
            if n % 3 == 1:
                space.revise(f"m{n}", engram.Changes(tags=(f"t{n}",)))
            if n % 3 == 2:
                space.forget(f"m{n - 1}")
    return root / "alpha"


@pytest.fixture
def alpha(tmp_path: Path) -> Path:
    return make_space(tmp_path / "data")


def segments(space: Path) -> list[Path]:
    return sorted((space / "log").glob("*.seg"))


def to_space(path: Path, target: Path) -> Salvaged:
    (source,) = find_sources(path)
    before = contents(path)
    with opened(source) as log, parent_of(target) as parent:
        report = salvage_to_space(log, parent, target.name, now_ns=NOW_NS)
    assert contents(path) == before
    return report


def contents(path: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def to_lines(path: Path) -> tuple[Salvaged, list[dict[str, Any]]]:
    (source,) = find_sources(path)
    with opened(source) as log:
        report, lines = salvage_to_lines(log)
        return report, list(lines)


def told(space: Path) -> list[tuple[Any, ...]]:
    """The events of a space behind its creation, but for what salvaging renews."""
    with engram.open(space.parent) as db:
        events = list(db.space(space.name).events(after=1))
    return [
        (
            e.type,
            e.time,
            e.id,
            e.memory and (e.memory.id, e.memory.content, e.memory.tags, e.memory.revision),
        )
        for e in events
    ]


def cut(path: Path, needle: bytes) -> None:
    """Alter a byte of the record that holds `needle` last."""
    data = bytearray(path.read_bytes())
    data[data.rindex(needle)] ^= 1
    path.write_bytes(data)


def test_a_whole_space_comes_out_the_same_under_a_new_uuid(alpha: Path) -> None:
    target = alpha.parent / "rescued"
    report = to_space(alpha, target)
    assert report.complete
    assert (report.memory_space_id, report.embedding) == ("rescued", CALLER)
    assert told(target) == told(alpha)
    old, new = verify(alpha.parent)
    assert (new.ok, new.memories, new.log.last_position) == (
        True,
        old.memories,
        old.log.last_position,
    )
    assert new.log.space_uuid not in {None, old.log.space_uuid}
    with engram.open(alpha.parent) as db:
        before = db.space("alpha").recall(embedding=[1, 5], limit=3)
        after = db.space("rescued").recall(embedding=[1, 5], limit=3)
        assert [(h.memory.id, h.score) for h in after] == [(h.memory.id, h.score) for h in before]


def test_ranges_that_are_lost_are_named_and_the_rest_is_kept(alpha: Path) -> None:
    before = told(alpha)
    first, second, third, *_ = segments(alpha)
    cut(first, b"memory 0 ")
    begins, next_begins = (int(path.name.split("-")[0]) for path in (second, third))
    second.unlink()
    report = to_space(alpha, alpha.parent / "rescued")
    assert report.lost == [Gap(2, 2), Gap(begins, next_begins - 1)]
    assert not report.complete
    kept = [
        event for at, event in enumerate(before, 2) if at != 2 and not begins <= at < next_begins
    ]
    left_out = [change.position for change in report.changes if change.became is None]
    after = told(alpha.parent / "rescued")
    assert len(after) == len(kept) - len(left_out)
    assert [event[1] for event in after] == [
        event[1] for at, event in enumerate(before, 2) if event in kept and at not in left_out
    ]


@pytest.mark.parametrize("page", [bytes(f.SEGMENT_HEADER_BYTES), b"noise" * 819 + b"!"])
def test_segments_without_their_headers_are_read_by_their_records(alpha: Path, page: bytes) -> None:
    for segment in segments(alpha):
        segment.write_bytes(page + segment.read_bytes()[f.SEGMENT_HEADER_BYTES :])
    before = to_lines(alpha)[1]
    report = to_space(alpha, alpha.parent / "rescued")
    assert not report.lost
    assert not report.changes
    assert len(report.unreadable) >= len(segments(alpha))
    assert len(told(alpha.parent / "rescued")) == len(before) - 1


def test_files_that_were_sent_in_without_their_space_will_do(alpha: Path, tmp_path: Path) -> None:
    sent_in = tmp_path / "sent-in"
    sent_in.mkdir()
    names = list("cab") + list("dfeg")
    for name, segment in zip(names, segments(alpha), strict=False):
        shutil.copy(segment, sent_in / f"{name}.seg")
    report = to_space(sent_in, tmp_path / "data" / "rescued")
    assert report.complete
    assert told(tmp_path / "data" / "rescued") == told(alpha)
    # One alone: what it does not have is not lost, nobody says that it should be there.
    alone = to_space(segments(alpha)[1], tmp_path / "data" / "alone")
    assert alone.lost == []
    assert alone.embedding == CALLER


def test_copies_count_once_and_two_pasts_are_both_kept(tmp_path: Path) -> None:
    whole = LogOptions()
    alpha = make_space(tmp_path / "data", 2, options=whole)
    shutil.copytree(tmp_path / "data", tmp_path / "backup")
    for root, what in (("backup", "then"), ("data", "now")):
        with engram.open(tmp_path / root) as db:
            db.space("alpha").remember(what, id="same", embedding=[0, 1])
            db.space("alpha").remember(what, id=what, embedding=[0, 1])
    sent_in = tmp_path / "sent-in"
    sent_in.mkdir()
    for root in ("backup", "data"):
        shutil.copy(segments(tmp_path / root / "alpha")[0], sent_in / f"{root}.seg")
    report = to_space(sent_in, tmp_path / "data" / "rescued")
    assert report.copies == 4
    assert [c.became for c in report.changes] == ["memory.revised"]
    with engram.open(tmp_path / "data") as db:
        space = db.space("rescued")
        assert {m.id for m in space.list().memories} == {"m0", "m1", "same", "then", "now"}
    assert alpha.exists()


def test_a_space_of_which_nothing_tells_takes_the_vectors_as_they_are(alpha: Path) -> None:
    (alpha / "space.json").unlink()
    segments(alpha)[0].unlink()
    report = to_space(alpha, alpha.parent / "rescued")
    assert report.embedding == CALLER
    assert report.lost[0].first == 1


def test_every_bit_flipped_and_every_length_loses_no_record_that_is_whole(tmp_path: Path) -> None:
    space = make_space(tmp_path / "data", 3, options=LogOptions())
    data = segments(space)[0].read_bytes()
    path = tmp_path / "sent-in.seg"
    path.write_bytes(data)
    lines = to_lines(path)[1]
    starts = sorted({line["offset"] for line in lines})
    ends = [*starts[1:], len(data)]
    # Of each record's vectors and text a part: one checksum is over all of it.
    wanted = set(range(0, 130, 3)) | set(range(4_088, 4_096))
    for start in starts:
        wanted |= set(range(start, start + 90)) | set(range(start + 90, len(data), 37))

    def kept(first: int, stop: int) -> list[int]:
        pairs = zip(starts, ends, strict=True)
        return [s for s, e in pairs if not (s < stop and first < e)]

    for at in sorted(at for at in wanted if at < len(data)):
        for bit in (0, 3, 7):
            path.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
            report, lines = to_lines(path)
            assert [line["offset"] for line in lines] == kept(at, at + 1), (at, bit)
            assert report.unreadable or report.lost, (at, bit)
    for length in range(f.SEGMENT_HEADER_BYTES, len(data)):
        path.write_bytes(data[:length])
        if expected := kept(length, len(data)):
            assert [line["offset"] for line in to_lines(path)[1]] == expected, length
        else:
            with pytest.raises(SpaceDamaged):
                to_lines(path)


def test_whatever_happens_to_the_bytes_the_new_space_opens(tmp_path: Path) -> None:
    alpha = make_space(tmp_path / "data")
    originals = {path: path.read_bytes() for path in segments(alpha)}
    for seed in range(40):
        rng = Random(seed)
        for path, data in originals.items():
            damaged = bytearray(data)
            for _ in range(rng.randrange(4)):
                at = rng.randrange(len(data))
                size = rng.choice((1, 8, 200, 2_000))
                damaged[at : at + size] = rng.randbytes(len(damaged[at : at + size]))
            path.write_bytes(damaged)
        target = tmp_path / "data" / f"rescued-{seed}"
        report = to_space(alpha, target)
        (found,) = verify(target)
        assert found.ok
        assert found.memories == report.memories
        assert found.log.last_position == report.events + 1


def test_json_lines_hold_everything_vectors_too(alpha: Path, tmp_path: Path) -> None:
    report, lines = to_lines(alpha)
    assert [line["position"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[1]["memory"]["embedding"] == [1, 0]
    assert (report.complete, report.events) == (True, len(lines))
    with parent_of(tmp_path / "out.jsonl") as parent:
        write_lines(parent, "out.jsonl", (json.dumps({"n": n}).encode() for n in range(3)))
        with pytest.raises(SpaceExists):
            write_lines(parent, "out.jsonl", [])
    assert (tmp_path / "out.jsonl").read_bytes() == b'{"n": 0}{"n": 1}{"n": 2}'


def test_what_is_there_is_never_written_over(alpha: Path, tmp_path: Path) -> None:
    with pytest.raises(SpaceExists):
        to_space(alpha, alpha)
    for segment in segments(alpha):
        segment.unlink()
    with pytest.raises(SpaceDamaged, match="nothing was written"):
        to_space(alpha, tmp_path / "data" / "rescued")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".engram", "alpha"]


def test_an_attempt_that_goes_on_is_not_cleared_away(alpha: Path) -> None:
    unfinished = alpha.parent / f"rescued{UNFINISHED_SUFFIX}"
    unfinished.mkdir()
    (unfinished / "left").write_text("over")
    (source,) = find_sources(alpha)
    parent = open_root(alpha.parent)
    inside = parent.open_dir(unfinished.name)
    lock = inside.lock("LOCK", "another")
    with opened(source) as log:
        with pytest.raises(Locked):
            salvage_to_space(log, parent, "rescued", now_ns=NOW_NS)
        lock.release()
        salvage_to_space(log, parent, "rescued", now_ns=NOW_NS)
    assert not unfinished.exists()
    assert verify(alpha.parent / "rescued")[0].ok


def outcomes(disk: SimDisk, seed: str) -> Iterator[SimDisk]:
    yield disk.crash(lose_everything())
    yield disk.crash(keep_everything())
    yield disk.crash(sample(Random(seed)))


def test_a_crash_anywhere_leaves_a_whole_space_or_none(tmp_path: Path) -> None:
    (source,) = find_sources(make_space(tmp_path / "data", 4))
    with opened(source) as log:
        for point in count(1):
            disk = SimDisk()
            disk.crash_at(point, after=point % 2 == 0)
            try:
                salvage_to_space(log, disk.root(), "rescued", now_ns=NOW_NS, options=TINY)
            except SimCrash:
                pass
            else:
                assert point > 30
                assert not disk.misuses
                return
            for after in outcomes(disk, f"{point}"):
                if not after.root().exists("rescued"):
                    salvage_to_space(log, after.root(), "rescued", now_ns=NOW_NS, options=TINY)
                tree = after.contents()["rescued"]
                assert isinstance(tree, dict)
                check_opens(tmp_path / f"check-{point}", tree)
                shutil.rmtree(tmp_path / f"check-{point}")


def check_opens(root: Path, tree: Any) -> None:
    """Put a simulated folder on the real disk and verify it."""

    def put(folder: Path, inner: Any) -> None:
        folder.mkdir(parents=True)
        for name, content in inner.items():
            if isinstance(content, bytes):
                (folder / name).write_bytes(content)
            else:
                put(folder / name, content)

    put(root / "rescued", tree)
    (found,) = verify(root / "rescued")
    assert found.ok, found.damage
    assert found.memories > 0
    assert found.log.last_position > 5


# The pure rules.


def version(
    made: type[MemoryVersion], name: str = "a", revision: int = 1, kind: Kind = "episode"
) -> Event:
    return made(  # type: ignore[return-value]
        id=name,
        revision=revision,
        kind=kind,
        content="text",
        tags=(),
        metadata={},
        confidence=1.0,
        occurred_us=None,
        expires_us=None,
        source=None,
    )


FORGET = MemoryForgotten(id="a", revision=1, reason="request")
RECALLED = MemoryRecalled(
    recall_id="r", mode="hybrid", query_digest=None, ids=("a",), scores=(1.0,)
)
LINK = MemoryLinked(source="a", target="b", relation="r", weight=0.5)
BELIEF = version(MemoryStored, "b", kind="belief")
FORMED = MemoryConsolidated(
    id="b",
    revision=1,
    sources=("a",),
    revisions=(1,),
    strength=0.9,
    citations=(),
    summariser="extractive",
)
UNLINK = MemoryUnlinked(source="a", target="b", relation="r")
BOTH = [version(MemoryStored), version(MemoryStored, "b")]
CREATED = SpaceCreated(memory_space_id="x", generation=1, embedding_model="caller", dimensions=2)


@pytest.mark.parametrize(
    ("events", "types", "became"),
    [
        ([version(MemoryStored), version(MemoryRevised), FORGET], "SRF", []),
        ([version(MemoryRevised), version(MemoryRevised)], "SR", ["memory.stored"]),
        ([version(MemoryStored), version(MemoryStored, revision=2)], "SR", ["memory.revised"]),
        ([FORGET], "", [None]),
        ([version(MemoryStored), FORGET, FORGET], "SF", [None]),
        ([version(MemoryStored), FORGET, version(MemoryStored)], "SFS", []),
        ([version(MemoryStored), FORGET, version(MemoryRevised)], "SFS", ["memory.stored"]),
        ([version(MemoryStored), FORGET, version(MemoryRestored, revision=2), FORGET], "SFBF", []),
        ([version(MemoryStored), version(MemoryRestored, revision=3)], "SR", ["memory.revised"]),
        ([version(MemoryRestored, revision=3), FORGET], "SF", ["memory.stored"]),
        ([FORGET, version(MemoryRestored, revision=2)], "S", [None, "memory.stored"]),
        ([RECALLED], "M", []),
        ([*BOTH, LINK, LINK, UNLINK], "SSLLU", []),
        ([version(MemoryStored), LINK], "S", [None]),
        ([*BOTH, UNLINK], "SS", [None]),
        ([*BOTH, LINK, UNLINK, UNLINK], "SSLU", [None]),
        ([*BOTH, LINK, FORGET, UNLINK], "SSLF", [None]),
        ([*BOTH, LINK, FORGET, version(MemoryRestored, revision=2), UNLINK], "SSLFBU", []),
        ([*BOTH, LINK, FORGET, version(MemoryStored, revision=2), UNLINK], "SSLFS", [None]),
        ([version(MemoryStored), BELIEF, FORMED], "SSK", []),
        ([BELIEF, FORMED], "S", [None]),
        ([version(MemoryStored), FORMED], "S", [None]),
        ([*BOTH, FORMED], "SS", [None]),
        ([version(MemoryStored), BELIEF, FORGET, FORMED], "SSF", [None]),
        ([SpaceConfigured(retention=Retention(positions=9))], "C", []),
        ([CREATED, version(MemoryStored)], "S", []),
        ([version(MemoryStored), CREATED], "S", [None]),
    ],
)
def test_events_that_lost_what_they_lean_on(
    events: list[Event], types: str, became: list[str | None]
) -> None:
    rows = sum(isinstance(event, MemoryVersion) for event in events)
    rescue = Rescue(2)
    batch = rescue.translate(Batch(events, np.ones((rows, 2), np.float32)), 1)
    letters = {
        MemoryStored: "S",
        MemoryRevised: "R",
        MemoryForgotten: "F",
        MemoryRestored: "B",
        MemoryRecalled: "M",
        SpaceConfigured: "C",
        MemoryConsolidated: "K",
        MemoryLinked: "L",
        MemoryUnlinked: "U",
    }
    assert "".join(letters[type(event)] for event in batch.events) == types
    assert [change.became for change in rescue.changes] == became
    assert len(batch.vectors) == sum(isinstance(e, MemoryVersion) for e in batch.events)
    state = State("x", 2)  # it takes them
    state.apply(batch, 2, 0)
    state.publish()
    assert state.view.live_count(0) == rescue.memories


def test_a_vector_that_cannot_be_compared_is_left_out() -> None:
    rescue = Rescue(3)
    batch = rescue.translate(Batch([version(MemoryStored)], np.ones((1, 2), np.float32)), 7)
    assert batch.events == []
    reason = "its vector has 2 dimensions, the space 3"
    assert rescue.changes == [Change(7, "memory.stored", "a", None, reason)]


def shortened(root: Path) -> Path:
    """A space whose history begins behind a base, with a checkpoint further on."""
    with engram.open(root) as db:
        space = db.create_space("alpha", embedding=CALLER)
        for n in range(8):
            space.remember(f"memory {n}", id=f"m{n}", tags=[f"t{n}"], embedding=[1, n])
        space.revise("m1", engram.Changes(tags=["again"]))
        space.forget("m2")
        space.configure(retention="positions:2")
        space.compact()
        space.forget("m3")
        space.compact()
        space.remember("later", id="later", embedding=[1, 2])
        space.forget("m4")
        space.compact()
        space.remember("last", id="last", embedding=[2, 1])
    return root / "alpha"


def memories(space: Path) -> dict[str, tuple[Any, ...]]:
    with engram.open(space.parent) as db:
        found = db.space(space.name).list(limit=100, include_embedding=True).memories
    return {
        m.id: (m.content, m.tags, m.revision, m.stored_at, np.asarray(m.embedding).tolist())
        for m in found
    }


def test_the_memories_of_a_base_come_along(tmp_path: Path) -> None:
    alpha = shortened(tmp_path / "data")
    (tmp_path / "out").mkdir()
    report = to_space(alpha, tmp_path / "out" / "rescued")
    assert (report.lost, report.unreadable, report.changes) == ([], [], [])
    assert report.from_checkpoints
    kept = memories(alpha)
    assert {"m0", "m1", "later", "last"} < kept.keys()
    with engram.open(tmp_path / "data") as db:
        assert db.space("alpha").info().memories == report.memories
    shutil.copytree(tmp_path / "out" / "rescued", tmp_path / "data" / "rescued")
    assert memories(tmp_path / "data" / "rescued") == kept
    _, lines = to_lines(alpha)
    positions = [line["position"] for line in lines]
    assert positions == sorted(set(positions))
    stored = {line["memory"]["id"]: line["memory"] for line in lines if line.get("memory")}
    assert kept.keys() <= stored.keys()
    assert stored["m1"]["embedding"] == [1, 1]


def test_a_broken_base_is_made_up_for_by_the_next_checkpoint(tmp_path: Path) -> None:
    alpha = shortened(tmp_path / "data")
    base, newer = sorted((alpha / "checkpoints").iterdir())
    kept = memories(alpha)
    data = bytearray(base.read_bytes())
    data[5_000] ^= 1
    base.write_bytes(data)
    (tmp_path / "out").mkdir()
    report = to_space(alpha, tmp_path / "out" / "rescued")
    assert [damage.file for damage in report.unreadable] == [f"checkpoints/{base.name}"]
    assert report.lost[0].first == 1
    shutil.copytree(tmp_path / "out" / "rescued", tmp_path / "data" / "rescued")
    assert memories(tmp_path / "data" / "rescued") == kept
    newer.unlink()
    worse = to_space(alpha, tmp_path / "out" / "worse")
    assert worse.from_checkpoints == 0
    assert worse.lost[0].first == 1


def test_what_a_lost_range_said_is_taken_from_a_later_checkpoint(tmp_path: Path) -> None:
    """Also that a memory was forgotten there, which no record tells any more."""
    with engram.open(tmp_path / "data") as db:
        space = db.create_space("alpha", embedding=CALLER)
        for n in range(4):
            space.remember(f"memory {n}", id=f"m{n}", embedding=[1, n])
        space.forget("m0")
        space.revise("m1", engram.Changes(tags=["again"]))
        space.remember("more", id="more", embedding=[1, 1])
        space.compact()
    alpha = tmp_path / "data" / "alpha"
    kept = memories(alpha)
    first = segments(alpha)[0]
    data = bytearray(first.read_bytes())
    start, end = data.index(b"memory 3"), data.index(b"more")
    data[start:end] = bytes(end - start)
    first.write_bytes(data)
    (tmp_path / "out").mkdir()
    report = to_space(alpha, tmp_path / "out" / "rescued")
    assert report.lost == [Gap(5, 8)]
    assert report.from_checkpoints == 4
    shutil.copytree(tmp_path / "out" / "rescued", tmp_path / "data" / "rescued")
    found = memories(tmp_path / "data" / "rescued")
    assert found.keys() == kept.keys()
    assert {i: (v[0], v[1], v[4]) for i, v in found.items()} == {
        i: (v[0], v[1], v[4]) for i, v in kept.items()
    }


def test_a_checkpoint_alone_is_rescued(tmp_path: Path) -> None:
    alpha = shortened(tmp_path / "data")
    base = min((alpha / "checkpoints").iterdir())
    (source,) = find_sources(base)
    with opened(source) as log, parent_of(tmp_path / "x") as parent:
        report = salvage_to_space(log, parent, "rescued", now_ns=NOW_NS)
    assert report.memories == report.from_checkpoints == report.events
    assert report.embedding is not None
    assert report.embedding.dimensions == 2
    base.write_bytes(b"broken")
    with opened(source) as log, pytest.raises(SpaceDamaged):
        salvage_to_lines(log)


def test_what_was_purged_stays_away(tmp_path: Path) -> None:
    """Also while a crash has kept its bytes from being taken out."""
    stored = MemoryStored(
        id="gone", revision=1, kind="fact", content="secret", tags=(), metadata={},
        confidence=1.0, occurred_us=None, expires_us=None, source=None,
    )  # fmt: skip
    rescue = Rescue(2, {"gone": 9})
    vectors = np.ones((1, 2), np.float32)
    assert rescue.translate(Batch([stored], vectors), 3).events == []
    assert len(rescue.translate(Batch([stored], vectors), 10).events) == 1
    assert rescue.changes == []
    with engram.open(tmp_path / "data") as db:
        space = db.create_space("alpha", embedding=CALLER)
        space.remember("secret", id="gone", embedding=[1, 2])
        space.remember("kept", id="kept", embedding=[1, 2])
    alpha = tmp_path / "data" / "alpha"
    before = {path: path.read_bytes() for path in alpha.rglob("*") if path.is_file()}
    with engram.open(tmp_path / "data") as db:
        db.space("alpha").purge("gone")
    for path in (alpha / "log").glob("*1.seg"):
        path.unlink()
    (tmp_path / "out").mkdir()
    for path, data in before.items():
        if path.suffix == ".seg":
            path.write_bytes(data)  # as a crash leaves what was let go of
    report = to_space(alpha, tmp_path / "out" / "rescued")
    assert (report.memories, report.changes) == (1, [])
    everything = b"".join(contents(tmp_path / "out").values())
    assert b"kept" in everything
    assert b"secret" not in everything
    assert "secret" not in json.dumps(to_lines(alpha)[1])
