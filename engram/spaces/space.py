"""The handle on one space: the only way to any memory.

Here requests are checked and embedded (the edge), turned into commands, and answered. A handle is
cheap, thread-safe, and opens its space at first use.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Unpack

import msgspec
import numpy as np

from engram import limits
from engram.cognition.recall import Wanted, answer
from engram.embedding.registry import embedder_for
from engram.errors import EmbedderUnavailable, EngramError, Invalid, MemoryNotFound, TooLarge
from engram.feed.reader import Reader, check_held, check_incarnation
from engram.feed.reader import follow as read_on
from engram.memory import validate as check
from engram.memory.decide import Configure, Forget, Remember, Restore, Revise
from engram.memory.events import MemoryVersion
from engram.memory.model import (
    AsOf,
    Changes,
    Compaction,
    Event,
    Filter,
    Forgotten,
    Kind,
    Memory,
    Mode,
    NewMemory,
    Origin,
    Page,
    PurgeReceipt,
    Recall,
    Remembered,
    SpaceInfo,
    Spread,
    Vector,
)
from engram.memory.settings import SettingsGiven, checked_settings
from engram.memory.view import memory_of
from engram.spaces import purging
from engram.spaces.as_of import Moment, moment
from engram.spaces.completing import Completing
from engram.spaces.consolidating import Consolidating
from engram.spaces.description import describe
from engram.spaces.lapsing import Lapsing
from engram.spaces.portable import Copies
from engram.spaces.recalling import check_how, cue_of, found, mode_for, observed
from engram.spaces.requests import (
    changed_fields,
    check_cue_ids,
    check_limit,
    checked_filter,
    new_id,
    new_memory,
    purging_filter,
    version_of,
)

if TYPE_CHECKING:
    from engram.embedding.protocol import Embedder
    from engram.spaces.entry import Entry
    from engram.spaces.machine import Committed


class Space(Completing, Consolidating, Lapsing):
    """One memory space. Get it from :meth:`engram.Database.space` or `create_space`.

    Every method may raise :class:`engram.errors.SpaceDamaged`, `SpaceLocked` (another process has
    it open) or `Unavailable` (the database was closed); every write also `DiskFull` (nothing was
    stored) and `OutcomeUnknown` (a sync failed: reopen to see what is held).
    """

    def __init__(self, entry: Entry, copies: Copies, origin: Origin | None = None) -> None:
        super().__init__(entry, copies, origin)
        self._spec = entry.identity.embedding

    def __repr__(self) -> str:
        return f"<engram.Space {self.id!r}>"

    def info(self) -> SpaceInfo:
        """The space's description, figures included."""
        return describe(self._entry, opened_only=False)

    def reopen(self) -> SpaceInfo:
        """Go on with what the disk holds, after a failed sync has left it in doubt.

        A poisoned space takes no writes until then, so that somebody looks at what was held: what
        failed with `OutcomeUnknown` is there afterwards, or is not. The log is recovered and
        replayed; those who follow the space go on behind what they were told. One that was found
        damaged is verified again. Of any other, nothing is changed, which `detail` says.

        Raises :class:`engram.errors.SpaceDamaged` if what is on disk does not verify; what is in
        memory can still be read then, if it could before.
        """
        reopened = self._entry.reopen()
        info = self.info()
        if info.detail is not None:
            return info
        detail = (
            "it was reopened, and holds what is on disk"
            if reopened
            else "it was neither poisoned nor damaged, so nothing was changed"
        )
        return msgspec.structs.replace(info, detail=detail)

    def configure(self, **settings: Unpack[SettingsGiven]) -> SpaceInfo:
        """Set something about the space, durably; in force from then on. What is left out stays.

        `retention` says how much of its history has to stay: a :class:`engram.Retention`, or its
        text: `all`, `positions:10000`, `age:30d`. History beyond it goes when the space is
        compacted, and what is remembered stays. `decay` says how memories fade that nobody uses,
        and what that counts for in recall: a :class:`engram.Decay`, or its text: `power:0.5`,
        `exponential:30d`, `none`, each with `,weight:0.1` if wanted. `consolidation` says when
        :meth:`consolidate` runs by itself: a :class:`engram.Rhythm`, or its text: `off`,
        `after:100` (new episodes), `every:1d`, or both. Raises `Invalid`.
        """
        self._commit(self._store(), Configure(checked_settings(settings)))
        return self.info()

    def remember(
        self,
        content: str,
        *,
        id: str | None = None,
        kind: Kind = "episode",
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        confidence: float = 1.0,
        occurred_at: datetime | None = None,
        expires_at: datetime | None = None,
        source: str | None = None,
        embedding: Sequence[float] | Vector | None = None,
    ) -> Memory:
        """Store one memory; durable when this returns. See :meth:`remember_many`."""
        new = NewMemory(
            content=content,
            id=id,
            kind=kind,
            tags=tags,  # type: ignore[arg-type]  # checked and made a tuple below
            metadata={} if metadata is None else metadata,  # type: ignore[arg-type]
            confidence=confidence,
            occurred_at=occurred_at,
            expires_at=expires_at,
            source=source,
            embedding=embedding,  # type: ignore[arg-type]
        )
        return self._remember([new], [""]).memories[0]

    def remember_many(self, memories: Iterable[NewMemory | Mapping[str, Any] | str]) -> Remembered:
        """Store a batch, all or nothing; durable when this returns.

        Items are :class:`engram.NewMemory`, mappings with its fields, or bare contents. Raises
        :class:`engram.errors.MemoryExists` if an id lives, `Invalid`, `TooLarge`,
        `EmbedderMismatch` or `EmbedderUnavailable`; nothing is stored then.
        """
        items = list(check.items_of("memories", memories, "a list"))
        if not items:
            raise Invalid.of("memories", "is empty; there is nothing to remember")
        if len(items) > limits.MEMORIES_PER_REQUEST_MAX:
            raise TooLarge(
                f"memories has {len(items)} items; at most {limits.MEMORIES_PER_REQUEST_MAX} go "
                "into one atomic batch. Split it"
            )
        fields = [f"memories[{i}]." for i in range(len(items))]
        return self._remember(
            [new_memory(f, item) for f, item in zip(fields, items, strict=True)], fields
        )

    def _remember(self, items: list[NewMemory], fields: list[str]) -> Remembered:
        versions = [version_of(f, item) for f, item in zip(fields, items, strict=True)]
        store = self._store()  # a space that cannot be used is told before anything is embedded
        vectors = self._vectors(
            fields, [v.content for v in versions], [item.embedding for item in items]
        )
        command = Remember(versions, vectors, store.now_ns() // 1_000)
        committed = self._commit(store, command)
        return Remembered(
            memory_space_id=self.id,
            position=committed.ack.last_position,
            memories=self._memories(committed),
        )

    def _vectors(
        self, fields: Sequence[str], contents: Sequence[str], given: Sequence[Any]
    ) -> Vector:
        """One float32 row per content: the caller's vectors, or the space's embedder's."""
        if any(vector is not None for vector in given) or self._spec.model == check.CALLER:
            rows = []
            for field, vector in zip(fields, given, strict=True):
                if vector is None and self._spec.model == check.CALLER:
                    raise Invalid.of(
                        f"{field}embedding",
                        f"is missing; this space takes the caller's vectors of "
                        f"{self._spec.dimensions} dimensions",
                    )
                if vector is not None:
                    rows.append(check.check_vector(f"{field}embedding", vector, self._spec))
            return np.stack(rows)
        return self._embed(contents)

    def _embed(self, texts: Sequence[str]) -> Vector:
        try:
            return self._embedder().embed(texts)
        except EngramError as error:
            error.memory_space_id = self.id
            raise

    def _embedder(self) -> Embedder:
        """The embedder this space is pinned to; another one never stands in for it."""
        try:
            return embedder_for(self._spec)
        except Invalid as error:
            raise EmbedderUnavailable(
                f"space {self.id!r} is pinned to the embedder {self._spec.model!r} of "
                f"{self._spec.dimensions} dimensions, which this version does not have. Use the "
                "version of Engram that made it",
                memory_space_id=self.id,
            ) from error

    def get(
        self, memory_id: str, *, include_embedding: bool = False, as_of: AsOf | None = None
    ) -> Memory:
        """The living memory of that id, as it is or `as_of` an earlier moment (see :meth:`recall`).
        Raises :class:`engram.errors.MemoryNotFound`.
        """
        memory_id = check.check_memory_id("id", memory_id)
        state, now_us = self._moment(as_of)
        found = state.find(memory_id, now_us)
        if found is None:
            raise self._not_found(memory_id, "is" if as_of is None else "was")
        view, row = found
        return view.memory(row, include_embedding=include_embedding)

    def _not_found(self, memory_id: str, verb: str = "is") -> MemoryNotFound:
        return MemoryNotFound(
            f"there {verb} no memory {memory_id!r} in space {self.id!r}", memory_space_id=self.id
        )

    def _moment(self, as_of: object) -> Moment:
        when = check.check_as_of("as_of", as_of)
        store = self._store()
        if when is None:
            return Moment(store.state, store.now_ns() // 1_000)
        return moment(self._entry, when)

    def list(
        self,
        filter: Filter | None = None,
        *,
        limit: int = limits.LIST_LIMIT_DEFAULT,
        after: int | None = None,
        include_embedding: bool = False,
        as_of: AsOf | None = None,
    ) -> Page:
        """Living memories by ascending position, those behind position `after` only; those of now,
        or `as_of` an earlier moment (see :meth:`recall`).
        """
        check_limit("limit", limit, limits.LIST_LIMIT_MAX)
        if after is not None and (isinstance(after, bool) or not isinstance(after, int)):
            raise Invalid.of("after", "must be a position, as `next` gave it")
        filter = checked_filter(filter)
        state, now_us = self._moment(as_of)
        view = state.view
        mask = view.matching(filter, view.visible(now_us))
        rows = np.flatnonzero(mask)
        if after is not None:
            rows = rows[np.searchsorted(view.positions[rows], after, side="right") :]
        memories = tuple(
            view.memory(int(row), include_embedding=include_embedding) for row in rows[:limit]
        )
        more = len(rows) > limit
        return Page(memories=memories, next=memories[-1].position if more else None)

    def revise(self, memory_id: str, changes: Changes) -> Memory:
        """Change the given fields of a memory, each as a whole; None clears a field.

        New content is embedded anew; in a space with the caller's vectors it needs its embedding.
        Raises :class:`engram.errors.MemoryNotFound`, `Invalid`, `TooLarge`, `EmbedderMismatch` or
        `EmbedderUnavailable`; nothing is changed then.
        """
        memory_id = check.check_memory_id("id", memory_id)
        fields = changed_fields(changes)
        store = self._store()
        if store.state.find(memory_id, store.now_ns() // 1_000) is None:
            raise self._not_found(memory_id)  # before anything is embedded
        vector = None
        if "content" in fields:
            given = None if changes.embedding is msgspec.UNSET else changes.embedding
            vector = self._vectors([""], [fields["content"]], [given])[0]
        elif changes.embedding is not msgspec.UNSET:
            vector = check.check_vector("embedding", changes.embedding, self._spec)
        elif not fields:
            raise Invalid(
                "nothing to change was given; name at least one of "
                + ", ".join(Changes.__struct_fields__)
            )
        store = self._store()
        command = Revise(memory_id, fields, vector, store.now_ns() // 1_000)
        return self._memories(self._commit(store, command))[0]

    def forget(self, memory_id: str) -> Forgotten:
        """Stop recalling a memory; logged, so that it stays forgotten until :meth:`restore`. Its
        id may be used again.

        Raises :class:`engram.errors.MemoryNotFound`.
        """
        memory_id = check.check_memory_id("id", memory_id)
        store = self._store()
        committed = self._commit(store, Forget(memory_id, store.now_ns() // 1_000))
        return Forgotten(id=memory_id, position=committed.ack.position)

    def restore(self, memory_id: str) -> Memory:
        """Undo a forgetting: the memory as it was, as its next revision, embedded as it was.

        Where the id was used again and forgotten again, it is the last memory of that id. Raises
        :class:`engram.errors.MemoryExists` if it is not forgotten; `MemoryNotFound` if it never
        was there or was purged, or went with the history it was forgotten in, and for one whose
        time is up: that it expired is not undone.
        """
        memory_id = check.check_memory_id("id", memory_id)
        store = self._store()
        committed = self._commit(store, Restore(memory_id, store.now_ns() // 1_000))
        return self._memories(committed)[0]

    def purge(self, memory_id: str) -> PurgeReceipt:
        """Let nothing be left of a memory, living or forgotten, in any file of the space.

        It is recalled no more from the first moment; its events become `history.redacted`, and its
        id may be used again. Asked again, it returns the same receipt. Raises
        :class:`engram.errors.MemoryNotFound`; and `DiskFull` where there is no room to rewrite what
        holds it: then it is out of reach, but not yet off the disk. Repeat it once there is room.
        """
        memory_id = check.check_memory_id("id", memory_id)
        with self._unstaged(), self._entry.pinned() as store:
            return purging.purge_one(store, memory_id)

    def purge_matching(self, filter: Filter) -> PurgeReceipt | None:
        """:meth:`purge` all memories, living or forgotten, whose last version matches a filter.

        None if there was none; a filter without any condition is refused. Raises what that raises.
        """
        checked = purging_filter(filter)
        with self._unstaged(), self._entry.pinned() as store:
            return purging.purge_matching(store, checked)

    def recall(
        self,
        query: str | None = None,
        *,
        embedding: Sequence[float] | Vector | None = None,
        memory_ids: Sequence[str] = (),
        limit: int = 10,
        mode: Mode | None = None,
        filter: Filter | None = None,
        min_confidence: float | None = None,
        as_of: AsOf | None = None,
        spread: Spread | None = None,
        explain: bool = False,
        record: bool = True,
    ) -> Recall:
        """The memories that best answer a cue: words, a vector, memories, or several of these.

        Memories given as a cue are not in the answer. `mode` None chooses by what the cue and the
        space allow, and the answer names the choice; `spread` says how far `spreading` goes. With
        `record`, the recall itself becomes an event (`memory.recalled`, with a digest of the
        query), and what it lit another one (`activation.spread`), soon after the answer; where that
        cannot be, on a full disk for one, the answer comes all the same and says so.

        With `as_of` it is what the space would have answered once that position was applied, or at
        that time: nothing that came later counts, but that what was purged since is gone. Where
        the position falls inside a batch, it is what the space was before that batch; the
        answer's `position` says which. Such a recall is not put on record.

        Raises :class:`engram.errors.Invalid`, `MemoryNotFound` for a cue that is not there,
        `EmbedderUnavailable`; and for `as_of`, `PositionBeyondEnd` and `HistoryGone`.
        """
        started = time.perf_counter()
        check_limit("limit", limit, limits.RECALL_LIMIT_MAX)
        check_how(mode, min_confidence, spread, explain=explain, record=record)
        filter = checked_filter(filter)
        check_cue_ids(memory_ids)
        store = self._store()
        state, now_us = self._moment(as_of)
        words_embedded = mode != "lexical" and self._spec.model != check.CALLER
        view, rows = state.find_all(memory_ids, now_us)
        cue = cue_of(
            view,
            found(self.id, memory_ids, rows),
            query,
            embedding,
            dimensions=self._spec.dimensions,
            embed=self._embed if words_embedded else None,
        )
        chosen = mode_for(cue, mode, spread)
        wanted = Wanted(
            *(chosen, limit, filter, min_confidence, explain, now_us, spread or Spread()),
            decay=state.settings.decay,
        )
        answered = answer(view, cue, wanted)
        recall_id = new_id()
        # What is looked up in the past is no use of a memory, which may be another one by now.
        recorded = (as_of is None and record) and self._entry.observe(
            store, observed(self._entry.identity, view, recall_id, chosen, query, answered)
        )
        return Recall(
            memory_space_id=self.id,
            recall_id=recall_id,
            position=view.position,
            mode=chosen,
            recorded=recorded,
            results=tuple(answered.hits),
            took_ms=round((time.perf_counter() - started) * 1_000, 3),
        )

    def history(self, memory_id: str) -> tuple[Event, ...]:
        """Everything that happened to an id and to its links, oldest first, also if it is forgotten
        now; without what lies before the history that is held.

        Raises :class:`engram.errors.MemoryNotFound` for an id that was never stored.
        """
        memory_id = check.check_memory_id("id", memory_id)
        store = self._store()
        positions = store.state.history(memory_id)
        if not positions:
            raise MemoryNotFound(
                f"there never was a memory {memory_id!r} in space {self.id!r}",
                memory_space_id=self.id,
            )
        with self._entry.pinned() as pinned:
            oldest = pinned.log.oldest_position
            return tuple(pinned.event(position) for position in positions if position >= oldest)

    def compact(self) -> Compaction:
        """Write a checkpoint, so that the space opens at once, and let go of history that it need
        not keep. Reads and writes go on meanwhile. Where one runs already, this joins the next.

        Raises :class:`engram.errors.DiskFull`; everything is as it was then.
        """
        with self._entry.pinned() as store:
            return store.compact()

    def events(
        self, after: int | None = None, *, types: Sequence[str] = (), follow: bool = False
    ) -> Iterator[Event]:
        """The events behind position `after` (None: all that are held), oldest first; durable ones
        only.

        It ends with what is durable now; with `follow` it never ends, and waits for what comes
        (then None means: only what comes). `types` narrows it. Raises
        :class:`engram.errors.PositionBeyondEnd`, `HistoryGone` (which says where history begins) or
        `Invalid`; and while iterating, `Unavailable`
        once the database is closed.
        """
        if after is None and not follow:
            after = self._store().log.oldest_position - 1
        reader = self.reader(after, types)
        until = None if follow else reader.feed.snapshot.durable
        return read_on(reader, until=until)

    def reader(
        self, after: int | None, types: Sequence[str], *, incarnation: str | None = None
    ) -> Reader:
        """A cursor on this space's feed, for surfaces that wait in their own way.

        Raises :class:`engram.errors.HistoryGone` for a position that history no longer leads on
        from, and if `incarnation` is given and is not this space's uuid: a position belongs to one
        incarnation.
        """
        store = self._store()
        store.check_history()
        check_incarnation(incarnation, self._entry.feed)
        check_held(after, store.log.oldest_position, self._entry.feed)
        entry = self._entry
        return Reader(entry.feed, entry.events, after, types, entry)

    def _memories(self, committed: Committed) -> tuple[Memory, ...]:
        """The memory versions among durable events, as users see them."""
        return tuple(
            memory_of(
                self.id,
                event,
                position=committed.ack.position + index,
                stored_us=committed.ack.time_ns // 1_000,
            )
            for index, event in enumerate(committed.batch.events)
            if isinstance(event, MemoryVersion)
        )
