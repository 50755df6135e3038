"""Memories from the command line: each verb, on a data root and over a server, to the same effect.

Two equal data roots are made. One is worked on directly, the other through a server.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import engram
from engram import limits

from .command_line import CommandLine, Done
from .harness import Server

CLOCK = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z")
CHANCE = re.compile(
    r'"(?:took_ms|score|recall_id|space_uuid|uuid|query_digest)":[^,}]+|\b[0-9a-f]{24}\b|m-[0-9a-z]{16}'
    r'|crc32c(?: |":")[0-9a-f]{8}'
)


class Places(dict[str, list[str]]):
    """Options that lead to the same memories: `here` and `there`."""


DEPLOYS = (
    "Friday's deploy broke checkout",
    "Another Friday deploy, and checkout broke",
    "Checkout broke after the Friday deploy",
)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    folder = tmp_path_factory.mktemp("places")
    with engram.open(folder / "here") as db:
        alpha = db.create_space("alpha")
        for number in range(3):
            alpha.remember(
                f"Backup {number} runs at two", id=f"backup-{number}", tags=["ops", f"n{number}"]
            )
        alpha.remember(
            "Lunch is at noon", id="lunch", kind="fact", source="menu", metadata={"a": 1}
        )
        alpha.remember("gone", id="gone")
        alpha.forget("gone")
        db.create_space("empty")
        spec = engram.EmbeddingSpec(model="caller", dimensions=2)
        db.create_space("vectors", embedding=spec).remember("v", id="v", embedding=[1.0, 0.0])
    shutil.copytree(folder / "here", folder / "there")
    server = Server(folder / "there")
    yield Places(here=["--data-root", str(folder / "here")], there=["--server", server.url])
    server.kill()


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> CommandLine:
    return CommandLine(capfd, monkeypatch, tmp_path)


def both(run: CommandLine, places: Places, *arguments: str) -> Done:
    """Run a command here and there; what it says must be the same but for clocks and chance."""
    here, there = (run(*arguments, *places[name]) for name in ("here", "there"))
    assert masked(here) == masked(there)
    return here


def masked(done: Done) -> Done:
    out, err = (CHANCE.sub("*", CLOCK.sub("<time>", text)) for text in (done.out, done.err))
    return Done(done.code, out, err)


def test_a_memory_s_way_through_the_verbs(run: CommandLine, places: Places) -> None:
    run.set(ENGRAM_SPACE="alpha")
    stored = both(
        run,
        places,
        *("remember", "The deploy key rotates on Mondays", "--id", "key", "--tag", "ops"),
        *(
            "--tag",
            "keys",
            "--metadata",
            '{"agent": "planner"}',
            "--at",
            "2026-05-01T09:00:00+02:00",
        ),
        *("--expires", "2999-01-01T00:00:00Z", "--source", "chat", "--kind", "belief"),
        *("--confidence", "0.5", "--json"),
    )
    assert (stored.code, stored.err) == (0, "")
    memory = stored.documents[0]
    assert memory["occurred_at"] == "2026-05-01T07:00:00Z"
    assert (memory["kind"], memory["tags"], memory["confidence"]) == (
        "belief",
        ["ops", "keys"],
        0.5,
    )
    shown = both(run, places, "get", "key")
    assert re.search(r"^occurred +2026-05-01 07:00:00Z$", shown.out, re.MULTILINE)
    assert shown.out.endswith("content\n  The deploy key rotates on Mondays\n")
    assert both(run, places, "get", "key", "--json").documents == [memory]
    found = both(run, places, "recall", "when does the key rotate", "-n", "2", "--no-record")
    assert found.out.splitlines()[0].split() == ["SCORE", "CONFIDENCE", "ID", "MEMORY"]
    assert "key" in found.out.splitlines()[1]
    assert len(found.out.splitlines()) == 3
    revised = both(
        run,
        places,
        "revise",
        "key",
        "--content",
        "It rotates on Fridays",
        "--clear",
        "tags",
        "--json",
    )
    assert (revised.documents[0]["tags"], revised.documents[0]["revision"]) == ([], 2)
    again = both(run, places, "revise", "key", "--tag", "new", "--clear", "source")
    assert re.fullmatch(r"revised key to revision 3 at position \d+\n", again.out)
    told = both(run, places, "history", "key", "--json").documents
    assert [event["type"] for event in told] == [
        "memory.stored",
        "memory.revised",
        "memory.revised",
    ]
    forgotten = both(run, places, "forget", "key", "--yes")
    assert re.fullmatch(r"forgot key at position \d+\n", forgotten.out)
    assert both(run, places, "get", "key").code == 3
    assert both(run, places, "history", "key").out.count("\n") == 5


def test_what_is_remembered_without_an_id_gets_one(run: CommandLine, places: Places) -> None:
    done = both(run, places, "remember", "Minted", "--space", "empty")
    assert done.code == 0
    for where in places.values():
        memory = run("list", "--space", "empty", "--json", *where).documents[0]
        assert memory["content"] == "Minted"
        assert run("forget", memory["id"], "--yes", "--space", "empty", *where).code == 0


def test_lists_come_in_pages_that_say_how_to_go_on(run: CommandLine, places: Places) -> None:
    page = both(run, places, "list", "--space", "alpha", "--limit", "2", "--json")
    assert [memory["id"] for memory in page.documents] == ["backup-0", "backup-1"]
    position = page.documents[-1]["position"]
    assert page.err == f"there is more: --after {position}, or --all\n"
    rest = both(run, places, "list", "--space", "alpha", "--after", str(position), "--json")
    assert [memory["id"] for memory in rest.documents] == ["backup-2", "lunch"]
    assert rest.err == ""
    everything = both(run, places, "list", "--space", "alpha", "--all", "--json")
    assert len(everything.documents) == 4
    table = both(run, places, "list", "--space", "alpha")
    assert table.out.splitlines()[0].split() == ["POSITION", "TIME", "ID", "MEMORY"]
    assert "[fact] Lunch is at noon" in table.out
    assert both(run, places, "list", "--space", "alpha", "--tag", "none").out == ""


@pytest.mark.parametrize(
    ("filter", "ids"),
    [
        (["--tag", "ops"], ["backup-0", "backup-1", "backup-2"]),
        (["--tag", "ops", "--tag", "n1"], ["backup-1"]),
        (["--kind", "fact"], ["lunch"]),
        (["--source", "menu"], ["lunch"]),
        (
            ["--from", "2020-01-01", "--to", "2999-01-01"],
            ["backup-0", "backup-1", "backup-2", "lunch"],
        ),
        (["--to", "2020-01-01"], []),
    ],
)
def test_lists_and_recalls_can_be_narrowed(
    run: CommandLine, places: Places, filter: list[str], ids: list[str]
) -> None:
    run.set(ENGRAM_SPACE="alpha")
    listed = both(run, places, "list", *filter, "--json")
    assert [memory["id"] for memory in listed.documents] == ids
    found = both(run, places, "recall", "backup lunch", *filter, "--no-record", "--json")
    assert {hit["memory"]["id"] for hit in found.documents[0]["results"]} == set(ids)


def test_a_recall_can_explain_itself(run: CommandLine, places: Places) -> None:
    run.set(ENGRAM_SPACE="alpha")
    done = both(run, places, "recall", "backup", "--explain", "--no-record", "--mode", "lexical")
    titles = "SCORE SIMILARITY LEXICAL WINDOW ACTIVATION RECENCY FREQUENCY COSINE BM25"
    titles += " CONFIDENCE ID MEMORY"
    assert done.out.splitlines()[0].split() == titles.split()
    parts = "similarity + lexical + window + activation + recency + frequency"
    assert done.err == f"mode lexical; score = {parts}\n"
    row = done.out.splitlines()[1].split()
    assert float(row[0]) == pytest.approx(float(row[1]) + float(row[2]), abs=0.002)
    far = ("--no-record", "--explain", "--spread", '{"max_hops": 3, "decay": 0.9}')
    spread = both(run, places, "recall", "lunch", *far)
    assert spread.err.startswith("mode spreading;")
    for wrong in ("{", '{"hops": 1}', '{"max_hops": "far"}', "3"):
        refused = both(run, places, "recall", "lunch", "--spread", wrong)
        assert refused.code == 2
        assert "--spread" in refused.err
    certain = both(run, places, "recall", "backup", "--min-confidence", "1", "--no-record")
    assert (certain.out, certain.err) == ("", "nothing in alpha answers that\n")


def test_a_recall_is_recorded_unless_told_not_to_be(run: CommandLine, places: Places) -> None:
    run.set(ENGRAM_SPACE="empty")
    both(run, places, "recall", "first")
    both(run, places, "recall", "second", "--no-record")
    told = both(run, places, "watch", "--no-follow", "--type", "memory.recalled", "--json")
    assert len(told.documents) == 1


def test_a_feed_without_end_is_told_up_to_now(run: CommandLine, places: Places) -> None:
    run.set(ENGRAM_SPACE="vectors")
    told = both(run, places, "watch", "--no-follow")
    assert [line.split()[2:4] for line in told.out.splitlines()] == [
        ["1", "space.created"],
        ["2", "memory.stored"],
    ]
    assert told.out.splitlines()[1].endswith("memory.stored        v: v")
    behind = both(run, places, "watch", "--no-follow", "--after", "1", "--json")
    assert [event["position"] for event in behind.documents] == [2]
    assert both(run, places, "watch", "--no-follow", "--after", "2").out == ""


def test_a_cue_is_filled_in(run: CommandLine, places: Places) -> None:
    run.set(ENGRAM_SPACE="alpha")
    shown = both(run, places, "complete", "--source", "menu")
    assert shown.code == 0
    rows = [re.split(r"  +", line.strip()) for line in shown.out.splitlines()]
    assert ["content", "1.00", "Lunch is at noon", "lunch 1.00"] in rows
    assert ["metadata.a", "1.00", "1", "lunch 1.00"] in rows
    assert "settled on one memory" in shown.out
    asked = ("complete", "backup", "--tag", "ops", "--tag", "n1", "-n", "1", "--json")
    (document,) = both(run, places, *asked).documents
    assert document["attractor"][0]["id"] == "backup-1"
    assert {tag["value"] for tag in document["tags"]} == {"ops", "n1"}
    fields = ("--content", "lunch", "--kind", "fact", "--metadata", '{"a": {"$gt": 0}}')
    (document,) = both(run, places, "complete", *fields, "--from", "2020-01-01", "--json").documents
    assert document["content"]["value"] == "Lunch is at noon"
    vector = ("--embedding", "[0.5, null]", "--include-embedding", "--space", "vectors")
    (document,) = both(run, places, "complete", *vector, "--json").documents
    assert document["embedding"] == [1.0, 0.0]
    empty = both(run, places, "complete", "x", "--space", "empty")
    assert (empty.code, empty.out) == (0, "")
    assert "nothing in empty" in empty.err
    for wrong in (
        ["complete"],
        ["complete", "x", "--beta", "0"],
        ["complete", "x", "--kind", "rumour"],
        ["complete", "x", "--metadata", "[]"],
        ["complete", "--embedding", "1, 2", "--space", "vectors"],
        ["complete", "--embedding", "[1]", "--space", "vectors"],
        ["complete", "--embedding", "[null, null]", "--space", "vectors"],
        ["complete", "x", "--from", "yesterday"],
    ):
        refused = both(run, places, *wrong)
        assert (refused.code, refused.out) == (2, ""), wrong


def test_spaces_are_made_listed_and_shown_alike(run: CommandLine, places: Places) -> None:
    made = both(run, places, "space", "create", "made", "--dimensions", "3", "--json")
    assert (made.code, made.documents[0]["created"]) == (0, True)
    assert both(run, places, "space", "create", "made").code == 4
    again = both(run, places, "space", "create", "made", "--if-not-exists", "--dimensions", "3")
    assert again.out == "made exists already\n"
    assert both(run, places, "space", "create").code == 0
    model = "all-minilm-l6-v2-int8"
    quality = both(run, places, "space", "create", "quality", "--embedding", model, "--json")
    assert quality.documents[0]["embedding"] == {"model": model, "dimensions": 384}
    assert (
        both(run, places, "remember", "My vehicle's engine failed", "--space", "quality").code == 0
    )
    command = ("recall", "the car broke down", "--mode", "similarity", "--space", "quality")
    assert "My vehicle's engine failed" in both(run, places, *command).out
    listed = both(run, places, "space", "list")
    assert "made" in listed.out
    shown = both(run, places, "space", "show", "vectors")
    assert re.search(r"^embedding +caller, 2 dimensions$", shown.out, re.MULTILINE)
    both(run, places, "space", "show", "vectors", "--json")
    done = both(run, places, "space", "configure", "made", "--retention", "age:24h")
    shown_as = (
        f"retention age:1d, decay {engram.Decay()}, forgetting none, consolidation off, quotas none"
    )
    assert (done.code, done.out) == (0, f"configured made: {shown_as}\n")
    for where in places.values():
        shown = run("space", "show", "made", *where)
        assert re.search(r"^retention +age:1d$", shown.out, re.MULTILINE)
    told = both(run, places, "watch", "--no-follow", "--space", "made")
    assert told.out.splitlines()[-1].endswith(f"space.configured     {shown_as}")
    done = both(run, places, "space", "configure", "made", "--retention", "all", "--json")
    assert done.documents[0]["retention"] == {"positions": None, "age_s": None}
    done = both(run, places, "space", "configure", "made", "--decay", "none,weight:0.2")
    settings = (
        "retention all, decay none,weight:0.2, forgetting none, consolidation off, quotas none"
    )
    assert done.out == f"configured made: {settings}\n"
    for where in places.values():
        shown = run("space", "show", "made", *where)
        assert re.search(r"^decay +none,weight:0.2$", shown.out, re.MULTILINE)


def test_a_policy_is_set_shown_and_applied(run: CommandLine, places: Places) -> None:
    both(run, places, "space", "create", "small")
    for year, name in ((2001, "older"), (2002, "old"), (2003, "new")):
        at = ("--at", f"{year}-01-01T00:00:00Z", "--id", name, "--space", "small")
        both(run, places, "remember", name, *at)
    where = ("--space", "small")
    none = both(run, places, "forget", "--policy", "--dry-run", *where)
    assert none.out == "0 memories would be forgotten, by the policy none\n"
    policy = "capacity:3,threshold:-1.5,spare-tag:a%2Cb"
    done = both(run, places, "space", "configure", "small", "--forgetting", policy)
    assert f", forgetting {policy}, " in done.out
    for place in places.values():
        planned = run("forget", "--policy", "--dry-run", *where, *place)
        assert "0 memories would be forgotten, by the policy capacity:3" in planned.out
        run("space", "configure", "small", "--forgetting", "threshold:-1,grace:0s", *place)
        told = run("forget", "--policy", "--yes", "--json", *where, *place)
        (report,) = told.documents
        assert report["forgetting"]["threshold"] == -1
        history = run("history", "older", *where, *place)
        assert re.search(
            r"memory\.forgotten  older \(faded, base level -4\.\d+, threshold -1\)", history.out
        )
        assert run("list", "--json", *where, *place).documents == []
        assert run("restore", "older", *where, *place).code == 0


def test_status_shows_every_space_and_where_it_is(run: CommandLine, places: Places) -> None:
    for name, where in places.items():
        done = run("status", *where)
        assert done.code == 0
        first, titles, *rows = done.out.splitlines()
        assert first == f"{'data root' if name == 'here' else 'server'} {where[1]}"
        assert titles.split() == ["SPACE", "STATE", "MEMORIES", "POSITION", "SIZE"]
        assert next(row for row in rows if row.startswith("vectors")).split()[1:4] == [
            *("active", "1", "2")
        ]
        document = run("status", *where, "--json").documents[0]
        assert document["data_root" if name == "here" else "server"] == where[1]
        assert {space["state"] for space in document["spaces"]} == {"active"}


BAD: list[tuple[list[str], int, str]] = [
    (["get", "nothing"], 3, "nothing"),
    (["get", "gone"], 3, "gone"),
    (["get", "a/b"], 2, "an id holds no"),
    (["get", "lunch", "--space", "nowhere"], 3, "engram space create nowhere"),
    (["get", "lunch", "--space", "No Where"], 2, "No Where"),
    (["get", "lunch", "--space", ""], 2, "--space is empty"),
    (["history", "never"], 3, "never"),
    (["list", "--limit", "0"], 2, "1"),
    (["list", "--limit", "5", "--all"], 2, "--all and --limit"),
    (["list", "--after", "-1"], 2, "'--after': Input should be greater"),
    (["list", "--kind", "dream"], 2, "'dream'"),
    (["list", "--from", "yesterday"], 2, "--from: 'yesterday' is not a time"),
    (["list", "--to", "2026-02-30"], 2, "--to: '2026-02-30'"),
    (["list", "--from", "0001-01-01T00:00:00+23:00"], 2, "1 to 9999"),
    (["recall", ""], 2, "query: is empty"),
    (["recall", "x", "-n", "0"], 2, "'-n': Input should be greater than or equal to 1."),
    (["recall", "x", "-n", "1001"], 2, "'-n': Input should be less than or equal to 1000."),
    (["recall", "x", "-n", "many"], 2, "integer"),
    (["recall", "x", "--mode", "guess"], 2, "'guess'"),
    (["recall", "x", "--min-confidence", "2"], 2, "between 0 and 1"),
    (["recall", "x", "--min-confidence", "nan"], 2, "between 0 and 1"),
    (["recall", "x", "--mode", "similarity", "--space", "vectors"], 2, "similarity"),
    (["remember", ""], 2, "content: is empty"),
    (["remember", " \n"], 2, "content: is empty"),
    (["remember"], 2, "nothing to remember"),
    (["remember", "x", "y"], 2, "y"),
    (["remember", "x", "--id", "lunch"], 4, "exists already"),
    (["remember", "x", "--id", "a/b"], 2, "an id holds no"),
    (["remember", "x", "--tag", ""], 2, "tags[0]"),
    (["remember", "x", "--metadata", "{"], 2, "--metadata: is not JSON"),
    (["remember", "x", "--metadata", "[1]"], 2, "--metadata: is not an object"),
    (["remember", "x", "--metadata", '{"a": NaN}'], 2, "--metadata: is not JSON"),
    (["remember", "x", "--at", "2026-13-01"], 2, "--at: '2026-13-01'"),
    (["remember", "x", "--at", "2026-05-01T09:00:00+99:00"], 2, "--at:"),
    (["remember", "x", "--expires", "1 May"], 2, "--expires: '1 May'"),
    (["remember", "x", "--confidence", "1.5"], 2, "between 0 and 1"),
    (["remember", "x", "--from-line", "2"], 2, "--from-line goes with --file"),
    (["remember", "x", "--space", "vectors"], 2, "embedding: is missing"),
    (["remember", "x\udcff"], 2, "lone surrogate"),
    (["revise", "lunch"], 2, "nothing to change"),
    (["revise", "lunch", "--tag", "a", "--clear", "tags"], 2, "tags is both"),
    (["revise", "lunch", "--clear", "content"], 2, "'content'"),
    (["revise", "lunch", "--content", ""], 2, "content: is empty"),
    (["revise", "nothing", "--content", "x"], 3, "nothing"),
    (["forget", "lunch"], 2, "--yes"),
    (["forget", "lunch", "nothing", "--yes"], 3, "nothing"),
    (["forget", "--yes"], 2, "give ids of memories"),
    (["forget", "--tag", "ops"], 2, "--yes"),
    (["forget", "--tag", "ops", "--if-match", "x", "--yes"], 2, "about one memory"),
    (["forget", "lunch", "--if-match", "x", "--yes"], 4, "Get it again"),
    (["revise", "lunch", "--if-match", "x", "--source", "s"], 4, "Get it again"),
    (["remember", "x", "--on-conflict", "skip"], 2, "goes with --id"),
    (["remember", "x", "--id", "lunch", "--on-conflict", "error"], 4, "exists already"),
    (
        ["remember", "x", "--id", "lunch", "--kind", "belief", "--on-conflict", "replace"],
        2,
        "kind: ",
    ),
    (["forget", "lunch", "--tag", "ops", "--yes"], 2, "exclude each other"),
    (["forget", "lunch", "--purge"], 2, "to purge is for good"),
    (["forget", "--purge", "--yes"], 2, "a filter, as --tag TAG"),
    (["forget", "lunch", "--purge", "--tag", "ops", "--yes"], 2, "exclude each other"),
    (["forget", "lunch", "nothing", "--purge", "--yes"], 3, "nothing"),
    (["forget", "a/b", "--purge", "--yes"], 2, "an id holds no"),
    (["forget", "--purge", "--tag", "", "--yes"], 2, "tags_all[0]"),
    (["forget", "--purge", "--kind", "dream", "--yes"], 2, "'dream'"),
    (["forget", "--purge", "--from", "yesterday", "--yes"], 2, "--from: 'yesterday'"),
    (["restore", "lunch"], 4, "is not forgotten"),
    (["restore", "nothing"], 3, "never was"),
    (["restore"], 2, "Missing argument"),
    (["watch", "--no-follow", "--after", "1000000"], 2, "1000000"),
    (["watch", "--no-follow", "--type", "memory.dreamt"], 2, "'memory.dreamt'"),
    (["watch", "--no-follow", "--after", "x"], 2, "integer"),
    (["watch", "--no-follow", "--space", "nowhere"], 3, "nowhere"),
    (["space", "show", "nowhere"], 3, "nowhere"),
    (["space", "configure", "nowhere", "--retention", "all"], 3, "nowhere"),
    (["space", "configure", "alpha"], 2, "name at least one of --retention, --decay, --for"),
    (["space", "configure", "alpha", "--forgetting", "capacity:0"], 2, "capacity: must be"),
    (["space", "configure", "alpha", "--forgetting", "spare:fact"], 2, "not from what"),
    (["forget", "--dry-run"], 2, "nothing was named"),
    (["forget", "lunch", "--dry-run"], 2, "--dry-run goes with a filter"),
    (["forget", "--tag", "ops", "--purge", "--dry-run"], 2, "--dry-run goes with a filter"),
    (["forget", "--policy", "a"], 2, "Leave out ids"),
    (["forget", "--policy", "--purge", "--dry-run"], 2, "Leave out ids"),
    (["forget", "--policy"], 2, "add --yes"),
    (["space", "configure", "alpha", "--consolidation", "now"], 2, "is no rhythm"),
    (["space", "configure", "alpha", "--decay", "slow"], 2, "--decay: 'slow' is no decay"),
    (["space", "configure", "alpha", "--decay", "power:9"], 2, "from 0.01 to 5"),
    (["space", "configure", "alpha", "--retention", "age:30"], 2, "--retention: 'age:30' is no"),
    (["space", "configure", "alpha", "--retention", "positions:0"], 2, "from 1 to"),
]


@pytest.mark.parametrize(("arguments", "code", "word"), BAD, ids=lambda item: str(item)[:60])
def test_what_cannot_be_done_is_said_alike_and_changes_nothing(
    run: CommandLine, places: Places, arguments: list[str], code: int, word: str
) -> None:
    run.set(ENGRAM_SPACE="alpha")
    before = run("status", "--json", *places["here"]).out
    done = both(run, places, *arguments)
    assert (done.code, done.out) == (code, "")
    assert re.fullmatch(r"engram: [^\n]+\n", done.err)
    assert word in done.err
    document = both(run, places, *arguments, "--json")
    assert (document.code, document.out) == (code, "")
    assert word in json.loads(document.err)["detail"]
    assert run("status", "--json", *places["here"]).out == before


def test_a_space_must_be_named_in_one_of_three_ways(run: CommandLine, places: Places) -> None:
    for command in (["get", "x"], ["list"], ["recall", "x"], ["remember", "x"], ["watch"]):
        done = both(run, places, *command)
        assert done.code == 2
        for way in ("--space", "ENGRAM_SPACE", "default_space", "engram.toml"):
            assert way in done.err
        refused = json.loads(both(run, places, *command, "--json").err)
        assert refused["type"].endswith("/memory-space-required")


def test_many_are_forgotten_together_or_not_at_all(run: CommandLine, places: Places) -> None:
    run.set(ENGRAM_SPACE="empty")
    for name in ("x", "y"):
        both(run, places, "remember", name, "--id", name)
    assert both(run, places, "forget", "x", "nothing", "--yes").code == 3
    assert both(run, places, "get", "x").code == 0
    done = both(run, places, "forget", "x", "y", "x", "--yes", "--json")
    assert [document["id"] for document in done.documents] == ["x", "y"]


def test_a_memory_is_restored_and_not_taken_for_a_space(run: CommandLine, places: Places) -> None:
    run.set(ENGRAM_SPACE="empty")
    both(run, places, "remember", "back soon", "--id", "back")
    assert both(run, places, "forget", "back", "--yes").code == 0
    assert both(run, places, "space", "restore", "back").code == 3
    restored = both(run, places, "restore", "back")
    assert re.fullmatch(r"restored back as revision 2 at position \d+\n", restored.out)
    assert both(run, places, "restore", "back").code == 4
    both(run, places, "forget", "back", "--yes")
    document = both(run, places, "restore", "back", "--json").documents[0]
    assert (document["content"], document["revision"]) == ("back soon", 3)
    assert "memory.restored" in both(run, places, "history", "back").out


def test_links_are_made_listed_and_removed(run: CommandLine, places: Places) -> None:
    run.set(ENGRAM_SPACE="empty")
    for name in ("rain", "off"):
        both(run, places, "remember", name, "--id", name)
    assert both(run, places, "links", "rain") == (
        *(0, ""),
        "no links begin or end at rain\n",
    )
    made = both(run, places, "link", "rain", "off", "--relation", "causes", "--weight", ".8")
    assert re.fullmatch(
        r"linked rain -\[causes\]-> off with weight 0\.8 at position \d+\n", made.out
    )
    (document,) = both(run, places, "link", "off", "rain", "--json").documents
    assert (document["relation"], document["weight"]) == ("related", 1.0)
    shown = both(run, places, "links", "rain")
    assert shown.out.splitlines()[0].split() == [
        *("POSITION", "WEIGHT", "SOURCE", "RELATION", "TARGET")
    ]
    assert [line.split()[1:] for line in shown.out.splitlines()[1:]] == [
        ["0.8", "rain", "causes", "off"],
        ["1", "off", "related", "rain"],
    ]
    first = both(run, places, "links", "rain", "--limit", "1", "--json")
    assert "there is more: --after" in first.err
    after = str(first.documents[0]["position"])
    assert both(run, places, "links", "rain", "--after", after, "--json").documents == [document]
    assert len(both(run, places, "links", "rain", "--all", "--json").documents) == 2
    told = both(run, places, "history", "off").out
    assert "rain -[causes]-> off (0.8)" in told
    removed = both(run, places, "unlink", "rain", "off", "--relation", "causes")
    assert re.fullmatch(r"unlinked rain -\[causes\]-> off at position \d+\n", removed.out)
    assert both(run, places, "unlink", "rain", "off", "--relation", "causes").code == 3
    assert both(run, places, "unlink", "off", "rain", "--json").documents[0]["source"] == "off"
    told = both(run, places, "watch", "--after", "0", "--no-follow", "--type", "memory.unlinked")
    assert told.out.count("memory.unlinked") == 2
    for options, code in (
        *((["--weight", weight], 2) for weight in ("0", "nan", "-1", "1.5", "much")),
        (["--relation", ""], 2),
    ):
        assert both(run, places, "link", "rain", "off", *options).code == code
    assert both(run, places, "link", "rain", "rain").code == 2
    assert both(run, places, "link", "rain", "nobody").code == 3
    assert both(run, places, "links", "nobody").code == 3
    assert both(run, places, "links", "rain", "--all", "-n", "1").code == 2


def test_the_command_shows_a_table_and_what_is_left(run: CommandLine, places: Places) -> None:
    run.set(ENGRAM_SPACE="beliefs")
    both(run, places, "space", "create", "beliefs")
    none = both(run, places, "consolidate")
    assert none.out == "0 formed, 0 revised; 0 of 0 episodes that no belief rested on are left\n"
    for number, text in enumerate((*DEPLOYS, "Bananas are yellow")):
        both(run, places, "remember", text, "--id", f"d{number}")
    would = both(run, places, "consolidate", "--dry-run")
    assert would.out.splitlines()[0].split() == ["ACTION", "STRENGTH", "SOURCES", "ID", "BELIEF"]
    row = r"formed +0\.\d\d +3 +belief-[0-9a-f]{24} +" + re.escape(" / ".join(DEPLOYS))
    assert re.fullmatch(row, would.out.splitlines()[1])
    assert would.out.splitlines()[2] == (
        "1 would be formed, 0 would be revised; 1 of 4 episodes that no belief rested on are left"
    )
    here, there = (run("consolidate", "--json", *places[name]) for name in ("here", "there"))
    assert here.documents[0]["beliefs"] == there.documents[0]["beliefs"]
    belief = here.documents[0]["beliefs"][0]["id"]
    told = both(run, places, "history", belief).out
    assert re.search(rf"{belief} \(strength 0\.\d\d\) rests on d0, d1, d2$", told, re.MULTILINE)
    both(run, places, "forget", "d1", "--yes")
    told = both(run, places, "history", belief).out
    assert told.endswith(f"{belief} (what it rested on was forgotten)\n")
    followed = both(
        run, places, "watch", "--after", "0", "--no-follow", "--type", "memory.consolidated"
    )
    assert followed.out.count("memory.consolidated") == 1


def test_memories_are_purged_by_id_and_by_filter(run: CommandLine, places: Places) -> None:
    run.set(ENGRAM_SPACE="empty")
    for name, tag in (("p1", "brief"), ("p2", "brief"), ("p3", "long")):
        both(run, places, "remember", f"{name} is a secret", "--id", name, "--tag", tag)
    both(run, places, "forget", "p1", "--yes")
    both(run, places, "forget", "p3", "--yes")
    purged = both(run, places, "forget", "p3", "--purge", "--yes")
    assert purged.code == 0
    first, second, *files = purged.out.splitlines()
    assert re.fullmatch(r"purged p3 from empty at position \d+, \S+ \S+", first)
    assert re.fullmatch(r"no file holds a byte of it since position \d+, .+ made for that:", second)
    assert files
    for line in files:
        assert re.fullmatch(r"  (checkpoints|log)/\S+  crc32c [0-9a-f]{8}", line)
    (document,) = both(run, places, "forget", "p3", "--purge", "--yes", "--json").documents
    assert (document["receipt"]["id"], document["receipt"]["count"]) == ("p3", 1)
    (document,) = both(run, places, "forget", "--purge", "--tag", "brief", "-y", "--json").documents
    assert (document["receipt"]["id"], document["receipt"]["count"]) == (None, 2)
    none = both(run, places, "forget", "--purge", "--tag", "brief", "--yes")
    assert none == (0, "", "no memories in empty fit; nothing was purged\n")
    again = both(run, places, "forget", "--purge", "--tag", "brief", "--yes", "--json")
    assert again.documents == [{"receipt": None}]
    assert both(run, places, "restore", "p1").code == 3
    told = both(run, places, "watch", "--after", "0", "--no-follow").out
    assert "is a secret" not in told
    assert re.search(r"memory\.purged +p3$", told, re.MULTILINE)
    assert re.search(r"history\.redacted$", told, re.MULTILINE)
    compacted = r"a checkpoint at position \d+, purged for good up to \d+$"
    assert re.search(compacted, told, re.MULTILINE)


def test_the_choices_offered_are_those_of_the_engine() -> None:
    from typing import get_args

    from engram.cli.options import Kind, Mode
    from engram.memory.event_types import EVENT_TYPES
    from engram.memory.events import Event
    from engram.memory.model import KINDS, MODES

    assert get_args(Kind) == KINDS
    assert get_args(Mode) == MODES
    assert tuple(event.__struct_config__.tag for event in get_args(Event)) == EVENT_TYPES
    assert limits.RECALL_LIMIT_MAX == 1_000
