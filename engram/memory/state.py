"""What a space's log adds up to: `apply` events, `publish`, and read an immutable `View`.

State is columns, not objects: one row per memory version, appended in order of position and never
changed; a forgotten or superseded row is dead in the live mask. Texts and metadata lie encoded in
one byte column and are decoded for hits only.

`apply` collects rows and `publish` moves them into the columns and indexes in bulk, so that replay
runs at the speed of large batches. One thread applies and publishes; any thread reads `view`, or
asks `find`, which pairs an id's row with the view that shows it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from engram.indexes.answers import Answers, FrozenAnswers
from engram.indexes.attributes import Attributes
from engram.indexes.beliefs import Beliefs
from engram.indexes.columns import GrowingColumn, LayeredBytes
from engram.indexes.ids import IdIndex
from engram.indexes.lexicon import Lexicon
from engram.indexes.links import Links
from engram.indexes.sequences import Sequences
from engram.indexes.timeline import Timeline
from engram.indexes.uses import COMPANIONS_MAX, Uses
from engram.indexes.vectors import LiveMask, Vectors
from engram.memory.answering import held_by, kept_of
from engram.memory.columns import NO_PAST, StateColumns, check_columns
from engram.memory.decide import Latest
from engram.memory.events import (
    ActivationSpread,
    Event,
    HistoryRedacted,
    MemoryConsolidated,
    MemoryForgotten,
    MemoryLinked,
    MemoryPurged,
    MemoryRecalled,
    MemoryRestored,
    MemoryRevised,
    MemoryStored,
    MemoryUnlinked,
    MemoryVersion,
    RequestAnswered,
    SpaceCompacted,
    SpaceConfigured,
    SpaceCreated,
    SpaceDeleted,
    SpaceRestored,
)
from engram.memory.model import Vector
from engram.memory.older import newer_columns, times_of
from engram.memory.payload import Batch
from engram.memory.purges import Purges, husk
from engram.memory.settings import Settings, settings_in
from engram.memory.times import NEVER_US
from engram.memory.view import NO_ROW, View, earliest_expiry, version_in

PUBLISH_ROWS: Final = 32_768
"""Rows, or uses, collected before they are moved into the columns even without a `publish`."""
USES_PER_RECALL_MAX: Final = COMPANIONS_MAX + 1
"""How many of what a recall answered count as used: the best, which is what was looked for."""

_encode: Final = msgspec.msgpack.Encoder().encode


class StateError(Exception):
    """An event that contradicts the state it is applied to: the log is not what we wrote."""


class Frozen(NamedTuple):
    """A state that stays as it is: its view, which row an id leads to, the space's settings and
    purges, the newest rows of what was purged, the positions of restorations, and answers.
    """

    view: View
    ids: IdIndex
    settings: Settings
    purges: Purges
    purged_rows: npt.NDArray[np.int64]
    restored: npt.NDArray[np.int64]
    answers: FrozenAnswers


class State:
    """See the module. `view` is the latest published view; `purge_after_us` is None unless the last
    event deleted the space.
    """

    def __init__(self, memory_space_id: str, dimensions: int) -> None:
        self._memory_space_id = memory_space_id
        self._dimensions = dimensions
        self._position = 0
        self._begun_behind = 0
        self.purge_after_us: int | None = None
        self.settings = Settings()
        self.purges = Purges()
        self.answers = Answers()
        self._documents = LayeredBytes()
        self._positions = GrowingColumn(np.int64)
        self._stored_us = GrowingColumn(np.int64)
        self._previous = GrowingColumn(np.int64)
        self._forgotten = GrowingColumn(np.int64, 2)
        self._purged_rows = GrowingColumn(np.int64)
        self._restored = GrowingColumn(np.int64)
        self._links = Links(self._previous)
        self._uses = Uses()
        self._beliefs = Beliefs()
        self._expires_us = GrowingColumn(np.int64)
        self._confidences = GrowingColumn(np.float64)
        self._earliest_expiry_us = NEVER_US
        self._live = LiveMask()
        self._vectors = Vectors(dimensions)
        self._lexicon = Lexicon()
        self._attributes = Attributes()
        self._timeline = Timeline()
        self._sequences = Sequences()
        self._ids = IdIndex(self._id_at)
        self._past = NO_PAST
        # Rows applied but not yet in the columns, and what they mean for ids and older rows.
        self._versions: list[MemoryVersion] = []
        self._new_positions: list[int] = []
        self._new_times_us: list[int] = []
        self._new_vectors: list[npt.NDArray[np.float32]] = []
        self._new_rows: dict[str, int] = {}
        self._dead_rows: set[int] = set()
        self._new_previous: list[int] = []
        self._new_roots: list[int] = []
        self._new_uses: list[tuple[list[int], int]] = []
        self._new_forgotten: list[tuple[int, int]] = []
        self._new_purged: list[int] = []
        # Held while ids and the view move on together, so that `find` sees both or neither.
        self._moving_on = threading.Lock()
        self.view = self._capture()

    @property
    def deleted(self) -> bool:
        return self.purge_after_us is not None

    def apply(self, batch: Batch, position: int, time_ns: int) -> None:
        """Take a record's events into account, the first of which has `position`.

        Raises :class:`StateError` for events that no decider would have written.
        """
        if len(batch.vectors):
            if any(isinstance(event, MemoryPurged) for event in batch.events):
                raise StateError(f"position {position} stores and purges in one record")
            if batch.vectors.shape[1] != self._dimensions:
                raise StateError(
                    f"position {position} holds vectors of {batch.vectors.shape[1]} dimensions "
                    f"in a space of {self._dimensions}"
                )
            self._new_vectors.append(batch.vectors)
        first = position
        for event in batch.events:
            self._apply(event, position, time_ns // 1_000)
            self._position = position
            position += 1
        if batch.answered is not None:
            self.answers.put(kept_of(batch.answered), first, time_ns // 1_000, held_by(batch))
        if purged := {each.id for each in batch.events if isinstance(each, MemoryPurged)}:
            self.answers.purge(purged)
        if max(len(self._versions), len(self._new_uses)) >= PUBLISH_ROWS:
            self.publish()

    def _apply(self, event: Event, position: int, time_us: int) -> None:
        restores = isinstance(event, SpaceRestored)
        # A checkpoint does not say that the space was deleted at its very position.
        may_be_deleted = self.deleted or 0 < self._begun_behind == position - 1
        if (restores and not may_be_deleted) or (self.deleted and not restores):
            raise StateError(
                f"position {position} follows the deletion of the space"
                if self.deleted
                else f"position {position} restores a space that was not deleted"
            )
        match event:
            case MemoryStored():
                row = self._row(event.id)
                if row is not None and self._lives(row):
                    raise StateError(f"position {position} stores {event.id!r}, which lives")
                self._add(event, row, position, time_us)
            case MemoryRevised() | MemoryForgotten():
                row = self._row(event.id)
                if row is None or not self._lives(row):
                    raise StateError(
                        f"position {position} changes {event.id!r}, which is not there"
                    )
                self._dead_rows.add(row)
                if isinstance(event, MemoryRevised):
                    self._add(event, row, position, time_us)
                else:
                    self._new_forgotten.append((row, position))
            case MemoryRestored():
                # That it was forgotten may be history that a checkpoint has let go of since.
                row = self._row(event.id)
                if event.revision < 2 or (row is not None and self._lives(row)):
                    raise StateError(
                        f"position {position} restores {event.id!r}, which is not forgotten"
                    )
                self._add(event, row, position, time_us)
                self._restored.append(position)
                self._use([event.id], time_us)
            case MemoryLinked() | MemoryUnlinked():
                self._link(event, position)
            case MemoryConsolidated():
                self._form(event, position)
            case MemoryPurged():
                row = self._row(event.id)
                if row is not None:
                    self._dead_rows.add(row)
                    self._new_purged.append(row)
                self.purges.begin(position, event.id, row)
                self._add(husk(event), None, position, time_us)
                self._dead_rows.add(self._new_rows[event.id])
                self._new_vectors.append(np.zeros((1, self._dimensions), np.float32))
            case SpaceCompacted():
                self.purges.complete(event.purged_to, position)
            case HistoryRedacted() | ActivationSpread():
                pass  # its memory's husk is all there is; that a memory was lit is no use of it
            case RequestAnswered():
                self.answers.put(kept_of(event), position, time_us, ())
            case MemoryRecalled():
                self._use(event.ids[:USES_PER_RECALL_MAX], time_us)
            case SpaceConfigured():
                self.settings = settings_in(event)
            case SpaceDeleted():
                self.purge_after_us = event.purge_after_us
            case SpaceRestored():
                self.purge_after_us = None
            case SpaceCreated():
                if position != 1 or event.memory_space_id != self._memory_space_id:
                    raise StateError(f"position {position} creates space {event.memory_space_id!r}")

    def _add(
        self, version: MemoryVersion, previous: int | None, position: int, time_us: int
    ) -> None:
        self._new_previous.append(NO_ROW if previous is None else previous)
        begins = previous is None or isinstance(version, MemoryStored)
        row = len(self._live) + len(self._versions)
        self._new_roots.append(row if begins or previous is None else self._root(previous))
        self._new_rows[version.id] = row
        self._versions.append(version)
        self._new_positions.append(position)
        self._new_times_us.append(time_us)

    def _link(self, event: MemoryLinked | MemoryUnlinked, position: int) -> None:
        rows = [self._row(memory_id) for memory_id in (event.source, event.target)]
        roots = [self._root(row) for row in rows if row is not None and self._lives(row)]
        if len(roots) != 2 or roots[0] == roots[1]:
            raise StateError(
                f"position {position} links or unlinks {event.source!r} and {event.target!r}, "
                "which are not both there"
            )
        source, target = roots
        if isinstance(event, MemoryLinked):
            self._links.put(source, target, event.relation, event.weight, position)
        elif not self._links.remove(source, target, event.relation, position):
            raise StateError(
                f"position {position} removes a link of {event.source!r} to {event.target!r} that "
                "is not there"
            )

    def _use(self, ids: Iterable[str], time_us: int) -> None:
        """What lives under these ids was used, at once; what does not any more, was answered too
        late.
        """
        rows = map(self._row, dict.fromkeys(ids))
        roots = [self._root(row) for row in rows if row is not None and self._lives(row)]
        self._new_uses.append((roots, time_us))

    def _form(self, event: MemoryConsolidated, position: int) -> None:
        rows = [self._row(memory_id) for memory_id in (event.id, *event.sources)]
        roots = [self._root(row) for row in rows if row is not None and self._lives(row)]
        told = 1 <= len(event.sources) == len(event.revisions) and min(event.revisions) >= 1
        there = told and len({*roots}) == len(rows)
        belief = self._version(rows[0]) if there else None
        if belief is None or (belief.kind, belief.revision) != ("belief", event.revision):
            raise StateError(
                f"position {position} forms {event.id!r} from what is not there, or what is no "
                "belief"
            )
        self._beliefs.form(roots[0], roots[1:], event.revisions, position)

    def _version(self, row: int | None) -> MemoryVersion:
        """That in a row, counting what was applied but not yet published."""
        if row is None:
            raise KeyError("no row")
        first = len(self._live)
        return self._versions[row - first] if row >= first else self.view.version(row)

    def _root(self, row: int) -> int:
        """Where the life of a row began, counting what was applied but not yet published."""
        first = len(self._live)
        return self._new_roots[row - first] if row >= first else self._links.root(row)

    def _lives(self, row: int) -> bool:
        """Whether a row is alive, counting what was applied but not yet published."""
        return row not in self._dead_rows and (row >= len(self._live) or self._live.alive(row))

    def _row(self, memory_id: str) -> int | None:
        """The newest row of an id, counting what was applied but not yet published."""
        row = self._new_rows.get(memory_id)
        return self._ids.get(memory_id) if row is None else row

    def publish(self) -> None:
        """Make everything applied visible to readers, at once."""
        self._extend_columns()
        dead = np.array(sorted(row for row in self._dead_rows if self._live.alive(row)), np.int64)
        for row in dead.tolist():
            self._live.kill(row)
        if len(dead) and self._expires_us.view()[dead].min() <= self._earliest_expiry_us:
            self._earliest_expiry_us = earliest_expiry(self._expires_us.view(), self._live.view())
        self._lexicon.bury(dead)
        for roots, time_us in self._new_uses:
            self._uses.add(roots, time_us)
        if self._new_forgotten:
            self._forgotten.extend(self._new_forgotten)
        self._purged_rows.extend(self._new_purged)
        view = self._capture()
        with self._moving_on:
            self._ids.extend(self._new_rows.items())
            self.view = view
        self._versions, self._new_positions, self._new_times_us = [], [], []
        self._new_vectors, self._new_rows, self._dead_rows = [], {}, set()
        self._new_roots, self._new_uses = [], []
        self._new_previous, self._new_forgotten, self._new_purged = [], [], []

    def _extend_columns(self) -> None:
        versions = self._versions
        if not versions:
            return
        first_row = len(self._live)
        self._documents.extend([_encode(version) for version in versions])
        self._positions.extend(self._new_positions)
        self._stored_us.extend(self._new_times_us)
        self._previous.extend(self._new_previous)
        self._links.append(self._new_roots)
        expires_us = [NEVER_US if v.expires_us is None else v.expires_us for v in versions]
        self._expires_us.extend(expires_us)
        self._earliest_expiry_us = min(self._earliest_expiry_us, *expires_us)
        self._confidences.extend([version.confidence for version in versions])
        self._vectors.extend(np.concatenate(self._new_vectors))
        self._lexicon.extend([version.content for version in versions])
        self._attributes.extend(versions)
        times_us = [
            stored if version.occurred_us is None else version.occurred_us
            for version, stored in zip(versions, self._new_times_us, strict=True)
        ]
        self._timeline.extend(times_us, range(first_row, first_row + len(versions)))
        self._sequences.extend([version.source for version in versions], times_us)
        self._uses.append(self._new_roots, np.minimum(times_us, self._new_times_us))
        self._live.append(len(versions))

    def _capture(self) -> View:
        live = self._live.view()
        links = self._links.view(self._position, live)
        return View(
            self._memory_space_id,
            self._position,
            self._documents.view(),
            self._positions.view(),
            self._stored_us.view(),
            self._expires_us.view(),
            self._earliest_expiry_us,
            self._confidences.view(),
            live,
            self._vectors.view(),
            self._lexicon.view(),
            self._attributes.view(),
            self._timeline.view(),
            self._previous.view(),
            self._forgotten.view(),
            self._past,
            self._sequences.view(),
            links,
            self._uses.view(self._links.roots()),
            self._beliefs.view(links),
        )

    def freeze(self) -> Frozen:
        """All of it as it is, for a checkpoint. For the thread that applies, once published."""
        return Frozen(
            self.view,
            self._ids.frozen(),
            self.settings,
            self.purges.copy(),
            self._purged_rows.view(),
            self._restored.view(),
            self.answers.frozen(),
        )

    @classmethod
    def of(cls, memory_space_id: str, dimensions: int, columns: StateColumns) -> State:
        """The state that a checkpoint's columns hold, which may be mapped from a file.

        Raises :class:`StateError` for columns that do not belong together.
        """
        check_columns(columns, dimensions)
        try:
            forward, sequences, uses, company = newer_columns(columns)
        except msgspec.MsgspecError as error:
            raise StateError(f"a memory cannot be read: {error}") from error
        state = cls(memory_space_id, dimensions)
        state._position = state._begun_behind = columns.position
        state.settings = columns.settings
        state.purges = Purges.of(*columns.purges)
        state._documents = LayeredBytes(columns.documents)
        state._positions = GrowingColumn.of(columns.positions)
        state._stored_us = GrowingColumn.of(columns.stored_us)
        state._previous = GrowingColumn.of(np.full(len(columns.live), NO_ROW))
        state._forgotten = GrowingColumn.of(columns.forgotten)
        state._expires_us = GrowingColumn.of(columns.expires_us)
        state._earliest_expiry_us = earliest_expiry(columns.expires_us, columns.live)
        state._confidences = GrowingColumn.of(columns.confidences)
        state._live = LiveMask.of(columns.live)
        state._vectors = Vectors(dimensions, columns.vectors)
        state._lexicon = Lexicon.of(*columns.lexicon, forward)
        state._lexicon.bury(np.flatnonzero(~columns.live))
        state._attributes = Attributes.of(columns.attributes)
        state._timeline = Timeline.of(*columns.timeline)
        state._sequences = Sequences.of(sequences, times_of(columns))
        state.answers = Answers(columns.answers)
        state._ids.restore(*columns.ids)
        state._past = columns.past
        state._restored = GrowingColumn.of(columns.restored)
        state._links = Links.of(columns.links, len(columns.live), state._previous)
        state._uses = Uses.of(uses, company)
        state._beliefs = Beliefs.of(columns.beliefs)
        state.view = state._capture()
        return state

    def history(self, memory_id: str) -> list[int]:
        """The positions of all events of an id, oldest first; none for an id never stored."""
        with self._moving_on:
            view, row = self.view, self._ids.get(memory_id)
        if row is None:
            return []
        positions = view.history(row)
        purged = [each for each in self._purged_rows.view().tolist() if each < view.rows]
        # Links with what was purged are no part of it, though compaction has yet to say so.
        gone = {position for newest in purged for position in view.history(newest)}
        return [position for position in positions if position not in gone]

    def find(self, memory_id: str, now_us: int) -> tuple[View, int] | None:
        """The row of an id that may be shown at that time, and the view that shows it."""
        view, (row,) = self.find_all([memory_id], now_us)
        return None if row is None else (view, row)

    def find_all(self, memory_ids: Sequence[str], now_us: int) -> tuple[View, list[int | None]]:
        """A view, and for each id the row in it that may be shown at that time, None without."""
        with self._moving_on:
            view, rows = self.view, [self._ids.get(memory_id) for memory_id in memory_ids]
        return view, [
            row if row is not None and view.live[row] and view.expires_us[row] > now_us else None
            for row in rows
        ]

    def _id_at(self, row: int) -> str:
        return version_in(self._documents.get(row)).id

    def latest(self, memory_id: str) -> Latest | None:
        """What the writer's decider asks; everything applied must have been published."""
        row = self._ids.get(memory_id)
        if row is None:
            return None
        view, alive = self.view, self._live.alive(row)
        return Latest(view.version(row), alive, int(view.positions[row]), int(view.stored_us[row]))

    def linked(self, source: str, target: str, relation: str) -> bool:
        """Whether the newest lives of two ids are linked so; for the writer's decider, too."""
        one, other = self._ids.get(source), self._ids.get(target)
        if one is None or other is None:
            return False
        return self._links.has(self._links.root(one), self._links.root(other), relation)

    def resting_on(self, memory_id: str) -> list[str]:
        """The living beliefs that rest on a memory; for the writer's decider, as the next two."""
        row = self._ids.get(memory_id)
        if row is None or not len(self.view.beliefs):
            return []
        rows = self.view.beliefs.resting_on(row).tolist()
        return [self.view.version(each).id for each in rows if self._live.alive(each)]

    def derived_from(self, memory_id: str) -> list[str]:
        """All beliefs ever formed from a memory of that id, since it was last purged."""
        row = self._ids.get(memory_id)
        if row is None or not len(self.view.beliefs):
            return []
        rows = self.view.beliefs.ever_of(self.view.chain(row)).tolist()
        found: dict[str, None] = {}
        for each in rows:
            belief = self.view.version(each).id
            newest = self._ids.get(belief)
            # What was purged since is another story by now.
            if newest is not None and each in self.view.chain(newest):
                found[belief] = None
        return list(found)

    def cited(self, memory_id: str) -> list[tuple[str, int]]:
        """What the last belief of an id was formed from."""
        row = self._ids.get(memory_id)
        if row is None:
            return []
        rows, revisions = (each.tolist() for each in self.view.beliefs.sources(row))
        ids = [self.view.version(each).id for each in rows]
        return list(zip(ids, revisions, strict=True))

    def vector(self, memory_id: str) -> Vector:
        """The vector of an id's newest version, float32 (dimensions,)."""
        row = self._ids.get(memory_id)
        if row is None:
            raise KeyError(memory_id)
        return self.view.vectors.row(row)
