"""The control folder of a data root, which makes it one.

    .engram/layout.json    says that this is a data root, and of which layout
    .engram/LOCK           held while a space is made, deleted, restored or purged
    .engram/SERVER         held by the one server of this data root
    .engram/tmp/           spaces being made; those made from a bundle hold a lock of their own

What is kept of deleted spaces lies here too (:mod:`engram.spaces.trash`), and what was embedded for
copies that are not there yet (:mod:`engram.spaces.staged`), once there is any.

Several processes may lay out the same folder at once, and any of them may crash: the layout file
comes last, durably, and is a promise that the rest is there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Final

import msgspec

from engram.errors import DataRootUnusable
from wal.errors import Locked
from wal.framed import decode_framed, encode_framed
from wal.log import LOCK_NAME
from wal.segment import write_all
from wal.vfs import Directory

CONTROL_DIR: Final = ".engram"
LAYOUT_NAME: Final = "layout.json"
TMP_DIR: Final = "tmp"
CREATE_LOCK: Final = "LOCK"
SERVER_LOCK: Final = "SERVER"
CREATE_LOCK_WAIT_S: Final = 30.0
_MAGIC: Final = "ENGRAM-LAYOUT"
_VERSION: Final = 1


class _Layout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    created_us: int


def open_control(root: Directory) -> Directory:
    """Open the control folder, making it in an empty data root.

    Raises :class:`engram.errors.DataRootUnusable` for a folder that holds other things.
    """
    if not root.exists(CONTROL_DIR):
        others = [n for n in root.names() if not n.startswith(".") and n != "lost+found"]
        if others and not root.exists(CONTROL_DIR):
            raise DataRootUnusable(
                f"{root.path} is not a data root of Engram: it holds other files "
                f"({others[0]!r} …). Name an empty or new folder"
            )
        try:
            root.make_dir(CONTROL_DIR).close()
        except FileExistsError:
            pass  # another process has just begun to lay out the same folder
        root.sync()
    return root.open_dir(CONTROL_DIR)


def lay_out(control: Directory, owner: str, clock: Callable[[], int]) -> None:
    """Check the layout file, or write it behind everything else that belongs to the layout.

    Raises :class:`wal.errors.Damaged` or :class:`wal.errors.Unsupported`.
    """
    if control.exists(LAYOUT_NAME):
        file = control.open(LAYOUT_NAME)
        try:
            data = file.read_at(0, file.size())
        finally:
            file.close()
        decode_framed(_MAGIC, _VERSION, _Layout, LAYOUT_NAME, data)
        return
    lock = control.lock(CREATE_LOCK, owner, wait_s=CREATE_LOCK_WAIT_S)
    try:
        if not control.exists(LAYOUT_NAME):
            _write_layout(control, clock() // 1_000)
    finally:
        lock.release()


def _write_layout(control: Directory, now_us: int) -> None:
    if not control.exists(TMP_DIR):
        control.make_dir(TMP_DIR).close()
    control.sync()
    temporary = LAYOUT_NAME + ".tmp"
    if control.exists(temporary):
        control.remove(temporary)
    file = control.create(temporary)
    try:
        layout = _Layout(created_us=now_us)
        write_all(file, 0, encode_framed(_MAGIC, _VERSION, layout))
        file.sync_data()
    finally:
        file.close()
    control.rename(temporary, control, LAYOUT_NAME)
    control.sync()


def clear_tmp(control: Directory, owner: str) -> None:
    """Remove what a crash left half made. Nobody may be making a space meanwhile, but for those
    who hold the lock of their own folder.
    """
    with closing(control.open_dir(TMP_DIR)) as tmp:
        for name in tmp.names():
            if not _is_held(tmp, name, owner):
                tmp.remove_tree(name)


def _is_held(tmp: Directory, name: str, owner: str) -> bool:
    with closing(tmp.open_dir(name)) as folder:
        if not folder.exists(LOCK_NAME):
            return False
        try:
            folder.lock(LOCK_NAME, owner).release()
        except Locked:
            return True
        return False
