"""`engram remember --file`: JSON Lines into a space, chunk by chunk, and an honest end.

Each chunk is one atomic batch, durable before the next one begins. So whatever ends the command (a
bad line, an error of the space, Ctrl-C), it is known which lines are stored: those of all chunks
before, and nothing of the one in hand. Only where the outcome of a write is unknown can less be
said, and then that is said.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple, NoReturn

import typer

from engram import limits
from engram.cli import output
from engram.cli.exit_codes import INTERRUPTED
from engram.errors import (
    EngramError,
    FieldError,
    Invalid,
    Malformed,
    MemoryExists,
    OutcomeUnknown,
    ServerAnswerInvalid,
    TooLarge,
)

if TYPE_CHECKING:
    from engram import NewMemory
    from engram.cli.connection import OpenSpace
    from engram.cli.options import OnConflict

CHUNK_LINES_MAX: Final = 500
CHUNK_BYTES_MAX: Final = 8 << 20
LINE_BYTES_MAX: Final = limits.BODY_BYTES_MAX
_ITEM: Final = re.compile(r"memories\[\d+\]\.?")
"""How the engine names one of a batch; here it is a line."""
_BOM: Final = b"\xef\xbb\xbf"


class Stored(NamedTuple):
    """How far a file has come: memories stored, the last durable position of the space, and how
    many were left as they were.
    """

    memories: int
    position: int | None
    skipped: int = 0


class Lines(NamedTuple):
    """A file to read, and how long it is where that is known."""

    stream: BinaryIO
    bytes: int | None


class Line(NamedTuple):
    """One memory, the line it stands in, and what it takes in a request."""

    number: int
    memory: NewMemory
    bytes: int


@contextmanager
def opened_lines(file: str) -> Iterator[Lines]:
    """The file of that name, or standard input for `-`."""
    if not file:
        raise Malformed("--file is empty; give a value, as messages.jsonl, or leave it out")
    if file == "-":
        if sys.stdin is None:
            raise Malformed("standard input is closed; name a file")
        yield Lines(sys.stdin.buffer, None)
        return
    with ExitStack() as stack:
        try:
            path = Path(file)
            stream = stack.enter_context(path.open("rb"))
            size = path.stat().st_size if path.is_file() else None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise Malformed(f"--file {file!r} cannot be read: {reason}") from None
        yield Lines(stream, size)


def ingest(
    place: OpenSpace, lines: Lines, from_line: int, on_conflict: OnConflict = "error"
) -> Stored:
    """Store all lines from `from_line` on. What goes wrong says how to go on."""
    run = _Run(place, from_line, on_conflict)
    with ExitStack() as stack:
        advance = stack.enter_context(_progress(lines))
        stack.enter_context(run.interruptible())
        try:
            for chunk, end_bytes in _chunks(lines.stream, from_line):
                run.store(chunk)
                advance(end_bytes, run.stored.memories)
        except _BadLine as bad:
            stack.close()
            run.fail(bad.error, bad.number)
        except EngramError as error:
            stack.close()
            run.fail(error, None)
        except KeyboardInterrupt:
            stack.close()
            output.print_hint(f"engram: interrupted. {run.account()}")
            raise typer.Exit(INTERRUPTED) from None
    return run.stored


class _BadLine(Exception):
    """A line that cannot become a memory, and why."""

    def __init__(self, number: int, error: EngramError) -> None:
        super().__init__(number, error)
        self.number = number
        self.error = error


class _Run:
    """What has been stored, and what may have been."""

    def __init__(self, place: OpenSpace, from_line: int, on_conflict: OnConflict) -> None:
        self._place = place
        self._on_conflict = on_conflict
        self.stored = Stored(0, place.info().position)
        self._first = self._next_line = from_line
        self._in_hand: list[Line] = []
        self._writing = self._interrupted = False

    def store(self, chunk: list[Line]) -> None:
        """Store a chunk whole. Raises what the space raises, with the number of a bad line."""
        self._in_hand = chunk
        self._writing = True
        try:
            done = self._place.remember_many(
                [line.memory for line in chunk], on_conflict=self._on_conflict
            )
            before, skipped = self.stored, len(done.skipped)
            self.stored = Stored(
                before.memories + len(chunk) - skipped, done.position, before.skipped + skipped
            )
            self._next_line = chunk[-1].number + 1
            self._in_hand = []
        except MemoryExists as error:
            raise _BadLine(self._line_that_exists(chunk, error), error) from error
        except EngramError as error:
            number = _line_named(chunk, error)
            if number is None:
                raise
            raise _BadLine(number, error) from error
        finally:
            self._writing = False
        if self._interrupted:
            raise KeyboardInterrupt

    def _line_that_exists(self, chunk: list[Line], error: MemoryExists) -> int:
        """The line whose id lives: the error names the id, as a Python string."""
        for line in chunk:
            if line.memory.id is not None and error.detail.startswith(
                f"memory {line.memory.id!r} "
            ):
                return line.number
        return chunk[0].number

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let the first Ctrl-C wait for a write that is under way, so that its outcome is known."""

        def interrupt(number: int, frame: FrameType | None) -> None:
            if not self._writing or self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def fail(self, error: EngramError, number: int | None) -> NoReturn:
        what = error.detail.rstrip(".")
        if number is not None:
            what = f"line {number}: {_ITEM.sub('', what)}"
            error.errors = tuple(
                FieldError(_ITEM.sub("", item.field), item.message) for item in error.errors
            )
        unsure = isinstance(error, OutcomeUnknown | ServerAnswerInvalid)
        error.detail = f"{what}. {self.account(unsure=unsure, fix=number is not None)}"
        raise error

    def account(self, *, unsure: bool = False, fix: bool = False) -> str:
        """What is durable, and how to go on. `unsure`: the chunk in hand may be stored too."""
        first, last = self._first, self._next_line - 1
        if last < first:
            durable = "Nothing was stored by this run"
        else:
            durable = f"Lines {first} to {last} are durable, up to position {self.stored.position}"
        if (unsure or self._writing or self._interrupted) and self._in_hand:
            start, end = self._next_line, self._in_hand[-1].number
            return (
                f"{durable}; lines {start} to {end} may be, and are if the space's position has "
                f"gone on (`engram status`): then go on with --from-line {end + 1}, else with "
                f"--from-line {start}"
            )
        correct = "Correct it and go on" if fix else "Go on"
        return f"{durable}. {correct} with --from-line {self._next_line}"


