"""What a migration knows about each memory while it runs: a table on disk that nobody else sees.

It is SQLite's unnamed temporary database: it spills to a file without a name, which is gone with
the process however that ends. So a run holds no more in memory than a page, and leaves nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

from engram.migrate.items import DIGEST_BYTES, SourceLink

PENDING: Final = "pending"
DONE: Final = "already there"
COPIED: Final = "copied"
CONFLICT: Final = "conflict"
EXPIRED: Final = "expired meanwhile"
CHANGED: Final = "changed in the source meanwhile"
LOST: Final = "missing"

LINK_PENDING: Final = "pending"
LINK_DONE: Final = "linked"
LINK_CONFLICT: Final = "conflict"
LINK_ACROSS: Final = "its ends are in different spaces"
LINK_OPEN: Final = "one of its ends is not there"
LINK_REFUSED: Final = "a link leads from one memory to another, and has a short name"

_TABLES: Final = """
CREATE TABLE item (
    space TEXT, id TEXT, digest BLOB, found BLOB, bytes INTEGER, expires_us INTEGER,
    position INTEGER, state TEXT, PRIMARY KEY (space, id)) WITHOUT ROWID;
CREATE INDEX item_by_id ON item (id);
CREATE TABLE link (
    space TEXT, source TEXT, target TEXT, relation TEXT, weight REAL, position INTEGER, state TEXT,
    PRIMARY KEY (source, target, relation, space)) WITHOUT ROWID;
