"""The registry: who wins a creation, what is found, and what happens to a data root gone wrong."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import engram
from engram.errors import (
    DataRootUnusable,
    EmbedderUnavailable,
    EngramError,
    Invalid,
    OutcomeUnknown,
    SpaceDamaged,
    SpaceExists,
    SpaceInvalid,
    SpaceLocked,
    SpaceNotFound,
    TooLarge,
    Unavailable,
)
from engram.spaces import identity as identity_module
from engram.spaces import registry as registry_module
from engram.spaces.identity import Identity
from tests.unit.conftest import CALLER
from wal.log import Log
from wal.os_vfs import OsDirectory, OsFile

CREATORS = 100
UNIT = [1.0, 0.0, 0.0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A closed data root with the spaces `good` and `bad`, two memories each."""
    path = tmp_path / "data"
    with engram.open(path) as db:
        for name in ("good", "bad"):
            space = db.create_space(name, embedding=CALLER)
            space.remember(f"{name} one", id="one", embedding=UNIT)
            space.remember(f"{name} two", id="two", embedding=UNIT)
    return path


def open_descriptors() -> list[str]:
    """What this process has open below a temporary folder."""
    links = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(link.readlink()))
        except FileNotFoundError:
            pass  # the descriptor of this very listing
    return sorted(name for name in links if "/data" in name)


@pytest.fixture
def nothing_left_open() -> Iterator[None]:
    if not Path("/proc/self/fd").exists():
        pytest.skip("this system does not list open descriptors")
    before, threads = open_descriptors(), threading.active_count()
    yield
    assert open_descriptors() == before
    assert threading.active_count() == threads


def at_once(count: int, call: Callable[[int], object]) -> list[object]:
    """The results, or errors, of `count` threads that call at the same moment."""
    barrier, results = threading.Barrier(count), list[object]([None] * count)

    def run(index: int) -> None:
        barrier.wait()
        try:
            results[index] = call(index)
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_of_a_hundred_creators_of_one_space_exactly_one_wins(db: engram.Database) -> None:
    results = at_once(CREATORS, lambda _: db.create_space("alpha", embedding=CALLER))
    won = [result for result in results if isinstance(result, engram.Space)]
    lost = [result for result in results if isinstance(result, SpaceExists)]
    assert (len(won), len(lost)) == (1, CREATORS - 1)
    assert [info.memory_space_id for info in db.spaces()] == ["alpha"]
    assert list((db.path / ".engram" / "tmp").iterdir()) == []


def test_of_a_hundred_who_ensure_one_space_exactly_one_made_it(db: engram.Database) -> None:
    results = at_once(CREATORS, lambda _: db.ensure_space("alpha", embedding=CALLER))
    made = [created for _, created in results]  # type: ignore[misc,attr-defined]
    assert made.count(True) == 1
    for space, _ in results:  # type: ignore[misc,attr-defined]
        space.remember("x", embedding=UNIT)
    assert db.space("alpha").info().memories == CREATORS


def test_a_hundred_spaces_can_be_made_at_once(db: engram.Database) -> None:
    def create(index: int) -> engram.Space:
        space = db.create_space(f"s{index:03}", embedding=CALLER)
        space.remember(f"in {index}", embedding=UNIT)
        return space

    results = at_once(CREATORS, create)
    assert [r for r in results if not isinstance(r, engram.Space)] == []
    infos = db.spaces()
    assert [info.memory_space_id for info in infos] == [f"s{i:03}" for i in range(CREATORS)]
    assert len({info.uuid for info in infos}) == CREATORS
    for index in range(CREATORS):
        (memory,) = db.space(f"s{index:03}").list().memories
        assert memory.content == f"in {index}"


def create_in_process(path: str, start: Any, results: Any) -> None:
    """One of several processes on one data root: creates a space they share, and one of its own."""
    with engram.open(path) as db:
        start.wait()
        own = db.create_space(f"p{os.getpid()}", embedding=CALLER)
        try:
            _, created = db.ensure_space("shared", embedding=CALLER)
            results.put((created, own.id, None))
        except EngramError as error:
            results.put((False, own.id, repr(error)))


