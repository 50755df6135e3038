"""`engram log` as it is typed: output for people and programs, exit codes, and its picture."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import engram
from engram.cli.log_picture import cells_of, segment_bar
from engram.inspect.figures import Span

from .command_line import ESCAPE, CommandLine, run_in_terminal
from .harness import Server

CALLER = engram.EmbeddingSpec(model="caller", dimensions=2)
EVIL = "\x1b[31mred\r"


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> CommandLine:
    return CommandLine(capfd, monkeypatch, tmp_path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two spaces; in alpha tea, two numbers at once, a revision and a forgetting."""
    with engram.open(tmp_path / "data") as db:
        for name in ("alpha", "beta"):
            space = db.create_space(name, embedding=CALLER)
            space.remember(f"tea at four {EVIL}", id="tea", tags=["daily"], embedding=[1, 0])
            space.remember_many(
                [engram.NewMemory(content=f"{n}", id=f"m{n}", embedding=[0, n]) for n in (1, 2)]
            )
            space.revise("tea", engram.Changes(tags=("weekly",)))
            space.forget("m1")
    return tmp_path / "data"


@pytest.fixture
def alpha(root: Path) -> Path:
    return root / "alpha"


def segment_of(space: Path) -> Path:
    (segment,) = (space / "log").glob("*.seg")
    return segment


def break_middle(space: Path) -> int:
    """Alter the second record; returns where it begins."""
    segment = segment_of(space)
    data = bytearray(segment.read_bytes())
    place = data.index(b"tea at four")
    data[place] ^= 1
    segment.write_bytes(data)
    return data.rindex(b"\xe6gR\xc1", 0, place)


def test_inspect_shows_every_space_of_a_data_root(run: CommandLine, root: Path) -> None:
    done = run("log", "inspect", str(root))
    assert (done.code, done.err) == (0, "")
    assert re.findall(r"^(\w+): ok", done.out, re.MULTILINE) == ["alpha", "beta"]
    assert "6 events in 5 records, 1 segment, last position 6, 2 memories" in done.out
    assert re.search(r"memory\.stored +3\n", done.out)
    documents = run("log", "inspect", str(root), "--json").documents
    assert [d["memory_space_id"] for d in documents] == ["alpha", "beta"]
    (segment,) = documents[0]["segments"]
    assert (segment["state"], segment["events"]) == ("active", 6)
    assert documents[0]["record_bytes"]["histogram"][0]["records"] > 0


def test_damage_is_drawn_told_and_an_exit_code(run: CommandLine, alpha: Path) -> None:
    place = break_middle(alpha)
    done = run("log", "inspect", str(alpha))
    assert done.code == 5
    assert f"damage in log/{segment_of(alpha).name} at byte {place}: " in done.out
    assert "positions 2 to 2 are in no record" in done.out
    assert "\N{BALLOT X}" in done.out.splitlines()[5]
    (document,) = run("log", "inspect", str(alpha), "--json").documents
    assert (document["ok"], document["gaps"]) == (False, [{"first": 2, "last": 2}])


def test_dump_shows_events_as_watch_does(run: CommandLine, alpha: Path) -> None:
    done = run("log", "dump", str(alpha))
    assert (done.code, done.err) == (0, "")
    lines = [line.split(maxsplit=4) for line in done.out.splitlines()]
    assert [line[0] for line in lines] == ["1", "2", "3", "4", "5", "6"]
    assert lines[5][3:] == ["memory.forgotten", "m1 (on request)"]
    assert "\\x1b[31mred" in lines[1][4]
    root = ["--data-root", str(alpha.parent), "--space", "alpha"]
    watched = run("watch", "--after", "0", "--no-follow", "--json", *root).documents
    again = run("log", "dump", str(alpha), "--json").documents
    for told, dumped in zip(watched, again, strict=True):
        assert told.items() <= dumped.items()
        assert dumped["file"] == f"log/{segment_of(alpha).name}"
        assert re.fullmatch("[0-9a-f]{8}", dumped["crc"])


@pytest.mark.parametrize(
    ("options", "positions"),
    [
        (["--from", "4"], [4, 5, 6]),
        (["--from", "3", "--to", "4"], [3, 4]),
        (["--type", "memory.stored", "--type", "memory.forgotten"], [2, 3, 4, 6]),
        (["--id", "m1"], [3, 6]),
        (["--limit", "2"], [1, 2]),
        (["--since", "2001-01-01", "-n", "1"], [1]),
        (["--until", "2001-01-01"], []),
    ],
)
def test_dump_filters(
    run: CommandLine, alpha: Path, options: list[str], positions: list[int]
) -> None:
    done = run("log", "dump", str(alpha), "--json", *options)
    assert (done.code, done.err) == (0, "")
    assert [document["position"] for document in done.documents] == positions


def test_dump_tells_what_it_cannot_read_and_goes_on(run: CommandLine, alpha: Path) -> None:
    place = break_middle(alpha)
    for options in ([], ["--json"], ["--records"], ["--records", "--json"]):
        done = run("log", "dump", str(alpha), *options)
        assert done.code == 5
        assert f"at byte {place}: a record's payload checksum does not match" in done.err
        assert len(done.out.splitlines()) == (5 if "--records" not in options else 4)


