"""What a path names, and its files opened for reading. Nothing is locked or changed.

A path may be a data root, a space's folder, a folder of segments, one segment or checkpoint file
that somebody sent in, or a manifest. A space may be in use meanwhile, so its files are held as they
were at one moment.
"""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final, Literal

from compaction.columns import begins_columns
from engram.errors import DiskFull, EngramError
from engram.inspect.checkpoints import HeldCheckpoint, open_checkpoints, read_checkpoint
from engram.inspect.locks import lock_owner
from engram.spaces.identity import IDENTITY_NAME, Identity, read_identity
from engram.spaces.layout import CONTROL_DIR
from engram.spaces.store import translated
from engram.spaces.verify import may_be_space
from wal import format as f
from wal.codec import SegmentHeader
from wal.errors import Damaged, Unsupported
from wal.inspect import RETIRED, Damage
from wal.live_set import LOG_DIR
from wal.log import NO_ROOM
from wal.manifest import Manifest, decode_manifest, manifest_number
from wal.os_vfs import open_root
from wal.replay import read_manifest
from wal.retire import CHECKPOINT_SUFFIX
from wal.segment import read_header
from wal.still import held_still
from wal.survey import recover_seed
from wal.vfs import Directory, File
from wal.watermark import read_watermark

SEGMENT_SUFFIX: Final = ".seg"
_SEGMENT_NAME: Final = re.compile(r"(\d{20})-(\d{10})\.seg")
_MANIFEST_START: Final = f.MANIFEST_MAGIC.encode() + b" "

Kind = Literal["space", "segments", "manifest", "checkpoint"]


class NothingThere(EngramError):
    """The path does not exist."""

    problem: ClassVar[str] = "path-not-found"
    title: ClassVar[str] = "Path not found"
    status: ClassVar[int] = 404
    exit_code: ClassVar[int] = 3


class NoLog(EngramError):
    """The path exists, but holds nothing that these tools read."""

    problem: ClassVar[str] = "not-a-log"
    title: ClassVar[str] = "Not a log"
    status: ClassVar[int] = 400
    exit_code: ClassVar[int] = 2


class NewerFormat(EngramError):
    """A newer Engram wrote this; guessing at it would be worse than refusing."""

    problem: ClassVar[str] = "unsupported-format"
    title: ClassVar[str] = "Unsupported format"


class Unreadable(EngramError):
    """The system does not let us read it."""

    problem: ClassVar[str] = "unreadable"
    title: ClassVar[str] = "Unreadable"


@dataclass(frozen=True, slots=True)
class Source:
    """One log. `path` is the space's folder, the folder of the segments, or the file itself."""

    kind: Kind
    path: Path
    names: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        single = self.kind in {"segments", "checkpoint"} and len(self.names) == 1
        return str(self.path / self.names[0]) if single else str(self.path)


@dataclass(slots=True)
class Segment:
    """A segment file, open. Without a `header`, `header_damage` says why; `seed` may then have
    been found from the records. `foreign` ones belong to another space, and a `leftover` is not
    part of history any more, for the reason it holds; neither is read.
    """

    name: str
    shown: str
    file: File
    size: int
    header: SegmentHeader | None = None
    header_damage: str | None = None
    seed: int | None = None
    foreign: bool = False
    leftover: str | None = None

    @property
    def is_read(self) -> bool:
        return not self.foreign and self.leftover is None

    @property
    def rewritten(self) -> bool:
        """Whether it is a copy from which contents were taken out."""
        return self.header is not None and self.header.kind == f.KIND_REWRITTEN

    @property
    def segment_id(self) -> int | None:
        if self.header is not None:
            return self.header.segment_id
        match = _SEGMENT_NAME.fullmatch(self.name)
        return int(match[2]) if match else None

    @property
    def first_position(self) -> int:
        """From the name if need be; 0 if that does not tell either."""
        if self.header is not None:
            return self.header.first_position
        match = _SEGMENT_NAME.fullmatch(self.name)
        return int(match[1]) if match else 0

    @property
    def order(self) -> tuple[bool, int, int, str]:
        """By position, and then by segment id; what has none comes last."""
        return (self.segment_id is None, self.first_position, self.segment_id or 0, self.name)


@dataclass(slots=True)
class OpenLog:
    """A log's files, open, and what is known about them. `directory` holds them as they are read.
    `owner` holds the space's lock now.
    `oldest_position` is where the history begins that it should hold.
    """

    source: Source
    directory: Directory
    segments: list[Segment] = field(default_factory=list)
    checkpoints: list[HeldCheckpoint] = field(default_factory=list)
    oldest_position: int = 1
    identity: Identity | None = None
    manifest: Manifest | None = None
    uuid: bytes | None = None
    watermark: int = 0
    owner: str | None = None
    damage: list[Damage] = field(default_factory=list)