def test_processes_create_beside_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path, count = tmp_path / "data", 4  # the data root itself is laid out by all of them at once
    start, results = context.Barrier(count), context.Queue()
    processes = [
        context.Process(target=create_in_process, args=(str(path), start, results))
        for _ in range(count)
    ]
    for process in processes:
        process.start()
    outcomes = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert [error for _, _, error in outcomes if error] == []
    assert [created for created, _, _ in outcomes].count(True) == 1
    with engram.open(path) as db:
        there = [info.memory_space_id for info in db.spaces()]
        assert there == sorted([own for _, own, _ in outcomes] + ["shared"])
        assert db.space("shared").remember("x", embedding=UNIT).position == 2


def test_an_empty_folder_is_laid_out_once_by_all_who_open_it(tmp_path: Path) -> None:
    path = tmp_path / "data"
    with ExitStack() as stack:
        results = at_once(20, lambda _: stack.enter_context(engram.open(path)))
        assert [r for r in results if not isinstance(r, engram.Database)] == []


def test_a_space_made_by_another_process_is_found(root: Path) -> None:
    with engram.open(root) as first:
        assert len(first.spaces()) == 2
        with engram.open(root) as second:
            second.create_space("later")
        assert first.space("later").info().memories == 0
        with pytest.raises(SpaceExists):
            first.create_space("later")


def test_ensuring_with_another_embedding_is_refused(db: engram.Database) -> None:
    db.create_space("alpha", embedding=CALLER)
    assert db.ensure_space("alpha", embedding=CALLER)[1] is False
    assert db.ensure_space("alpha")[1] is False
    other = engram.EmbeddingSpec(model="caller", dimensions=4)
    with pytest.raises(SpaceExists, match="cannot be changed"):
        db.ensure_space("alpha", embedding=other)


def test_an_id_is_minted_where_none_is_given(db: engram.Database) -> None:
    first, second = db.create_space(), db.create_space()
    assert first.id != second.id
    assert [info.memory_space_id for info in db.spaces()] == sorted([first.id, second.id])


@pytest.mark.parametrize("space_id", ["nobody", "lost-found", "m-0123456789abcdef"])
def test_asking_for_an_unknown_space_makes_no_folder(db: engram.Database, space_id: str) -> None:
    before = sorted(db.path.rglob("*"))
    for ask in (db.space, db.space_info):
        with pytest.raises(SpaceNotFound, match="Create it first") as caught:
            ask(space_id)
        assert caught.value.memory_space_id == space_id
    assert sorted(db.path.rglob("*")) == before


@pytest.mark.parametrize("space_id", ["..", ".engram", "../data", "/etc", "A", ""])
def test_asking_for_an_impossible_space_touches_nothing(db: engram.Database, space_id: str) -> None:
    before = sorted(db.path.parent.rglob("*"))
    for ask in (db.space, db.space_info, db.create_space, db.ensure_space):
        with pytest.raises(SpaceInvalid):
            ask(space_id)
    assert sorted(db.path.parent.rglob("*")) == before


def test_listing_opens_nothing(root: Path) -> None:
    with engram.open(root) as db:
        infos = db.spaces()
        assert [(i.memory_space_id, i.state, i.position) for i in infos] == [
            ("bad", None, None),
            ("good", None, None),
        ]
        with engram.open(root) as other:  # nothing is locked
            assert other.space("good").info().memories == 2
            assert db.spaces()[1].position is None
        db.space("good").info()
        assert [info.position for info in db.spaces()] == [None, 3]


def test_listing_pages_by_id(db: engram.Database) -> None:
    names = ["0", "a", "a-", "a_", "aa", "b"]
    for name in names:
        db.create_space(name, embedding=CALLER)
    assert [info.memory_space_id for info in db.spaces()] == names
    assert [info.memory_space_id for info in db.spaces(limit=2, after="a")] == ["a-", "a_"]
    assert db.spaces(limit=0) == []
    assert db.spaces(after="zzz") == []


def test_what_is_no_space_is_not_listed_and_not_touched(root: Path) -> None:
    (root / "notes.txt").write_text("mine")
    (root / "Upper").mkdir()
    (root / "empty").mkdir()
    (root / "file").write_text("not a folder")
    (root / "link").symlink_to(root / "good")
    with engram.open(root) as db:
        listed = {info.memory_space_id: info.state for info in db.spaces()}
        assert {"good", "bad"} <= set(listed)
        assert listed.get("link") != "active"
        for name in ("empty", "file"):
            assert name not in listed
            with pytest.raises(SpaceNotFound):
                db.space(name)
            with pytest.raises(SpaceExists, match="not a space"):
                db.create_space(name)
    assert (root / "file").read_text() == "not a folder"


