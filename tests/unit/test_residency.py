"""Spaces that close to make room and open again: which, when, and that nobody notices."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import resource
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engram
from engram.errors import Invalid, OutcomeUnknown, SpaceLocked, Unavailable
from engram.memory.decide import Forget
from engram.spaces import registry as registry_module
from engram.spaces import residency as residency_module
from engram.spaces import space as space_module
from engram.spaces.identity import Identity
from tests.unit.conftest import CALLER, UNIT, at_once, open_descriptors
from wal.os_vfs import OsDirectory, OsFile, open_root
from wal.vfs import Directory
from wal.watermark import read_watermark

SPACES = 12
WIDE = engram.EmbeddingSpec(model="caller", dimensions=256)


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[engram.Database]:
    with engram.open(path, **options) as db:
        yield db


def made(db: engram.Database, *names: str) -> list[engram.Space]:
    return [db.create_space(name, embedding=CALLER) for name in names]


def open_now(db: engram.Database) -> list[str]:
    """The spaces that have files open, as the system says."""
    here = f"{db.path.resolve()}/"
    found = {name.removeprefix(here).split("/")[0] for name in open_descriptors() if here in name}
    return sorted(found - {".engram"})


def rest(space: engram.Space) -> bool:
    return space._entry.rest()


def told(space: engram.Space) -> list[tuple[int, str]]:
    return [(event.position, event.type) for event in space.events()]


def test_a_start_opens_no_space(root: Path) -> None:
    (manifest,) = (root / "bad").glob("MANIFEST-*")
    manifest.unlink()
    with engram.open(root, exclusive=True) as db:
        assert open_now(db) == []
        assert [info.memory_space_id for info in db.spaces()] == ["bad", "good"]
        assert open_now(db) == []


def test_the_least_recently_used_make_room(tmp_path: Path) -> None:
    with opened(tmp_path / "data", open_spaces_max=2) as db:
        a, b, c = made(db, "a", "b", "c")
        a.remember("in a", embedding=UNIT)
        b.remember("in b", embedding=UNIT)
        assert open_now(db) == ["a", "b"]
        a.list()
        c.remember("in c", embedding=UNIT)
        assert open_now(db) == ["a", "c"]
        assert [memory.content for memory in b.list().memories] == ["in b"]
        assert open_now(db) == ["b", "c"]


def test_an_open_space_takes_as_many_descriptors_as_is_counted_on(db: engram.Database) -> None:
    before = len(open_descriptors())
    (alpha,) = made(db, "alpha")
    alpha.remember("x", embedding=UNIT)
    alpha.compact()
    # From Python 3.13 on a file that is mapped needs no descriptor.
    mapped = 1 if sys.version_info < (3, 13) else 0
    assert len(open_descriptors()) - before == residency_module.DESCRIPTORS_A_SPACE - 1 + mapped


def test_a_closed_space_is_closed_cleanly_and_nothing_queued_is_lost(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as db:
        (alpha,) = made(db, "alpha")
        kept = alpha.remember("x", embedding=UNIT)
        recall = alpha.recall(embedding=UNIT)  # observed: nobody waits until it is written
        assert recall.recorded
        assert rest(alpha)
        folder = open_root(str(db.path / "alpha"))
        with closing(folder):
            watermark = read_watermark(folder, bytes.fromhex(db.spaces()[0].uuid or ""))
        assert watermark.position == kept.position + 1
        (segment,) = (db.path / "alpha" / "log").iterdir()
        assert segment.stat().st_size == alpha.info().bytes, "the preallocation was left"
        assert told(alpha)[-1] == (kept.position + 1, "memory.recalled")
        assert list((db.path / "alpha" / "quarantine").iterdir()) == []


def test_a_closed_space_can_be_used_by_others_and_found_changed(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as db, opened(tmp_path / "data") as other:
        (alpha,) = made(db, "alpha")
        alpha.remember("first", embedding=UNIT)
        with pytest.raises(SpaceLocked):
            other.space("alpha").list()
        assert rest(alpha)
        there = other.space("alpha")
        there.remember("second", embedding=UNIT)
        with pytest.raises(SpaceLocked):
            alpha.list()
        assert rest(there)
        assert [memory.content for memory in alpha.list().memories] == ["first", "second"]
        assert [position for position, _ in told(alpha)] == [1, 2, 3]


def test_a_command_that_came_too_late_is_done_once(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as db:
        (alpha,) = made(db, "alpha")
        alpha.remember("x", id="one", embedding=UNIT)
        entry, store = alpha._entry, alpha._store()
        assert rest(alpha)
        committed = entry.commit(store, Forget("one", store.now_ns() // 1_000))
        assert committed.ack.position == 3
        assert [name for _, name in told(alpha)] == [
            "space.created",
            "memory.stored",
            "memory.forgotten",
        ]


def test_a_recall_on_record_is_recorded_though_its_space_was_closed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path / "data") as db:
        (alpha,) = made(db, "alpha")
        alpha.remember("x", embedding=UNIT)
        really = space_module.observed

        def close_first(*args: Any) -> Any:
            assert rest(alpha)
            return really(*args)

        monkeypatch.setattr(space_module, "observed", close_first)
        assert alpha.recall(embedding=UNIT).recorded
        db.close()
    with opened(tmp_path / "data") as db:
        assert told(db.space("alpha"))[-1][1] == "memory.recalled"


def test_what_is_being_read_from_files_is_not_closed(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as db:
        (alpha,) = made(db, "alpha")
        alpha.remember("x", embedding=UNIT)
        with closing(alpha._entry.events(1)) as events:
            next(events)
            assert not rest(alpha)
        assert rest(alpha)


def test_what_was_found_before_can_still_be_read(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as db:
        (alpha,) = made(db, "alpha")
        alpha.remember("x", id="one", embedding=UNIT)
        store = alpha._store()
        assert rest(alpha)
        view, row = store.state.find("one", store.now_ns() // 1_000) or pytest.fail("it is gone")
        assert view.memory(row).content == "x"
        assert store.condition == ("active", None)


def test_a_followed_space_stays_open(tmp_path: Path) -> None:
    with opened(tmp_path / "data", open_spaces_max=1) as db:
        a, b, c = made(db, "a", "b", "c")
        heard: list[int] = []
        came = threading.Event()

        def follow() -> None:
            for event in a.events(0, follow=True):
                heard.append(event.position)
                came.set()
                if event.position == 3:
                    return

        follower = threading.Thread(target=follow)
        follower.start()
        assert came.wait(30)
        b.remember("x", embedding=UNIT)
        assert open_now(db) == ["a", "b"]
        c.remember("x", embedding=UNIT)
        assert open_now(db) == ["a", "c"]
        a.remember("x", embedding=UNIT)
        a.remember("y", embedding=UNIT)
        follower.join(30)
        assert heard == [1, 2, 3]
        b.list()
        assert open_now(db) == ["b"]


def test_who_follows_a_space_that_was_just_closed_opens_it_again(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as db, opened(tmp_path / "data") as other:
        (alpha,) = made(db, "alpha")
        events = alpha.events(1, follow=True)  # it has looked, and has not subscribed
        assert rest(alpha)
        other.space("alpha").remember("x", embedding=UNIT)
        assert rest(other.space("alpha"))
        assert next(events).position == 2
        assert not rest(alpha)
        with pytest.raises(SpaceLocked):
            other.space("alpha").list()
        events.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("types", [(), ("memory.stored",)], ids=["all", "typed"])
def test_a_feed_goes_on_gaplessly_when_its_space_begins_again(
    tmp_path: Path, types: tuple[str, ...]
) -> None:
    with opened(tmp_path / "data") as db:
        (alpha,) = made(db, "alpha")
        alpha.remember("2", embedding=UNIT)
        wakes: list[int] = []
        feed = alpha._entry.feed
        reader = alpha.reader(None, types)
        unsubscribe = feed.subscribe(lambda: wakes.append(feed.last.durable))
        heard: list[int] = []

        def listen() -> None:
            while (page := reader.history() if reader.behind else reader.live()) is not None:
                heard.extend(entry.position for entry in page.entries)

        for number in (3, 4):
            alpha.remember(str(number), embedding=UNIT)
        listen()
        alpha.remember("5", embedding=UNIT)  # told, and not yet taken
        alpha._store().log.poison("for the test")
        wakes.clear()
        alpha.reopen()
        assert wakes == [5], "who waits has to be woken: more may be there than was told"
        listen()
        alpha.remember("6", embedding=UNIT)
        listen()
        assert heard == [3, 4, 5, 6]
        unsubscribe()


def test_a_poisoned_space_stays_as_it_is_until_it_is_reopened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path / "data", open_spaces_max=1) as db:
        bad, *others = made(db, "bad", "x", "y")
        poison(bad, monkeypatch)
        for other in others:
            other.remember("fine", embedding=UNIT)
        assert bad.info().state == "poisoned"
        with pytest.raises(OutcomeUnknown, match="engram space reopen"):
            bad.remember("more", embedding=UNIT)
        assert bad.reopen().state == "active"
        bad.remember("more", embedding=UNIT)


def refuse_sync(self: OsFile) -> None:
    raise OSError(errno.EIO, "Input/output error")


def poison(space: engram.Space, monkeypatch: pytest.MonkeyPatch) -> None:
    space.info()
    with monkeypatch.context() as patched:
        patched.setattr(OsFile, "sync_data", refuse_sync)
        with pytest.raises(OutcomeUnknown):
            space.remember("unknown", id="unknown", embedding=UNIT)


def test_a_space_whose_last_writes_fail_as_it_closes_is_not_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path / "data") as db:
        (alpha,) = made(db, "alpha")
        alpha.remember("x", id="one", embedding=UNIT)
        with monkeypatch.context() as patched:
            patched.setattr(OsFile, "sync_data", refuse_sync)
            assert alpha.recall(embedding=UNIT).recorded
            assert not rest(alpha)
        assert alpha.info().state == "poisoned"
        assert alpha.get("one").content == "x"
        with pytest.raises(OutcomeUnknown, match="reopen"):
            alpha.remember("y", embedding=UNIT)
        assert not alpha.recall(embedding=UNIT).recorded
        assert alpha.reopen().state == "active"
        assert alpha.remember("y", embedding=UNIT).position in {3, 4}


def test_the_bound_on_bytes_closes_others_and_not_the_one_in_use(tmp_path: Path) -> None:
    with opened(tmp_path / "data", open_bytes_max=1) as db:
        a, b = made(db, "a", "b")
        a.remember("x", embedding=UNIT)
        assert open_now(db) == ["a"]
        b.remember("x", embedding=UNIT)
        assert open_now(db) == ["b"]


def test_what_a_space_takes_is_estimated_honestly(tmp_path: Path) -> None:
    rows = 2_000
    random = np.random.default_rng(3)
    with opened(tmp_path / "data") as db:
        space = db.create_space("alpha", embedding=WIDE)
        empty = space._store().nbytes
        for start in range(0, rows, 500):
            space.remember_many(
                {"content": f"text {i} " * 20, "embedding": random.standard_normal(256)}
                for i in range(start, start + 500)
            )
        taken = space._store().footprint
        least = rows * (256 * 4 + 140)
        assert empty < 64 << 10
        assert least < taken.held < 4 * least
        assert taken.mapped == 0


def test_closing_a_space_gives_its_memory_back_at_once(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as db:
        (alpha,) = made(db, "alpha")
        alpha.remember("x", id="one", embedding=UNIT)
        alpha.get("one")
        held = weakref.ref(alpha._store().state)
        gc.collect()
        gc.disable()  # what is large must not wait for a collection
        try:
            assert rest(alpha)
            assert held() is None
        finally:
            gc.enable()


def spend_descriptors(path: str, results: Any) -> None:
    """Use more spaces than there are descriptors for, then with nearly none left."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
    with engram.open(path) as db:
        spaces = [db.ensure_space(f"s{i:02}", embedding=CALLER)[0] for i in range(40)]
        for _ in range(2):
            for space in spaces:
                space.remember("x", embedding=UNIT)
        most = len(open_now(db))
        held = []
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        for space in spaces:
            space.remember("y", embedding=UNIT)
            db.space(space.id).list()
        counts = {space.info().memories for space in spaces}
        for fd in held:
            os.close(fd)
        results.put((most, sorted(counts)))


