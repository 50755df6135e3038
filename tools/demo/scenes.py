"""The story: five scenes on one server, each ending in statements that were checked."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

import engram
from engram import Hit, Memory, NewMemory, Recall
from tools.demo import checks, screen
from tools.demo.screen import Screen
from tools.demo.server import ServerProcess, verify_log
from tools.demo.turns import PLANNER, REVIEWER, SPACES, TURNS, load_questions, load_turns, notes
from tools.demo.watch import Watcher
from tools.demo.write import Ledger, Writer, read_all

QUESTIONS_SHOWN: Final = 4
ANSWERS_SHOWN: Final = 2
WRITES_BEFORE_KILL: Final = 40
SLOW_WRITES: Final = 32
WRITES_AFTER: Final = 12
KILL_JITTER_S: Final = 0.02
"""The kill comes anywhere within about the time of a few writes."""


class CheckFailed(Exception):
    """A statement of the demo is not true; what stands against it has been shown."""


class Demo:
    """One run, on an empty data root. :meth:`run` tells it from start to end."""

    def __init__(
        self, show: Screen, data_root: Path, log: Path, *, expected_turns: int | None = None
    ) -> None:
        self._show = show
        self._expected_turns = TURNS if expected_turns is None else expected_turns
        self._turns = {space: load_turns(space) for space in SPACES}
        self._contents = {
            space: {str(new.id): new.content for new in turns}
            for space, turns in self._turns.items()
        }
        self._server = ServerProcess(data_root, log)
        self._ledger = Ledger(SPACES)
        self._exit = AsyncExitStack()
        self._client: engram.AsyncClient
        self._watcher: Watcher
        self._stored: dict[str, dict[str, Memory]] = {}
        self._ready_s = self._replayed_s = 0.0

    async def run(self) -> None:
        """Raises `CheckFailed`, `ServerFailed`, `WatchFailed` or what the client raises."""
        async with self._exit:
            self._exit.push_async_callback(self._server.end)
            await self._begin()
            await self._fill()
            await self._ask()
            await self._crash()
            await self._end()

    async def _begin(self) -> None:
        show = self._show
        show.title("Engram: two agents, one server, one crash")
        show.say(
            "A planner and a reviewer at a ferry booking company each get a memory space. We fill "
            "both, ask both the same questions, kill the server in the middle of a write, and "
            "count what is left. Every line with a ✓ was checked as it was printed."
        )
        await show.pause(2.0)
        show.title("1  A server")
        show.command(self._server.command)
        await self._server.start()
        show.output(f"engram ready {self._server.url}")
        show.event(
            "●", f"process {self._server.pid}, ready in {self._server.start_s:.1f} s", "green"
        )
        self._client = await self._exit.enter_async_context(engram.AsyncClient(self._server.url))
        await show.pause(1.0)

    async def _fill(self) -> None:
        show = self._show
        show.title("2  Two spaces, filled while a subscriber watches")
        for space in SPACES:
            await self._client.create_space(space)
        self._watcher = await self._exit.enter_async_context(Watcher(self._server.url, SPACES))
        totals = {space: len(turns) for space, turns in self._turns.items()}

        def render() -> RenderableType:
            return Group(screen.progress(self._acknowledged(), totals), self._feed())

        async with show.live(render):
            await asyncio.gather(*(self._fill_one(space) for space in SPACES))
            positions = await self._positions()
            await self._watcher.reach(positions)
        self._check(
            f"{len(self._ledger)} memories written over HTTP, each answered once it was on disk",
            checks.same_count("memories acknowledged", len(self._ledger), self._expected_turns),
        )
        self._check(
            f"the subscriber saw all {sum(positions.values())} events as they happened",
            self._dense(positions),
        )
        await show.pause(1.5)

    async def _fill_one(self, space: str) -> None:
        for new in self._turns[space]:
            await self._ledger.remember(self._client.space(space), new)
            await self._show.pause(0.035)

    async def _ask(self) -> None:
        show = self._show
        show.title("3  The same questions to both")
        hits: dict[str, list[Hit]] = {space: [] for space in SPACES}
        questions = load_questions()
        expected_found = 0
        for number, question in enumerate(questions):
            both = [await self._client.space(s).recall(question.question) for s in SPACES]
            for space, recall in zip(SPACES, both, strict=True):
                hits[space] += recall.results
                top = [hit.memory.id for hit in recall.results[:ANSWERS_SHOWN]]
                expected_found += bool(set(top) & set(question.expected(space)))
            if number < QUESTIONS_SHOWN:
                await self._show_answers(question.question, both)
        asked = len(questions) * len(SPACES)
        show.say(
            f"{len(questions)} questions, {QUESTIONS_SHOWN} of them shown. The answer we had in "
            f"mind was among the first {ANSWERS_SHOWN} in {expected_found} of {asked} recalls."
        )
        await self._check_separation(hits)
        await show.pause(2.0)

    async def _show_answers(self, question: str, both: list[Recall]) -> None:
        self._show.show(
            Text(f"\n{question}", style="bold"),
            self._show.pair(
                *(
                    screen.answers(space, recall, ANSWERS_SHOWN)
                    for space, recall in zip(SPACES, both, strict=True)
                )
            ),
        )
        await self._show.pause(1.9)

    async def _check_separation(self, hits: dict[str, list[Hit]]) -> None:
        for space, other in ((REVIEWER, PLANNER), (PLANNER, REVIEWER)):
            own, foreign = self._contents[space], self._contents[other]
            self._check(
                f"{len(hits[space])} answers by the {space}, all its own: compared by id and "
                f"content with the {other}'s {len(foreign)} memories, none crossed over",
                checks.own_answers(space, hits[space], own, foreign),
            )
        shared = sorted(self._contents[PLANNER].keys() & self._contents[REVIEWER].keys())
        wrong = []
        for memory_id in shared:
            for space in SPACES:
                found = await self._client.space(space).get(memory_id)
                if found.content != self._contents[space][memory_id]:
                    wrong.append(f"{space} gave another's {memory_id!r}: {found.content!r}")
        if not shared:
            wrong.append("no id is in both spaces, so this shows nothing")
        self._check(
            f"{len(shared)} ids are in both spaces with different contents: each gave its own",
            wrong,
        )

    async def _crash(self) -> None:
        show = self._show
        show.title("4  kill -9, in the middle of writing")
        writer = Writer(self._client, self._ledger, notes())

        def render() -> RenderableType:
            return Group(self._writer_line(writer), self._feed())

        async with show.live(render):
            await self._write_and_kill(writer)
            await self._watcher.lose()
            lost_at = dict(self._watcher.lost_at)
            for space, position in lost_at.items():
                show.event("●", f"subscriber: {space} lost at position {position}", "red")
            await show.pause(1.5)
            show.command(self._server.command)
            began = time.perf_counter()
            await self._server.start()
            self._ready_s = self._server.start_s
            await (
                self._positions()
            )  # a space opens, and replays its log, when it is first asked for
            self._replayed_s = time.perf_counter() - began
            show.event("●", f"engram ready again after {self._ready_s:.1f} s", "green")
            await self._read_back(writer)
            await writer.some(WRITES_AFTER, pause_s=0 if show.fast else 0.12)
            positions = await self._positions()
            await self._watcher.reach(positions)
            for space, position in lost_at.items():
                told = f"{space} resumed behind {position}, now at {positions[space]}"
                show.event("●", f"subscriber: {told}", "green")
        await self._check_after_crash(writer, positions)

    async def _write_and_kill(self, writer: Writer) -> None:
        pause_s = 0 if self._show.fast else 0.08
        writing = asyncio.create_task(writer.until_it_breaks(slow=SLOW_WRITES, pause_s=pause_s))
        try:
            while writer.count < WRITES_BEFORE_KILL and not writing.done():
                await asyncio.sleep(0.001)
            await asyncio.sleep(random.uniform(0, KILL_JITTER_S))
            pid = self._server.pid
            status = await self._server.kill()
            await writing
        finally:
            writing.cancel()
        self._show.event("●", f"kill -9 {pid}: the server is gone, without a word", "red")
        self._check(
            f"{writer.count} writes were acknowledged before the connection broke",
            checks.same_count("exit status of the server", status, -signal.SIGKILL),
        )

    async def _read_back(self, writer: Writer) -> None:
        """Every acknowledged memory of both spaces, against what the server says it has now."""
        wrong = []
        for space in SPACES:
            allowed = _contents_in(space, writer.unknown)
            self._stored[space] = await read_all(self._client, space)
            acknowledged = self._ledger.acknowledged[space]
            wrong += checks.all_there(space, acknowledged, self._stored[space], allowed)
        self._check(
            f"all {len(self._ledger)} acknowledged memories are there: read back, with the id, "
            "content and position they were acknowledged with",
            wrong,
        )

    async def _check_after_crash(self, writer: Writer, positions: dict[str, int]) -> None:
        self._stored = {space: await read_all(self._client, space) for space in SPACES}
        self._check(
            "the subscriber missed nothing and saw nothing twice: "
            + ", ".join(
                f"{space} positions 1–{last} without a gap" for space, last in positions.items()
            ),
            self._dense(positions),
        )
        wrong = []
        for space in SPACES:
            wrong += checks.told_as_stored(space, self._watcher.events[space], self._stored[space])
        self._check(
            f"it was told of the {sum(map(len, self._stored.values()))} memories that are there, "
            "and of no other: id, content and position compared",
            wrong,
        )
        self._show.event("·", self._what_became_of(writer), "bold")
        await self._show.pause(2.5)

    def _what_became_of(self, writer: Writer) -> str:
        """The write that was under way at the kill: nobody can know before looking."""
        if writer.unknown is None:
            return (
                "The kill fell between two writes: none was under way, and the next one found no "
                "server. Run the demo again to see one with an unknown outcome."
            )
        space, note = writer.unknown
        found = self._stored[space].get(str(note.id))
        told = f"One write was under way ({note.id} to the {space}) and never answered"
        if found is None:
            return f"{told}: unknown until we looked. It is not there, and no part of it is."
        return f"{told}: unknown until we looked. It is there, whole, at position {found.position}."

    async def _end(self) -> None:
        show = self._show
        show.title("5  The log, read by a second program")
        positions = await self._positions()
        status = await self._server.stop()
        self._check(
            "the server stopped on SIGTERM, with exit status 0",
            checks.same_count("exit status of the server", status, 0),
        )
        show.command(f"engram log verify {self._server.data_root}")
        verified = await verify_log(self._server.data_root)
        show.output(verified.words)
        wrong = checks.same_count("exit status of log verify", verified.status, 0)
        for space in SPACES:
            document = verified.documents.get(space, {})
            stored = len(self._stored[space])
            wrong += checks.same_count(f"{space}: ok", document.get("ok", 0), True)
            wrong += checks.same_count(f"{space}: memories", document.get("memories", 0), stored)
            wrong += checks.same_count(
                f"{space}: position", document.get("position", 0), positions[space]
            )
        self._check("every byte of it is sound, and it holds what the server said it holds", wrong)
        await show.pause(1.5)
        show.title("What happened")
        show.show(self._summary(positions))

    def _summary(self, positions: dict[str, int]) -> RenderableType:
        acknowledged = self._ledger.acknowledged
        seen = {space: [e.position for e in self._watcher.events[space]] for space in SPACES}
        others = {PLANNER: self._contents[REVIEWER], REVIEWER: self._contents[PLANNER]}
        rows = {
            "memories": {s: len(self._stored[s]) for s in SPACES},
            "  acknowledged": {s: len(acknowledged[s]) for s in SPACES},
            "  acknowledged, then lost": {
                s: len(acknowledged[s].keys() - self._stored[s].keys()) for s in SPACES
            },
            "  that are the other's": {
                s: sum(m.content in others[s].values() for m in self._stored[s].values())
                for s in SPACES
            },
            "last position in the log": positions,
            "events seen live": {s: len(seen[s]) for s in SPACES},
            "  missed": {s: positions[s] - len(set(seen[s])) for s in SPACES},
            "  seen twice": {s: len(seen[s]) - len(set(seen[s])) for s in SPACES},
        }
        recovered = Text.assemble(
            "\nBack after the kill: ",
            (f"{self._ready_s:.1f} s", "bold"),
            " from starting the process to the ready line, ",
            (f"{self._replayed_s:.1f} s", "bold"),
            " until both logs were replayed and both spaces answered.",
        )
        return Group(screen.summary(SPACES, rows), recovered)

    def _check(self, statement: str, wrong: list[str]) -> None:
        if wrong:
            self._show.failed(statement, wrong)
            raise CheckFailed(statement)
        self._show.checked(statement)

    def _dense(self, positions: dict[str, int]) -> list[str]:
        wrong = []
        for space, last in positions.items():
            wrong += checks.dense(space, self._watcher.events[space], last)
        return wrong

    async def _positions(self) -> dict[str, int]:
        return {space: (await self._client.space_info(space)).position or 0 for space in SPACES}

    def _acknowledged(self) -> dict[str, int]:
        return {space: len(self._ledger.acknowledged[space]) for space in SPACES}

    def _feed(self) -> RenderableType:
        counts = {space: len(events) for space, events in self._watcher.events.items()}
        wide = self._show.console.width >= screen.SIDE_BY_SIDE_WIDTH_MIN
        return screen.feed(self._watcher.recent, counts, self._watcher.lost_at, wide=wide)

    def _writer_line(self, writer: Writer) -> Text:
        up = self._server.alive
        return Text.assemble(
            ("● server up  " if up else "✗ server down  ", "green" if up else "bold red"),
            ("acknowledged so far: ", ""),
            (str(len(self._ledger)), "bold"),
            (" memories", ""),
            ("" if writer.unknown is None or up else ", one write without an answer", ""),
        )


def _contents_in(space: str, write: tuple[str, NewMemory] | None) -> dict[str, str]:
    return {str(write[1].id): write[1].content} if write and write[0] == space else {}
