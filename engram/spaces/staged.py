"""What was embedded for a copy that is not there yet: kept, so that the same command goes on.

    .engram/staged/<target id>.<source uuid>/LOCK        held while somebody is at it
    .engram/staged/<target id>.<source uuid>/stage.json  what of, with what, and since when
    .engram/staged/<target id>.<source uuid>/vectors     entries, in the order they were embedded

An entry is a digest of the source's uuid, the embedder and the text; the vector, float32; and a
CRC32C of both, masked. All are of one length, so that one that is damaged spoils no other: it is
passed over, and its text is embedded again. What is cut short at the end is written over.

A stage is there for one thing, and goes with it: once the target is made, or taken; once its source
is deleted, or a memory is purged there; when the same target is begun with another embedder; and
seven days after it was last worked on. Whoever opens the data root, or begins a stage, sweeps.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import closing, suppress
from hashlib import blake2b
from struct import Struct
from typing import Final

import msgspec
import numpy as np
from crc32c import crc32c

from engram.errors import SpaceLocked
from engram.memory.model import EmbeddingSpec, Vector
from engram.spaces.identity import Identity, read_identity
from engram.spaces.store import Clock
from engram.spaces.trash import Trash, read_document, write_document
from wal.errors import Damaged, Locked, Unsupported
from wal.format import mask
from wal.log import LOCK_NAME
from wal.segment import write_all
from wal.vfs import Directory, File, Lock

STAGED_DIR: Final = "staged"
STAGE_NAME: Final = "stage.json"
VECTORS_NAME: Final = "vectors"
KEPT_S: Final = 7 * 24 * 3_600
DIGEST_BYTES: Final = 32
READ_BYTES: Final = 1 << 20
_MAGIC: Final = "ENGRAM-STAGE"
_US: Final = 1_000_000
_CRC: Final = Struct("<I")


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a stage is for, and when it was last worked on."""

    memory_space_id: str
    source_id: str
    source_uuid: str
    embedding: EmbeddingSpec
    worked_us: int


