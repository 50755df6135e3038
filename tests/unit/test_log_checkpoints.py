"""Offline tools on logs with checkpoints: what verifies, what differs, and where history begins."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest

import engram
from compaction.checkpoint import open_checkpoint, write_checkpoint
from compaction.rewrite import rewrite_segment
from engram.inspect.figures import Inspection, inspect
from engram.memory.difference import difference
from engram.spaces.identity import read_identity
from engram.spaces.space import Space
from engram.spaces.verify import SpaceReport, bytes_to_read, verify
from wal.links import header_of
from wal.manifest import Checkpoint, Manifest
from wal.os_vfs import open_root
from wal.replay import publish_manifest, read_manifest

CALLER = engram.EmbeddingSpec(model="caller", dimensions=2)
Columns = dict[str, np.ndarray[Any, np.dtype[Any]]]


@pytest.fixture
def alpha(tmp_path: Path) -> Path:
    """A log that begins behind a base, with a checkpoint in it and something behind that."""
    with engram.open(tmp_path / "data") as db:
        space = db.create_space("alpha", embedding=CALLER)
        for n in range(20):
            space.remember(
                f"memory {n}", id=f"m{n}", tags=[f"t{n % 3}"], metadata={"n": n}, embedding=[1, n]
            )
        space.forget("m3")
        space.configure(retention="positions:2")
        space.compact()
        space.remember("more", id="x", embedding=[0, 1])
        space.compact()
        assert space.recall(embedding=[1, 9]).recorded  # with what comes next
        space.revise("m7", engram.Changes(tags=["again"]))
        space.forget("m5")
        space.compact()
        space.remember("last", id="y", embedding=[0, 1])
    return tmp_path / "data" / "alpha"


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A log that holds everything, with two checkpoints in it."""
    with engram.open(tmp_path / "whole") as db:
        space = db.create_space("alpha", embedding=CALLER)
        for n in range(9):
            space.remember(f"memory {n}", id=f"m{n}", metadata={"n": n % 4}, embedding=[1, n])
            if n % 4 == 3:
                assert space.recall(embedding=[1, n]).recorded
                space.forget(f"m{n}")
                space.compact()
    return tmp_path / "whole" / "alpha"


def manifest_of(space: Path) -> Manifest:
    with closing(open_root(space)) as directory:
        return read_manifest(directory)


def verified(space: Path) -> SpaceReport:
    (report,) = verify(space)
    return report


def inspected(path: Path) -> Inspection:
    (report,) = inspect(path)
    return report


def path_of(space: Path, checkpoint: Checkpoint) -> Path:
    return space / "checkpoints" / checkpoint.name