def test_records_can_be_shown_with_all_their_bytes(run: CommandLine, alpha: Path) -> None:
    done = run("log", "dump", str(alpha), "--records", "--id", "tea")
    assert [line.split()[0] for line in done.out.splitlines()] == ["2-2", "5-5"]
    (document, *_) = run("log", "dump", str(alpha), "--raw", "--json").documents
    data = segment_of(alpha).read_bytes()
    assert bytes.fromhex(document["hex"]) == data[4096 : 4096 + document["bytes"]]
    assert document["types"] == {"space.created": 1}
    shown = run("log", "dump", str(alpha), "--raw", "--to", "1").out
    assert "    synced_position  0\n" in shown
    assert "    00001000  e6 67 52 c1 " in shown


def test_vectors_go_with_json_alone(run: CommandLine, alpha: Path) -> None:
    done = run("log", "dump", str(alpha), "--json", "--embeddings", "--id", "m2")
    assert done.documents[0]["memory"]["embedding"] == [0, 2]
    assert run("log", "dump", str(alpha), "--embeddings").code == 2
    assert run("log", "dump", str(alpha), "--embeddings", "--json", "--records").code == 2


def test_several_spaces_are_told_apart(run: CommandLine, root: Path) -> None:
    lines = run("log", "dump", str(root), "--to", "1").out.splitlines()
    assert [line.split()[0] for line in lines] == ["alpha", "beta"]


