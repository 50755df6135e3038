"""A persistent Chroma folder as a source, read without Chroma and never written to.

What is read is `chroma.sqlite3`: collections, their records, documents and metadata, all in one
read transaction, so that it is of one moment. Vectors are in its queue and in files of their own
(`chroma_vectors`). A folder that does not look as known (Chroma 0.5 to 1.5) is refused before
anything is done, and so is one whose last writes Chroma has not taken in yet.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from engram.errors import Invalid, Malformed
from engram.memory.model import EmbeddingSpec, NewMemory
from engram.memory.validate import CALLER
from engram.migrate.chroma_vectors import Vectors
from engram.migrate.files import described, id_or_made
from engram.migrate.items import Item, SourceLink

FILE: Final = "chroma.sqlite3"
NO_DOCUMENT: Final = "a record without a document"
_DOCUMENT: Final = "chroma:document"
_PAGE: Final = 500
_COLUMNS: Final = {
    "collections": {"id", "name", "dimension"},
    "segments": {"id", "type", "scope", "collection"},
    "embeddings": {"id", "segment_id", "embedding_id", "created_at"},
    "embedding_metadata": {"id", "key", "string_value", "int_value", "float_value", "bool_value"},
    "embeddings_queue": {"seq_id", "operation", "topic", "id", "vector", "encoding"},
    "max_seq_id": {"segment_id", "seq_id"},
}


class Collection(NamedTuple):
    """One collection, the segments of its records and vectors, and how many records it has."""

    id: str
    name: str
    dimension: int | None
    records: str
    vectors: str
    size: int


class ChromaFolder:
    """The records of collections, each for a space; close it."""

    unit = "record"
    lives = False
    loose: tuple[SourceLink, ...] = ()

    def __init__(self, path: Path, *, keep_times: bool = False) -> None:
        self._folder = path.parent if path.name == FILE else path
        self._keep_times = keep_times
        self._db = _opened(self._folder / FILE)
        try:
            self._arrays = self._check_tables()
            self.collections = self._found()
        except sqlite3.Error as error:
            self._db.close()
            raise _unreadable(self._folder, error) from None
        except BaseException:
            self._db.close()
            raise
        self._spaces: dict[str, Collection] = {}
        self._vectors: dict[str, Vectors] = {}

    def close(self) -> None:
        for vectors in self._vectors.values():
            vectors.close()
        self._db.close()

    def send(self, collections: Mapping[str, Collection], *, keep_vectors: bool) -> None:
        """Say which collection goes to which space.

        Raises :class:`engram.errors.Invalid` if its vectors are to be kept and cannot be read.
        """
        self._spaces = dict(collections)
        for space, collection in collections.items() if keep_vectors else ():
            if not collection.dimension:
                raise Invalid(f"collection {collection.name!r} has no vectors to keep")
            self._vectors[space] = Vectors(
                self._db, self._folder, collection.id, collection.vectors, collection.dimension
            )

    def items(self, *, vectors: bool) -> Iterator[Item]:
        try:
            for space, collection in self._spaces.items():
                yield from self._items(space, collection)
        except sqlite3.Error as error:
            raise _unreadable(self._folder, error) from None

    def links(self, memory_id: str) -> Iterator[SourceLink]:
        yield from ()

    def described(self) -> Mapping[str, Any]:
        names = {space: collection.name for space, collection in self._spaces.items()}
        return described("chroma", self._folder, collections=names)

    def embedding_for(self, space_id: str) -> EmbeddingSpec | None:
        return self.vectors_of(space_id)

    def vectors_of(self, space_id: str) -> EmbeddingSpec | None:
        if space_id not in self._vectors:
            return None
        return EmbeddingSpec(model=CALLER, dimensions=self._spaces[space_id].dimension or 0)

    def _items(self, space: str, collection: Collection) -> Iterator[Item]:
        after = -1
        while True:
            rows = self._db.execute(
                "SELECT id, embedding_id, created_at FROM embeddings "
                "WHERE segment_id = ? AND id > ? ORDER BY id LIMIT ?",
                (collection.records, after, _PAGE),
            ).fetchall()
            if not rows:
                return
            fields = self._fields([row[0] for row in rows])
            for number, name, created_at in rows:
                metadata = fields.get(number, {})
                document = metadata.pop(_DOCUMENT, None)
                new = self._memory(collection, name, document or "", metadata, created_at)
                if document is None or not str(document).strip():
                    yield Item(new, number, stays=NO_DOCUMENT)
                    continue
                if space in self._vectors:
                    new = _with_vector(new, self._vectors[space].of(name))
                yield Item(new, number, (space,), collection.name)
            after = rows[-1][0]

    def _memory(
        self,
        collection: Collection,
        name: str,
        document: str,
        metadata: dict[str, Any],
        created_at: str,
    ) -> NewMemory:
        memory_id = id_or_made("chroma", name)
        if memory_id != name:
            metadata.setdefault("chroma_id", name)
        happened = _time(created_at) if self._keep_times else None
        return NewMemory(
            id=memory_id,
            content=document,
            kind="fact",
            metadata=metadata,
            occurred_at=happened,
            source=None,
        )

    def _fields(self, numbers: list[int]) -> dict[int, dict[str, Any]]:
        """The metadata of records, documents among them, by the number of the record."""
        found: dict[int, dict[str, Any]] = {}
        wanted = f"id IN ({', '.join('?' * len(numbers))})"
        columns = "id, key, string_value, int_value, float_value, bool_value"
        query = f"SELECT {columns} FROM embedding_metadata WHERE {wanted} ORDER BY id, key"
        for number, key, *values in self._db.execute(query, numbers):
            found.setdefault(number, {})[key] = _value(values)
        query = f"SELECT {columns} FROM embedding_metadata_array WHERE {wanted} ORDER BY rowid"
        for number, key, *values in self._db.execute(query, numbers) if self._arrays else ():
            found.setdefault(number, {}).setdefault(key, []).append(_value(values))
        return found

    def _check_tables(self) -> bool:
        """Refuse what does not look like Chroma's tables; whether metadata may hold lists."""
        for table, wanted in _COLUMNS.items():
            has = {row[1] for row in self._db.execute(f"PRAGMA table_info({table})")}
            if not wanted <= has:
                missing = f"no {', '.join(sorted(wanted - has))} in {table}" if has else table
                raise Malformed(
                    f"{str(self._folder)!r} is not a Chroma folder of a version that is known here "
                    f"(0.5 to 1.5): {missing if has else f'there is no table {table}'}. Open it "
                    "with a newer Chroma, which brings it up to date, or export it as JSON Lines"
                )
        return bool(self._db.execute("PRAGMA table_info(embedding_metadata_array)").fetchall())

    def _found(self) -> tuple[Collection, ...]:
        found = []
        for row in self._db.execute("SELECT id, name, dimension FROM collections ORDER BY name"):
            collection_id, name, dimension = row
            query = "SELECT scope, id FROM segments WHERE collection = ?"
            segments = dict(self._db.execute(query, (collection_id,)))
            records = segments.get("METADATA")
            if records is None:
                raise Malformed(f"collection {name!r} has no records that are known here")
            self._check_taken_in(name, collection_id, records)
            count = self._db.execute(
                "SELECT COUNT(*) FROM embeddings WHERE segment_id = ?", (records,)
            ).fetchone()[0]
            vectors = segments.get("VECTOR", "")
            found.append(Collection(collection_id, name, dimension, records, vectors, count))
        return tuple(found)

    def _check_taken_in(self, name: str, collection_id: str, records: str) -> None:
        """Refuse a collection of which the queue holds more than its records show."""
        last = self._db.execute(
            "SELECT MAX(seq_id) FROM embeddings_queue WHERE topic LIKE ?", (f"%{collection_id}",)
        ).fetchone()[0]
        row = self._db.execute(
            "SELECT seq_id FROM max_seq_id WHERE segment_id = ?", (records,)
        ).fetchone()
        taken = _number(row[0]) if row is not None else 0
        if last is not None and _number(last) > taken:
            raise Malformed(
                f"collection {name!r} has writes that Chroma has not taken in yet. Open it with "
                "Chroma and count its records, which does that; then try again"
            )