def find_sources(path: str | Path) -> list[Source]:
    """The logs at `path`, by name; of a data root, one for each space.

    Raises :class:`NothingThere`, :class:`NoLog` or :class:`Unreadable`.
    """
    with _said(path):
        given = Path(path)
        if not given.exists():
            raise NothingThere(f"{path} does not exist")
        # Only what was named itself may be a link.
        whole = given.resolve()
        return [_file_source(whole)] if not whole.is_dir() else _folder_sources(whole, path)


def _folder_sources(folder: Path, given: str | Path) -> list[Source]:
    if (folder / CONTROL_DIR).is_dir():
        inner = sorted(p for p in folder.iterdir() if not p.is_symlink() and p.is_dir())
        return [Source("space", p) for p in inner if may_be_space(p)]
    if (folder / IDENTITY_NAME).exists() or (folder / LOG_DIR).is_dir():
        return [Source("space", folder)]
    names = sorted(p.name for p in folder.iterdir() if p.name.endswith(SEGMENT_SUFFIX))
    if names:
        return [Source("segments", folder, tuple(names))]
    manifests = [p for p in folder.iterdir() if manifest_number(p.name) is not None]
    if manifests:  # a space that lost everything else
        return [Source("space", folder)]
    raise NoLog(
        f"{given} is neither a data root nor a space's folder: it holds no {CONTROL_DIR}, no "
        f"{IDENTITY_NAME}, no {LOG_DIR} and no segments"
    )


def _file_source(path: Path) -> Source:
    if not path.is_file():
        raise NoLog(f"{path} is not a regular file")
    with path.open("rb") as file:
        start = file.read(len(_MANIFEST_START))
    if start[: len(f.SEGMENT_MAGIC)] == f.SEGMENT_MAGIC or path.name.endswith(SEGMENT_SUFFIX):
        return Source("segments", path.parent, (path.name,))
    if begins_columns(start) or path.name.endswith(CHECKPOINT_SUFFIX):
        return Source("checkpoint", path.parent, (path.name,))
    if start == _MANIFEST_START or manifest_number(path.name) is not None:
        return Source("manifest", path)
    raise NoLog(
        f"{path} is no segment, checkpoint or manifest. Name one of these, a space's folder, or a "
        "data root"
    )


def read_manifest_file(path: Path) -> Manifest:
    """The manifest in a file. Raises :class:`wal.errors.Damaged` and :class:`NewerFormat`."""
    with _said(path):
        name = path.name
        data = path.read_bytes()
        if manifest_number(name) is None:
            # Sent in under another name; the one it had is inside.
            match = re.search(rb'"number": ?(\d{1,19})', data)
            name = f"MANIFEST-{int(match[1])}" if match else name
        return decode_manifest(name, data)


@contextmanager
def opened(source: Source) -> Iterator[OpenLog]:
    """The files of a source that is no manifest, until the block ends.

    Raises :class:`NewerFormat` and :class:`Unreadable`.
    """
    with _said(source.path), ExitStack() as stack:
        directory = open_root(source.path)
        stack.callback(directory.close)
        if source.kind == "space":
            log = _open_space(stack.enter_context(held_still(directory)), source, stack)
        elif source.kind == "checkpoint":
            log = OpenLog(source, directory)
            with closing(directory.open(source.names[0])) as file:
                held = read_checkpoint(source.names[0], file.map(), None, "loose")
            log.checkpoints.append(held)
            log.damage += [held.damage] if held.damage is not None else []
            if held.file is not None:
                log.uuid = held.file.identity.space_uuid
                log.oldest_position = held.file.identity.position + 1
        else:
            log = OpenLog(source, directory)
            for name in source.names:
                _add_segment(log, directory, name, name, stack)
        _judge_owners(log)
        if source.kind == "segments":
            _find_leftovers(log)
        log.segments.sort(key=lambda segment: segment.order)
        yield log


def _open_space(directory: Directory, source: Source, stack: ExitStack) -> OpenLog:
    log = OpenLog(source, directory, owner=lock_owner(source.path))
    try:
        log.manifest = read_manifest(directory)
    except Damaged as error:
        log.damage.append(Damage(error.file, error.offset, error.reason))
    try:
        log.identity = read_identity(directory, source.path.name)
        log.uuid = log.identity.uuid_bytes
    except Damaged as error:
        log.damage.append(Damage(error.file, error.offset, error.reason))
    except FileNotFoundError:
        log.damage.append(Damage(IDENTITY_NAME, 0, "it is missing"))
    if log.uuid is None and log.manifest is not None:
        log.uuid = bytes.fromhex(log.manifest.space_uuid)
    if log.uuid is not None:
        log.watermark = read_watermark(directory, log.uuid).position
    log.checkpoints = open_checkpoints(directory, log.manifest, log.uuid)
    _open_segments(log, directory, stack)
    _find_leftovers(log)
    _find_beginning(log)
    return log


