"""`engram drill crash`: it is clean on a sound server, and finds whatever is wrong with another.

A drill that cannot fail shows nothing. So here it also meets servers whose data is tampered with
while they are down, one that does not come back, and one behind a proxy that repeats events; each
time it has to end with 5 and to name what is wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import engram
from engram.cli.app import main
from engram.drill import crash, server
from engram.drill.crash import Moment
from tests.crash.liar import Liar
from tests.surfaces.command_line import run_in_terminal

KILLS = 25
ENOUGH = 60
"""Acknowledgements, after which each of the spaces has some of them."""
ALL_S_MAX = 280
DRILL = [sys.executable, "-m", "engram.cli.app", "drill", "crash"]

Document = dict[str, Any]


def drilled(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Document, str]:
    """Run it in this process: (exit code, the JSON document, what stood on stderr)."""
    capsys.readouterr()
    code = main(["drill", "crash", "--json", *arguments])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


@pytest.mark.timeout(ALL_S_MAX)
def test_a_sound_server_killed_again_and_again_keeps_every_promise(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    report, root = tmp_path / "report.txt", tmp_path / "drill"
    code, document, _ = drilled(
        capsys,
        *("--iterations", str(KILLS), "--seed", "20261123", "--spaces", "4"),
        *("--report", str(report), "--data-root", str(root)),
    )
    assert (code, document["result"], document["violations"]) == (0, "clean", [])
    assert document["kills"] == sum(document["kills_by_moment"].values()) == KILLS
    assert set(document["kills_by_moment"]) == {"at an answer", "at a time", "while starting"}
    names = {"remember", "remember batch", "revise", "forget", "recall"}
    names |= {"create space", "delete space", "restore space", "purge space"}
    names |= {"restore", "purge", "compact", "configure space"}
    assert set(document["operations"]) == names
    assert all(count["acknowledged"] for count in document["operations"].values())
    assert document["acknowledged"] > 10 * KILLS
    assert document["unanswered"] > KILLS
    assert document["unanswered_found"] > 0
    assert document["spaces_made"] > 4
    asked_for = document["operations"]["compact"]["acknowledged"]
    purges = document["operations"]["purge"]["acknowledged"]
    assert document["compactions"] > asked_for + purges / 2
    assert document["let_go"] > KILLS
    assert document["subscribers_told_gone"] > 0
    assert document["purged"] > purges / 2 > KILLS / 4
    assert document["subscribers_told"] > document["events"] / 2 > document["acknowledged"] / 4
    text = report.read_text(encoding="utf-8")
    assert f"CLEAN: {KILLS} kills" in text
    assert document["repeat"] in text
    assert not root.exists()
    with capsys.disabled():
        print(f"\n{text}")


def test_what_it_repeats_is_chosen_by_the_seed() -> None:
    def moments(seed: int) -> list[Moment]:
        random = crash.Random(f"{seed} moments")
        return [Moment.choose(random) for _ in range(20)]

    assert moments(1) == moments(1) != moments(2)
    assert {moment.kind for moment in moments(1)} == {
        *("at an answer", "at a time", "while starting")
    }


class Tampered(server.Server):
    """Calls `tamper` with the data root and the number of the start, before every start."""

    tamper: Callable[[Path, int], None]
    starts = 0

    async def start(self) -> float:
        self.starts += 1
        type(self).tamper(self.data_root, self.starts)
        return await super().start()


def put_back(root: Path, start: int) -> None:
    """What a disk does that lies about having written: a space is as it was one kill before."""
    live, saved = root / "words-1", root.parent / "saved"
    if start == 2:
        shutil.copytree(live, saved)
    elif start == 3:
        shutil.rmtree(live)
        shutil.copytree(saved, live)


def write(space: str, memory_id: str, content: str) -> Callable[[Path, int], None]:
    def tamper(root: Path, start: int) -> None:
        if start == 2:
            with engram.open(root) as db:
                db.space(space).remember(content, id=memory_id)

    return tamper


def revise_one(root: Path, start: int) -> None:
    if start == 2:
        with engram.open(root) as db:
            space = db.space("words-1")
            last = space.list(limit=1_000).memories[-1]
            space.revise(last.id, engram.Changes(content="words-1 revised by nobody"))


def forget_one(root: Path, start: int) -> None:
    if start == 2:
        with engram.open(root) as db:
            space = db.space("words-1")
            space.forget(space.list().memories[0].id)


def make_space(root: Path, start: int) -> None:
    if start == 2:
        with engram.open(root) as db:
            db.create_space("words-nobody-asked-for")


def lose_space(root: Path, start: int) -> None:
    if start == 2:
        shutil.rmtree(root / "words-1")


def delete_space(root: Path, start: int) -> None:
    if start == 2:
        with engram.open(root) as db:
            db.delete_space("words-1")


def break_space(root: Path, start: int) -> None:
    if start == 2:
        segment = max((root / "words-1" / "log").glob("*.seg"))  # the one that is written to
        with segment.open("r+b") as file:
            file.seek(300)
            file.write(b"\xff" * 8)


TAMPERINGS = {
    "lost": (put_back, "lost", "words-1"),
    "phantom": (write("words-1", "words-1.x", "words-1 by nobody"), "phantom", "words-1"),
    "foreign": (write("words-1", "vectors-2.c1.7", "vectors-2 c1 7"), "foreign", "words-1"),
    "revised": (revise_one, "phantom", "words-1"),
    "forgotten": (forget_one, "phantom", "words-1"),
    "space-made": (make_space, "phantom", "words-nobody-asked-for"),
    "space-lost": (lose_space, "lost", "words-1"),
    "space-deleted": (delete_space, "lost", "words-1"),
    "damaged": (break_space, "unreadable", "words-1"),
}


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kill comes once all spaces were written to."""
    moment = Moment("at an answer", acknowledged=ENOUGH)
    monkeypatch.setattr(Moment, "choose", lambda random: moment)


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("name", TAMPERINGS)
def test_data_tampered_with_between_two_boots_is_found(
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tamper, kind, space = TAMPERINGS[name]
    monkeypatch.setattr(crash, "Server", Tampered)
    monkeypatch.setattr(Tampered, "tamper", staticmethod(tamper), raising=False)
    report = tmp_path / "report.txt"
    code, document, _ = drilled(
        capsys,
        *("--iterations", "3", "--spaces", "2", "--clients", "4", "--seed", "7"),
        *("--data-root", str(tmp_path / "drill"), "--report", str(report)),
    )
    assert (code, document["result"]) == (5, "violations")
    found = [failure["violation"] for failure in document["violations"]]
    matching = [one for one in found if (one["kind"], one.get("space")) == (kind, space)]
    assert matching, found
    text = report.read_text(encoding="utf-8")
    assert "FAILED" in text
    assert matching[0]["detail"] in text
    assert "--seed 7 " in document["violations"][0]["repeat"]
    if name == "lost":
        check_lost_for_good(Path(document["kept"]), matching)
    elif name in {"phantom", "foreign", "revised", "forgotten"}:
        assert all(one["memory_id"] for one in matching)


def check_lost_for_good(kept: Path, lost: list[Document]) -> None:
    """The memories that were named are those that are not there: their positions hold no such."""
    with engram.open(kept / "round-1" / "data") as db:
        events = list(db.space("words-1").events(after=0))
    named = [one for one in lost if one.get("memory_id")]
    assert named
    for one in named:
        assert one["memory_id"] in one["detail"]
        ids = {
            event.id or (event.memory and event.memory.id)
            for event in events
            if event.position == one["position"]
        }
        assert one["memory_id"] not in ids


PLANTED = {
    "purged bytes stay in the log": (
        """
        from engram.spaces import compactor
        compactor.Compactor._purge = lambda *_: compactor.Purge((), lambda record: None)
        """,
        "purged",
    ),
    "what a compaction let go of stays in the folder": (
        """
        from wal.log import Log
        Log.remove_retired = lambda self: None
        """,
        "purged",
    ),
    "a compaction is told as another": (
        """
        import msgspec
        from engram.spaces.compactor import Compactor
        told = Compactor._told
        def other(self, done):
            event = told(self, done)
            return msgspec.structs.replace(event, checkpoint_position=1)
        Compactor._told = other
        """,
        "lost compaction",
    ),
    "history is let go of that was to stay": (
        """
        from engram.spaces import compactor
        compactor.oldest_to_keep = lambda *given: given[-1][-1][0] if given[-1] else 1
        """,
        "lost,refused",  # whichever comes first: who purges reads what has just been written
    ),
    "it ends while it is looked at": (
        """
        import os
        import signal
        from engram.spaces.database import Database
        Database.spaces_among = lambda *_, **__: os.kill(os.getpid(), signal.SIGSEGV)
        """,
        "server ended",
    ),
    "a restoration is not logged": (
        """
        from engram.memory import decide
        from engram.memory.events import MemoryRestored
        from engram.spaces import machine
        whole = machine.encode_batch
        def encode(batch):
            events = list(batch.events)
            if any(isinstance(event, MemoryRestored) for event in events):
                return whole(machine.Batch([decide.HistoryRedacted()], decide.NO_VECTORS))
            return whole(batch)
        from engram.memory.events import HistoryRedacted
        decide.HistoryRedacted = HistoryRedacted
        machine.encode_batch = encode
        """,
        "lost,phantom",  # what stands there instead may be told first
    ),
}
BROKEN = """
import sys
from engram.drill.small import make_small
{planted}
make_small()
from engram.cli.app import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("name", PLANTED)
def test_a_bug_planted_in_the_server_is_found(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    planted, expected = PLANTED[name]
    moment = Moment("at an answer", acknowledged=2 * ENOUGH)
    monkeypatch.setattr(Moment, "choose", lambda random: moment)
    code = BROKEN.format(planted=dedent(planted))
    monkeypatch.setattr(server, "_SERVER", (sys.executable, "-c", code))
    code, document, _ = drilled(capsys, "--iterations", "6", "--seed", "11")
    shutil.rmtree(document["kept"])
    assert code == 5
    kinds = {failure["violation"]["kind"] for failure in document["violations"]}
    assert kinds.intersection(expected.split(",")), document["violations"]


class Repeating(server.Server):
    """Behind a proxy that repeats one event of every feed."""

    liar: Liar

    async def start(self) -> float:
        took_s = await super().start()
        if not hasattr(self, "liar"):
            self.liar = Liar()
            self.liar.port = int(self.url.rpartition(":")[2])
            await self.liar.start()
        self.url = self.liar.url
        return took_s

    async def log_reports(self) -> list[Document]:
        """What is asked for at the end of a round, whatever the end is."""
        await self.liar.stop()
        return await super().log_reports()


@pytest.mark.usefixtures("steady")
def test_a_position_that_a_subscriber_is_told_twice_is_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crash, "Server", Repeating)
    code, document, _ = drilled(capsys, "--iterations", "2", "--spaces", "2", "--clients", "4")
    shutil.rmtree(document["kept"])
    assert code == 5
    kinds = {failure["violation"]["kind"] for failure in document["violations"]}
    assert kinds == {"position repeated"}
    violation = document["violations"][0]["violation"]
    assert f"told position {violation['position']} again" in violation["detail"]
    assert document["violations"][0]["found_by"] == "a subscriber"


@pytest.mark.usefixtures("steady")
def test_a_server_that_does_not_come_back_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_layout(root: Path, start: int) -> None:
        if start == 2:
            (root / ".engram" / "layout.json").write_bytes(b"not a layout")

    monkeypatch.setattr(crash, "Server", Tampered)
    monkeypatch.setattr(Tampered, "tamper", staticmethod(lose_layout), raising=False)
    code, document, _ = drilled(capsys, "--iterations", "3", "--data-root", str(tmp_path / "d"))
    assert code == 5
    assert [one["violation"]["kind"] for one in document["violations"]] == ["did not come back"]


@pytest.mark.usefixtures("steady")
def test_a_server_that_ends_by_itself_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mortal(server.Server):
        def kill(self) -> None:
            if self._process is not None and self._process.returncode is None:
                self._process.send_signal(signal.SIGQUIT)  # by nobody, as far as the drill knows

    monkeypatch.setattr(crash, "Server", Mortal)
    code, document, _ = drilled(capsys, "--iterations", "3", "--data-root", str(tmp_path / "d"))
    assert code == 5
    (violation,) = [one["violation"] for one in document["violations"]]
    assert violation["kind"] == "server ended"
    assert f"status {-signal.SIGQUIT}" in violation["detail"]


def test_a_server_that_never_starts_is_no_violation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_SERVER", (sys.executable, "-c", "import sys; sys.exit('no!')"))
    code, document, err = drilled(capsys, "--data-root", str(tmp_path / "d"))
    assert (code, document) == (1, {})
    assert "did not start: no!" in err


def test_a_folder_that_is_not_a_drills_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with engram.open(tmp_path / "mine") as db:
        db.create_space("precious")
    before = sorted(tmp_path.rglob("*"))
    for path in ("mine", "mine/precious"):
        code, _, err = drilled(capsys, "--data-root", str(tmp_path / path))
        assert code == 1
        assert "no drill has made" in err
    (tmp_path / "file").touch()
    assert drilled(capsys, "--data-root", str(tmp_path / "file"))[0] == 1
    (tmp_path / "file").unlink()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_a_drill_has_kept_is_taken_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "drill"
    arguments = ("--iterations", "1", "--spaces", "1", "--data-root", str(root))
    code, document, _ = drilled(capsys, *arguments, "--keep")
    assert (code, document["kept"]) == (0, str(root))
    with engram.open(root / "round-1" / "data") as db:
        assert "words-1" in {info.memory_space_id for info in db.spaces()}
    (root / "notes.txt").write_text("mine")
    code, document, _ = drilled(capsys, *arguments)
    assert (code, document["kept"]) == (0, None)
    assert [path.name for path in root.iterdir()] == ["notes.txt"]


def test_a_report_that_cannot_be_written_is_said_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = drilled(capsys, "--report", str(tmp_path / "nowhere" / "report.txt"))
    assert code == 2
    assert "--report" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_drill_that_is_interrupted_leaves_nothing_behind(number: int, tmp_path: Path) -> None:
    command = [*DRILL, "--iterations", "1000", "--seed", "3", "--data-root", str(tmp_path / "d")]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line.startswith("kill 1 of 1000"):
                break
        process.send_signal(number)
        said = process.stdout.read()
        assert process.stderr.read() == ""
    assert process.returncode == 130
    assert "INTERRUPTED: " in said
    assert "go on with    engram drill crash --seed 3 --iterations 99" in said
    assert list(tmp_path.iterdir()) == []
    assert servers_on(tmp_path) == []


def test_in_a_terminal_it_shows_a_bar_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    command = ["drill", "crash", "--iterations", "200", "--spaces", "1"]
    code, shown = run_in_terminal(
        command, {"TMPDIR": str(tmp_path)}, columns=100, until="1/200", then=b"\x03"
    )
    assert code == 130
    assert "INTERRUPTED: 1 kill," in shown
    assert list(tmp_path.iterdir()) == []
    assert servers_on(tmp_path) == []


def test_when_its_time_is_up_it_has_killed_once_at_least(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, document, _ = drilled(capsys, "--seconds", "1", "--iterations", "500", "--spaces", "1")
    assert code == 0
    assert 1 <= document["kills"] < 500
    left = 500 - document["kills"]
    assert f"--seed {document['seed'] + 1} --iterations {left} " in document["continue_with"]


def servers_on(folder: Path) -> list[str]:
    """The command lines of all processes that name a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


def test_the_tool_is_the_same_drill() -> None:
    done = subprocess.run(
        [sys.executable, "tools/recovery_drill.py", "--help"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=True,
    )
    assert "engram drill crash --iterations 2" in done.stdout