def break_block(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[5_000] ^= 1
    path.write_bytes(data)


def replace_newest(space: Path, change: Callable[[Columns], object]) -> str:
    """Put in the place of the newest checkpoint one that verifies and holds something else."""
    with closing(open_root(space)) as directory:
        manifest = read_manifest(directory)
        *others, newest = manifest.checkpoints
        file = open_checkpoint(directory, newest, bytes.fromhex(manifest.space_uuid))
        columns = {name: file.column(name).copy() for name in file.names}
        change(columns)
        number = manifest.number + 1
        base = newest.base
        made = write_checkpoint(directory, file.identity, number, columns.items(), base=base)
        changed = msgspec.structs.replace(manifest, number=number, checkpoints=(*others, made))
        publish_manifest(directory, changed)
        return f"checkpoints/{made.name}"


def test_a_log_behind_a_base_is_whole(alpha: Path) -> None:
    base, newest = manifest_of(alpha).checkpoints
    assert base.base
    report = verified(alpha)
    assert (report.damage, report.log.leftovers, report.log.strangers) == ([], [], [])
    assert (report.log.oldest_position, report.memories) == (base.position + 1, 20)
    assert report.log.checkpoints == [base, newest]
    seen = inspected(alpha)
    assert (seen.damage, seen.gaps, seen.leftovers) == ([], [], [])
    assert (seen.oldest_position, seen.memories) == (base.position + 1, 20)
    assert seen.segments[0].first_position == base.position + 1
    figures = [(each.standing, each.position, each.bytes, each.ok) for each in seen.checkpoints]
    assert figures == [
        ("base", base.position, base.length, True),
        ("live", newest.position, newest.length, True),
    ]
    assert {"documents.data", "vectors.0"} < {each.name for each in seen.checkpoints[0].columns}
    (manifest,) = seen.manifests
    assert manifest.checkpoints == (base, newest)


def test_how_far_verifying_got_is_told(alpha: Path) -> None:
    told: list[tuple[str, int]] = []
    verify(alpha.parent, lambda folder, more_bytes: told.append((folder, more_bytes)))
    assert {folder for folder, _ in told} == {"alpha"}
    headers = 4_096 * len(inspected(alpha).segments)
    assert sum(more for _, more in told) + headers == bytes_to_read(alpha.parent)
    assert bytes_to_read(alpha) == bytes_to_read(alpha.parent)


@pytest.mark.parametrize("which", [0, 1], ids=["base", "newest"])
@pytest.mark.parametrize("how", ["block", "cut", "missing", "foreign", "other"])
def test_a_checkpoint_that_is_not_whole_is_damage(
    alpha: Path, whole: Path, which: int, how: str
) -> None:
    checkpoints = manifest_of(alpha).checkpoints
    path = path_of(alpha, checkpoints[which])
    match how:
        case "block":
            break_block(path)
        case "cut":
            path.write_bytes(path.read_bytes()[:-1])
        case "missing":
            path.unlink()
        case "foreign":
            shutil.copyfile(path_of(whole, manifest_of(whole).checkpoints[0]), path)
        case "other":
            shutil.copyfile(path_of(alpha, checkpoints[1 - which]), path)
    report = verified(alpha)
    assert [damage.file for damage in report.damage] == [f"checkpoints/{path.name}"]
    seen = inspected(alpha)
    assert seen.damage == report.damage
    assert [each.ok for each in seen.checkpoints if each.file.endswith(path.name)] == [False]


def test_a_column_that_does_not_verify_is_told_from_those_that_do(alpha: Path) -> None:
    with engram.open(alpha.parent) as db:
        space = db.space("alpha")
        space.remember("words " * 20_000, id="large", embedding=[0, 1])  # more than one block
        space.compact()
    newest = path_of(alpha, manifest_of(alpha).checkpoints[-1])
    data = bytearray(newest.read_bytes())
    data[4_096 + (64 << 10) + 9] ^= 1
    newest.write_bytes(data)
    columns = inspected(newest).checkpoints[0].columns
    assert {column.ok for column in columns} == {True, False}
    assert all(column.bytes or not column.ok or 0 in column.shape for column in columns)


CHANGES: dict[str, Callable[[Columns], object]] = {
    "stored_us": lambda c: c["stored_us"].put(2, 7),
    "confidences": lambda c: c["confidences"].put(0, 0.5),
    "live": lambda c: c["live"].put(0, not c["live"][0]),
    "documents.data": lambda c: c["documents.data"].put(
        bytes(c["documents.data"]).rindex(b"memory"), ord("M")
    ),
    "vectors.0": lambda c: c["vectors.0"].put(0, 0.25),
    "vectors.1": lambda c: c["vectors.1"].put(0, 0.25),
    "ids.0": lambda c: c["ids.0"].put(0, 1),
    "lexicon.1": lambda c: c["lexicon.1"].put(0, 99),
    "attributes.numbers": lambda c: c["attributes.numbers"].put(1, 1e9),
    "retention": lambda c: c["retention"].put(0, 17),
    "settings": lambda c: c["settings"].put(
        bytes(c["settings"]).rindex(np.array(0.05, ">f8").tobytes()) + 7, 1
    ),
    "timeline.0": lambda c: c["timeline.0"].put(0, 3),
    "uses.begun_us": lambda c: c["uses.begun_us"].put(0, 3),
    "company.rows": lambda c: c["company.rows"][0].fill(-1),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("space", ["alpha", "whole"])
def test_a_checkpoint_that_is_not_what_the_log_adds_up_to_is_damage(
    request: pytest.FixtureRequest, space: str, name: str
) -> None:
    folder: Path = request.getfixturevalue(space)
    file = replace_newest(folder, CHANGES[name])
    (damage,) = verified(folder).damage
    assert damage.file == file
    # Where history begins behind a base, a row that died before it is none at all.
    shown = "documents.data" if (space, name) == ("alpha", "live") else name
    assert damage.reason == f"its column {shown!r} is not what the log adds up to"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c["documents.offsets"].put(1, 3), "cannot be read"),
        (lambda c: c.pop("positions"), "make no state"),
        (lambda c: c.update(live=c["live"][1:]), "make no state"),
        (lambda c: c.update({"company.rows": c["company.rows"] + 100}), "make no state"),
        (lambda c: without(c, "uses."), "make no state"),
    ],
)
def test_a_checkpoint_that_makes_no_state_is_damage(
    whole: Path, change: Callable[[Columns], object], says: str
) -> None:
    file = replace_newest(whole, change)
    (damage,) = verified(whole).damage
    assert damage.file == file
    assert says in damage.reason
    (alone,) = inspected(whole / file).damage
    assert "make no state" in alone.reason


