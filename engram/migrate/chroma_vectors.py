"""The vectors of a Chroma collection: what its queue holds last, else what its index holds.

The index is that of hnswlib: a header, then one block of fixed size for each vector, with its label
in it; which label is whose is in a pickle. That is read without running any of it: a pickle that
asks for more than plain values is refused.
"""

from __future__ import annotations

import pickle
import sqlite3
import struct
from pathlib import Path
from typing import Any, Final

import numpy as np

from engram.errors import EngramError, Invalid
from engram.memory.model import Vector
from engram.memory.validate import check_cue_vector

_HEADER: Final = struct.Struct("<I6Q")
_VERSION: Final = 1
_LABEL_BYTES: Final = 8
_UNREADABLE: Final = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, EOFError),
    *(struct.error, pickle.PickleError, IndexError, MemoryError),
)
_ENCODING: Final = "FLOAT32"
_OTHERWISE: Final = (
    "Import without --embeddings keep, so that the space embeds the documents itself"
)


class Vectors:
    """Vectors by the id of their record; those in the index stay on disk. Close it."""

    def __init__(
        self, db: sqlite3.Connection, folder: Path, collection: str, segment: str, dimension: int
    ) -> None:
        self._db = db
        self._dimension = dimension
        self._latest = sqlite3.connect("", isolation_level=None)
        try:
            self._read_queue(collection)
            self._rows, self._places = _index(folder / segment, dimension)
        except BaseException:
            self._latest.close()
            raise

    def close(self) -> None:
        self._latest.close()

    def of(self, name: str) -> Vector:
        """The vector of a record, float32 (dimensions,). Raises :class:`engram.errors.Invalid`."""
        row = self._latest.execute("SELECT vector FROM latest WHERE id = ?", (name,)).fetchone()
        if row is not None:
            vector = np.frombuffer(row[0], "<f4")
        elif name in self._places:
            vector = np.array(self._rows[self._places[name]], np.float32)
        else:
            raise Invalid(f"the vector of record {name!r} cannot be found. {_OTHERWISE}")
        try:
            return check_cue_vector("embedding", vector, self._dimension)
        except EngramError as error:
            raise Invalid(f"record {name!r}: {error.detail}. {_OTHERWISE}") from None

    def _read_queue(self, collection: str) -> None:
        self._latest.execute("CREATE TABLE latest (id TEXT PRIMARY KEY, vector BLOB) WITHOUT ROWID")
        rows = self._db.execute(
            "SELECT id, vector, encoding FROM embeddings_queue "
            "WHERE topic LIKE ? AND vector IS NOT NULL ORDER BY seq_id",
            (f"%{collection}",),
        )
        self._latest.execute("BEGIN")
        for name, vector, encoding in rows:
            if encoding != _ENCODING or len(vector) % 4:
                raise Invalid(f"the vector of {name!r} is written as {encoding}. {_OTHERWISE}")
            self._latest.execute("INSERT OR REPLACE INTO latest VALUES (?, ?)", (name, vector))


class _Rows:
    """Rows of bytes as vectors, read when they are asked for."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __getitem__(self, number: int) -> Vector:
        return np.frombuffer(self._rows[number].tobytes(), "<f4")


_NONE: Final = np.empty((0, 0), np.uint8)


class _Held:
    """Stands for the object that Chroma before 1.0 pickled: its fields, and nothing that runs."""


class _Plain(pickle.Unpickler):
    """Reads numbers, texts and containers, and runs nothing."""

    def find_class(self, module: str, name: str) -> type[_Held]:
        if module.startswith("chromadb.") and name == "PersistentData":
            return _Held
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _index(folder: Path, dimension: int) -> tuple[_Rows, dict[str, int]]:
    """The vectors in a folder of hnswlib's files, float32 (elements, dimension), and which of them
    is whose.
    """
    names = folder / "index_metadata.pickle"
    if not folder.name or not names.exists():
        return _Rows(_NONE), {}  # all of them are in the queue still
    try:
        with names.open("rb") as file:
            read = _Plain(file).load()
        labels = (vars(read) if isinstance(read, _Held) else read)["id_to_label"]
        header = (folder / "header.bin").read_bytes()
        version, _, _, count, size, label_at, vector_at = _HEADER.unpack_from(header)
        if version != _VERSION or label_at + _LABEL_BYTES > size:
            raise ValueError(f"its version is {version}")
        if vector_at + 4 * dimension > label_at:
            raise ValueError("its vectors have another length")
        if count == 0:
            return _Rows(_NONE), {}
        blocks = np.memmap(folder / "data_level0.bin", np.uint8, "r", shape=(count, size))
        found = blocks[:, label_at : label_at + _LABEL_BYTES].copy().view("<u8")[:, 0]
        element = {int(label): number for number, label in enumerate(found)}
        places = {str(name): element[label] for name, label in labels.items()}
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        struct.error,
        pickle.PickleError,
        EOFError,
    ) as e:
        raise Invalid(
            f"the index in {str(folder)!r} is not known here: {e}. {_OTHERWISE}"
        ) from None
    vectors = blocks[:, vector_at : vector_at + 4 * dimension]
    return _Rows(vectors), places
