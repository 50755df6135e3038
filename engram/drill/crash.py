"""The drill: rounds of load, kill, restart and comparison, each round on a new data root.

A seed determines the spaces, what each client does, and when the server is killed: after so many
acknowledgements (at that very moment), after so much time under load, or in the middle of starting.
How requests of several clients interleave is the machine's choice, so a seed repeats the plan of a
run and not its every instruction. Round `n` has the seed of the drill plus `n`, counted from zero;
so a long drill can be continued, and a round that failed repeated by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from engram.client.asynchronous import AsyncClient
from engram.drill import operations, subscribers
from engram.drill.effects import Violation
from engram.drill.files import find_words
from engram.drill.folder import Folder
from engram.drill.ledger import LIVE, Ledger
from engram.drill.look import look
from engram.drill.report import Failure, Quarantined, Tally
from engram.drill.server import DrillFailed, NotReady, Server

ROUND_KILLS: Final = 50
"""So many kills share a data root: histories grow long, and reading them whole stays quick."""
LOAD_S_MAX: Final = 0.9
ACKNOWLEDGED_MAX: Final = 150
STARTING_S_MAX: Final = 0.8
STARTING_SHARE: Final = 0.15
ACKNOWLEDGED_SHARE: Final = 0.55
SILENT_LOAD_S_MAX: Final = 20.0
"""Only so that a server that answers nobody is killed too."""
CATCH_UP_S_MAX: Final = 30.0


class Moment(NamedTuple):
    """When the server is killed next."""

    kind: str
    seconds: float = SILENT_LOAD_S_MAX
    acknowledged: int | None = None

    @classmethod
    def choose(cls, random: Random) -> Moment:
        dice = random.random()
        if dice < STARTING_SHARE:
            return cls("while starting", random.uniform(0.02, STARTING_S_MAX))
        if dice < STARTING_SHARE + ACKNOWLEDGED_SHARE:
            return cls("at an answer", acknowledged=random.randint(1, ACKNOWLEDGED_MAX))
        return cls("at a time", random.uniform(0.0, LOAD_S_MAX))


class Step(NamedTuple):
    """Progress: one kill is over, and what was found after it."""

    round: int
    kills: int
    of: int
    moment: str
    acknowledged: int
    acknowledged_in_all: int
    ready_s: float | None
    violations: int


Tell = Callable[[Step], None]


async def drill(tally: Tally, folder: Folder, tell: Tell) -> None:
    """Round after round, until all kills are done, the time is up, or a promise was not kept.

    `tally` holds the account at any moment. Raises `DrillFailed`.
    """
    options = tally.options
    deadline = None if options.seconds is None else time.monotonic() + options.seconds
    while (left := options.iterations - tally.kills.total()) > 0 and not tally.failures:
        if deadline is not None and time.monotonic() >= deadline:
            return
        number = tally.rounds + 1
        one = Round(tally, number, min(left, ROUND_KILLS), folder.new_round(number), deadline, tell)
        try:
            await one.run()
        finally:
            folder.end_round(one.server.folder, clean=not tally.failures)


class Round:
    """One data root, one server, its clients and its subscribers."""

    def __init__(
        self,
        tally: Tally,
        number: int,
        kills: int,
        path: Path,
        deadline: float | None,
        tell: Tell,
    ) -> None:
        options = tally.options
        self.server = Server(path)
        self._tally = tally
        self._options = options
        self._number = number
        self._seed = options.seed + number - 1
        self._kills_max = kills
        self._kills = 0
        self._deadline = deadline
        self._tell = tell
        self._moments = Random(f"{self._seed} moments")
        self._samples = Random(f"{self._seed} samples")
        self._ledger = Ledger()
        self._clients = [
            operations.Client(f"c{n + 1}", Random(f"{self._seed} client {n + 1}"))
            for n in range(options.clients)
        ]
        self._subscribers: list[subscribers.Subscriber] = []
        self._following: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """The whole round; its account is in the tally at the end, whatever the end is."""
        ledger = self._ledger
        try:
            await self._begin()
            while self._goes_on():
                await self._kill_once(Moment.choose(self._moments))
            await self._end()
        finally:
            for task in self._following:
                task.cancel()
            self.server.kill()
            await self.server.ended()
            await asyncio.gather(*self._following, return_exceptions=True)
            tally = self._tally
            tally.acknowledged += ledger.acknowledged
            tally.unanswered += ledger.unanswered
            tally.refused += ledger.refused
            tally.unanswered_found += ledger.found_unanswered
            tally.events += sum(len(model.marks) for model in ledger.models.values())
            tally.spaces_made += len(ledger.models)
            tally.subscribers += len(self._subscribers)
            tally.subscribers_told += sum(one.told for one in self._subscribers)
            tally.subscribers_told_gone += sum(one.gone for one in self._subscribers)
            tally.compactions += sum(model.compacted for model in ledger.models.values())
            tally.let_go += sum(model.oldest - 1 for model in ledger.models.values())
            tally.purged_words += len(ledger.gone_words())
        tally.rounds += 1

    def _goes_on(self) -> bool:
        if self._kills >= self._kills_max or self._tally.failures:
            return False
        # A drill without a single kill would have shown nothing.
        in_time = self._deadline is None or time.monotonic() < self._deadline
        return in_time or self._tally.kills.total() == 0

    async def _begin(self) -> None:
        try:
            await self.server.start()
        except NotReady as error:
            raise DrillFailed(f"the server did not start: {error}") from None
        async with AsyncClient(self.server.url, retry_s=0) as client:
            for name in operations.first_spaces(self._options.spaces):
                await client.create_space(name, embedding=operations.spec_of(name))
                self._ledger.announce(name, LIVE)
                self._ledger.settle_state(name, LIVE)
                if operations.is_brief(name):
                    await operations.keep_little(client.space(name), self._ledger)
        for kind in subscribers.KINDS:
            for name in self._ledger.shared:
                self._subscribe(kind, name)

    def _subscribe(self, kind: type[subscribers.Subscriber], space: str) -> None:
        subscriber = kind(space, self.server)
        self._subscribers.append(subscriber)
        self._following.append(asyncio.create_task(subscriber.follow()))

    async def _kill_once(self, moment: Moment) -> None:
        """Load, kill, restart, compare."""
        before = self._ledger.acknowledged.total()
        if moment.kind == "while starting":
            self.server.kill()
            await self.server.ended()
            status = await self.server.start_and_kill(moment.seconds)
            if status is not None:
                self._found("a start", "did not come back", f"it ended with status {status}")
        else:
            await self._load(moment, before)
        self._kills += 1
        self._tally.kills[moment.kind] += 1
        ready_s = None
        await self._search("the files after a kill")
        if not self._tally.failures:
            ready_s = await self._restart()
        done = self._ledger.acknowledged.total() - before
        tally = self._tally
        self._tell(
            Step(
                round=self._number,
                kills=tally.kills.total(),
                of=self._options.iterations,
                moment=moment.kind,
                acknowledged=done,
                acknowledged_in_all=tally.acknowledged.total() + before + done,
                ready_s=ready_s,
                violations=len(tally.failures),
            )
        )

    async def _load(self, moment: Moment, before: int) -> None:
        """All clients at once, until the server is killed."""
        ledger, server = self._ledger, self.server
        enough = None if moment.acknowledged is None else before + moment.acknowledged

        def on_acknowledge() -> None:
            if enough is not None and ledger.acknowledged.total() >= enough:
                server.kill()

        ledger.on_acknowledge = on_acknowledge
        timer = asyncio.get_running_loop().call_later(moment.seconds, server.kill)
        spaces_max = operations.SPACES_FACTOR_MAX * self._options.spaces
        try:
            async with (
                AsyncClient(server.url, retry_s=0) as connection,
                asyncio.TaskGroup() as working,
            ):
                for client in self._clients:
                    client.refresh(ledger.models)
                    working.create_task(operations.work(client, connection, ledger, spaces_max))
        finally:
            timer.cancel()
        if ledger.violations:
            server.kill()
        status = await server.ended()
        if not server.killed:
            words = f"it ended by itself with status {status}: {server.last_words()}"
            self._found("its exit", "server ended", words)
        self._take("an answer")

    async def _restart(self) -> float | None:
        """Start it again and compare everything; returns how long it took to be ready."""
        try:
            ready_s = await self.server.start()
        except NotReady as error:
            self._found("a start", "did not come back", f"the last it said: {error}")
            return None
        opened_s = await look(self.server.url, self._ledger, self._samples)
        if self._ledger.violations and (status := await self.server.status()) is not None:
            words = f"it ended by itself with status {status}: {self.server.last_words()}"
            self._found("its exit", "server ended", words)
        self._take("the comparison after a restart")
        if self._tally.failures:
            return ready_s  # what subscribers were told would only repeat it
        self._tally.ready_s.append(ready_s)
        self._tally.opened_s.append(ready_s + opened_s)
        await self._search("the files after a restart")
        self._check_subscribers()
        followed = {subscriber.space for subscriber in self._subscribers}
        for name in self._ledger.shared:
            if name not in followed and operations.is_followed(name):
                self._subscribe(subscribers.ByClient, name)
        return ready_s

    async def _search(self, by: str) -> None:
        """What was purged, and is complete, stands in no file."""
        gone = self._ledger.gone_words()
        found = await asyncio.to_thread(lambda: list(find_words(self.server.data_root, gone)))
        self._ledger.report(found)
        self._take(by)

    def _check_subscribers(self) -> None:
        for subscriber in self._subscribers:
            self._ledger.report(subscriber.check(self._ledger.models[subscriber.space]))
        self._take("a subscriber")

    async def _end(self) -> None:
        """Let the subscribers catch up, stop the server in peace, and verify its files."""
        if self._tally.failures:
            self.server.kill()
            await self.server.ended()
        else:
            await self._catch_up()
            status = await self.server.stop()
            if status != 0:
                self._found("its exit", "server ended", f"SIGTERM ended it with status {status}")
        await self._verify()

    async def _catch_up(self) -> None:
        ends = {name: len(model.marks) for name, model in self._ledger.models.items()}
        try:
            async with asyncio.timeout(CATCH_UP_S_MAX), asyncio.TaskGroup() as waiting:
                for one in self._subscribers:
                    waiting.create_task(one.reaches(ends[one.space]))
        except TimeoutError:
            for one in self._subscribers:
                if one.last < ends[one.space]:
                    words = f"it was told up to {one.last} of {ends[one.space]}, and then no more"
                    self._found("a subscriber", "subscriber stuck", f"{one.kind}: {words}")
        self._check_subscribers()

    async def _verify(self) -> None:
        """The files, offline: sound, and of the spaces that were made and no others."""
        try:
            reports = await self.server.log_reports()
        except DrillFailed as error:
            self._found("engram log verify", "damage", error.detail)
            return
        names = set()
        for report in reports:
            name = report["memory_space_id"] or Path(report["path"]).name
            names.add(name)
            for file in report["quarantined"]:
                self._tally.quarantined.append(Quarantined(self._number, name, str(file)))
            if not report["ok"] or not report["is_space"]:
                words = "; ".join(map(str, report["damage"])) or "it is not a space"
                self._found("engram log verify", "damage", words, name)
        live = self._ledger.in_state(LIVE)
        if names != live and not self._tally.failures:
            strange = sorted(names ^ live)
            self._found("engram log verify", "phantom", f"folders and spaces differ in {strange}")

    def _found(self, by: str, kind: str, detail: str, space: str | None = None) -> None:
        self._ledger.report([Violation(kind=kind, detail=detail, space=space)])
        self._take(by)

    def _take(self, by: str) -> None:
        """Move what the ledger has into the tally."""
        repeat = self._options.command(seed=self._seed, iterations=max(1, self._kills_max))
        for violation in self._ledger.violations:
            self._tally.failures.append(Failure(self._number, self._kills, by, violation, repeat))
        self._ledger.violations.clear()