def _find_leftovers(log: OpenLog) -> None:
    """Leave out the segments that are not live any more, or never came to be. Without a manifest,
    a copy counts and not what it was made of: contents were taken out of it for good.
    """
    manifest = log.manifest
    copies = {s.first_position: s.segment_id for s in sorted(log.segments, key=_age) if s.rewritten}
    named = {each.name for each in manifest.sealed} if manifest is not None else set[str]()
    for segment in log.segments:
        if manifest is None:
            if copies.get(segment.first_position) not in {None, segment.segment_id}:
                segment.leftover = "a copy of it, with contents taken out, lies beside it"
        elif segment.shown in manifest.retired:
            segment.leftover = RETIRED
        elif segment.rewritten and segment.name not in named:
            segment.leftover = "a copy, with contents taken out, that the manifest does not name"


def _age(segment: Segment) -> int:
    return segment.segment_id or 0


def _find_beginning(log: OpenLog) -> None:
    """Where history begins; without a manifest, behind a checkpoint that stands just there."""
    if log.manifest is not None:
        log.oldest_position = log.manifest.base_position + 1
        return
    first = min((s.first_position for s in log.segments if s.is_read), default=1)
    if any(held.whole and held.position == first - 1 for held in log.checkpoints):
        log.oldest_position = first


def _open_segments(log: OpenLog, space_dir: Directory, stack: ExitStack) -> None:
    if not space_dir.exists(LOG_DIR):
        log.damage.append(Damage(LOG_DIR, 0, "it is missing"))
        return
    log_dir = space_dir.open_dir(LOG_DIR)
    stack.callback(log_dir.close)
    names = [name for name in log_dir.names() if name.endswith(SEGMENT_SUFFIX)]
    for name in names:
        _add_segment(log, log_dir, name, f"{LOG_DIR}/{name}", stack)
    if log.manifest is not None:
        named = [*(segment.name for segment in log.manifest.sealed), log.manifest.active]
        log.damage += [
            Damage(f"{LOG_DIR}/{name}", 0, "the manifest names this segment; it is missing")
            for name in named
            if name not in names
        ]


def _add_segment(
    log: OpenLog, directory: Directory, name: str, shown: str, stack: ExitStack
) -> None:
    file = directory.open(name)
    stack.callback(file.close)
    segment = Segment(name, shown, file, file.size())
    log.segments.append(segment)
    try:
        segment.header = read_header(shown, file.read_at(0, f.SEGMENT_HEADER_BYTES), None)
    except Damaged as error:
        segment.header_damage = error.reason
        segment.seed = recover_seed(file)
        return
    segment.seed = segment.header.seed
    if log.source.kind == "space" and segment.header.name != name:
        log.damage.append(
            Damage(shown, 0, f"it holds segment {segment.header.name}: renamed or copied")
        )


def _judge_owners(log: OpenLog) -> None:
    """Leave out what belongs to another space. Who knows nothing else asks the majority."""
    uuids = Counter(s.header.space_uuid for s in log.segments if s.header is not None)
    if log.uuid is None and uuids:
        log.uuid = uuids.most_common(1)[0][0]
    for segment in log.segments:
        header = segment.header
        if header is not None and header.space_uuid != log.uuid:
            segment.foreign = True
            log.damage.append(
                Damage(
                    segment.shown,
                    0,
                    f"this segment belongs to another space (uuid {header.space_uuid.hex()})",
                )
            )


@contextmanager
def _said(path: str | Path) -> Iterator[None]:
    """Turn what the system and the log say into errors that users meet."""
    try:
        yield
    except Unsupported as error:
        raise NewerFormat(f"{path} cannot be read: {error}") from error
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else None
        inside = f" ({where!r} in it)" if where and where not in str(path) else ""
        reason = os.strerror(error.errno) if error.errno else str(error)
        advice = (
            ". Run this as the user that owns the files"
            if error.errno in {errno.EACCES, errno.EPERM}
            else ""
        )
        raise Unreadable(f"{path} cannot be read{inside}: {reason}{advice}") from error


@contextmanager
def parent_of(target: Path) -> Iterator[Directory]:
    """The folder that something new is to be written to, open.

    Raises :class:`NothingThere` if there is none, and :class:`Unreadable`; full disks and locks
    are told in the words they have everywhere.
    """
    parent = target.absolute().parent
    if not parent.is_dir():
        raise NothingThere(f"{parent} is not a folder; make it first")
    with translated(target.name):
        try:
            directory = open_root(parent)
            try:
                yield directory
            finally:
                directory.close()
        except OSError as error:
            if error.errno in NO_ROOM:
                raise DiskFull(f"no room to write {target}: {error.strerror}") from error
            reason = error.strerror or str(error)
            raise Unreadable(f"{target} cannot be written: {reason}") from error
