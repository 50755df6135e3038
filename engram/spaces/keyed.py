"""Requests that are done once, however often they come: from a key to what the writer is asked.

What a request is answered has to lie in the record of what it did. So it is made in the writer's
thread, once it is decided what that is, where positions and times are known; whoever asked gets
just these bytes. A key is known while its request is worked on, which is told by the entry of its
space, and once it was answered by the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from engram.memory.answering import Answered, Keyed, check_unanswered, digest

if TYPE_CHECKING:
    from engram.memory.decide import Command
    from engram.spaces.entry import Entry
    from engram.spaces.machine import Committed
    from engram.spaces.store import Store


class KeyedRequest:
    """One request. `answered` is what it was answered, once it was."""

    def __init__(
        self,
        space_uuid: bytes,
        key: tuple[bytes, ...],
        request: tuple[bytes, ...],
        answer: Callable[[Any], Answered],
    ) -> None:
        """`key` are the parts that say which request it is, `request` those of what it asks for.
        `answer` turns what the verb returns into what is answered.
        """
        self.key = digest(space_uuid, *key)
        self.request = digest(space_uuid, *request)
        self._answer = answer
        self._used = False
        self.answered: Answered | None = None

    def command(self, command: Command, told: Callable[[Committed], Any]) -> Keyed:
        if self._used:
            raise RuntimeError("a request with a key is one command")
        self._used = True

        def answer(committed: Committed) -> Answered:
            self.answered = self._answer(told(committed))
            return self.answered

        return Keyed(command, self.key, self.request, answer)


@contextmanager
def answering(entry: Entry, store: Store, request: KeyedRequest) -> Iterator[None]:
    """See :meth:`engram.Space.answering`."""
    with entry.answering(request.key):
        kept = store.state.answers.find(request.key, store.now_ns() // 1_000)
        check_unanswered(kept, request.request, entry.identity.memory_space_id)
        yield