CREATE TABLE stay (why TEXT, id TEXT, PRIMARY KEY (why, id)) WITHOUT ROWID;
"""


class Planned(NamedTuple):
    """One memory on its way to one space."""

    space: str
    id: str
    digest: bytes
    bytes: int
    expires_us: int | None
    position: int


class PlannedLink(NamedTuple):
    space: str
    source: str
    target: str
    relation: str
    weight: float
    state: str


class Ledger:
    """The table. Used by one thread; close it."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + _TABLES)
        self._db.execute("BEGIN")

    def close(self) -> None:
        self._db.close()

    def plan(self, item: Planned) -> bytes | None:
        """Note a memory; returns the digest of another one that is on its way under this id."""
        row = self._db.execute(
            "INSERT OR IGNORE INTO item VALUES (?, ?, ?, NULL, ?, ?, ?, ?)", (*item, PENDING)
        )
        if row.rowcount:
            return None
        return self.digest(item.space, item.id)

    def stays(self, why: str, memory_id: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO stay VALUES (?, ?)", (why, memory_id))

    def digest(self, space: str, memory_id: str) -> bytes | None:
        """What is to be in a space under an id; None if nothing is."""
        row = self._db.execute(
            "SELECT digest FROM item WHERE space = ? AND id = ?", (space, memory_id)
        ).fetchone()
        return None if row is None else row[0]

    def state(self, space: str, memory_id: str) -> str | None:
        row = self._db.execute(
            "SELECT state FROM item WHERE space = ? AND id = ?", (space, memory_id)
        ).fetchone()
        return None if row is None else row[0]

    def has_pending(self) -> bool:
        row = self._db.execute("SELECT 1 FROM item WHERE state = ? LIMIT 1", (PENDING,)).fetchone()
        return row is not None

    def mark(self, space: str, ids: Iterable[str], state: str) -> None:
        self._db.executemany(
            "UPDATE item SET state = ? WHERE space = ? AND id = ?",
            ((state, space, memory_id) for memory_id in ids),
        )

    def found(self, space: str, memory_id: str, digest: bytes) -> None:
        """Note what a space holds under an id."""
        self._db.execute(
            "UPDATE item SET found = ? WHERE space = ? AND id = ?", (digest, space, memory_id)
        )

    def look_again(self, space: str) -> None:
        """Forget what was found in a space before."""
        self._db.execute("UPDATE item SET found = NULL WHERE space = ?", (space,))

    def compare(self, space: str) -> None:
        """What was found in a space is already there, or in conflict."""
        self._db.execute(
            "UPDATE item SET state = CASE WHEN found = digest THEN ? ELSE ? END "
            "WHERE space = ? AND found IS NOT NULL",
            (DONE, CONFLICT, space),
        )

    def settle(self, space: str, now_us: int) -> None:
        """Say of each memory that was not found in its space after all why that is."""
        self._db.execute(
            "UPDATE item SET state = CASE WHEN expires_us <= ? THEN ? WHEN state = ? THEN ? "
            "ELSE ? END WHERE space = ? AND found IS NULL",
            (now_us, EXPIRED, PENDING, CHANGED, LOST, space),
        )
        self._db.execute(
            "UPDATE item SET state = ? WHERE space = ? AND found IS NOT digest AND found NOT NULL",
            (CONFLICT, space),
        )

    def spaces(self) -> list[str]:
        return [row[0] for row in self._db.execute("SELECT DISTINCT space FROM item")]

    def spaces_of(self, memory_id: str) -> set[str]:
        rows = self._db.execute("SELECT space FROM item WHERE id = ?", (memory_id,))
        return {row[0] for row in rows}

    def ids(self) -> Iterator[str]:
        """All ids on their way, each once, in the order of the source; a page at a time."""
        rows = self._db.execute("SELECT DISTINCT id, position FROM item ORDER BY position, id")
        return (row[0] for row in rows)

    def counts(self, space: str) -> dict[str, int]:
        """How many memories of a space are in which state."""
        rows = self._db.execute(
            "SELECT state, COUNT(*) FROM item WHERE space = ? GROUP BY state", (space,)
        )
        return dict(rows.fetchall())

    def size(self, space: str) -> int:
        """What the texts on their way to a space take, in bytes."""
        row = self._db.execute("SELECT SUM(bytes) FROM item WHERE space = ?", (space,)).fetchone()
        return int(row[0] or 0)

    def digests(self, space: str) -> tuple[str, str]:
        """Of both sides, over what is the same there and should be: BLAKE2b, in order of id."""
        both = (blake2b(digest_size=DIGEST_BYTES), blake2b(digest_size=DIGEST_BYTES))
        rows = self._db.execute(
            "SELECT id, digest, found FROM item WHERE space = ? AND state IN (?, ?) ORDER BY id",
            (space, DONE, COPIED),
        )
        for memory_id, *digests in rows:
            for digest, one in zip(both, digests, strict=True):
                digest.update(memory_id.encode() + b"\0" + (one or b""))
        return both[0].hexdigest(), both[1].hexdigest()

    def named(self, state: str) -> Iterator[tuple[str, str]]:
        """(space, id) of all memories in a state."""
        yield from self._db.execute(
            "SELECT space, id FROM item WHERE state = ? ORDER BY space, position", (state,)
        )

    def stayed(self) -> dict[str, int]:
        rows = self._db.execute("SELECT why, COUNT(*) FROM stay GROUP BY why ORDER BY why")
        return dict(rows.fetchall())

    def stayed_ids(self, why: str) -> Iterator[str]:
        for row in self._db.execute("SELECT id FROM stay WHERE why = ? ORDER BY id", (why,)):
            yield row[0]

    def moved(self) -> Iterator[tuple[str, bytes]]:
        """(id, digest) of memories that are in each space they were to go to."""
        yield from self._db.execute(
            "SELECT id, MIN(digest) FROM item GROUP BY id "
            "HAVING SUM(state NOT IN (?, ?)) = 0 ORDER BY MIN(position)",
            (DONE, COPIED),
        )

    def plan_link(self, space: str, link: SourceLink, state: str) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO link VALUES (?, ?, ?, ?, ?, ?, ?)", (space, *link, state)
        )

    def links(self, space: str) -> Iterator[list[PlannedLink]]:
        """The links to be made in a space, those of a memory together; they may be marked."""
        source = ""
        while True:
            row = self._db.execute(
                "SELECT MIN(source) FROM link WHERE space = ? AND state = ? AND source > ?",
                (space, LINK_PENDING, source),
            ).fetchone()
            if row[0] is None:
                return
            source = row[0]
            rows = self._db.execute(
                "SELECT space, source, target, relation, weight, state FROM link "
                "WHERE space = ? AND state = ? AND source = ? ORDER BY position",
                (space, LINK_PENDING, source),
            )
            yield list(map(PlannedLink._make, rows.fetchall()))

    def mark_link(self, link: PlannedLink, state: str) -> None:
        self._db.execute(
            "UPDATE link SET state = ? WHERE space = ? AND source = ? AND target = ? "
            "AND relation = ?",
            (state, link.space, link.source, link.target, link.relation),
        )

    def link_counts(self, space: str) -> dict[str, int]:
        rows = self._db.execute(
            "SELECT state, COUNT(*) FROM link WHERE space = ? GROUP BY state", (space,)
        )
        return dict(rows.fetchall())

    def links_left(self) -> Iterator[PlannedLink]:
        """The links that were not made, and why."""
        rows = self._db.execute(
            "SELECT space, source, target, relation, weight, state FROM link "
            "WHERE state NOT IN (?, ?) ORDER BY source, position",
            (LINK_PENDING, LINK_DONE),
        )
        yield from map(PlannedLink._make, rows)