@pytest.mark.parametrize("command", ["inspect", "dump"])
@pytest.mark.parametrize(
    ("name", "code"), [("nowhere", 3), ("file", 2), ("empty", 2), ("data/alpha/space.json", 2)]
)
def test_a_path_that_holds_no_log_is_an_error_of_one_line(
    run: CommandLine, root: Path, tmp_path: Path, command: str, name: str, code: int
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    done = run("log", command, str(tmp_path / name))
    assert (done.code, done.out) == (code, "")
    assert re.fullmatch(r"engram: .+\n", done.err)
    assert json.loads(run("log", command, str(tmp_path / name), "--json").err)["detail"]


def test_a_manifest_can_be_inspected_but_not_dumped(run: CommandLine, alpha: Path) -> None:
    manifest = str(alpha / "MANIFEST-1")
    assert f"active  {segment_of(alpha).name}\n" in run("log", "inspect", manifest).out
    assert run("log", "dump", manifest).code == 2


def test_a_data_root_without_spaces_is_said_to_be_that(run: CommandLine, tmp_path: Path) -> None:
    engram.open(tmp_path / "none").close()
    done = run("log", "inspect", str(tmp_path / "none"))
    assert (done.code, done.out) == (0, "")
    assert "no spaces" in done.err


def test_a_space_that_is_served_can_be_looked_at(
    run: CommandLine, root: Path, start_server: Callable[..., Server]
) -> None:
    server = start_server(root)
    assert server.request("GET", "/api/v1/spaces/alpha/memories")[0] == 200
    done = run("log", "inspect", str(root / "alpha"))
    assert (done.code, done.err) == (0, "")
    if Path("/proc/locks").exists():
        assert done.out.startswith("alpha: in use, ")
    assert run("log", "dump", str(root / "alpha")).code == 0
    assert server.request("GET", "/api/v1/spaces/alpha/memories")[0] == 200


def test_salvage_makes_a_space_that_is_there_at_once(
    run: CommandLine, root: Path, alpha: Path
) -> None:
    break_middle(alpha)
    done = run("log", "salvage", str(alpha), "--output", str(root / "rescued"))
    assert (done.code, done.err) == (5, "")
    first, *rest = done.out.splitlines()
    assert "4 events of 4 records, 2 memories, as space rescued" in first
    assert "  lost: positions 2 to 2" in rest
    assert any("became memory.stored" in line for line in rest)
    assert run("get", "tea", "--space", "rescued", "--data-root", str(root)).code == 0
    assert run("log", "verify", str(root / "rescued")).code == 0
    assert run("log", "salvage", str(alpha), "--output", str(root / "rescued")).code == 4
    target = str(root / "again")
    (document,) = run("log", "salvage", str(alpha), "--output", target, "--json").documents
    assert (document["lost"], document["complete"]) == ([{"first": 2, "last": 2}], False)


def test_salvage_writes_json_lines(run: CommandLine, alpha: Path, tmp_path: Path) -> None:
    done = run("log", "salvage", str(alpha), "--format", "jsonl")
    assert (done.code, done.err) == (0, "")
    dumped = run("log", "dump", str(alpha), "--json", "--embeddings")
    assert done.documents == dumped.documents
    target = tmp_path / "events.jsonl"
    saved = run("log", "salvage", str(alpha), "--format", "jsonl", "--output", str(target))
    assert (saved.code, saved.err) == (0, "")
    assert target.read_text() == done.out
    assert run("log", "salvage", str(alpha), "--format", "jsonl", "--output", str(target)).code == 4


@pytest.mark.parametrize(
    ("path", "options", "code"),
    [
        ("data/alpha", [], 2),
        ("data/alpha", ["--format", "jsonl", "--json"], 2),
        ("data", ["--output", "new"], 2),
        ("data/alpha/MANIFEST-1", ["--output", "new"], 2),
        ("data/alpha", ["--output", "data/alpha/inside"], 2),
        ("data/alpha", ["--output", "no/such/folder"], 3),
        ("data/alpha", ["--output", "Not an Id"], 2),
        ("nowhere", ["--output", "new"], 3),
    ],
)
def test_salvage_refuses(
    run: CommandLine, root: Path, path: str, options: list[str], code: int
) -> None:
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    done = run("log", "salvage", path, *options)
    assert (done.code, done.out) == (code, "")
    assert len(done.err.splitlines()) == 1
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("columns", [20, 60, 200])
def test_the_picture_fits_the_terminal(alpha: Path, columns: int) -> None:
    break_middle(alpha)
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
    environment["COLUMNS"] = str(columns)
    arguments = ["log", "inspect", str(alpha)]
    code, seen = run_in_terminal(arguments, environment, columns=columns)
    assert code == 5
    assert "\x1b[1;31m\N{BALLOT X}" in seen
    bars = [line for line in ESCAPE.sub("", seen).splitlines() if "\N{FULL BLOCK}" * 4 in line]
    assert bars
    assert all(len(line.rstrip()) <= max(columns, 26) for line in bars[:1])
    plain = run_in_terminal(arguments, {**environment, "NO_COLOR": "1"}, columns=columns)[1]
    assert "\x1b[" not in plain
    assert "\N{BALLOT X}" in plain


def test_the_picture_needs_no_more_than_ascii(alpha: Path) -> None:
    break_middle(alpha)
    done = subprocess.run(
        [sys.executable, "-m", "engram.cli.app", "log", "inspect", str(alpha)],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 5
    bar = done.stdout.splitlines()[5]
    assert re.fullmatch(rb"  #+X+#+", bar)


def test_a_cell_with_any_damage_shows_it() -> None:
    size = 1 << 20
    spans = [Span(0, 1_000, "used"), Span(1_000, 1_001, "damaged"), Span(1_001, size, "zeros")]
    assert cells_of(spans, size, 10) == ["damaged", *["zeros"] * 9]
    assert cells_of([Span(0, 3, "used")], 3, 10) == ["used"] * 10
    assert segment_bar([], 0, size) == ""
    assert len(segment_bar(spans, size, 4 * size)) < len(segment_bar(spans, size, size))


def test_the_same_runs_out_of_the_repository(
    alpha: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tool = Path(__file__).parents[2] / "tools" / "inspect_log.py"
    monkeypatch.setattr(sys, "argv", [str(tool), "dump", str(alpha), "--limit", "1"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(tool), run_name="__main__")
    assert "space.created" in capfd.readouterr().out


def test_checkpoints_are_shown_and_a_single_one_is_verified(
    run: CommandLine, root: Path, alpha: Path, tmp_path: Path
) -> None:
    assert run("compact", "--space", "alpha", "--data-root", str(root)).code == 0
    (file,) = (alpha / "checkpoints").iterdir()
    shown = run("log", "inspect", str(alpha))
    assert f"checkpoints/{file.name}  checkpoint, " in shown.out
    assert "documents.data" not in shown.out
    assert "documents.data" in run("log", "inspect", str(alpha), "--columns").out
    (document,) = run("log", "inspect", str(alpha), "--json").documents
    assert document["checkpoints"][0]["columns"][0]["name"] == "position"
    assert "1 checkpoint" in run("log", "verify", str(alpha)).out
    (document,) = run("log", "verify", str(alpha), "--json").documents
    assert [each["name"] for each in document["checkpoints"]] == [file.name]
    sent = tmp_path / "sent.ckpt"
    sent.write_bytes(file.read_bytes())
    assert run("log", "verify", str(sent)).out.startswith("sent.ckpt: ok, ")
    assert run("log", "inspect", str(sent)).code == 0
    assert run("log", "dump", str(sent)).code == 2
    assert run("log", "verify", str(alpha / "log" / "none.seg")).code != 0
    assert run("log", "verify", str(next((alpha / "log").iterdir()))).code == 2
    data = bytearray(sent.read_bytes())
    data[4_100] ^= 1
    sent.write_bytes(data)
    broken = run("log", "verify", str(sent))
    assert broken.code == 5
    assert "sent.ckpt: DAMAGED" in broken.out
    assert "damage at byte 4096" in broken.out
    (document,) = run("log", "verify", str(sent), "--json").documents
    assert not document["ok"]


def test_verifying_shows_how_far_it_is(alpha: Path) -> None:
    environment = {**os.environ, "TERM": "xterm-256color"}
    code, seen = run_in_terminal(["log", "verify", str(alpha)], environment, columns=80)
    assert code == 0
    assert "alpha: ok" in ESCAPE.sub("", seen)