def test_more_spaces_than_descriptors_are_used_all_the_same(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=spend_descriptors, args=(str(tmp_path / "data"), results))
    process.start()
    most, counts = results.get(timeout=120)
    process.join(60)
    assert most == 96 // 2 // residency_module.DESCRIPTORS_A_SPACE
    assert counts == [3]


def test_who_can_close_nothing_is_told_that_descriptors_are_spent(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[str] = []

    def refuse(self: OsDirectory, name: str) -> OsDirectory:
        attempts.append(name)
        raise OSError(errno.EMFILE, "Too many open files")

    with engram.open(root) as db:
        good, bad = db.space("good"), db.space("bad")
        good.list()
        with monkeypatch.context() as patched:
            patched.setattr(OsDirectory, "open_dir", refuse)
            with pytest.raises(Unavailable, match="Too many open files"):
                bad.list()
            assert len(attempts) == 2, "once more, behind closing the one that could be spared"
            assert open_now(db) == []
            with pytest.raises(Unavailable, match="Too many open files"):
                bad.list()
            assert len(attempts) == 3
        assert len(bad.list().memories) == len(good.list().memories) == 2


@pytest.mark.parametrize("name", ["open_spaces_max", "open_bytes_max"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "many", None])
def test_a_bound_must_be_a_whole_number(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(Invalid, match=name):
        engram.open(tmp_path / "data", **{name: value})


class Openings:
    """How many stores were made, and which while another of the same space was open."""

    def __init__(self) -> None:
        self.count = 0
        self.twice: list[str] = []
        self.open: set[str] = set()
        self.guard = threading.Lock()


def watched(monkeypatch: pytest.MonkeyPatch) -> Openings:
    seen = Openings()

    class Watched(registry_module.Store):
        def __init__(self, space_dir: Directory, identity: Identity, **options: Any) -> None:
            with seen.guard:
                seen.count += 1
                if identity.uuid in seen.open:
                    seen.twice.append(identity.memory_space_id)
                seen.open.add(identity.uuid)
            super().__init__(space_dir, identity, **options)

        def _shut(self) -> None:
            with seen.guard:
                seen.open.discard(self.identity.uuid)
            super()._shut()

    monkeypatch.setattr(registry_module, "Store", Watched)
    return seen


def test_a_crowd_on_more_spaces_than_may_be_open_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openings, before = watched(monkeypatch), open_descriptors()
    threads, rounds = 8, 30
    acknowledged: list[list[tuple[str, int, str]]] = [[] for _ in range(threads)]
    with opened(tmp_path / "data", open_spaces_max=3) as db:
        spaces = made(db, *(f"s{i:02}" for i in range(SPACES)))
        heard: list[int] = []
        followed = spaces[0]

        def follow() -> None:
            for event in followed.events(0, follow=True):
                heard.append(event.position)
                if event.memory is not None and event.memory.id == "end":
                    return

        follower = threading.Thread(target=follow)
        follower.start()

        def crowd(index: int) -> None:
            random = np.random.default_rng(index)
            for turn in range(rounds):
                space = spaces[int(random.integers(SPACES))]
                content = f"{index}-{turn}"
                memory = space.remember(content, id=content, embedding=UNIT)
                acknowledged[index].append((space.id, memory.position, content))
                other = spaces[int(random.integers(SPACES))]
                match turn % 4:
                    case 0:
                        assert other.recall(embedding=UNIT).recorded
                    case 1:
                        positions = [position for position, _ in told(other)]
                        assert positions == list(range(1, len(positions) + 1))
                    case 2:
                        assert space.get(content).content == content
                        assert len(space.history(content)) == 1
                    case 3:
                        assert other.info().state == "active"

        outcomes = at_once(threads, crowd)
        assert outcomes == [None] * threads
        assert openings.twice == []
        assert openings.count > SPACES, "nothing was ever closed, so nothing was tried"
        for index, known in enumerate(acknowledged):
            for space_id, position, content in known:
                found = db.space(space_id).get(content)
                assert (found.position, found.revision) == (position, 1), index
        end = followed.remember("the end", id="end", embedding=UNIT)
        follower.join(30)
        assert heard == list(range(1, end.position + 1))
    assert open_descriptors() == before
    with opened(tmp_path / "data") as db:
        total = sum(db.space(f"s{i:02}").info().memories or 0 for i in range(SPACES))
        assert total == threads * rounds + 1
