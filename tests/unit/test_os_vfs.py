"""The POSIX file system keeps strangers out, and its lock is the kernel's."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from wal import os_vfs
from wal.errors import Locked
from wal.os_vfs import open_root


def test_files_and_folders_are_for_their_owner_only(tmp_path: Path) -> None:
    root = open_root(tmp_path)
    root.create("a")
    root.make_dir("d")
    root.lock("LOCK", "me").release()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"a": 0o600, "d": 0o700, "LOCK": 0o600}
    assert not any(map(os.get_inheritable, (root._fd, root.open("a")._fd)))  # type: ignore[attr-defined]


def test_links_are_never_followed_below_the_root(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"keep")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "file").symlink_to(outside / "secret")
    (inside / "dir").symlink_to(outside)
    (inside / "nowhere").symlink_to(outside / "new")
    (tmp_path / "root").symlink_to(inside)
    root = open_root(tmp_path / "root")  # the user may name the root by a link
    for act in (
        lambda: root.open("file"),
        lambda: root.open("file", writable=True),
        lambda: root.lock("file", "me"),
        lambda: root.lock("nowhere", "me"),
        lambda: root.create("nowhere"),
        lambda: root.open_dir("dir"),
        lambda: root.remove_tree("dir"),
    ):
        with pytest.raises(OSError, match=r"symbolic links|Not a directory|exists"):
            act()
    assert root.exists("nowhere")
    tree = root.make_dir("tree")
    root.rename("dir", tree, "dir")
    root.remove_tree("tree")
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_bytes() == b"keep"


def test_what_is_no_regular_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    root = open_root(tmp_path)
    for act in (lambda: root.open("pipe"), lambda: root.lock("pipe", "me")):
        with pytest.raises(OSError, match="Not a regular file"):
            act()


def test_the_root_has_to_be_an_existing_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        open_root(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        open_root(tmp_path / "missing")


HOLDER = """
import sys
from wal.os_vfs import open_root
lock = open_root(sys.argv[1]).lock("LOCK", "process under test")
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("killed", [False, True])
def test_the_end_of_the_owning_process_releases_the_lock(tmp_path: Path, killed: bool) -> None:
    root = open_root(tmp_path)
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(Locked, match="process under test"):
            root.lock("LOCK", "us")
        if killed:
            holder.kill()
        else:
            holder.stdin.close()
        root.lock("LOCK", "us", wait_s=60).release()


def test_a_lock_on_a_replaced_file_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = open_root(tmp_path)
    replacements = [lambda: (tmp_path / "LOCK").unlink(), lambda: put_anew(), lambda: None]
    taken = os_vfs._try_flock

    def put_anew() -> None:
        (tmp_path / "LOCK").unlink()
        (tmp_path / "LOCK").touch()

    def slow_flock(fd: int) -> bool:
        replacements.pop(0)()
        return taken(fd)

    monkeypatch.setattr(os_vfs, "_try_flock", slow_flock)
    lock = root.lock("LOCK", "me")
    assert replacements == []
    monkeypatch.undo()
    with pytest.raises(Locked, match="me"):
        root.lock("LOCK", "other")
    lock.release()


READER = """
import os, sys
from wal.errors import ReadOnly
from wal.os_vfs import open_root
root = open_root(sys.argv[1])
if os.geteuid() == 0:
    os.setuid(65534)  # root may write anywhere
try:
    root.lock("LOCK", "me")
except ReadOnly as error:
    print(error)
"""


def test_a_folder_that_cannot_be_written_is_reported_with_what_to_do(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    command = [sys.executable, "-c", READER, str(tmp_path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    tmp_path.chmod(0o700)
    assert "LOCK cannot be opened for writing (Permission denied). Make the folder" in said


def test_a_full_disk_does_not_prevent_locking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = open_root(tmp_path)
    monkeypatch.setattr(os, "pwrite", _raising(errno.ENOSPC))
    root.lock("LOCK", "me").release()
    monkeypatch.setattr(os, "pwrite", _raising(errno.EIO))
    with pytest.raises(OSError, match="injected"):
        root.lock("LOCK", "me")
    monkeypatch.undo()
    root.lock("LOCK", "me").release()


def test_a_system_without_the_newer_calls_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for call in ("posix_fallocate", "posix_fadvise", "fdatasync"):
        monkeypatch.delattr(os, call, raising=False)
    root = open_root(tmp_path)
    file = root.create("a")
    file.write_at(0, b"hello")
    file.allocate(0, 2)
    file.allocate(4, 4)
    file.sync_data()
    file.drop_cache()
    root.sync()
    assert file.read_at(0, 99) == b"hello\0\0\0"


def test_allocation_falls_back_only_where_it_is_not_supported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = open_root(tmp_path).create("a")
    monkeypatch.setattr(os, "posix_fallocate", _raising(errno.EOPNOTSUPP), raising=False)
    file.allocate(0, 9)
    assert file.size() == 9
    monkeypatch.setattr(os, "posix_fallocate", _raising(errno.ENOSPC), raising=False)
    with pytest.raises(OSError, match="injected"):
        file.allocate(0, 99)


def test_a_short_read_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, pread = open_root(tmp_path), os.pread
    (tmp_path / "a").write_bytes(b"0123456789")
    monkeypatch.setattr(os, "pread", lambda fd, n, offset: pread(fd, min(n, 3), offset))
    assert root.open("a").read_at(1, 8) == b"12345678"
    assert root.open("a").read_at(1, 99) == b"123456789"


def _raising(code: int) -> object:
    def fail(*_: object) -> None:
        raise OSError(code, "injected")

    return fail