def _opened(file: Path) -> sqlite3.Connection:
    """A connection that cannot write, in one transaction from here on."""
    try:
        if not file.is_file():
            raise Malformed(f"{str(file.parent)!r} is not a Chroma folder: it holds no {FILE}")
        address = f"file:{quote(str(file.absolute()))}?mode=ro"
        db = sqlite3.connect(address, uri=True, isolation_level=None)
    except (OSError, ValueError, sqlite3.Error) as error:
        raise Malformed(f"{str(file)!r} cannot be read: {error}") from None
    try:
        db.execute("PRAGMA query_only = ON")
        db.execute("BEGIN")
        db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        db.close()
        raise _unreadable(file.parent, error) from None
    return db


def _unreadable(folder: Path, error: sqlite3.Error) -> Malformed:
    return Malformed(
        f"{str(folder)!r} cannot be read as a Chroma folder: {error}. If Chroma was killed, open "
        "it with Chroma once; if Chroma writes to it, try again later"
    )


def _value(values: list[Any]) -> Any:
    text, number, real, flag = values
    if flag is not None:
        return bool(flag)
    return next((value for value in (text, number, real) if value is not None), None)


def _number(value: Any) -> int:
    """A sequence number; older versions hold it as bytes, the highest first."""
    return int.from_bytes(value, "big") if isinstance(value, bytes) else int(value)


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except (TypeError, ValueError):
        raise Invalid(f"a record was made at {text!r}, which is no time") from None


def _with_vector(new: NewMemory, vector: Any) -> NewMemory:
    from msgspec.structs import replace

    return replace(new, embedding=vector)
