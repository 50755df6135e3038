"""Both file systems keep one contract. What each has beyond it is in its own test file."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wal.errors import Locked
from wal.os_vfs import open_root
from wal.sim_vfs import SimDisk
from wal.vfs import Directory


@pytest.fixture(params=["os", "sim"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Directory]:
    directory = open_root(tmp_path) if request.param == "os" else SimDisk().root()
    yield directory
    directory.close()


def put(directory: Directory, name: str, data: bytes) -> None:
    file = directory.create(name)
    assert file.write_at(0, data) == len(data)
    file.close()


def get(directory: Directory, name: str) -> bytes:
    file = directory.open(name)
    data = file.read_at(0, file.size() + 1)
    file.close()
    return data


def errno_of(act: Callable[[], object]) -> int | None:
    try:
        act()
    except OSError as error:
        return error.errno
    return None


def test_what_is_written_is_read_back_through_any_handle(root: Directory) -> None:
    file = root.create("a")
    assert file.write_at(0, b"hello") == 5
    assert file.write_at(3, memoryview(b"p!")) == 2
    assert file.write_at(7, bytearray(b"x")) == 1
    assert file.write_at(99, b"") == 0
    assert get(root, "a") == b"help!\0\0x"
    file.sync_data()
    file.drop_cache()
    assert file.size() == 8
    assert file.read_at(1, 3) == b"elp"
    assert file.read_at(6, 99) == b"\0x"
    assert file.read_at(8, 1) == b""


def test_truncating_cuts_and_extends_with_zeros(root: Directory) -> None:
    file = root.create("a")
    file.write_at(0, b"hello")
    file.truncate(2)
    file.truncate(4)
    assert file.read_at(0, 9) == b"he\0\0"


def test_allocating_extends_with_zeros_and_never_shrinks_or_changes(root: Directory) -> None:
    file = root.create("a")
    file.write_at(0, b"hello")
    file.allocate(0, 2)
    assert file.size() == 5
    file.allocate(4, 4)
    assert file.read_at(0, 99) == b"hello\0\0\0"
    for offset, length in ((0, 0), (-1, 4), (0, -1)):
        with pytest.raises(ValueError, match="cannot allocate"):
            file.allocate(offset, length)


def test_a_file_opened_for_reading_cannot_be_changed(root: Directory) -> None:
    put(root, "a", b"hello")
    file = root.open("a")
    for change in (
        lambda: file.write_at(0, b"x"),
        lambda: file.truncate(0),
        lambda: file.allocate(0, 9),
    ):
        assert errno_of(change) in (errno.EBADF, errno.EINVAL)
    file.sync_data()
    assert get(root, "a") == b"hello"
    writable = root.open("a", writable=True)
    writable.write_at(0, b"j")
    assert file.read_at(0, 9) == b"jello"


def test_negative_positions_are_refused(root: Directory) -> None:
    file = root.create("a")
    for act in (
        lambda: file.read_at(-1, 1),
        lambda: file.write_at(-1, b"x"),
        lambda: file.truncate(-1),
    ):
        assert errno_of(act) == errno.EINVAL


def test_a_map_shows_the_file_and_outlives_handle_and_name(root: Directory) -> None:
    put(root, "a", b"hello")
    put(root, "empty", b"")
    file = root.open("a")
    view = file.map()[1:4]
    file.close()
    root.rename("a", root, "b")
    root.remove("b")
    assert view.readonly
    assert bytes(view) == b"ell"
    assert len(root.open("empty").map()) == 0


def test_names_are_listed_in_order_and_taken_once(root: Directory) -> None:
    put(root, "b", b"")
    root.make_dir("c")
    put(root, "a", b"")
    assert root.names() == ["a", "b", "c"]
    assert [name for name in "abcd" if root.exists(name)] == ["a", "b", "c"]
    for make in (root.create, root.make_dir):
        for name in ("a", "c"):
            with pytest.raises(FileExistsError):
                make(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a/", "a\0b"])
def test_a_name_is_one_component(root: Directory, name: str) -> None:
    put(root, "good", b"")
    for act in (
        root.exists,
        root.create,
        root.open,
        root.make_dir,
        root.open_dir,
        root.remove,
        root.remove_tree,
        lambda name: root.lock(name, "me"),
        lambda name: root.rename(name, root, "x"),
        lambda name: root.rename("good", root, name),
    ):
        with pytest.raises(ValueError, match="not a single file name"):
            act(name)
    assert root.names() == ["good"]


def test_what_is_missing_is_not_found(root: Directory) -> None:
    for act in (
        root.open,
        root.open_dir,
        root.remove,
        root.remove_tree,
        lambda name: root.rename(name, root, "x"),
    ):
        with pytest.raises(FileNotFoundError):
            act("missing")


def test_files_and_directories_are_not_confused(root: Directory) -> None:
    put(root, "file", b"")
    root.make_dir("dir")
    for act in (lambda: root.open("dir"), lambda: root.lock("dir", "me")):
        with pytest.raises(IsADirectoryError):
            act()
    assert errno_of(lambda: root.remove("dir")) in (errno.EISDIR, errno.EPERM)
    for name_act in (root.open_dir, root.remove_tree):
        with pytest.raises(NotADirectoryError):
            name_act("file")
    with pytest.raises(IsADirectoryError):
        root.rename("file", root, "dir")
    with pytest.raises(NotADirectoryError):
        root.rename("dir", root, "file")
    assert root.names() == ["dir", "file"]


def test_renaming_moves_between_directories_and_replaces_files(root: Directory) -> None:
    one, two = root.make_dir("one"), root.make_dir("two")
    put(one, "a", b"new")
    put(two, "b", b"old")
    held = two.open("b")
    one.rename("a", two, "b")
    assert (one.names(), two.names()) == ([], ["b"])
    assert get(two, "b") == b"new"
    assert held.read_at(0, 9) == b"old"
    two.rename("b", two, "b")
    assert get(two, "b") == b"new"


def test_renaming_a_directory_takes_its_contents_along(root: Directory) -> None:
    one, two = root.make_dir("one"), root.make_dir("two")
    put(one, "a", b"x")
    root.rename("one", two, "inner")
    assert get(two.open_dir("inner"), "a") == b"x"
    put(one, "b", b"y")  # an open directory does not mind where it is
    root.make_dir("empty")
    root.rename("two", root, "empty")
    assert root.open_dir("empty").open_dir("inner").names() == ["a", "b"]
    root.make_dir("other")
    assert errno_of(lambda: root.rename("other", root, "empty")) == errno.ENOTEMPTY
    assert errno_of(lambda: root.rename("empty", two, "loop")) == errno.EINVAL


def test_a_file_cannot_move_into_another_implementation(root: Directory, tmp_path: Path) -> None:
    put(root, "a", b"")
    for other in (open_root(tmp_path), SimDisk().root()):
        if type(other) is not type(root):
            with pytest.raises(TypeError):
                root.rename("a", other, "b")
    assert root.names() == ["a"]


def test_removing_a_tree_removes_all_of_it(root: Directory) -> None:
    tree = root.make_dir("tree")
    deep = tree.make_dir("deep").make_dir("deeper")
    put(deep, "a", b"x")
    put(tree, "b", b"y")
    held = deep.open("a")
    root.remove_tree("tree")
    assert root.names() == []
    assert held.read_at(0, 9) == b"x"
    put(root, "b", b"")
    for act in (deep.create, tree.make_dir, lambda name: root.rename("b", tree, name)):
        with pytest.raises(FileNotFoundError):
            act("late")


def test_what_is_closed_stays_closed(root: Directory) -> None:
    file, directory = root.create("a"), root.make_dir("d")
    for handle in (file, directory):
        handle.close()
        handle.close()
    for act in (
        file.size,
        file.map,
        file.sync_data,
        lambda: file.read_at(0, 1),
        lambda: file.write_at(0, b"x"),
        directory.names,
        directory.sync,
        lambda: directory.create("x"),
        lambda: directory.exists("x"),
    ):
        assert errno_of(act) == errno.EBADF


def test_a_lock_is_exclusive_names_its_owner_and_leaves_its_file(root: Directory) -> None:
    lock = root.lock("LOCK", "engram, process 1, a rather long name")
    with pytest.raises(Locked) as caught:
        root.lock("LOCK", "engram, process 2")
    assert caught.value.owner == "engram, process 1, a rather long name"
    assert caught.value.where == root.path
    root.lock("OTHER", "x").release()
    lock.release()
    lock.release()
    assert root.names() == ["LOCK", "OTHER"]
    again = root.lock("LOCK", "process 2")
    assert get(root, "LOCK") == b"process 2"
    with pytest.raises(Locked, match="process 2"):
        root.lock("LOCK", "process 3", wait_s=0.01)
    lock.release()  # a released lock has no say in the next one
    with pytest.raises(Locked):
        root.lock("LOCK", "process 3")
    again.release()


def test_whoever_waits_gets_the_lock_when_it_is_released(root: Directory) -> None:
    lock = root.lock("LOCK", "first")
    got: list[bytes] = []

    def wait() -> None:
        second = root.lock("LOCK", "second", wait_s=60)
        got.append(get(root, "LOCK"))
        second.release()

    waiter = threading.Thread(target=wait)
    waiter.start()
    lock.release()
    waiter.join(60)
    assert got == [b"second"]
