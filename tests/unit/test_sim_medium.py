"""The ground that the crash suites stand on: what a crash may do to a disk, and what it may not.

What may happen is shown to happen, by enumeration; what must never happen is searched for.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wal.sim_medium import (
    SECTOR,
    Contents,
    Fate,
    every_outcome,
    keep_everything,
    lose_everything,
    sample,
)
from wal.sim_vfs import SimDisk
from wal.vfs import Directory, File


def outcomes(disk: SimDisk) -> list[Contents]:
    """What every crash now can leave, without repetitions."""
    found: list[Contents] = []
    for after in every_outcome(disk.crash):
        if after.contents() not in found:
            found.append(after.contents())
    return found


def durable_file(disk: SimDisk, content: bytes) -> File:
    file = disk.root().create("a")
    file.write_at(0, content)
    file.sync_data()
    disk.root().sync()
    return file


def test_an_unsynced_write_is_lost_kept_zeroed_or_garbled() -> None:
    disk = SimDisk()
    durable_file(disk, b"old").write_at(3, b"new")
    found = [state["a"] for state in outcomes(disk)]
    assert found[:3] == [b"old", b"oldnew", b"old\0\0\0"]
    garbled = found[3]
    assert isinstance(garbled, bytes)
    assert garbled[:3] == b"old"
    assert len(garbled) == 6
    assert len(found) == 4


def test_a_torn_write_leaves_any_of_its_sectors() -> None:
    disk = SimDisk()
    old, new = b"o" * 3 * SECTOR, b"n" * 2 * SECTOR
    durable_file(disk, old).write_at(SECTOR // 2, new)  # touches three sectors
    o, n = b"o" * (SECTOR // 2), b"n" * (SECTOR // 2)
    found = [state["a"] for state in outcomes(disk)]
    prefixes = [o + n + o * 4, o + n * 3 + o * 2]
    assert all(state in found for state in [*prefixes, o + o * 3 + n + o])
    middle = disk.crash(lambda _: Fate("torn", frozenset([1])))
    assert middle.contents()["a"] == o * 2 + n * 2 + o * 2
    drawn = {bytes(disk.crash(sample(Random(i))).contents()["a"]) for i in range(200)}
    assert {*prefixes, o + n + o * 2 + n + o, old, o + new + o} <= drawn


def test_a_torn_write_may_grow_the_file_or_not() -> None:
    disk = SimDisk()
    durable_file(disk, b"").write_at(0, b"n" * 3 * SECTOR)
    first = frozenset([0])
    assert disk.crash(lambda _: Fate("torn", first)).contents()["a"] == b"n" * SECTOR
    grown = disk.crash(lambda _: Fate("torn", first, extends=True))
    assert grown.contents()["a"] == b"n" * SECTOR + bytes(2 * SECTOR)


def test_garbling_stays_within_the_write_and_its_chosen_sectors() -> None:
    disk = SimDisk()
    durable_file(disk, b"o" * 3 * SECTOR).write_at(SECTOR - 10, b"n" * (SECTOR + 20))
    state = disk.crash(lambda _: Fate("garbled", frozenset([1]), seed=7)).contents()["a"]
    assert isinstance(state, bytes)
    assert state[:SECTOR] == b"o" * (SECTOR - 10) + b"n" * 10
    assert len(set(state[SECTOR : 2 * SECTOR])) > 100
    assert state[2 * SECTOR :] == b"n" * 10 + b"o" * (SECTOR - 10)


def test_writes_survive_out_of_order() -> None:
    disk = SimDisk()
    file = durable_file(disk, b"")
    file.write_at(0, b"one")
    file.write_at(3, b"two")
    assert {"a": b"\0\0\0two"} in outcomes(disk)


def test_truncation_and_allocation_are_kept_or_lost_whole() -> None:
    disk = SimDisk()
    file = durable_file(disk, b"hello")
    file.truncate(2)
    file.allocate(0, 4)
    assert [state["a"] for state in outcomes(disk)] == [b"hello", b"he", b"he\0\0"]
    with pytest.raises(ValueError, match="torn truncate"):
        disk.crash(lambda _: Fate("torn"))


def test_a_name_and_the_content_behind_it_survive_apart() -> None:
    disk = SimDisk()
    disk.root().create("unsynced").write_at(0, b"x")
    found = outcomes(disk)
    assert all(state in found for state in ({}, {"unsynced": b""}, {"unsynced": b"x"}))
    disk = SimDisk()
    file = disk.root().create("nameless")
    file.write_at(0, b"x")
    file.sync_data()
    assert outcomes(disk) == [{}, {"nameless": b"x"}]


def test_a_removed_name_may_come_back() -> None:
    disk = SimDisk()
    durable_file(disk, b"x")
    disk.root().remove("a")
    assert outcomes(disk) == [{"a": b"x"}, {}]


def test_a_directory_that_was_not_synced_takes_what_it_holds_with_it() -> None:
    disk = SimDisk()
    inner = disk.root().make_dir("d")
    inner.create("a")
    inner.sync()
    assert outcomes(disk) == [{}, {"d": {"a": b""}}]


def test_a_removed_tree_may_be_left_in_any_part() -> None:
    disk = SimDisk()
    inner = disk.root().make_dir("d")
    inner.create("a")
    inner.create("b")
    inner.sync()
    disk.root().sync()
    disk.root().remove_tree("d")
    left = [{"d": {"a": b"", "b": b""}}, {"d": {"b": b""}}, {"d": {"a": b""}}, {"d": {}}, {}]
    found = outcomes(disk)
    assert all(state in found for state in left)
    assert len(found) == len(left)


def test_replacing_by_rename_gives_the_old_file_or_the_new() -> None:
    disk = SimDisk()
    durable_file(disk, b"old")
    temporary = disk.root().create("tmp")
    temporary.write_at(0, b"new")
    temporary.sync_data()
    disk.root().rename("tmp", disk.root(), "a")
    assert outcomes(disk) == [{"a": b"old"}, {"a": b"old", "tmp": b"new"}, {"a": b"new"}]


def test_replacing_by_an_unsynced_file_may_leave_an_empty_one() -> None:
    disk = SimDisk()
    durable_file(disk, b"old")
    disk.root().create("tmp").write_at(0, b"new")
    disk.root().rename("tmp", disk.root(), "a")
    assert {"a": b""} in outcomes(disk)


def test_a_move_is_durable_with_the_directory_that_receives_it() -> None:
    disk = SimDisk()
    trash = disk.root().make_dir("trash")
    durable_file(disk, b"x")
    disk.root().rename("a", trash, "b")
    disk.root().sync()
    assert outcomes(disk) == [{"a": b"x", "trash": {}}, {"trash": {"b": b"x"}}]
    disk = disk.crash(lose_everything())
    disk.root().rename("a", disk.root().open_dir("trash"), "b")
    disk.root().open_dir("trash").sync()
    assert outcomes(disk) == [{"trash": {"b": b"x"}}]


def test_a_directory_is_gone_only_without_what_was_moved_out_of_it() -> None:
    disk = SimDisk()
    inner = disk.root().make_dir("d")
    inner.create("a")
    inner.sync()
    disk.root().sync()
    inner.rename("a", disk.root(), "b")
    disk.root().remove_tree("d")
    assert outcomes(disk) == [{"d": {"a": b""}}, {"b": b"", "d": {}}, {"b": b""}]


@pytest.mark.parametrize("synced_between", [False, True])
def test_a_new_directory_stays_with_what_was_moved_into_it(synced_between: bool) -> None:
    disk = SimDisk()
    durable_file(disk, b"x")
    new = disk.root().make_dir("new")
    deep = new.make_dir("newer")
    if synced_between:
        new.sync()
    disk.root().rename("a", deep, "b")
    moved = {"new": {"newer": {"b": b"x"}}}
    found = outcomes(disk)
    assert found[-1] == moved
    assert all(("a" in state) != (state == moved) for state in found)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(0, 2000), st.integers(0, 1500)),
            st.tuples(st.just("truncate"), st.integers(0, 2500), st.just(0)),
            st.tuples(st.just("allocate"), st.integers(0, 2000), st.integers(1, 1500)),
            st.tuples(st.just("sync"), st.just(0), st.just(0)),
        ),
        max_size=12,
    ),
    st.integers(0, 1 << 32),
)
def test_synced_bytes_always_survive(steps: list[tuple[str, int, int]], seed: int) -> None:
    disk, rng = SimDisk(), Random(seed)
    file = durable_file(disk, rng.randbytes(rng.randrange(2000)))
    synced, touched = file.read_at(0, 9999), set[int]()
    for step, offset, length in steps:
        if step == "write":
            file.write_at(offset, rng.randbytes(length))
            touched.update(range(offset, offset + length))
        elif step == "truncate":
            file.truncate(offset)
            touched.update(range(offset, len(synced)))
        elif step == "allocate":
            file.allocate(offset, length)
        else:
            file.sync_data()
            synced, touched = file.read_at(0, 9999), set()
    visible = file.read_at(0, 9999)
    assert disk.crash(keep_everything()).contents() == {"a": visible}
    assert disk.crash(lose_everything()).contents() == {"a": synced}
    for _ in range(5):
        after = disk.crash(sample(rng)).contents()["a"]
        assert all(after[i] == synced[i] for i in range(len(synced)) if i not in touched)


MOVES = ["sync", "create", "make_dir", "remove", "move", "move", "move"]


@given(st.lists(st.sampled_from(MOVES), max_size=20), st.integers(0, 1 << 32))
def test_moving_never_loses_or_doubles_a_file(steps: list[str], seed: int) -> None:
    disk, rng = SimDisk(), Random(seed)
    root = disk.root()
    inner = root.make_dir("d0")
    directories, originals = [root, inner, inner.make_dir("d1")], [b"0", b"1", b"2"]
    for content in originals:
        file = root.create(f"original {content!r}")
        file.write_at(0, content)
        file.sync_data()
    for directory in directories:
        directory.sync()
    for step in steps:
        source, target = rng.choice(directories), rng.choice(directories)
        try:
            move(step, source, target, directories, rng)
        except OSError:
            pass  # the names are drawn without looking what is there
    visible = disk.contents()
    assert disk.clone().contents() == visible
    assert disk.clone().crash(keep_everything()).contents() == visible
    for _ in range(10):
        after = disk.clone().crash(sample(rng))
        assert sorted(filter(None, contents_of_files(after.contents()))) == originals
    for directory in directories:
        directory.sync()
    assert disk.crash(lose_everything()).contents() == visible


def move(
    step: str, source: Directory, target: Directory, directories: list[Directory], rng: Random
) -> None:
    if step == "sync":
        source.sync()
    elif step == "create":
        source.create("few")
    elif step == "make_dir":
        directories.append(source.make_dir(f"d{rng.randrange(4)}"))
    elif step == "remove":
        name = rng.choice([name for name in source.names() if name.startswith("d")] or ["d0"])
        if not source.open_dir(name).names():
            source.remove_tree(name)
    elif names := source.names():
        name = rng.choice(names)
        new_name = rng.choice(["d0", "d1", "d2"] if name.startswith("d") else ["few", "names"])
        if new_name.startswith("d") or not target.exists(new_name):
            source.rename(name, target, new_name)


def contents_of_files(found: Contents) -> list[bytes]:
    return [
        content
        for node in found.values()
        for content in ([node] if isinstance(node, bytes) else contents_of_files(node))
    ]


def test_the_same_seed_draws_the_same_crash() -> None:
    disk = SimDisk()
    file = durable_file(disk, b"")
    for i in range(20):
        file.write_at(i * 700, bytes([i]) * 700)
    drawn = [disk.crash(sample(Random(i % 10))).contents() for i in range(20)]
    assert drawn[:10] == drawn[10:]
    assert len({str(state) for state in drawn}) > 5
