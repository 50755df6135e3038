"""A disk that remembers every write and every flush, in order: one file, served through FUSE.

    python -m tests.crash.block_log FOLDER BYTES SOCKET LOG

Run as root in a process of its own, it mounts itself on FOLDER, where the file `disk` appears. With
a loop device over that, a real file system writes to it, and what the kernel asks of a disk is seen
here: writes as they come, and a flush where everything before must have arrived. Whoever connects
to SOCKET may send lines; each is put in its place in the log before the answer. At `end`, the log
is written to LOG, pickled, and the process ends.

The protocol is that of `linux/fuse.h`, as far as a loop device needs it, so that no library is.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import socket
import sys
import threading
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

NAME: Final = b"disk"
ROOT, FILE = 1, 2
IN: Final = Struct("<IIQQIIII")
OUT: Final = Struct("<IiQ")
ATTRIBUTES: Final = Struct("<6Q10I")
ENTRY: Final = Struct("<4Q2I")
IO: Final = Struct("<QQIIQII")
BUFFER_BYTES: Final = (1 << 20) + 4096
WRITE_BYTES_MAX: Final = 128 << 10
NO_ANSWER: Final = (2, 36, 42)  # FORGET, INTERRUPT, BATCH_FORGET


class Write(NamedTuple):
    """Bytes that reached the disk; not durable before the next flush."""

    offset: int
    data: bytes


class Flush(NamedTuple):
    """Everything before is durable."""


class Line(NamedTuple):
    """What somebody wanted to have noted here."""

    text: str


Entry = Write | Flush | Line


class Disk:
    def __init__(self, size: int) -> None:
        self.content = bytearray(size)
        self.log: list[Entry] = []

    def answer(self, opcode: int, node: int, body: memoryview) -> bytes | int:
        """The answer to a request, or the number of an error."""
        match opcode:
            case 26:  # INIT
                flags = 1 << 0 | 1 << 5  # asynchronous reads, big writes
                return Struct("<IIIIHHIIHHI28x").pack(
                    7, 31, WRITE_BYTES_MAX, flags, 16, 12, WRITE_BYTES_MAX, 1, 0, 0, 0
                )
            case 1:  # LOOKUP
                if bytes(body).rstrip(b"\0") != NAME:
                    return errno.ENOENT
                return ENTRY.pack(FILE, 0, 3600, 3600, 0, 0) + self._attributes(FILE)
            case 3 | 4:  # GETATTR, SETATTR
                return Struct("<QII").pack(3600, 0, 0) + self._attributes(node)
            case 14 | 27:  # OPEN, OPENDIR
                return Struct("<QII").pack(0, 0, 0)
            case 15:  # READ
                _, offset, size, *_ = IO.unpack_from(body)
                return bytes(self.content[offset : offset + size])
            case 16:  # WRITE
                _, offset, size, *_ = IO.unpack_from(body)
                data = bytes(body[IO.size : IO.size + size])
                self.content[offset : offset + size] = data
                self.log.append(Write(offset, data))
                return Struct("<II").pack(size, 0)
            case 20:  # FSYNC
                self.log.append(Flush())
                return b""
            case 17:  # STATFS
                return Struct("<5Q4I24x").pack(1 << 20, 0, 0, 2, 0, 4096, 255, 4096, 0)
            case 18 | 25 | 29 | 34 | 38:  # RELEASE, FLUSH, RELEASEDIR, ACCESS, DESTROY
                return b""
            case 43:  # FALLOCATE: a disk that cannot discard
                return errno.EOPNOTSUPP
        return errno.ENOSYS

    def _attributes(self, node: int) -> bytes:
        size = len(self.content) if node == FILE else 0
        mode = 0o100600 if node == FILE else 0o40700
        return ATTRIBUTES.pack(node, size, size // 512, *[0] * 6, mode, 1, 0, 0, 0, 4096, 0)


def mounted(folder: Path) -> int:
    """Mount on `folder`; the descriptor that requests come from."""
    fd = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"block-log", bytes(folder), b"fuse", 6, options) != 0:
        raise OSError(ctypes.get_errno(), "FUSE cannot be mounted")
    return fd


def serve(fd: int, disk: Disk) -> None:
    """Answer until the file system is unmounted."""
    while True:
        try:
            request = memoryview(os.read(fd, BUFFER_BYTES))
        except OSError as error:
            if error.errno in (errno.EINTR, errno.ENOENT):
                continue
            return  # ENODEV: unmounted
        _, opcode, unique, node, *_ = IN.unpack_from(request)
        answer = disk.answer(opcode, node, request[IN.size :])
        if opcode in NO_ANSWER:
            continue
        code, data = (-answer, b"") if isinstance(answer, int) else (0, answer)
        os.write(fd, OUT.pack(OUT.size + len(data), code, unique) + data)


def take_notes(listener: socket.socket, disk: Disk, into: Path) -> None:
    """Note each line; at `end`, write the log and end the process."""
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rw") as lines:
            for line in lines:
                if line == "end\n":
                    into.write_bytes(pickle.dumps(disk.log))
                    os._exit(0)
                disk.log.append(Line(line))
                lines.write("noted\n")
                lines.flush()


if __name__ == "__main__":
    where, size, address, log = sys.argv[1:]
    served = Disk(int(size))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        requests = mounted(Path(where))
        notes = threading.Thread(target=take_notes, args=(server, served, Path(log)), daemon=True)
        notes.start()
        print("ready", flush=True)
        serve(requests, served)
        notes.join()
