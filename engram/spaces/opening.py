"""Opening a space's folder, where it belongs or where it was put aside.

A folder is opened for an identity: what has another uuid was made anew since, and is not meant.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import Protocol

from engram.feed.feed import Feed
from engram.feed.telling import SpaceName
from engram.spaces.identity import Identity, read_identity
from engram.spaces.lifecycle import Lifecycle
from engram.spaces.store import Store, translated, was_deleted
from wal.vfs import Directory


class NewStore(Protocol):
    """Makes the store of a folder, which it takes over unless it fails."""

    def __call__(
        self,
        space_dir: Directory,
        identity: Identity,
        *,
        feed: Feed,
        though_damaged: bool = False,
    ) -> Store: ...


def open_in_place(
    root: Directory, identity: Identity, feed: Feed, lifecycle: Lifecycle, new_store: NewStore
) -> Store:
    """Open a space where it belongs. Raises :class:`engram.errors.SpaceNotFound` if what is there
    is not the one that is meant, or is deleted; and the system's own errors.
    """
    # Whoever made the space may have been killed before its name was durable; what is stored in it
    # from now on must not vanish with it.
    root.sync()
    _check_in_place(root, identity)
    space_dir = root.open_dir(identity.memory_space_id)
    store = open_folder(space_dir, identity, feed, partial(new_store, though_damaged=True))
    try:
        # Between looking and locking, it may have been moved away.
        _check_in_place(root, identity)
        if store.state.purge_after_us is not None:
            # Not moved away yet: the next look, which is not under a lock, does it.
            lifecycle.note(identity, store.state.purge_after_us)
            raise was_deleted(identity.memory_space_id)
    except BaseException:
        store.close()
        raise
    return store


def open_aside(space_dir: Directory, identity: Identity, new_store: NewStore) -> Store:
    """Open a space wherever it lies, for nobody to use but the lifecycle."""
    name = SpaceName(identity.memory_space_id, identity.uuid)
    return open_folder(space_dir, identity, Feed(name), new_store)


def open_folder(space_dir: Directory, identity: Identity, feed: Feed, new_store: NewStore) -> Store:
    try:
        return new_store(space_dir, identity, feed=feed)
    except BaseException:
        space_dir.close()
        raise


def _check_in_place(root: Directory, identity: Identity) -> None:
    space_id = identity.memory_space_id
    with translated(space_id), closing(root.open_dir(space_id)) as space_dir:
        if read_identity(space_dir, space_id).uuid != identity.uuid:
            raise was_deleted(space_id)
