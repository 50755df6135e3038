"""Who asks, what they may do, and what each operation takes. Pure.

A key has spaces and scopes, and every one of its scopes in every one of its spaces:

| scope | what it is for |
| --- | --- |
| `read` | recall, complete, get, list, history, links; recording a recall takes no more |
| `write` | remember, forget, purge a memory, link, unlink; apply what the space's policy forgets |
| `subscribe` | the live feed, which tells what is remembered |
| `admin` | all of that, and configure, delete, restore, purge, compact, reopen and export a space |

`admin` includes the others, since whoever exports a space has read it. What answers with, or
chooses by, what is stored takes `read` beside `write`: otherwise revising nothing would be a way to
read. A space that a key names is visible to it, whatever its scopes: it is listed and described.
Making a space, also by import and fork, takes `admin` on `*`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from engram.access.keys import EVERY_SPACE, SCOPES, KeyRecord, Scope
from engram.errors import Forbidden, SpaceNotFound


class Need(NamedTuple):
    """What an operation takes: all of these scopes, in its space or `everywhere`. With `makes` it
    names a space that need not be there.
    """

    scopes: frozenset[Scope]
    everywhere: bool = False
    makes: bool = False


SEES: Final = Need(frozenset())
READS: Final = Need(frozenset({"read"}))
WRITES: Final = Need(frozenset({"write"}))
CHANGES: Final = Need(frozenset({"read", "write"}))
FOLLOWS: Final = Need(frozenset({"subscribe"}))
RULES: Final = Need(frozenset({"admin"}))
COPIES: Final = Need(frozenset({"admin"}), everywhere=True)
CREATES: Final = Need(frozenset({"admin"}), everywhere=True, makes=True)

NEEDS: Final[Mapping[str, Need]] = {
    "remember": WRITES,
    "remember_skipping": CHANGES,  # of what it skips, it answers with what is there
    "get": READS,
    "list": READS,
    "revise": CHANGES,
    "forget": WRITES,
    "restore": CHANGES,
    "purge": WRITES,
    "forget_matching": CHANGES,
    "purge_matching": CHANGES,
    "history": READS,
    "link": WRITES,
    "links": READS,
    "unlink": WRITES,
    "recall": READS,
    "complete": READS,
    "consolidate": CHANGES,
    "apply_forgetting": CHANGES,
    "events": FOLLOWS,
    "list_spaces": SEES,
    "show_space": SEES,
    "health": SEES,
    "diagnostics": RULES,
    "compact": RULES,
    "reopen": RULES,
    "configure_space": RULES,
    "delete_space": RULES,
    "restore_space": RULES,
    "purge_space": RULES,
    "export": RULES,
    "create_space": CREATES,
    "import": CREATES,
    "fork": COPIES,
}
"""What each operation takes, by its name on every surface."""


class Principal(NamedTuple):
    """Who asks. `key_id` is None where nobody needs a key; `spaces` is None for all of them."""

    key_id: str | None
    spaces: frozenset[str] | None
    scopes: frozenset[Scope]

    def sees(self, space_id: str) -> bool:
        """Whether the space, if it is there, is one that they may know of."""
        return self.spaces is None or space_id in self.spaces

    def allows(self, space_id: str, scope: Scope) -> bool:
        return self.sees(space_id) and self._has(scope)

    @property
    def rules(self) -> bool:
        """Whether they are admin of the spaces that they see."""
        return "admin" in self.scopes

    @property
    def may_create(self) -> bool:
        return self.spaces is None and self.rules

    def lacks(self, need: Need) -> bool:
        """Whether something of that is missing, in a space that they see."""
        if need.everywhere and self.spaces is not None:
            return True
        return not all(self._has(scope) for scope in need.scopes)

    def check_visible(self, space_id: str) -> None:
        """Raises :class:`engram.errors.SpaceNotFound`, as for a space that is not there."""
        if not self.sees(space_id):
            raise SpaceNotFound.of(space_id)

    def check_create(self) -> None:
        """Raises :class:`engram.errors.Forbidden`, whatever the space is called."""
        if not self.may_create:
            raise Forbidden(_CREATING)

    def check(self, space_id: str, need: Need) -> None:
        """For what an operation takes beyond its own, in a space where it was admitted. Raises
        :class:`engram.errors.Forbidden`.
        """
        if self.lacks(need):
            raise self.refusal(space_id, need)

    def refusal(self, space_id: str, need: Need) -> Forbidden:
        """The error for a space that they see, but where something of `need` is missing."""
        if need.everywhere:
            return Forbidden(_CREATING, memory_space_id=space_id)
        missing = [s for s in SCOPES if s in need.scopes and not self._has(s)]
        return Forbidden(
            f"the key {self.key_id} lacks the scope {' and '.join(missing)} in the space "
            f"{space_id!r}; make one that has it with `engram keys create`, on the server's "
            "machine",
            memory_space_id=space_id,
        )

    def _has(self, scope: Scope) -> bool:
        return scope in self.scopes or "admin" in self.scopes


_CREATING: Final = (
    "making a space takes a key with the scope admin on all spaces; make one with "
    "`engram keys create --all-spaces --scope admin`, on the server's machine"
)

ANYBODY: Final = Principal(None, None, frozenset(SCOPES))
"""Whoever asks where no key is needed: whoever can reach a loopback address of this machine."""


def principal_of(record: KeyRecord) -> Principal:
    spaces = None if record.spaces == EVERY_SPACE else frozenset(record.spaces)
    return Principal(record.id, spaces, frozenset(record.scopes))
