"""Spaces made of others: from a bundle, or from what another one remembers, embedded anew.

Both are built in a folder that nobody sees (:mod:`engram.bundles.incoming`) and appear by one
rename, whole or not at all. What was embedded for a copy is staged beside it
(:mod:`engram.spaces.staged`), since that is what takes long, and may fail half way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final, NamedTuple

from engram.bundles.incoming import Bundle, Incoming
from engram.bundles.outgoing import Outgoing
from engram.embedding.registry import embedder_for
from engram.errors import (
    HistoryGone,
    SpaceDeleted,
    SpaceExists,
    SpaceNotFound,
    Unavailable,
)
from engram.memory.carried import carried, with_vectors
from engram.memory.model import EmbeddingSpec, Origin, Reembedded
from engram.memory.state import State
from engram.spaces.as_of import moment
from engram.spaces.entry import Entry
from engram.spaces.identity import Identity
from engram.spaces.ids import check_space_id
from engram.spaces.layout import TMP_DIR
from engram.spaces.lifecycle import Lifecycle
from engram.spaces.making import check_embedder, check_free, new_identity
from engram.spaces.past import Mark
from engram.spaces.portable import Progress
from engram.spaces.reembedding import check_target, embedded
from engram.spaces.space import Space
from engram.spaces.staged import OpenStage, Stages
from engram.spaces.store import Clock, translated
from wal.opened import LogOptions
from wal.vfs import Directory

ATTEMPTS_MAX: Final = 5
Fill = Callable[[Incoming, Identity], None]


class Ground(NamedTuple):
    """Of a registry what making spaces needs: its folders, and its order.

    `exclusively` holds the lock of the data root, `errors` says what its disk's failures mean, and
    `remember` makes an entry of what is in its place.
    """

    root: Directory
    control: Directory
    lifecycle: Lifecycle
    owner: str
    clock: Clock
    options: LogOptions
    check_open: Callable[[], None]
    exclusively: Callable[[str], AbstractContextManager[None]]
    errors: Callable[[], AbstractContextManager[None]]
    remember: Callable[[Identity], Entry]


class _Purged(Exception):
    """Something was purged from the source since its memories were read."""


class Copies:
    """See the module. Thread-safe."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.stages = Stages(ground.root, ground.control, ground.owner, ground.clock)

    def receive(self, space_id: str, chunks: Iterator[bytes], as_of: int | None = None) -> Space:
        """Make a space from a bundle, whole or not at all. Reading it holds up nobody.

        `as_of` is what was asked for where the bundle is a fork's. Raises
        :class:`engram.errors.SpaceExists`, `SpaceDeleted`, `Malformed`, what creating raises, and
        what `chunks` raises.
        """
        self._check_free(space_id)
        bundle = Bundle(chunks)
        document = bundle.document
        check_embedder(document.embedding)
        entry = self._made(
            space_id,
            document.embedding,
            lambda incoming, identity: incoming.fill(identity, bundle),
            lambda: None,
        )
        origin = Origin(
            memory_space_id=document.memory_space_id,
            space_uuid=document.space_uuid,
            position=document.position,
            as_of=as_of,
        )
        return Space(entry, self, origin)

    def reembed(
        self,
        source: Entry,
        space_id: str,
        spec: EmbeddingSpec,
        as_of: int | None,
        progress: Progress | None,
    ) -> Space:
        """Make a space of what another one remembers, embedded anew: :meth:`engram.Space.fork`."""
        check_target(spec, source.identity.embedding)
        self._check_free(space_id)
        position = Outgoing(source, as_of).position
        check_embedder(spec)
        with self._ground.exclusively(space_id):
            stage = self.stages.begin(space_id, source.identity, spec)
        try:
            entry, reembedded = self._reembedded(source, space_id, spec, position, stage, progress)
        except (SpaceExists, SpaceDeleted, SpaceNotFound):
            stage.discard()  # nobody can go on with it
            raise
        finally:
            stage.close()
        origin = Origin(
            memory_space_id=source.identity.memory_space_id,
            space_uuid=source.identity.uuid,
            position=position,
            as_of=as_of,
            reembedded=reembedded,
        )
        return Space(entry, self, origin)

    def forget(self, source_uuid: str) -> None:
        """Keep nothing of what was embedded of a space."""
        self._ground.check_open()
        with self._ground.errors():
            self.stages.forget(source_uuid)

    def _reembedded(
        self,
        source: Entry,
        space_id: str,
        spec: EmbeddingSpec,
        position: int,
        stage: OpenStage,
        progress: Progress | None,
    ) -> tuple[Entry, Reembedded]:
        """The new space. Where a purge comes in between, all is read again without what it took;
        what else was embedded is staged by then.
        """
        for _ in range(ATTEMPTS_MAX):
            try:
                return self._attempt(source, space_id, spec, position, stage, progress)
            except _Purged:
                pass
        raise Unavailable(
            f"memories of space {source.identity.memory_space_id!r} were purged again and again "
            "while it was embedded anew. Do it again",
            memory_space_id=source.identity.memory_space_id,
        )

    def _attempt(
        self,
        source: Entry,
        space_id: str,
        spec: EmbeddingSpec,
        position: int,
        stage: OpenStage,
        progress: Progress | None,
    ) -> tuple[Entry, Reembedded]:
        """The new space. Raises :class:`_Purged`."""
        mark = _mark(source)
        columns = carried(_state(source, position))
        made = embedded(columns, embedder_for(spec), stage.vectors, self._ground.errors, progress)
        columns = with_vectors(columns, made.vectors)

        def check() -> None:
            if _mark(source) != mark:
                raise _Purged

        entry = self._made(
            space_id,
            spec,
            lambda incoming, identity: incoming.fill_from(identity, columns),
            check,
            stage.discard,
        )
        return entry, Reembedded(
            model=spec.model,
            dimensions=spec.dimensions,
            memories=made.memories,
            resumed=made.resumed,
        )

    def _check_free(self, space_id: str) -> None:
        ground = self._ground
        ground.check_open()
        with ground.errors():
            check_free(ground.root, ground.lifecycle, check_space_id(space_id))

    def _made(
        self,
        space_id: str,
        spec: EmbeddingSpec,
        fill: Fill,
        check: Callable[[], None],
        done: Callable[[], None] = lambda: None,
    ) -> Entry:
        """Have `fill` build a space aside, and let it appear if `check` does not mind."""
        ground = self._ground
        with ground.exclusively(space_id):
            ground.lifecycle.settle(space_id)
            identity = new_identity(ground.lifecycle, space_id, spec, ground.clock())
            tmp = ground.control.open_dir(TMP_DIR)
            incoming = Incoming(tmp, identity.uuid, ground.owner, ground.options)
        try:
            with ground.errors(), translated(space_id):
                fill(incoming, identity)
            with ground.exclusively(space_id):
                ground.lifecycle.settle(space_id)
                check_free(ground.root, ground.lifecycle, space_id, identity.generation)
                check()
                incoming.publish(ground.root, space_id)
                done()
                return ground.remember(identity)
        finally:
            incoming.discard()


def _mark(source: Entry) -> Mark:
    with source.pinned() as store:
        return store.state.purges.mark


def _state(source: Entry, position: int) -> State:
    try:
        return moment(source, position).state
    except HistoryGone as error:
        space_id = source.identity.memory_space_id
        raise Unavailable(
            f"space {space_id!r} let go of history while it was read: a compaction put its "
            "retention into force. Do it again",
            memory_space_id=space_id,
        ) from error