def test_a_link_never_leads_to_a_space(root: Path) -> None:
    (root / "link").symlink_to(root / "good")
    with engram.open(root) as db, pytest.raises(EngramError) as caught:
        db.space("link")
    assert caught.type in {SpaceNotFound, SpaceDamaged}


@pytest.mark.usefixtures("nothing_left_open")
class TestUnusableRoots:
    def test_a_file_is_not_a_data_root(self, tmp_path: Path) -> None:
        path = tmp_path / "data"
        path.write_text("a file")
        with pytest.raises(DataRootUnusable, match="not a folder"):
            engram.open(path)
        with pytest.raises(DataRootUnusable):
            engram.open(path / "below")
        assert path.read_text() == "a file"

    def test_a_folder_of_other_things_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "data"
        path.mkdir()
        (path / "photo.jpg").write_text("x")
        with pytest.raises(DataRootUnusable, match=r"photo\.jpg"):
            engram.open(path)
        assert [each.name for each in path.iterdir()] == ["photo.jpg"]

    def test_a_missing_folder_is_not_made_unasked(self, tmp_path: Path) -> None:
        with pytest.raises(DataRootUnusable, match="does not exist"):
            engram.open(tmp_path / "data", create=False)
        assert list(tmp_path.iterdir()) == []

    def test_a_path_that_cannot_be_one_says_so(self) -> None:
        with pytest.raises(DataRootUnusable, match="not a path"):
            engram.open("data\0")

    def test_folders_above_are_made_too(self, tmp_path: Path) -> None:
        with engram.open(tmp_path / "a" / "b" / "data") as db:
            db.create_space("alpha")
        assert (tmp_path / "a" / "b" / "data" / "alpha" / "space.json").exists()

    @pytest.mark.parametrize("damage", ["", "ENGRAM-LAYOUT 1 3 00000000\n{}\n", "x" * 100])
    def test_a_broken_layout_file_says_so(self, tmp_path: Path, damage: str) -> None:
        path = tmp_path / "data"
        engram.open(path).close()
        (path / ".engram" / "layout.json").write_text(damage)
        with pytest.raises(DataRootUnusable, match=r"layout\.json"):
            engram.open(path)
        assert (path / ".engram" / "layout.json").read_text() == damage

    def test_a_layout_of_a_later_version_asks_for_an_upgrade(self, tmp_path: Path) -> None:
        path = tmp_path / "data"
        engram.open(path).close()
        layout = path / ".engram" / "layout.json"
        layout.write_text(layout.read_text().replace("ENGRAM-LAYOUT 1 ", "ENGRAM-LAYOUT 2 "))
        with pytest.raises(DataRootUnusable, match="Upgrade"):
            engram.open(path)

    def test_a_second_server_is_refused_and_leaves_nothing_open(self, root: Path) -> None:
        with engram.open(root, exclusive=True, owner="server one"):
            with pytest.raises(SpaceLocked, match="server one"):
                engram.open(root, exclusive=True)
            engram.open(root).close()  # the embedded API may still look
        engram.open(root, exclusive=True).close()

    def test_a_failure_behind_the_server_lock_gives_it_back(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(self: OsDirectory) -> list[str]:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr(OsDirectory, "names", refuse)
            with pytest.raises(DataRootUnusable, match="Input/output"):
                engram.open(root, exclusive=True)
        engram.open(root, exclusive=True).close()


@pytest.fixture
def read_only(root: Path) -> Iterator[Path]:
    """The data root behind a read-only bind mount."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting needs root on Linux")
    mount = root.parent / "mounted-data"
    mount.mkdir()
    done = subprocess.run(["mount", "--bind", str(root), str(mount)], capture_output=True)
    if done.returncode:
        pytest.skip(f"mounts are not allowed here: {done.stderr.decode()}")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(mount)], check=True)
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.usefixtures("nothing_left_open")
def test_a_read_only_data_root_says_what_to_do(read_only: Path) -> None:
    with pytest.raises(DataRootUnusable, match=r"writable|right to write") as caught:
        engram.open(read_only)
    assert str(read_only) in caught.value.detail


HOLD = """
import sys, engram
with engram.open(sys.argv[1], owner="the other one, pid 42") as db:
    db.space("good").info()
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has the space `good` open."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.mark.usefixtures("nothing_left_open")
def test_a_space_in_use_by_another_process_names_its_owner(
    held: subprocess.Popen[bytes], root: Path
) -> None:
    with engram.open(root) as db:
        good = db.space("good")
        calls: list[Callable[[], object]] = [
            lambda: good.remember("x", embedding=UNIT),
            lambda: good.get("one"),
            lambda: good.recall("one"),
            good.info,
            lambda: db.space_info("good"),
        ]
        for call in calls:
            with pytest.raises(SpaceLocked, match="the other one, pid 42") as caught:
                call()
            assert caught.value.memory_space_id == "good"
        assert db.space("bad").get("one").content == "bad one"
        assert [info.memory_space_id for info in db.spaces()] == ["bad", "good"]
        held.communicate(timeout=30)
        assert good.remember("x", embedding=UNIT).position == 4  # free again: no restart needed


Break = Callable[[Path], None]


def put_a_copy_of_another_in_its_place(root: Path) -> None:
    shutil.rmtree(root / "bad")
    shutil.copytree(root / "good", root / "bad")


def copy_foreign_segment(root: Path) -> None:
    (segment,) = (root / "good" / "log").glob("*.seg")
    shutil.copy(segment, root / "bad" / "log" / "00000000000000000004-0000000002.seg")


def swap_segment(root: Path) -> None:
    (theirs,) = (root / "good" / "log").glob("*.seg")
    (ours,) = (root / "bad" / "log").glob("*.seg")
    shutil.copy(theirs, ours)


def copy_foreign_manifest(root: Path) -> None:
    (theirs,) = (root / "good").glob("MANIFEST-*")
    shutil.copy(theirs, root / "bad" / theirs.name)


def remove_manifest(root: Path) -> None:
    for manifest in (root / "bad").glob("MANIFEST-*"):
        manifest.unlink()


def remove_segments(root: Path) -> None:
    for segment in (root / "bad" / "log").iterdir():
        segment.unlink()


def remove_log(root: Path) -> None:
    shutil.rmtree(root / "bad" / "log")


def remove_identity(root: Path) -> None:
    (root / "bad" / "space.json").unlink()


def spoil_identity(root: Path) -> None:
    identity = root / "bad" / "space.json"
    identity.write_bytes(identity.read_bytes().replace(b'"generation": 1', b'"generation": 2'))


def flip_a_segment_header(root: Path) -> None:
    (segment,) = (root / "bad" / "log").glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[30] ^= 1
    segment.write_bytes(data)


def flip_the_first_record(root: Path) -> None:
    (segment,) = (root / "bad" / "log").glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[4096 + 20] ^= 1
    segment.write_bytes(data)


DAMAGE: list[tuple[Break, str]] = [
    (put_a_copy_of_another_in_its_place, "renamed or copied"),
    (copy_foreign_segment, "seg"),
    (swap_segment, "seg"),
    (copy_foreign_manifest, "MANIFEST"),
    (remove_manifest, "manifest"),
    (remove_segments, "missing"),
    (remove_log, "log"),
    (remove_identity, "space.json"),
    (spoil_identity, "checksum"),
    (flip_a_segment_header, "checksum"),
    (flip_the_first_record, "checksum"),
]


def contents(folder: Path) -> dict[str, bytes]:
    """Every byte below, but for the lock file, which names its last owner."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "LOCK")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.usefixtures("nothing_left_open")
@pytest.mark.parametrize(("damage", "says"), DAMAGE, ids=[d.__name__ for d, _ in DAMAGE])
def test_damage_is_refused_where_it_is_and_nowhere_else(
    root: Path, damage: Break, says: str
) -> None:
    damage(root)
    before = contents(root / "bad")
    with engram.open(root) as db:
        for _ in range(2):  # the second time from what is remembered of the first
            with pytest.raises(SpaceDamaged, match=says) as caught:
                db.space("bad").get("one")
            assert caught.value.memory_space_id == "bad"
        with pytest.raises(SpaceDamaged):
            db.space("bad").remember("x", embedding=UNIT)
        assert db.space_info("bad").state == "damaged"
        assert db.space_info("bad").detail == caught.value.detail
        assert "bad" in [info.memory_space_id for info in db.spaces()]
        with pytest.raises((SpaceExists, SpaceDamaged)):
            db.create_space("bad", embedding=CALLER)
        good = db.space("good")
        assert good.get("two").content == "good two"
        assert good.remember("three", embedding=UNIT).position == 4
    assert contents(root / "bad") == before


def test_a_renamed_folder_says_which_name_it_had(root: Path) -> None:
    (root / "bad").rename(root / "renamed")
    with engram.open(root) as db:
        with pytest.raises(SpaceDamaged, match="Give it back its name, 'bad'"):
            db.space("renamed")
        with pytest.raises(SpaceNotFound):
            db.space("bad")
    (root / "renamed").rename(root / "bad")
    with engram.open(root) as db:
        assert db.space("bad").get("one").content == "bad one"


def test_a_folder_replaced_behind_a_known_space_is_noticed(root: Path) -> None:
    with engram.open(root) as db:
        bad = db.space("bad")  # known, not open
        shutil.rmtree(root / "bad")
        with engram.open(root) as other:
            other.create_space("bad", embedding=CALLER)
        with pytest.raises(SpaceDamaged, match="replaced"):
            bad.list()


@pytest.mark.usefixtures("nothing_left_open")
def test_a_repaired_space_is_looked_at_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "DAMAGE_REMEMBERED_S", 0.0)
    (manifest,) = (root / "bad").glob("MANIFEST-*")
    manifest.rename(root / "kept")
    with engram.open(root) as db:
        with pytest.raises(SpaceDamaged):
            db.space("bad").list()
        (root / "kept").rename(manifest)
        assert len(db.space("bad").list().memories) == 2


@pytest.mark.usefixtures("nothing_left_open")
def test_an_opening_that_fails_half_way_leaves_nothing_open(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    with engram.open(root) as db:
        with monkeypatch.context() as patched:
            patched.setattr("engram.memory.state.State.publish", fail)
            with pytest.raises(MemoryError):
                db.space("good").list()
        assert len(db.space("good").list().memories) == 2  # its lock was given back


def test_too_many_open_files_is_not_damage(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: OsDirectory, name: str) -> OsDirectory:
        raise OSError(errno.EMFILE, "Too many open files")

    with engram.open(root) as db:
        known = db.space("good")
        with monkeypatch.context() as patched:
            patched.setattr(OsDirectory, "open_dir", refuse)
            with pytest.raises(Unavailable, match="Too many open files"):
                known.list()
            with pytest.raises(Unavailable, match="Too many open files"):
                db.space("bad")
        assert len(known.list().memories) == 2
        assert len(db.space("bad").list().memories) == 2


@pytest.mark.usefixtures("nothing_left_open")
def test_a_space_that_fails_to_close_does_not_keep_the_others_open(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = engram.open(root)
    for name in ("bad", "good"):
        db.space(name).remember("x", embedding=UNIT)
    real, failed = Log.close, list[Log]()

    def close_but_complain_once(self: Log) -> None:
        real(self)
        if not failed:
            failed.append(self)
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Log, "close", close_but_complain_once)
        with pytest.raises(OSError, match="Input/output"):
            db.close()
    assert failed
    with engram.open(root, exclusive=True) as again:
        for name in ("bad", "good"):
            assert again.space(name).info().memories == 3


def test_a_space_pinned_to_a_model_nobody_has_says_so_and_mixes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = engram.EmbeddingSpec(model="a-later-model", dimensions=256)
    with monkeypatch.context() as patched:
        patched.setattr(registry_module, "embedder_for", lambda spec: None)
        with engram.open(root) as db:
            db.create_space("later", embedding=pinned)
    with engram.open(root) as db:
        later = db.space("later")
        assert later.info().embedding == pinned
        calls: list[Callable[[], object]] = [
            lambda: later.remember("x"),
            lambda: later.remember_many(["x", "y"]),
            lambda: later.recall("x"),
        ]
        for call in calls:
            with pytest.raises(EmbedderUnavailable, match="a-later-model"):
                call()
        assert later.recall("x", mode="lexical").results == ()
        assert (later.info().position, later.info().memories) == (1, 0)
        with pytest.raises(Invalid, match="a-later-model"):
            db.create_space("another", embedding=pinned)


def test_a_refused_batch_leaves_no_trace_in_what_is_decided_with_it(
    db: engram.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch too large for a record, and a forgetting of one of its memories, in one group."""
    space = db.create_space("alpha", embedding=CALLER)
    syncing, go_on, real = threading.Event(), threading.Event(), Log.sync

    def slow_sync(self: Log) -> None:
        syncing.set()
        go_on.wait()
        real(self)

    monkeypatch.setattr(Log, "sync", slow_sync)
    big = {"content": "x" * engram.limits.CONTENT_BYTES_MAX, "embedding": UNIT}
    calls: list[Callable[[], object]] = [
        lambda: space.remember("first", embedding=UNIT),
        lambda: space.remember_many([{"id": f"big{i}", **big} for i in range(33)]),
        lambda: space.forget("big0"),
        lambda: space.remember("small", id="big1", embedding=UNIT),
    ]
    store = space._entry.store()
    outcomes: list[object] = [None] * len(calls)

    def run(index: int) -> None:
        try:
            outcomes[index] = calls[index]()
        except Exception as error:
            outcomes[index] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    queue = store._committer._queue
    for index, thread in enumerate(threads):
        thread.start()
        if index == 0:
            syncing.wait()
        else:  # in this order, behind the group that is being synced
            while len(queue) < index:
                thread.join(0.001)
    go_on.set()
    for thread in threads:
        thread.join()
    assert [type(outcome) for outcome in outcomes] == [
        engram.Memory,
        TooLarge,
        engram.MemoryNotFound,
        engram.Memory,
    ]
    assert space.info().state == "active"
    db.close()
    with engram.open(db.path) as again:
        assert {m.content for m in again.space("alpha").list().memories} == {"first", "small"}


def test_a_failed_sync_poisons_one_space_until_it_is_reopened(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: OsFile) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with engram.open(root) as db:
        bad, good = db.space("bad"), db.space("good")
        bad.info()
        good.info()
        with monkeypatch.context() as patched:
            patched.setattr(OsFile, "sync_data", refuse)
            with pytest.raises(OutcomeUnknown):
                bad.remember("unknown", id="unknown", embedding=UNIT)
        for _ in range(2):
            with pytest.raises(OutcomeUnknown, match="reopen"):
                bad.remember("more", embedding=UNIT)
        assert (bad.info().state, good.info().state) == ("poisoned", "active")
        assert bad.get("one").content == "bad one"  # what is durable is still served
        with pytest.raises(engram.MemoryNotFound):
            bad.get("unknown")
        good.remember("three", embedding=UNIT)
    with engram.open(root) as db:
        assert db.space("bad").info().state == "active"
        assert db.space("bad").remember("more", embedding=UNIT).position in {4, 5}


@pytest.mark.usefixtures("nothing_left_open")
def test_a_closed_database_is_unavailable_through_every_handle(root: Path) -> None:
    db = engram.open(root)
    opened, unopened = db.space("good"), db.space("bad")
    opened.remember("x", embedding=UNIT)
    db.close()
    db.close()
    calls: list[Callable[[], object]] = [
        lambda: db.space("good"),
        lambda: db.create_space("new"),
        lambda: db.ensure_space("good"),
        db.spaces,
        lambda: db.space_info("good"),
        opened.info,
        lambda: opened.get("one"),
        lambda: opened.recall("x"),
        lambda: opened.remember("x", embedding=UNIT),
        lambda: unopened.get("one"),
        lambda: unopened.list(),
    ]
    for call in calls:
        with pytest.raises(Unavailable):
            call()


@pytest.mark.usefixtures("nothing_left_open")
def test_closing_under_load_loses_nothing_that_was_acknowledged(root: Path) -> None:
    db = engram.open(root)
    acknowledged: list[list[str]] = [[] for _ in range(8)]
    errors: list[Exception] = []
    running = threading.Barrier(len(acknowledged) + 1, timeout=60)

    def write(index: int) -> None:
        space = db.space("good" if index % 2 else "bad")
        for number in range(10_000):
            try:
                acknowledged[index].append(space.remember(f"{number}", embedding=UNIT).id)
            except Unavailable:
                return
            except Exception as error:
                errors.append(error)
                return
            if number == 2:
                running.wait()

    threads = [threading.Thread(target=write, args=(i,)) for i in range(len(acknowledged))]
    for thread in threads:
        thread.start()
    running.wait()
    db.close()
    for thread in threads:
        thread.join()
    assert errors == []
    with engram.open(root) as again:
        for index, ids in enumerate(acknowledged):
            space = again.space("good" if index % 2 else "bad")
            for memory_id in ids:
                space.get(memory_id)


def test_an_identity_is_read_back_as_written(root: Path) -> None:
    with engram.open(root) as db:
        info = db.space_info("good")
    directory = OsDirectory(os.open(root / "good", os.O_RDONLY), "good")
    try:
        held = identity_module.read_identity(directory, "good")
    finally:
        directory.close()
    assert isinstance(held, Identity)
    assert (held.uuid, held.generation, held.embedding) == (info.uuid, 1, CALLER)
    assert held.uuid_bytes.hex() == info.uuid
