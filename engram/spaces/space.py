"""The handle on one space: the only way to any memory.

Here requests are checked and embedded (the edge), turned into commands, and answered. A handle is
cheap, thread-safe, and opens its space at first use.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Unpack

import msgspec
import numpy as np

from engram import limits
from engram.cognition.recall import Wanted, answer
from engram.errors import Invalid, MemoryNotFound
from engram.feed.reader import Reader, check_held, check_incarnation
from engram.feed.reader import follow as read_on
from engram.memory import validate as check
from engram.memory.decide import Configure
from engram.memory.model import (
    AsOf,
    Compaction,
    Event,
    Filter,
    Memory,
    Mode,
    Origin,
    Page,
    Recall,
    SpaceInfo,
    Spread,
    Vector,
    with_etag,
)
from engram.memory.quotas import Quotas
from engram.memory.settings import SettingsGiven, checked_settings
from engram.spaces.as_of import Moment, moment
from engram.spaces.changing import Changing
from engram.spaces.completing import Completing
from engram.spaces.consolidating import Consolidating
from engram.spaces.description import describe
from engram.spaces.portable import Copies
from engram.spaces.recalling import check_how, cue_of, found, mode_for, observed
from engram.spaces.requests import (
    check_cue_ids,
    check_limit,
    checked_filter,
    new_id,
)

if TYPE_CHECKING:
    from engram.spaces.entry import Entry
    from engram.spaces.rates import Charge


class Space(Completing, Consolidating, Changing):
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
        `after:100` (new episodes), `every:1d`, or both. `quotas` bound what the space may hold and
        be asked for: :class:`engram.Quotas`, a mapping, or their text, as
        `memories:100000,bytes:1000000000,writes_per_second:50,recalls_per_second:50,subscribers:8`;
        `none`. Raises `Invalid`.
        """
        self._commit(self._store(), Configure(checked_settings(settings)), lambda done: done)
        return self.info()

    def quotas(self) -> Quotas:
        """The quotas that hold: the space's own, and those of the database where it has none."""
        return self._store().quotas

    def charge(self, charge: Charge) -> None:
        """Count a request by somebody else, for surfaces that serve them; see the rates among the
        quotas. Raises :class:`engram.errors.RateLimited`.
        """
        self._entry.rates.charge(charge, self.quotas(), self.id)

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
        memory = view.memory(row, include_embedding=include_embedding)
        return with_etag(memory, self.incarnation)

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
            with_etag(
                view.memory(int(row), include_embedding=include_embedding),
                self.incarnation,
            )
            for row in rows[:limit]
        )
        more = len(rows) > limit
        return Page(memories=memories, next=memories[-1].position if more else None)

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
        named = found(self.id, memory_ids, rows)
        embed = self._embed if words_embedded else None
        cue = cue_of(view, named, query, embedding, dimensions=self._spec.dimensions, embed=embed)
        chosen = mode_for(cue, mode, spread)
        wanted = Wanted(
            *(chosen, limit, filter, min_confidence, explain, now_us, spread or Spread()),
            decay=state.settings.decay,
        )
        with self._entry.computing:
            answered = answer(view, cue, wanted)
        for hit in answered.hits:
            with_etag(hit.memory, self.incarnation)
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
