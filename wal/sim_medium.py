"""The medium below :mod:`wal.sim_vfs`: what is durable, what is pending, what a crash leaves.

Theory of operation. A real disk differs from what a program sees in three ways, and the three are
kept apart here. *Durable bytes* are what each file holds on the medium. *Pending changes* are the
writes, truncations and allocations since the file was last synced; reads see them, the medium may
not. *Directory entries* have the same two sides: creating, renaming or removing a name changes
what is visible at once, and what is durable only when the directory is synced.

A crash asks a :data:`Choice` what became of every pending change. The rules:

- What was synced is never affected.
- Changes of contents survive independently of each other, since write-back reorders them. A write
  may also be torn (some of its 512-byte sectors arrive, in any combination), or garbled (they hold
  noise); bytes around it in the same sector are safe. A truncation or allocation is whole.
- Changes of names survive independently too, except that a rename is atomic and that the history
  of one name keeps its order: no change survives the loss of an earlier one to the same name. A
  rename is durable once the directory that holds the new name is synced.
- Moving loses nothing: if a move survives, so do all earlier changes that brought the directories
  above it to their places; if a removed directory is gone, so is what was moved out of it.
- Names and contents are independent: a surviving name may lead to an empty file.

Nothing here knows of processes, handles or injected failures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Literal, NamedTuple, TypeVar

SECTOR = 512

Kind = Literal["write", "truncate", "allocate", "create", "make_dir", "rename", "remove"]


@dataclass(slots=True, eq=False)
class Pending:
    """One change that a crash may undo. `seq` gives the order in which they were made.

    `offset` and `data` describe a write; `offset` alone is the size that a truncation sets and
    that an allocation reaches. `entries` are the assignments that a change of names makes; the
    last is in the directory whose sync makes it durable. `ended` is the directory it removes,
    `homes` those that a move from one directory to another put its object below.
    """

    seq: int
    kind: Kind
    path: str
    offset: int = 0
    data: bytes = b""
    entries: tuple[tuple[DirNode, str, Node | None], ...] = ()
    ended: DirNode | None = None
    homes: tuple[DirNode, ...] = ()

    @property
    def sectors(self) -> range:
        """The numbers, counted from the start of the file, of the sectors a write touches."""
        return range(self.offset // SECTOR, (self.offset + len(self.data) - 1) // SECTOR + 1)

    @property
    def holder(self) -> DirNode:
        return self.entries[-1][0]


class Fate(NamedTuple):
    """What a crash made of one pending change.

    Of a torn write only `sectors` arrived, and the file's size grew as far as they reach or, with
    `extends`, as if the whole write had. A garbled one arrived with noise in `sectors`.
    """

    kind: Literal["lost", "kept", "torn", "garbled"]
    sectors: frozenset[int] = frozenset()
    extends: bool = False
    seed: int = 0


Choice = Callable[[Pending], Fate]
_T = TypeVar("_T")

LOST = Fate("lost")
KEPT = Fate("kept")


def lose_everything() -> Choice:
    """Nothing that was not synced survives."""
    return lambda _: LOST


def keep_everything() -> Choice:
    """Every change had reached the medium, though nobody waited for it."""
    return lambda _: KEPT


def sample(rng: Random) -> Choice:
    """Draw fates. How much survives is drawn first, so that both near-extremes are common."""
    keep_rate = rng.choice((0.0, 0.2, 0.5, 0.8, 0.95))

    def choice(op: Pending) -> Fate:
        if rng.random() < keep_rate:
            return KEPT
        if op.kind != "write" or rng.random() < 0.4:
            return LOST
        some = frozenset(sector for sector in op.sectors if rng.random() < 0.5)
        match rng.randrange(3):
            case 0:
                cut = rng.randrange(len(op.sectors))
                return Fate("torn", frozenset(op.sectors[:cut]), extends=rng.random() < 0.5)
            case 1:
                return Fate("torn", some, extends=rng.random() < 0.5)
            case _:
                return Fate("garbled", some or frozenset(op.sectors), seed=rng.getrandbits(32))

    return choice


def fates_of(op: Pending) -> list[Fate]:
    """The fates worth enumerating: of a write also every prefix, its end alone, zeros, noise."""
    if op.kind != "write":
        return [LOST, KEPT]
    sectors = op.sectors
    torn = [Fate("torn", frozenset(sectors[:cut])) for cut in range(1, len(sectors))]
    if torn:
        torn.append(Fate("torn", frozenset(sectors[-1:])))
    zeros = Fate("torn", extends=True)
    return [LOST, KEPT, *torn, zeros, Fate("garbled", frozenset(sectors), seed=op.seq)]


def every_outcome(
    crash: Callable[[Choice], _T], fates: Callable[[Pending], list[Fate]] = fates_of
) -> Iterator[_T]:
    """What `crash` gives for all combinations of fates, one after the other.

    There are exponentially many in the number of pending changes: only for short histories.
    """
    path: list[int] = []
    while True:
        widths: list[int] = []

        def choice(op: Pending, widths: list[int] = widths) -> Fate:
            options = fates(op)
            widths.append(len(options))
            if len(widths) > len(path):
                path.append(0)
            return options[path[len(widths) - 1]]

        yield crash(choice)
        while path and path[-1] + 1 == widths[len(path) - 1]:
            path.pop()
        if not path:
            return
        path[-1] += 1


class FileNode:
    """A file's contents. `bytes` may be shared with other media; a `bytearray` is our own."""

    __slots__ = ("_diverged", "_durable", "pending", "visible")

    def __init__(self, content: bytes = b"") -> None:
        self.visible: bytes | bytearray = content
        self.pending: list[Pending] = []
        self._durable: bytes | bytearray = content
        self._diverged = False  # dropped changes are still visible

    def change(self, op: Pending) -> None:
        if not isinstance(self.visible, bytearray):
            self.visible = bytearray(self.visible)
        _apply(self.visible, op, KEPT)
        self.pending.append(op)

    def sync(self) -> None:
        if not isinstance(self._durable, bytearray):
            self._durable = bytearray(self._durable)
        for op in self.pending:
            _apply(self._durable, op, KEPT)
        self.pending.clear()

    def drop_writes(self) -> None:
        """Forget the pending writes without undoing what reads see; sizes are journaled apart."""
        self.pending = [op for op in self.pending if op.kind != "write"]
        self._diverged = True

    def drop_cache(self) -> None:
        if self._diverged:
            self.visible = self.after_crash(keep_everything())
            self._diverged = False

    def replace_durably(self, content: bytes) -> None:
        """For a text that is not worth a crash state of its own."""
        self.visible = self._durable = content

    def after_crash(self, choice: Choice) -> bytes:
        if not isinstance(self._durable, bytes):
            self._durable = bytes(self._durable)  # at most once, however many states share it
        fates = [(op, choice(op)) for op in self.pending]
        if all(fate.kind == "lost" for _, fate in fates):
            return self._durable
        content = bytearray(self._durable)
        for op, fate in fates:
            _apply(content, op, fate)
        return bytes(content)

    def duplicate(self) -> FileNode:
        twin = FileNode(self.after_crash(lose_everything()))
        twin.pending = list(self.pending)
        twin._diverged = self._diverged
        if self.pending or self._diverged:
            twin.visible = bytes(self.visible)
        return twin


