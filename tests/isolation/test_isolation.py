"""Spaces beside each other: each must be what it would be alone, and no other may notice.

A history is a list of steps, each in one space; ids are the same in all of them. It is run in all
spaces at once, in order or with a thread for each space, and then space by space, each alone in a
data root of its own. What a user can see must be equal: contents, positions, times, and every score
of a recall, bit for bit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engram
from engram.errors import EngramError, SpaceDamaged
from engram.memory.model import Filter
from engram.spaces.database import Database
from engram.spaces.registry import Registry
from wal.opened import LogOptions
from wal.os_vfs import open_root

CALLER = engram.EmbeddingSpec(model="caller", dimensions=2)
SPACES: dict[str, engram.EmbeddingSpec | None] = {
    "alpha": None,
    "beta": None,
    "gamma": CALLER,
    "delta": CALLER,
}
IDS = ("a", "b", "c", "ö")
WORDS = ("deploy", "key", "monday", "vault", "cat", "server", "月曜日")
START_NS = 1_700_000_000_000_000_000
# Short segments, so that histories of a few steps are spread over several files.
OPTIONS = LogOptions(segment_bytes=6 << 10, allocate_bytes_min=4 << 10)


class Step(NamedTuple):
    """Something done in one space. `words` make content and vector."""

    space: str
    verb: str
    ids: tuple[str, ...]
    words: tuple[str, ...]


steps = st.builds(
    Step,
    st.sampled_from(sorted(SPACES)),
    st.sampled_from(
        ["remember", "remember", "remember", "revise", "forget", "recall", "link", "link", "unlink"]
    ),
    st.lists(st.sampled_from(IDS), min_size=1, max_size=3).map(tuple),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=5).map(tuple),
)
histories = st.lists(steps, max_size=40)


class StillClock:
    """Time stands still: it must not tell a space that others are busy."""

    def __init__(self) -> None:
        self.now_ns = START_NS

    def __call__(self) -> int:
        return self.now_ns


@contextmanager
def data_root(path: Path) -> Iterator[Database]:
    path.mkdir(exist_ok=True)
    registry = Registry(open_root(path), owner="a test", clock=StillClock(), options=OPTIONS)
    with Database(registry, path) as db:
        yield db


def vector_of(words: tuple[str, ...]) -> list[float]:
    return [1.0 + sum(map(len, words)), float(len(words)) - 2.5]


def act(space: engram.Space, step: Step) -> object:
    """Do one step; a refusal is an outcome like any other."""
    caller = SPACES[space.id] is not None
    content = " ".join(step.words)
    fields: dict[str, Any] = {"content": content, "tags": (step.words[0],)}
    if caller:
        fields["embedding"] = vector_of(step.words)
    try:
        if step.verb == "remember":
            return space.remember_many([{"id": i, **fields} for i in step.ids])
        if step.verb == "revise":
            return space.revise(step.ids[0], engram.Changes(**fields))
        if step.verb == "forget":
            return space.forget(step.ids[0])
        if step.verb == "link":
            weight = 1 / len(step.words)
            return space.link(step.ids[0], step.ids[-1], weight=weight, relation=step.words[0])
        if step.verb == "unlink":
            return space.unlink(step.ids[0], step.ids[-1], step.words[0])
        return answers(space, content, step.words)
    except EngramError as error:
        return type(error), error.detail


def answers(space: engram.Space, query: str, words: tuple[str, ...]) -> object:
    vector = vector_of(words) if SPACES[space.id] is not None else None
    found = [
        space.recall(query, embedding=vector, limit=100, explain=True, record=False),
        space.recall(query, mode="lexical", explain=True, record=False),
        space.recall(
            query, embedding=vector, filter=Filter(tags_any=words[:1]), limit=2, record=False
        ),
    ]
    completed = [
        space.complete(query, embedding=None if vector is None else [vector[0], None]),
        space.complete(known={"tags": words[:1], "content": query}, beta=2),
    ]
    # repr of a float is exact
    return [
        *((answer.position, answer.mode, repr(answer.results)) for answer in found),
        *(repr(msgspec.structs.replace(answer, took_ms=0.0)) for answer in completed),
    ]


def everything(space: engram.Space) -> object:
    """All that can be seen of a space, but for what was minted at random."""
    info = space.info()
    listed = [
        (repr(memory), None if memory.embedding is None else memory.embedding.tobytes())
        for memory in space.list(limit=1_000, include_embedding=True).memories
    ]
    recalled = [answers(space, " ".join(WORDS[i:]), WORDS[i:]) for i in range(len(WORDS))]
    linked = [repr(space.links(memory.id)) for memory in space.list(limit=1_000).memories]
    return info.state, info.position, info.memories, info.bytes, listed, recalled, linked


def digest(folder: Path) -> str:
    hashed = blake2b()
    for path in sorted(folder.rglob("*")):
        hashed.update(str(path.relative_to(folder)).encode())
        if path.is_file():
            hashed.update(path.read_bytes())
    return hashed.hexdigest()


def create(db: Database, names: list[str]) -> dict[str, engram.Space]:
    return {name: db.create_space(name, embedding=SPACES[name]) for name in names}


def run_alone(root: Path, name: str, history: list[Step]) -> tuple[list[object], object, object]:
    """(outcomes, what is seen, what is seen after reopening) of one space by itself."""
    with data_root(root / f"only-{name}") as db:
        space = create(db, [name])[name]
        outcomes = [act(space, step) for step in history if step.space == name]
        seen = everything(space)
    with data_root(root / f"only-{name}") as db:
        return outcomes, seen, everything(db.space(name))


def in_order(spaces: dict[str, engram.Space], history: list[Step]) -> dict[str, list[object]]:
    outcomes: dict[str, list[object]] = {name: [] for name in spaces}
    for step in history:
        outcomes[step.space].append(act(spaces[step.space], step))
    return outcomes


def in_threads(spaces: dict[str, engram.Space], history: list[Step]) -> dict[str, list[object]]:
    outcomes: dict[str, list[object]] = {name: [] for name in spaces}
    barrier = threading.Barrier(len(spaces))

    def run(name: str) -> None:
        barrier.wait()
        for step in history:
            if step.space == name:
                outcomes[name].append(act(spaces[name], step))

    threads = [threading.Thread(target=run, args=(name,)) for name in spaces]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


Runner = Callable[[dict[str, engram.Space], list[Step]], dict[str, list[object]]]


@pytest.mark.parametrize("runner", [in_order, in_threads])
@settings(max_examples=25)
@given(history=histories)
def test_each_space_is_what_it_would_be_alone(runner: Runner, history: list[Step]) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        with data_root(root / "together") as db:
            spaces = create(db, sorted(SPACES))
            outcomes = runner(spaces, history)
            seen = {name: everything(space) for name, space in spaces.items()}
        with data_root(root / "together") as db:
            reopened = {name: everything(db.space(name)) for name in SPACES}
        for name in SPACES:
            alone = run_alone(root, name, history)
            assert (outcomes[name], seen[name], reopened[name]) == alone
            assert seen[name] == reopened[name]


@settings(max_examples=25)
@given(history=histories, touched=st.sampled_from(sorted(SPACES)))
def test_what_is_done_in_one_space_changes_no_byte_of_another(
    history: list[Step], touched: str
) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        with data_root(root) as db:
            in_order(create(db, sorted(SPACES)), history)
        before = {name: digest(root / name) for name in SPACES}
        with data_root(root) as db:
            for step in history:
                act(db.space(touched), step)
            act(db.space(touched), Step(touched, "remember", ("new",), ("vault",)))
            db.spaces()
        after = {name: digest(root / name) for name in SPACES}
        assert [name for name in SPACES if after[name] != before[name]] == [touched]


def filled(root: Path) -> None:
    """Every space with the same ids, over several segments."""
    with data_root(root) as db:
        for name, space in create(db, sorted(SPACES)).items():
            for number in range(60):
                words = (WORDS[number % len(WORDS)], name, str(number))
                act(space, Step(name, "remember", (f"m{number}",), words))


@pytest.mark.parametrize("victim", sorted(SPACES))
@pytest.mark.parametrize("where", ["the first segment", "the last segment", "the manifest"])
def test_a_flipped_byte_in_one_space_leaves_the_others_serving(
    tmp_path: Path, victim: str, where: str
) -> None:
    root = tmp_path / "data"
    filled(root)
    with data_root(root) as db:
        right = {name: everything(db.space(name)) for name in SPACES}
    segments = sorted((root / victim / "log").glob("*.seg"))
    assert len(segments) > 2
    (manifest,) = (root / victim).glob("MANIFEST-*")
    damaged = {"the first segment": segments[0], "the last segment": segments[-1]}.get(
        where, manifest
    )
    data = bytearray(damaged.read_bytes())
    at = len(data) // 2 if damaged is manifest else 4_096 + 70
    data[at] ^= 0x10
    damaged.write_bytes(data)
    spoiled = digest(root / victim)
    with data_root(root) as db:
        with pytest.raises(SpaceDamaged) as caught:
            db.space(victim).list()
        assert caught.value.memory_space_id == victim
        assert damaged.name in caught.value.detail
        for name in SPACES:
            if name != victim:
                assert everything(db.space(name)) == right[name]
                act(db.space(name), Step(name, "remember", ("new",), ("vault",)))
                assert db.space(name).get("new").content == "vault"
        states = {info.memory_space_id: info.state for info in db.spaces()}
        assert states[victim] in {None, "damaged"}
        assert db.space_info(victim).state == "damaged"
    assert digest(root / victim) == spoiled


def test_equal_ids_in_different_spaces_are_different_memories(tmp_path: Path) -> None:
    with data_root(tmp_path / "data") as db:
        spaces = create(db, sorted(SPACES))
        for name, space in spaces.items():
            vector = [1.0, 2.0] if SPACES[name] is not None else None
            space.remember(f"the secret of {name}", id="same", embedding=vector)
        spaces["alpha"].forget("same")
        spaces["gamma"].revise("same", engram.Changes(tags=("changed",)))
        assert spaces["beta"].get("same").content == "the secret of beta"
        assert spaces["delta"].get("same").tags == ()
        for name, space in spaces.items():
            for other in SPACES:
                found = [hit.memory.content for hit in space.recall(f"secret of {other}").results]
                assert found == ([] if name == "alpha" else [f"the secret of {name}"])


def test_spaces_with_the_same_contents_never_complete_each_other(tmp_path: Path) -> None:
    with data_root(tmp_path / "data") as db:
        spaces = create(db, ["gamma", "delta"])
        for name, space in spaces.items():
            for number in range(20):
                space.remember(
                    f"secret {number}",
                    id=f"m{number}",
                    source=f"{name} {number}",
                    metadata={"of": name},
                    embedding=[1.0, float(number)],
                )
        spaces["gamma"].forget("m7")
        for name, space in spaces.items():
            for cue in ({"embedding": [1.0, 7.0]}, {"known": {"content": "secret 7"}}):
                for beta in (0.01, 32.0, 1_000.0):
                    answer = space.complete(**cue, beta=beta, limit=1_000)  # type: ignore[arg-type]
                    assert answer.metadata["of"].value == name
                    assert answer.metadata["of"].confidence == pytest.approx(1, abs=1e-4)
                    assert answer.source is not None
                    assert answer.source.value.startswith(name)
                    voters = {voter.id: voter.position for voter in answer.attractor}
                    held = {m.id: m.position for m in space.list(limit=100).memories}
                    assert voters.items() <= held.items()
        other = {"known": {"metadata": {"of": "delta"}}}
        assert spaces["gamma"].complete(**other).metadata["of"].value == "gamma"  # type: ignore[arg-type]


def test_a_busy_space_shares_no_writer_with_another(tmp_path: Path) -> None:
    """A commit that never ends in one space does not hold up a commit in another."""
    with data_root(tmp_path / "data") as db:
        spaces = create(db, ["gamma", "delta"])
        syncing, go_on = threading.Event(), threading.Event()
        log = spaces["gamma"]._entry.store().log
        real = log.sync

        def slow_sync() -> None:
            syncing.set()
            go_on.wait()
            real()

        log.sync = slow_sync
        busy = threading.Thread(
            target=spaces["gamma"].remember, args=("busy",), kwargs={"embedding": [1.0, 2.0]}
        )
        busy.start()
        syncing.wait()
        assert spaces["delta"].remember("free", embedding=[1.0, 2.0]).position == 2
        assert len(spaces["gamma"].list().memories) == 0  # nor does it hold up its own readers
        go_on.set()
        busy.join()
        assert len(spaces["gamma"].list().memories) == 1