class Staged:
    """The vectors of one stage, while its lock is held. For one thread."""

    def __init__(self, file: File, uuid: bytes, spec: EmbeddingSpec) -> None:
        self._file = file
        self._uuid = uuid
        self._prefix = f"{spec.model}\0{spec.dimensions}\0".encode()
        self._vector_bytes = 4 * spec.dimensions
        self._entry_bytes = DIGEST_BYTES + self._vector_bytes + _CRC.size
        self._offsets: dict[bytes, int] = {}
        self._end = file.size() // self._entry_bytes * self._entry_bytes
        self._began = self._end
        step = max(1, READ_BYTES // self._entry_bytes) * self._entry_bytes
        for start in range(0, self._end, step):
            data = file.read_at(start, min(step, self._end - start))
            for at in range(0, len(data), self._entry_bytes):
                self._offsets[data[at : at + DIGEST_BYTES]] = start + at

    def digest(self, text: str) -> bytes:
        """What a text's vector is kept under."""
        what = blake2b(self._prefix, digest_size=DIGEST_BYTES, salt=self._uuid)
        what.update(text.encode())
        return what.digest()

    def get(self, digest: bytes) -> Vector | None:
        """The vector kept under a digest, if it verifies. Raises OSError."""
        offset = self._offsets.get(digest)
        if offset is None:
            return None
        entry = self._file.read_at(offset, self._entry_bytes)
        body = entry[: -_CRC.size]
        if entry[-_CRC.size :] != _CRC.pack(mask(crc32c(body))) or body[:DIGEST_BYTES] != digest:
            del self._offsets[digest]
            return None
        return np.frombuffer(body, "<f4", offset=DIGEST_BYTES)

    def is_older(self, digest: bytes) -> bool:
        """Whether the vector kept under a digest was there before this began."""
        return self._offsets[digest] < self._began

    def put(self, digests: Iterable[bytes], vectors: Vector) -> None:
        """Keep vectors, float32 (n, D), durably. Raises OSError; what was kept before still is."""
        entries = bytearray()
        kept: dict[bytes, int] = {}
        for digest, vector in zip(digests, vectors, strict=True):
            kept[digest] = self._end + len(entries)
            body = digest + vector.astype("<f4").tobytes()
            entries += body + _CRC.pack(mask(crc32c(body)))
        write_all(self._file, self._end, entries)
        self._file.sync_data()
        self._end += len(entries)
        self._offsets |= kept


class Stages:
    """All stages of a data root. What is not thread-safe by itself needs the lock of the root."""

    def __init__(self, root: Directory, control: Directory, owner: str, clock: Clock) -> None:
        self._root = root
        self._control = control
        self._owner = owner
        self._clock = clock
        self._guard = threading.Lock()  # a purge, which has no lock of the root, removes some too

    def begin(self, target: str, source: Identity, spec: EmbeddingSpec) -> OpenStage:
        """The stage of a target, as far as it got; with the lock of the root.

        Raises :class:`engram.errors.SpaceLocked` if somebody is at it, and OSError.
        """
        self.sweep()
        stage = Stage(
            memory_space_id=target,
            source_id=source.memory_space_id,
            source_uuid=source.uuid,
            embedding=spec,
            worked_us=self._clock() // 1_000,
        )
        name = f"{target}.{source.uuid}"
        with self._guard:
            staged = Trash(self._control).folder(STAGED_DIR)
            try:
                if not staged.exists(name):
                    staged.make_dir(name).close()
                staged.sync()
                folder = staged.open_dir(name)
            except BaseException:
                staged.close()
                raise
            try:
                lock = folder.lock(LOCK_NAME, self._owner)
            except BaseException as error:
                folder.close()
                staged.close()
                if not isinstance(error, Locked):
                    raise
                raise SpaceLocked(
                    f"space {target!r} is being made of {source.memory_space_id!r} already, by "
                    f"{error.owner or 'another process'}. Wait for that, or end it and do it again",
                    memory_space_id=target,
                ) from error
            opened = OpenStage(staged, name, folder, lock, self._guard)
            try:
                opened.begin(stage)
            except BaseException:
                opened.close()
                raise
            return opened

    def sweep(self) -> None:
        """Remove what nobody goes on with any more; with the lock of the root. Never fails: what
        cannot be removed now is removed later.
        """
        with suppress(OSError), self._guard:
            if not self._control.exists(STAGED_DIR):
                return
            with closing(self._control.open_dir(STAGED_DIR)) as staged:
                for name in staged.names():
                    with suppress(OSError):
                        if self._is_over(staged, name):
                            staged.remove_tree(name)

    def forget(self, source_uuid: str) -> None:
        """Remove all that was embedded of a space. Who is at it goes on without keeping anything.

        Raises OSError.
        """
        if not self._control.exists(STAGED_DIR):
            return
        with self._guard, closing(self._control.open_dir(STAGED_DIR)) as staged:
            for name in staged.names():
                if name.endswith(f".{source_uuid}"):
                    staged.remove_tree(name)
            staged.sync()

    def _is_over(self, staged: Directory, name: str) -> bool:
        with closing(staged.open_dir(name)) as folder:
            try:
                folder.lock(LOCK_NAME, self._owner).release()
            except Locked:
                return False
            stage = _read_stage(folder)
        if stage is None or self._root.exists(stage.memory_space_id):
            return True
        if self._clock() // 1_000 > stage.worked_us + KEPT_S * _US:
            return True
        try:
            with closing(self._root.open_dir(stage.source_id)) as source:
                return read_identity(source, stage.source_id).uuid != stage.source_uuid
        except FileNotFoundError:
            return True
        except (Damaged, Unsupported):
            return False  # it may be put right


class OpenStage:
    """A stage whose lock is held."""

    def __init__(
        self, staged: Directory, name: str, folder: Directory, lock: Lock, guard: threading.Lock
    ) -> None:
        self._staged = staged
        self._name = name
        self._folder = folder
        self._lock = lock
        self._guard = guard
        self._file: File | None = None

    def begin(self, stage: Stage) -> None:
        """Note what it is for; what was embedded with something else goes. Raises OSError."""
        folder, known = self._folder, _read_stage(self._folder)
        there = folder.exists(VECTORS_NAME)
        if there and (known is None or known.embedding != stage.embedding):
            folder.remove(VECTORS_NAME)
            there = False
        write_document(folder, STAGE_NAME, _MAGIC, stage)
        file = folder.open(VECTORS_NAME, writable=True) if there else folder.create(VECTORS_NAME)
        self._file = file
        folder.sync()
        self.vectors = Staged(file, bytes.fromhex(stage.source_uuid), stage.embedding)

    def discard(self) -> None:
        """Remove it. What cannot be removed now is swept later."""
        with suppress(OSError), self._guard:
            self._staged.remove_tree(self._name)
            self._staged.sync()

    def close(self) -> None:
        """Give it back; what is in it stays."""
        with suppress(OSError):
            if self._file is not None:
                self._file.close()
            self._lock.release()
            self._folder.close()
            self._staged.close()


def _read_stage(folder: Directory) -> Stage | None:
    try:
        return read_document(folder, STAGE_NAME, _MAGIC, Stage)
    except (FileNotFoundError, Damaged, Unsupported):
        return None