class DirNode:
    """A directory's names. `linked` is false once it was removed, though it may still be open."""

    __slots__ = ("durable", "linked", "parent", "visible")

    def __init__(self, names: dict[str, Node] | None = None) -> None:
        self.durable: dict[str, Node] = names or {}
        self.visible: dict[str, Node] = dict(self.durable)
        self.linked = True
        self.parent: DirNode | None = None
        for child in self.durable.values():
            if isinstance(child, DirNode):
                child.parent = self

    def lineage(self) -> Iterator[DirNode]:
        """The directory and all that are above it."""
        node: DirNode | None = self
        while node:
            yield node
            node = node.parent

    def contents(self) -> Contents:
        return {
            name: node.contents() if isinstance(node, DirNode) else bytes(node.visible)
            for name, node in sorted(self.visible.items())
        }

    def bytes_below(self) -> int:
        return sum(
            node.bytes_below() if isinstance(node, DirNode) else len(node.visible)
            for node in self.visible.values()
        )


Node = FileNode | DirNode
Contents = dict[str, "bytes | Contents"]


class Medium:
    """A tree of nodes and the changes of names that are pending in it."""

    def __init__(self, root: DirNode | None = None) -> None:
        self.root = root or DirNode()
        self._pending: list[Pending] = []
        self._seq = 0

    def change_content(
        self, node: FileNode, kind: Kind, path: str, offset: int, data: bytes = b""
    ) -> None:
        self._seq += 1
        node.change(Pending(self._seq, kind, path, offset, data))

    def change_names(
        self, kind: Kind, path: str, *entries: tuple[DirNode, str, Node | None]
    ) -> None:
        self._seq += 1
        op = Pending(self._seq, kind, path, entries=entries)
        self._pending.append(op)
        old = op.holder.visible.get(entries[-1][1])
        if isinstance(old, DirNode):
            old.linked = False
            op.ended = old
        if entries[0][0] is not op.holder:
            op.homes = tuple(op.holder.lineage())
        for directory, name, node in entries:
            _assign(directory.visible, name, node)
            if isinstance(node, DirNode):
                node.parent = directory

    def sync_names(self, directory: DirNode) -> None:
        kept = _kept_with(self._pending, lambda op: op.holder is directory)
        for op in kept:
            for holder, name, node in op.entries:
                _assign(holder.durable, name, node)
        done = set(map(id, kept))
        self._pending = [op for op in self._pending if id(op) not in done]

    def after_crash(self, choice: Choice) -> Medium:
        """A new medium in one state that a crash may leave; this one is not changed."""
        changes: dict[DirNode, dict[str, Node | None]] = {}
        for op in _kept_with(self._pending, lambda op: choice(op).kind == "kept"):
            for directory, name, node in op.entries:
                changes.setdefault(directory, {})[name] = node

        def survivor(node: FileNode | DirNode) -> FileNode | DirNode:
            if isinstance(node, FileNode):
                return FileNode(node.after_crash(choice))
            return surviving_directory(node)

        def surviving_directory(node: DirNode) -> DirNode:
            names = dict(node.durable)
            for name, child in changes.get(node, {}).items():
                _assign(names, name, child)
            return DirNode({name: survivor(child) for name, child in names.items()})

        return Medium(surviving_directory(self.root))

    def duplicate(self) -> Medium:
        """The same again, with what is pending still pending."""
        files: dict[FileNode, FileNode] = {}
        directories: dict[DirNode, DirNode] = {}

        def copy(node: FileNode | DirNode) -> FileNode | DirNode:
            if isinstance(node, DirNode):
                return copy_directory(node)
            if node not in files:
                files[node] = node.duplicate()
            return files[node]

        def copy_directory(node: DirNode) -> DirNode:
            if node not in directories:
                twin = directories[node] = DirNode()
                twin.linked = node.linked
                twin.parent = node.parent and copy_directory(node.parent)
                twin.durable = {name: copy(child) for name, child in node.durable.items()}
                twin.visible = {name: copy(child) for name, child in node.visible.items()}
            return directories[node]

        twin = Medium(copy_directory(self.root))
        twin._seq = self._seq
        for op in self._pending:
            entries = tuple(
                (copy_directory(directory), name, node and copy(node))
                for directory, name, node in op.entries
            )
            ended = op.ended and copy_directory(op.ended)
            homes = tuple(map(copy_directory, op.homes))
            twin._pending.append(replace(op, entries=entries, ended=ended, homes=homes))
        return twin