def without(columns: Columns, prefix: str) -> None:
    for name in [name for name in columns if name.startswith(prefix)]:
        del columns[name]


@pytest.mark.parametrize("space", ["alpha", "whole"])
def test_a_checkpoint_of_before_company_counted_is_taken_and_gone_on_with(
    request: pytest.FixtureRequest, space: str
) -> None:
    folder: Path = request.getfixturevalue(space)
    replace_newest(folder, lambda c: without(c, "company."))
    assert verified(folder).damage == []
    with engram.open(folder.parent) as db:
        for n in range(3):
            assert db.space("alpha").recall(embedding=[1, n]).recorded
        db.space("alpha").remember("which they ride along with", embedding=[1, 1])
        db.space("alpha").compact()
        with closing(open_root(folder)) as directory:
            manifest = read_manifest(directory)
            newest = manifest.checkpoints[-1]
            file = open_checkpoint(directory, newest, bytes.fromhex(manifest.space_uuid))
            (since,) = file.column("company.since").tolist()
            assert 0 < since < newest.position
            assert (file.column("company.rows") >= 0).any()
    assert verified(folder).damage == []


def test_a_checkpoint_in_the_middle_of_a_record_is_damage(tmp_path: Path) -> None:
    with engram.open(tmp_path / "data") as db:
        space = db.create_space("alpha", embedding=CALLER)
        space.remember_many([engram.NewMemory(content="a", embedding=[1, 2])] * 3)
        space.compact()
    folder = tmp_path / "data" / "alpha"
    with closing(open_root(folder)) as directory:
        manifest = read_manifest(directory)
        (there,) = manifest.checkpoints
        uuid = bytes.fromhex(manifest.space_uuid)
        file = open_checkpoint(directory, there, uuid)
        columns = {name: file.column(name) for name in file.names}
        identity = file.identity._replace(position=there.position - 1)
        number = manifest.number + 1
        made = write_checkpoint(directory, identity, number, columns.items(), base=False)
        changed = msgspec.structs.replace(manifest, number=number, checkpoints=(made, there))
        publish_manifest(directory, changed)
    (damage,) = verified(folder).damage
    assert damage.file == f"checkpoints/{made.name}"
    assert "no record of the log ends" in damage.reason


def test_what_a_compaction_left_behind_is_no_damage(alpha: Path) -> None:
    """A crash right behind the manifest leaves what it let go of, one before it what it made."""
    retired = [alpha / name for name in manifest_of(alpha).retired]
    assert {path.parent.name for path in retired} == {"log", "checkpoints"}
    segment = next(path for path in sorted((alpha / "log").iterdir()))
    for path in retired:
        source = segment if path.parent.name == "log" else alpha / "checkpoints"
        path.write_bytes(source.read_bytes() if source.is_file() else b"broken")
    unnamed = alpha / "checkpoints" / f"{9:020d}-{99:010d}.ckpt"
    unnamed.write_bytes(b"half")
    unfinished = unnamed.with_name(f"{unnamed.name}.tmp")
    unfinished.write_bytes(b"")
    stranger = alpha / "checkpoints" / "notes"
    stranger.write_text("mine")
    left = {str(path.relative_to(alpha)) for path in (*retired, unnamed, unfinished)}
    report = verified(alpha)
    # What was retired has a header that is not its own, which refuses when it is opened.
    assert {d.file for d in report.damage} <= {f"log/{p.name}" for p in retired}
    assert {each.file for each in report.log.leftovers} == left
    assert report.log.strangers == ["checkpoints/notes"]


def test_a_copy_that_no_manifest_names_is_left_over(whole: Path) -> None:
    manifest = manifest_of(whole)
    with closing(open_root(whole)) as directory, closing(directory.open_dir("log")) as log_dir:
        identity = read_identity(directory, "alpha")
        for segment_id, named in enumerate(manifest.sealed[:2], 50):
            header = header_of(log_dir, named.name, named.name, identity.uuid_bytes)
            copy = rewrite_segment(
                log_dir, (header, named, ()), segment_id, bytes(16), lambda record: None
            )
            if named is manifest.sealed[1]:
                made = copy
    sealed = (manifest.sealed[0], made[1], *manifest.sealed[2:])
    with closing(open_root(whole)) as directory:
        publish_manifest(
            directory, msgspec.structs.replace(manifest, number=manifest.number + 1, sealed=sealed)
        )
    (whole / "log" / manifest.sealed[1].name).unlink()
    report = verified(whole)
    assert report.damage == []
    assert [each.file[-14:] for each in report.log.leftovers] == ["0000000050.seg"]
    assert [segment.rewritten for segment in report.log.segments] == [False, True, False]
    seen = inspected(whole)
    assert (seen.damage, seen.gaps) == ([], [])
    states = [(each.state, each.rewritten) for each in seen.segments]
    assert states == [("sealed", False), ("leftover", True), ("sealed", True), ("active", False)]
    assert seen.events == seen.position == report.log.last_position