def _line_named(chunk: list[Line], error: EngramError) -> int | None:
    """The line that an error is about, if it names an item of the batch."""
    named = re.match(r"memories\[(\d+)\]", error.errors[0].field if error.errors else error.detail)
    if named is None or int(named[1]) >= len(chunk):
        return None
    return chunk[int(named[1])].number


def _chunks(stream: BinaryIO, from_line: int) -> Iterator[tuple[list[Line], int]]:
    """Chunks within both bounds, and how many bytes were read up to the end of each."""
    chunk: list[Line] = []
    ids: dict[str, int] = {}
    size = end = 0
    for number, data, read_bytes in _numbered(stream):
        if number >= from_line and data.strip():
            line = _parsed(number, data)
            if chunk and (len(chunk) == CHUNK_LINES_MAX or size + line.bytes > CHUNK_BYTES_MAX):
                yield chunk, end
                chunk, ids, size = [], {}, 0
            name = line.memory.id
            if name is not None and ids.setdefault(name, number) != number:
                raise _BadLine(
                    number, Invalid.of("id", f"{name!r} stands in line {ids[name]} already")
                )
            chunk.append(line)
            size += line.bytes
        end = read_bytes
    if chunk:
        yield chunk, end


def _numbered(stream: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    """(number, line, bytes read so far)."""
    read_bytes = number = 0
    while True:
        try:
            data = stream.readline(LINE_BYTES_MAX + 1)
        except OSError as error:
            raise Malformed(f"the file cannot be read on: {error.strerror}") from None
        if not data:
            return
        number += 1
        read_bytes += len(data)
        if len(data) > LINE_BYTES_MAX:
            too_large = TooLarge(
                f"it has more than {LINE_BYTES_MAX} bytes. Is there one JSON object a line?"
            )
            raise _BadLine(number, too_large)
        yield number, data.removeprefix(_BOM) if number == 1 else data, read_bytes


def _parsed(number: int, data: bytes) -> Line:
    """A line as a memory that the space can take, but for its vector and the ids there are."""
    import msgspec

    from engram import NewMemory
    from engram.client.requests import memory_body
    from engram.server.wire import MemoryBody, decode

    text = data.strip()
    if not text.startswith(b"{"):
        raise _BadLine(number, Malformed("it is not a JSON object"))
    try:
        memory = NewMemory(**msgspec.structs.asdict(decode(text, MemoryBody)))
        body = memory_body("", memory)
    except EngramError as error:
        error.detail = error.detail.replace("the body", "it").removeprefix("body: ")
        raise _BadLine(number, error) from None
    return Line(number, memory, len(msgspec.json.encode(body)))


@contextmanager
def _progress(lines: Lines) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr if that is a terminal; call what it yields with bytes read and memories."""
    if not output.is_terminal(sys.stderr):
        yield lambda read_bytes, memories: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[memories]} memories"),
        TimeRemainingColumn(),
    )
    console = output.console_on(sys.stderr)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("remembering", total=lines.bytes, memories=0)

        def advance(read_bytes: int, memories: int) -> None:
            progress.update(task, completed=read_bytes, memories=memories)

        yield advance