def _kept_with(ops: list[Pending], wanted: Callable[[Pending], bool]) -> list[Pending]:
    """The changes of names that are wanted, and those that cannot be lost if these are kept.

    The latest is asked first; what is implied is not asked at all.
    """
    kept: list[Pending] = []
    names: set[tuple[DirNode, str]] = set()
    homes: set[FileNode | DirNode | None] = set()
    ended: set[DirNode] = set()
    for op in reversed(ops):
        touched = {(directory, name) for directory, name, _ in op.entries}
        if (
            not names.isdisjoint(touched)
            or any(node in homes or directory in ended for directory, _, node in op.entries)
            or wanted(op)
        ):
            kept.append(op)
            names |= touched
            homes.update(op.homes)
            if op.ended:
                ended.add(op.ended)
    kept.reverse()
    return kept


def _assign(names: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _apply(content: bytearray, op: Pending, fate: Fate) -> None:
    if fate.kind == "lost":
        return
    if op.kind != "write":
        if fate.kind != "kept":
            raise ValueError(f"a crash cannot leave a {fate.kind} {op.kind}")
        if op.kind == "truncate":
            del content[op.offset :]
        _extend(content, op.offset)
        return
    end = op.offset + len(op.data)
    if fate.kind != "torn":
        _put(content, op.offset, op.data)
    noise = Random(fate.seed) if fate.kind == "garbled" else None
    for sector in sorted(fate.sectors):
        # A sector's bytes outside the write are someone else's, and may be durable.
        start, stop = max(op.offset, sector * SECTOR), min(end, (sector + 1) * SECTOR)
        piece = op.data[start - op.offset : stop - op.offset]
        _put(content, start, noise.randbytes(stop - start) if noise else piece)
    if fate.extends:
        _extend(content, end)


def _put(content: bytearray, offset: int, data: bytes) -> None:
    _extend(content, offset)
    content[offset : offset + len(data)] = data


def _extend(content: bytearray, size: int) -> None:
    if len(content) < size:
        content.extend(bytes(size - len(content)))