def test_a_checkpoint_alone_is_looked_at(alpha: Path, tmp_path: Path) -> None:
    base = manifest_of(alpha).checkpoints[0]
    sent = tmp_path / "sent-in"
    shutil.copyfile(path_of(alpha, base), sent)
    seen = inspected(sent)
    assert (seen.kind, seen.damage) == ("checkpoint", [])
    (figures,) = seen.checkpoints
    assert (figures.standing, figures.position, figures.ok) == ("loose", base.position, True)
    assert figures.memories == 20
    assert figures.space_uuid == manifest_of(alpha).space_uuid
    break_block(sent)
    assert [damage.offset for damage in inspected(sent).damage] == [4_096]
    sent.rename(sent.with_suffix(".ckpt"))
    sent.with_suffix(".ckpt").write_bytes(b"what is this")
    assert [damage.offset for damage in inspected(sent.with_suffix(".ckpt")).damage] == [12]


def busy(space: Space, rng: Random, *, shortened: bool) -> None:
    """A random history with compactions in it, which may let go of its beginning."""
    living, gone = set[str](), set[str]()
    for step in range(rng.randrange(30, 160)):
        what = rng.random()
        memory_id = f"m{rng.randrange(30)}"
        if what < 0.6 and memory_id in living:
            space.revise(memory_id, engram.Changes(tags=[f"t{step % 5}"]))
        elif what < 0.6:
            space.remember(
                f"words {step % 7} of {step}",
                id=memory_id,
                metadata={"n": step, "s": str(step % 3)},
                embedding=[step, 1],
            )
            living.add(memory_id)
            gone.discard(memory_id)
        elif what < 0.75 and living:
            memory_id = rng.choice(sorted(living))
            space.forget(memory_id)
            living.discard(memory_id)
            gone.add(memory_id)
        elif what < 0.85 and gone:
            memory_id = rng.choice(sorted(gone))
            space.restore(memory_id)
            gone.discard(memory_id)
            living.add(memory_id)
        elif what < 0.88 and living | gone:
            memory_id = rng.choice(sorted(living | gone))
            space.purge(memory_id)
            living.discard(memory_id)
            gone = set() if shortened else gone - {memory_id}  # which compacts too
        elif what < 0.93:
            space.compact()
            gone = set() if shortened else gone  # nothing of them may be left
        elif what < 0.95 and shortened:
            space.configure(retention=rng.choice(["positions:5", "positions:40"]))
        elif what >= 0.95:
            assert space.recall(embedding=[rng.randrange(160), 1]).recorded


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("shortened", [False, True], ids=["whole", "shortened"])
def test_what_compactions_write_is_always_what_the_log_adds_up_to(
    tmp_path: Path, seed: int, shortened: bool
) -> None:
    with engram.open(tmp_path / "data") as db:
        space = db.create_space("alpha", embedding=CALLER)
        rng = Random(seed)
        for _ in range(3):
            busy_again = rng.randrange(1 << 30)
            for memory in space.list(limit=1_000).memories:
                space.forget(memory.id)
            busy(space, Random(busy_again), shortened=shortened)
            assert verified(tmp_path / "data" / "alpha").damage == []


def test_states_of_other_columns_differ() -> None:
    from engram.memory.columns import compact
    from engram.memory.state import State

    columns = compact(State("alpha", 2).freeze())
    assert difference(columns, columns) is None
    other = compact(State("alpha", 3).freeze())
    assert difference(columns, other) == "vectors.0"


def test_a_space_that_is_being_compacted_is_read_as_if_it_were_not(tmp_path: Path) -> None:
    """Files are replaced between any two looks; that is never taken for damage."""
    with engram.open(tmp_path / "data") as db:
        space = db.create_space("alpha", embedding=CALLER)
        space.configure(retention="positions:3")
        stop, failed = threading.Event(), list[Exception]()

        def write() -> None:
            try:
                for n in count():
                    if stop.is_set():
                        return
                    space.remember(f"memory {n}", id=f"m{n}", embedding=[1, n])
                    space.compact()
            except Exception as error:
                failed.append(error)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(12):
                assert verified(tmp_path / "data" / "alpha").damage == []
                seen = inspected(tmp_path / "data" / "alpha")
                assert (seen.damage, seen.gaps) == ([], [])
                assert all(each.ok for each in seen.checkpoints if each.standing != "leftover")
        finally:
            stop.set()
            thread.join()
        assert failed == []
