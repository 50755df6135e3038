"""Building a space from a bundle, in a folder of its own that nobody sees until it is whole; or
from the columns of a state, which its history then begins behind.

    .engram/tmp/<uuid>/LOCK    held while it is built: without it, the next start clears it away
    .engram/tmp/<uuid>/base    the base as it came, until it is written anew
    .engram/tmp/<uuid>/space/  the space, which appears by one rename

Every record gets new checksums under the new uuid; positions and times stay. What was built is
opened and replayed as a server would, so that a bundle whose checksums are right but whose events
contradict each other is refused like a damaged one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import chain
from typing import Final

import msgspec

from compaction.checkpoint import identity_of, write_checkpoint
from compaction.columns import Array, ColumnFile
from engram.bundles.codec import (
    BasePart,
    BundleDecoder,
    BundleDocument,
    BundledRecord,
    BundleError,
    Totals,
)
from engram.bundles.credible import check_event, check_numbers, check_rows
from engram.errors import Malformed, OutcomeUnknown
from engram.indexes.answers import no_answers
from engram.memory.columns import NOTHING_ANSWERED, StateColumns, compact, newer_columns
from engram.memory.events import SpaceCreated
from engram.memory.payload import PayloadError, decode_batch, encode_batch
from engram.memory.purges import without_answers
from engram.memory.state import State, StateError
from engram.spaces.compactor import begin, state_of
from engram.spaces.identity import Identity, write_identity
from wal.bulk import append_all
from wal.codec import Draft, Record
from wal.create import create_log
from wal.errors import Damaged, Unsupported
from wal.log import LOCK_NAME, Log
from wal.manifest import Checkpoint, Manifest
from wal.opened import LogOptions
from wal.replay import Restore, Start
from wal.segment import write_all
from wal.vfs import Buffer, Directory, File

SPACE: Final = "space"
BASE: Final = "base"
_ANSWER: Final = b"request.answered"
READ_BYTES: Final = 256 << 10
NONCE_BYTES: Final = 16
Content = BasePart | BundledRecord | Totals


class Bundle:
    """A bundle as it comes in: its document first, then the rest, each once."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        """Read the document. Raises :class:`engram.errors.Malformed`, and what reading raises."""
        self._decoder = BundleDecoder()
        self._pieces = self._decoded(chunks)
        first = next(self._pieces, None)
        if not isinstance(first, BundleDocument):
            raise Malformed(_said("it holds no document"))
        self.document = first

    def contents(self) -> Iterator[Content]:
        """All that follows the document; ends only if the bundle was whole."""
        for piece in self._pieces:
            if isinstance(piece, BundleDocument):
                raise Malformed(_said("it holds two documents"))
            yield piece

    def _decoded(self, chunks: Iterator[bytes]) -> Iterator[BundleDocument | Content]:
        try:
            for chunk in chunks:
                yield from self._decoder.feed(chunk)
            self._decoder.finish()
        except BundleError as error:
            raise Malformed(_said(str(error))) from error


class Incoming:
    """A space that is being built."""

    def __init__(self, tmp: Directory, name: str, owner: str, options: LogOptions) -> None:
        """Make the folder, `name` below `tmp`, and hold it. Nobody may be clearing `tmp` now.

        Takes `tmp` over: it is closed by :meth:`discard`.
        """
        self._tmp = tmp
        self._name = name
        self._owner = owner
        self._options = options
        self._folder = tmp.make_dir(name)
        try:
            self._lock = self._folder.lock(LOCK_NAME, owner)
        except BaseException:
            self._folder.close()
            raise

    def fill(self, identity: Identity, bundle: Bundle) -> None:
        """Write all of it, durably, and read it back.

        Raises :class:`engram.errors.Malformed` for what is no bundle, and what writing raises.
        """
        try:
            with closing(self._folder.make_dir(SPACE)) as space_dir:
                _Building(self._folder, space_dir, identity, self._owner, self._options).run(bundle)
                space_dir.sync()
        except (BundleError, PayloadError, StateError) as error:
            raise Malformed(_said(str(error))) from error

    def fill_from(self, identity: Identity, columns: StateColumns) -> None:
        """Write a space whose history begins behind what `columns` hold, durably, and read it back.

        Raises what writing and reading raise.
        """
        with closing(self._folder.make_dir(SPACE)) as space_dir:
            building = _Building(self._folder, space_dir, identity, self._owner, self._options)
            building.run_from(columns)
            space_dir.sync()

    def publish(self, root: Directory, space_id: str) -> None:
        """Let the space appear in its place. Raises OSError with nothing there, and
        :class:`engram.errors.OutcomeUnknown`.
        """
        self._folder.rename(SPACE, root, space_id)
        try:
            root.sync()
        except OSError as error:
            raise OutcomeUnknown(
                f"space {space_id!r} was made, but may not outlive a power failure: "
                f"{error.strerror}. See whether it is there, and import it again if not",
                memory_space_id=space_id,
            ) from error

    def discard(self) -> None:
        """Clear away what is left. What cannot be removed now is removed at the next start."""
        with suppress(OSError):
            self._tmp.remove_tree(self._name)
        self._lock.release()
        self._folder.close()
        self._tmp.close()


class _Building:
    """The steps from an empty folder to a space."""

    def __init__(
        self,
        folder: Directory,
        space_dir: Directory,
        identity: Identity,
        owner: str,
        options: LogOptions,
    ) -> None:
        self._folder = folder
        self._space_dir = space_dir
        self._identity = identity
        self._owner = owner
        self._options = options

    def run(self, bundle: Bundle) -> None:
        document = bundle.document
        write_identity(self._space_dir, self._identity)
        contents = bundle.contents()
        following, base = self._base(document, contents)
        if isinstance(following, BundledRecord):
            self._create(document, None if base else following, base)
            self._append(([following] if base else []), contents)
        else:  # the totals: all that the bundle holds is its base
            self._create(document, None, base)
            for _ in contents:
                pass  # its end has to come
        self._read_back(document.position)

    def run_from(self, columns: StateColumns) -> None:
        identity = self._identity
        write_identity(self._space_dir, identity)
        now_ns = identity.created_us * 1_000
        base = identity_of(identity.uuid_bytes, columns.position, now_ns, 1)
        named = columns._replace(answers=no_answers()).named()
        self._lay_out(None, now_ns, write_checkpoint(self._space_dir, base, 1, named, base=True))
        self._read_back(columns.position)

    def _base(
        self, document: BundleDocument, contents: Iterator[Content]
    ) -> tuple[Content, Checkpoint | None]:
        """What comes behind the base, and the checkpoint that the base has become."""
        if not document.base_position:
            return next(contents), None
        with closing(self._folder.create(BASE)) as file:
            offset, following = 0, next(contents)
            while isinstance(following, BasePart):
                write_all(file, offset, following.data)
                offset += len(following.data)
                following = next(contents)
            checkpoint = self._written_anew(document, file)
        self._folder.remove(BASE)
        return following, checkpoint

    def _written_anew(self, document: BundleDocument, file: File) -> Checkpoint:
        """The base under the new uuid, as the only checkpoint of the space."""
        try:
            old = ColumnFile("its base", file.map(), bytes.fromhex(document.space_uuid))
            old.verify()
            if old.identity.position != document.base_position:
                raise BundleError(0, "its base stands for another position")
            columns = [(name, old.column(name)) for name in old.names]
            self._check(old, dict(columns))
            columns = [(name, NOTHING_ANSWERED.get(name, column)) for name, column in columns]
        except (Damaged, Unsupported) as error:
            raise BundleError(0, str(error)) from error
        identity = identity_of(
            self._identity.uuid_bytes, document.base_position, old.identity.time_ns, 1
        )
        return write_checkpoint(self._space_dir, identity, 1, columns, base=True)

    def _check(self, file: ColumnFile, columns: Mapping[str, Array]) -> None:
        """Raise :class:`BundleError` for columns that make no state, or one that cannot be read."""
        identity = self._identity
        nothing = State(identity.memory_space_id, identity.embedding.dimensions)
        empty = dict(compact(nothing.freeze()).named())
        for newer in newer_columns(empty):
            if newer.isdisjoint(columns):  # of a space from before there were any
                empty = {name: column for name, column in empty.items() if name not in newer}
        shapes = {name: (column.dtype, column.ndim) for name, column in columns.items()}
        if shapes != {name: (column.dtype, column.ndim) for name, column in empty.items()}:
            raise BundleError(0, "its base has other columns than a base has")
        try:
            for name, starts in columns.items():
                if name.startswith("vectors."):
                    check_numbers(starts)
                if name.endswith((".offsets", ".starts")):
                    _check_starts(name, starts, columns)
            check_rows(state_of(identity, file), file.identity.position)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise BundleError(0, f"its base makes no state: {error}") from error

    def _create(
        self, document: BundleDocument, first: BundledRecord | None, base: Checkpoint | None
    ) -> None:
        if first is None and base is None:
            raise BundleError(0, "it holds nothing")
        draft = None if first is None else self._renamed(document, first)
        now_ns = self._identity.created_us * 1_000 if first is None else first.time_ns
        self._lay_out(draft, now_ns, base)

    def _lay_out(self, first: Draft | None, now_ns: int, base: Checkpoint | None) -> None:
        create_log(
            self._space_dir,
            space_uuid=self._identity.uuid_bytes,
            nonce=_nonce(),
            now_ns=now_ns,
            first=first,
            base=base,
        )

    def _renamed(self, document: BundleDocument, first: BundledRecord) -> Draft:
        """The first record, which says whose log it is, for the new space."""
        batch = decode_batch(memoryview(first.payload))
        old = batch.events[0] if batch.events else None
        if not isinstance(old, SpaceCreated):
            raise BundleError(0, "it does not begin with the making of a space")
        if (old.embedding_model, old.dimensions) != msgspec.structs.astuple(document.embedding):
            raise BundleError(0, "its document names another embedding than its first event")
        created = msgspec.structs.replace(
            old,
            memory_space_id=self._identity.memory_space_id,
            generation=self._identity.generation,
        )
        payload = encode_batch(batch._replace(events=[created, *batch.events[1:]], answered=None))
        return Draft(payload, first.events, first.time_ns, first.type, first.flags)

    def _append(self, first: list[BundledRecord], contents: Iterator[Content]) -> None:
        log = self._open(_ignored, _behind_the_base)
        try:
            # The totals come last; who decodes has compared them.
            others = (each for each in contents if isinstance(each, BundledRecord))
            append_all(log, map(_draft, chain(first, others)))
        finally:
            log.close()

    def _read_back(self, position: int) -> None:
        """Open what was written as a server would, and compare what that leads to."""
        identity = self._identity
        states = [State(identity.memory_space_id, identity.embedding.dimensions)]

        def apply(record: Record) -> None:
            batch = decode_batch(record.payload)
            if len(batch.events) != record.events:
                raise BundleError(0, f"the record at position {record.position} miscounts")
            check_numbers(batch.vectors)
            for event in batch.events:
                check_event(event)
            states[-1].apply(batch, record.position, record.time_ns)

        self._open(apply, begin(identity, self._space_dir, states.append)).close()
        state = states[-1]
        state.publish()
        if state.deleted:
            raise BundleError(0, "it ends with the deletion of its space")
        if state.view.position != position:
            raise BundleError(0, f"it leads to position {state.view.position}")

    def _open(self, visit: Callable[[Record], None], restore: Restore) -> Log:
        return Log.open(
            self._space_dir,
            space_uuid=self._identity.uuid_bytes,
            owner=self._owner,
            visit=visit,
            nonce=_nonce,
            now_ns=0,
            options=self._options,
            restore=restore,
        )


def _check_starts(name: str, starts: Array, columns: Mapping[str, Array]) -> None:
    """Starts of parts have to ascend, and to end where what they part ends."""
    parted = {"past.starts": "past.positions"}.get(name, name.replace(".offsets", ".data"))
    if parted not in columns or parted == name:
        return
    if starts[0] != 0 or (starts[1:] < starts[:-1]).any() or starts[-1] != len(columns[parted]):
        raise BundleError(0, f"the column {name!r} of its base does not ascend as it should")


def _behind_the_base(manifest: Manifest) -> Start:
    return Start(manifest.base_position)


def _ignored(record: Record) -> None:
    """What was just written is read once all of it is."""


def _draft(record: BundledRecord) -> Draft:
    payload: Sequence[Buffer] = [record.payload]
    if _ANSWER in record.payload:  # nobody sends the requests of the other space here
        payload = encode_batch(without_answers(decode_batch(memoryview(record.payload))))
    return Draft(payload, record.events, record.time_ns, record.type, record.flags)


def _nonce() -> bytes:
    return secrets.token_bytes(NONCE_BYTES)


def _said(reason: str) -> str:
    return f"the bundle cannot be used: {reason}. Nothing was made; export it anew, or copy it anew"
