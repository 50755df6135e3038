"""JSON Lines as a source: those of `engram remember --file`, or others' by a mapping of fields.

A line without an id gets one that is made of the line itself and of how often it came before, so
that it is the same in the next run, also when the file has grown meanwhile.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from engram.errors import EngramError, Invalid, Malformed
from engram.memory.model import EmbeddingSpec, NewMemory
from engram.memory.validate import CALLER, check_cue_vector
from engram.migrate.files import described, in_place, lines_of, made_id, object_of
from engram.migrate.items import Item, SourceLink

Extra = Literal["refuse", "metadata", "ignore"]
_FIELDS: Final = tuple(NewMemory.__struct_fields__)
_METADATA: Final = "metadata."


def fields_of(given: list[str]) -> dict[str, str]:
    """`OURS=THEIRS` pairs, as a mapping from our names to theirs."""
    fields: dict[str, str] = {}
    for pair in given:
        ours, equals, theirs = pair.partition("=")
        if not equals or not theirs:
            raise Malformed(f"--field {pair!r} is not OURS=THEIRS, as content=text")
        if ours not in _FIELDS and not (ours.startswith(_METADATA) and ours != _METADATA):
            known = ", ".join(_FIELDS)
            raise Malformed(f"--field {ours!r} is not a field of a memory: {known}, metadata.KEY")
        if ours in fields:
            raise Malformed(f"--field names {ours!r} twice")
        fields[ours] = theirs
    return fields


class JsonLines:
    """The lines of a file, all for one space."""

    lives = False
    unit = "line"
    loose: tuple[SourceLink, ...] = ()

    def __init__(
        self,
        path: Path,
        space: str,
        *,
        fields: Mapping[str, str],
        extra: Extra = "refuse",
        keep_vectors: bool = False,
    ) -> None:
        self._path = path
        self._space = space
        self._fields = {name: name for name in _FIELDS} | dict(fields)
        self._extra = extra
        self._spec: EmbeddingSpec | None = None
        if keep_vectors:
            self._spec = self._vectors()

    def items(self, *, vectors: bool) -> Iterator[Item]:
        with closing(sqlite3.connect("", isolation_level=None)) as db:
            db.execute("CREATE TABLE seen (line BLOB PRIMARY KEY, times INTEGER) WITHOUT ROWID")
            db.execute("BEGIN")
            for number, line in lines_of(self._path):
                yield Item(self._memory(number, line, db), number, (self._space,))

    def links(self, memory_id: str) -> Iterator[SourceLink]:
        yield from ()

    def described(self) -> Mapping[str, Any]:
        return described("jsonl", self._path)

    def embedding_for(self, space_id: str) -> EmbeddingSpec | None:
        return self._spec

    def vectors_of(self, space_id: str) -> EmbeddingSpec | None:
        return self._spec

    def _vectors(self) -> EmbeddingSpec:
        """What the vectors of the first line say of all."""
        for number, line in lines_of(self._path):
            vector = _at(object_of(number, line), self._fields["embedding"])
            if not isinstance(vector, list) or not vector:
                raise Malformed(f"line {number} has no embedding to keep")
            return EmbeddingSpec(model=CALLER, dimensions=len(vector))
        raise Malformed(f"{str(self._path)!r} has no lines, so no vectors to keep")

    def _memory(self, number: int, line: bytes, db: sqlite3.Connection) -> NewMemory:
        given = object_of(number, line)
        fields: dict[str, Any] = {}
        metadata: dict[str, Any] = {}
        for ours, theirs in self._fields.items():
            value = _at(given, theirs)
            if value is None:
                continue
            if ours.startswith(_METADATA):
                metadata[ours.removeprefix(_METADATA)] = value
            else:
                fields[ours] = value
        taken = {theirs.partition(".")[0] for theirs in self._fields.values()} | {*given} & {
            *self._fields.values()
        }
        left = {name: value for name, value in given.items() if name not in taken}
        if left and self._extra == "refuse":
            raise Invalid(
                f"line {number}: {next(iter(left))!r} is not a field of a memory. Say what it is "
                "with --field OURS=THEIRS, or take all such with --extra metadata, or ignore. "
                "Nothing was stored"
            )
        own = fields.get("metadata", {})
        if not isinstance(own, dict):
            raise Invalid(f"line {number}: its metadata is not an object. Nothing was stored")
        kept = left if self._extra == "metadata" else {}
        fields["metadata"] = {**kept, **own, **metadata}
        if self._spec is None:
            fields.pop("embedding", None)
        elif "embedding" not in fields:
            raise Invalid(f"line {number}: it has no embedding to keep. Nothing was stored")
        return self._converted(number, fields, line, db)

    def _converted(
        self, number: int, fields: dict[str, Any], line: bytes, db: sqlite3.Connection
    ) -> NewMemory:
        vector = fields.pop("embedding", None)
        if isinstance(fields.get("id"), int) and not isinstance(fields["id"], bool):
            fields["id"] = str(fields["id"])
        try:
            new = msgspec.convert(fields, _Given)
        except msgspec.ValidationError as error:
            raise Invalid(f"line {number}: {error}. Nothing was stored") from None
        memory_id = new.id
        if memory_id is None:
            memory_id = made_id("line", *_told_apart(db, line))
        known = msgspec.structs.asdict(new) | {"id": memory_id}
        if self._spec is not None:
            try:
                known["embedding"] = check_cue_vector("embedding", vector, self._spec.dimensions)
            except EngramError as error:
                raise in_place(f"line {number}", error) from None
        return NewMemory(**known)


class _Given(NewMemory, frozen=True, kw_only=True):
    """A memory as JSON has it, but for its vector, which is checked with the others."""

    embedding: None = None


def _told_apart(db: sqlite3.Connection, line: bytes) -> tuple[str, str]:
    """What a line is, and how often it came before."""
    digest = blake2b(line.strip(), digest_size=16).digest()
    row = db.execute(
        "INSERT INTO seen VALUES (?, 0) ON CONFLICT (line) DO UPDATE SET times = times + 1 "
        "RETURNING times",
        (digest,),
    ).fetchone()
    return digest.hex(), str(row[0])


def _at(given: Mapping[str, Any], name: str) -> Any:
    """The value of that name, or at that path with dots."""
    if name in given:
        return given[name]
    found: Any = given
    for part in name.split("."):
        if not isinstance(found, dict) or part not in found:
            return None
        found = found[part]
    return found
