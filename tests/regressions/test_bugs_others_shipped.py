"""Bugs that other memory stores shipped, named after what their users saw.

Each is a way in which acknowledged memories got lost, mixed or invented.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import engram
from engram.errors import (
    EmbedderMismatch,
    EmbedderUnavailable,
    MemoryNotFound,
    SpaceDamaged,
    SpaceExists,
    SpaceLocked,
    SpaceNotFound,
)
from engram.server.app import build_app
from engram.spaces import registry as registry_module

CALLER = engram.EmbeddingSpec(model="caller", dimensions=2)
UNIT = [1.0, 0.0]
BOOTS = 5


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def digest(folder: Path) -> str:
    hashed = blake2b()
    for path in sorted(folder.rglob("*")):
        hashed.update(str(path.relative_to(folder)).encode())
        if path.is_file():
            hashed.update(path.read_bytes())
    return hashed.hexdigest()


def only_segment(root: Path, space: str) -> Path:
    (segment,) = (root / space / "log").glob("*.seg")
    return segment


def run_and_kill(root: Path, script: str) -> None:
    """Run Python in a process of its own, which ends by SIGKILL without closing anything."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{script}\nimport os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        ],
        env={**os.environ, "ROOT": str(root)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL


def contents(root: Path, space: str) -> list[str]:
    with engram.open(root) as db:
        return [memory.content for memory in db.space(space).list(limit=1_000).memories]


def test_memories_written_after_the_second_boot_were_lost(root: Path) -> None:
    written: list[str] = []
    for boot in range(BOOTS):
        with engram.open(root) as db:
            space, _ = db.ensure_space("alpha", embedding=CALLER)
            assert [m.content for m in space.list().memories] == written
            for number in range(3):
                written.append(f"boot {boot}, memory {number}")
                space.remember(written[-1], embedding=UNIT)
    assert contents(root, "alpha") == written


def test_memories_written_before_a_kill_were_lost_at_the_next_boot(root: Path) -> None:
    for boot in range(BOOTS):
        run_and_kill(
            root,
            "import os, engram\n"
            "db = engram.open(os.environ['ROOT'])\n"
            "spec = engram.EmbeddingSpec(model='caller', dimensions=2)\n"
            "space, _ = db.ensure_space('alpha', embedding=spec)\n"
            f"space.remember('boot {boot}', embedding=[1.0, 0.0])\n",
        )
    assert contents(root, "alpha") == [f"boot {boot}" for boot in range(BOOTS)]


def test_the_sequence_began_again_at_every_boot(root: Path) -> None:
    positions = []
    for _ in range(BOOTS):
        with engram.open(root) as db:
            space, _ = db.ensure_space("alpha", embedding=CALLER)
            positions.append(space.remember("x", id="x", embedding=UNIT).position)
            positions.append(space.forget("x").position)
    assert positions == list(range(2, 2 + 2 * BOOTS))


@pytest.mark.parametrize("byte", [0, 4, 8, 16, 24, 40, 56, 60, 64, 90])
def test_one_flipped_bit_dropped_the_rest_of_the_log_for_good(root: Path, byte: int) -> None:
    with engram.open(root) as db:
        space = db.create_space("alpha", embedding=CALLER)
        for number in range(20):
            space.remember(f"memory {number}", embedding=UNIT)
    segment = only_segment(root, "alpha")
    whole = segment.read_bytes()
    magic = whole[4_096:4_100]
    third = whole.index(magic, whole.index(magic, 4_100) + 1)
    flipped = bytearray(whole)
    flipped[third + byte] ^= 1
    segment.write_bytes(flipped)
    before = digest(root / "alpha")
    for _ in range(2):
        with engram.open(root) as db:
            with pytest.raises(SpaceDamaged, match="Nothing was changed"):
                db.space("alpha").list()
            with pytest.raises(SpaceDamaged):
                db.space("alpha").remember("x", embedding=UNIT)
        assert digest(root / "alpha") == before
    segment.write_bytes(whole)
    assert len(contents(root, "alpha")) == 20


@pytest.mark.parametrize("lost", [1, 7, 64, 100])
def test_a_torn_tail_in_one_space_stopped_the_whole_server(root: Path, lost: int) -> None:
    with engram.open(root) as db:
        for name in ("alpha", "beta"):
            space = db.create_space(name, embedding=CALLER)
            for number in range(3):
                space.remember(f"{name} {number}", embedding=UNIT)
    segment = only_segment(root, "alpha")
    torn = segment.read_bytes()
    segment.write_bytes(torn[:-lost])
    # A process that was killed leaves none; this one was closed, so it would be damage.
    (root / "alpha" / "WATERMARK").unlink()
    with engram.open(root) as db:
        assert len(db.space("beta").list().memories) == 3
        alpha = db.space("alpha")
        assert [m.content for m in alpha.list().memories] == ["alpha 0", "alpha 1"]
        assert alpha.remember("alpha again", embedding=UNIT).position == 4
    kept = list((root / "alpha" / "quarantine").iterdir())
    assert len(kept) == 1
    assert torn.endswith(
        kept[0].read_bytes() + torn[-lost:]
    )  # what was torn off is not thrown away
    assert contents(root, "alpha") == ["alpha 0", "alpha 1", "alpha again"]


def test_the_forgotten_came_back_after_a_crash(root: Path) -> None:
    with engram.open(root) as db:
        space = db.create_space("alpha")
        space.remember("The launch code is swordfish", id="secret")
        space.remember("The launch is on Friday", id="date")
    run_and_kill(
        root,
        "import os, engram\nengram.open(os.environ['ROOT']).space('alpha').forget('secret')\n",
    )
    for _ in range(2):
        with engram.open(root) as db:
            space = db.space("alpha")
            with pytest.raises(MemoryNotFound):
                space.get("secret")
            for mode in ("hybrid", "lexical", "similarity"):
                found = space.recall("launch code swordfish", mode=mode)
                assert "secret" not in [hit.memory.id for hit in found]
            assert [m.id for m in space.list().memories] == ["date"]


def test_forgetting_everything_of_one_removed_what_others_had(root: Path) -> None:
    with engram.open(root) as db:
        for name in ("alpha", "beta"):
            db.create_space(name).remember_many([{"id": str(i), "content": "x"} for i in range(9)])
    before = digest(root / "beta")
    with engram.open(root) as db:
        for memory in db.space("alpha").list().memories:
            db.space("alpha").forget(memory.id)
    assert digest(root / "beta") == before
    assert (len(contents(root, "alpha")), len(contents(root, "beta"))) == (0, 9)


@pytest.fixture
def served(root: Path) -> Iterator[TestClient]:
    with engram.open(root) as db, TestClient(build_app(db), "http://127.0.0.1:7432") as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("GET", "/memories", None),
        ("GET", "/memories/x", None),
        ("POST", "/memories", {"content": "x"}),
        ("POST", "/memories", {"memories": [{"content": "x"}]}),
        ("PATCH", "/memories/x", {"content": "x"}),
        ("DELETE", "/memories/x", None),
        ("POST", "/recall", {"query": "x"}),
    ],
)
def test_a_space_appeared_because_somebody_asked_for_it(
    served: TestClient, root: Path, method: str, path: str, body: object
) -> None:
    before = sorted(root.rglob("*"))
    answer = served.request(method, f"/api/v1/spaces/nobody{path}", json=body)
    assert answer.status_code == 404
    assert answer.json()["type"].endswith("space-not-found")
    assert sorted(root.rglob("*")) == before


def test_a_space_appeared_because_a_program_asked_for_it(root: Path) -> None:
    with engram.open(root) as db:
        before = sorted(root.rglob("*"))
        with pytest.raises(SpaceNotFound):
            db.space("nobody")
        assert sorted(root.rglob("*")) == before


def test_texts_without_an_embedding_all_got_the_same_vector(root: Path) -> None:
    texts = [f"memory number {i} about {topic}" for i, topic in enumerate(("cats", "law", "tea"))]
    with engram.open(root) as db:
        space = db.create_space("alpha")
        vectors = set()
        for memory in space.remember_many([*texts, "?", "…", "\x00", "猫", "🙂"]).memories:
            held = space.get(memory.id, include_embedding=True).embedding
            assert held is not None
            vectors.add(held.tobytes())
        assert len(vectors) == 8
        caller = db.create_space("beta", embedding=CALLER)
        with pytest.raises(engram.Invalid, match="embedding"):
            caller.remember("no vector, and nobody to make one")
        assert caller.info().memories == 0


def test_an_embedder_that_failed_was_replaced_by_a_constant(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise EmbedderUnavailable("the model's files are gone")

    with engram.open(root) as db:
        space = db.create_space("alpha")
        space.remember("before", id="before")
        with monkeypatch.context() as patched:
            patched.setattr("engram.embedding.static.StaticEmbedder.embed", fail)
            for write in (
                lambda: space.remember("x"),
                lambda: space.remember_many(["x", "y"]),
                lambda: space.revise("before", engram.Changes(content="x")),
                lambda: space.recall("x"),
            ):
                with pytest.raises(EmbedderUnavailable):
                    write()
            assert space.revise("before", engram.Changes(tags=("t",))).content == "before"
        assert space.info().memories == 1


def test_near_duplicates_were_silently_dropped(root: Path) -> None:
    texts = ["The key is under the mat", "The key is under the mat.", "the key is under the mat"]
    with engram.open(root) as db:
        space = db.create_space("alpha")
        for text in texts * 2:
            space.remember(text)
        assert space.info().memories == 6
        found = [hit.memory.content for hit in space.recall(texts[0], limit=6)]
        assert sorted(found) == sorted(texts * 2)


def test_changing_the_default_embedder_mixed_vectors(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engram.open(root) as db:
        old = db.create_space("alpha").info().embedding
        db.space("alpha").remember("text", id="x")
    monkeypatch.setattr(registry_module, "DEFAULT", CALLER)
    with engram.open(root) as db:
        alpha = db.space("alpha")
        assert alpha.info().embedding == old
        assert db.ensure_space("alpha")[0].info().embedding == old
        with pytest.raises(SpaceExists, match="cannot be changed"):
            db.ensure_space("alpha", embedding=CALLER)
        with pytest.raises(EmbedderMismatch):
            alpha.remember("y", embedding=UNIT)
        with pytest.raises(EmbedderMismatch):
            alpha.revise("x", engram.Changes(embedding=UNIT))
        alpha.remember("text", id="y")
        vectors = [alpha.get(i, include_embedding=True).embedding for i in ("x", "y")]
        assert vectors[0].tolist() == vectors[1].tolist()
        assert db.create_space("beta").info().embedding == CALLER


HOLD = """
import os, sys, engram
db = engram.open(os.environ['ROOT'], owner='writer one')
db.space('alpha').remember('from one', embedding=[1.0, 0.0])
print('held', flush=True)
sys.stdin.read()
db.close()
"""


def test_two_processes_on_one_file_lost_each_others_writes(root: Path) -> None:
    with engram.open(root) as db:
        db.create_space("alpha", embedding=CALLER)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "ROOT": str(root)},
    ) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == b"held\n"
        with engram.open(root) as db, pytest.raises(SpaceLocked, match="writer one"):
            db.space("alpha").remember("from two", embedding=UNIT)
        one.communicate(timeout=30)
    with engram.open(root) as db:
        db.space("alpha").remember("from two", embedding=UNIT)
    assert contents(root, "alpha") == ["from one", "from two"]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 1_023, 4_095, 4_096, 4_097, 50_000])
def test_multibyte_text_was_cut_at_a_byte(root: Path, length: int) -> None:
    texts = [character * length for character in ("é", "猫", "🙂", "e\u0301", "👨‍👩‍👧")]
    with engram.open(root) as db:
        db.create_space("alpha", embedding=CALLER)
        for text in texts:
            db.space("alpha").remember(
                text, tags=["猫🙂"], metadata={"é": text[:3_000]}, source="源", embedding=UNIT
            )
    with engram.open(root) as db:
        held = db.space("alpha").list().memories
        assert [memory.content for memory in held] == texts
        assert [memory.metadata["é"] for memory in held] == [text[:3_000] for text in texts]


def test_a_space_took_as_long_to_start_as_there_were_others(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening a data root reads no space; a broken one is nobody's business until it is used."""
    with engram.open(root) as db:
        for number in range(30):
            db.create_space(f"s{number}", embedding=CALLER)
    (root / "s7" / "space.json").write_text("broken")

    def refuse(*_: object) -> None:
        raise AssertionError("a space was read while another was opened")

    with engram.open(root) as db:
        only = db.space("s3")
        monkeypatch.setattr(registry_module, "read_identity", refuse)
        with pytest.raises(AssertionError):
            db.space("s4")  # the patch is where reading happens
        monkeypatch.undo()
        assert only.remember("x", embedding=UNIT).position == 2
        assert len([info for info in db.spaces() if info.state == "damaged"]) == 1


def test_every_event_says_whose_it_is_and_a_foreign_identity_is_refused(root: Path) -> None:
    with engram.open(root) as db:
        for name in ("alpha", "beta"):
            db.create_space(name, embedding=CALLER).remember(name, embedding=UNIT)
    identity = root / "beta" / "space.json"
    head, _, body = identity.read_bytes().partition(b"\n")
    document = json.loads(body)
    assert (document["memory_space_id"], head.split()[0]) == ("beta", b"ENGRAM-SPACE")
    identity.write_bytes((root / "alpha" / "space.json").read_bytes())
    with engram.open(root) as db:
        with pytest.raises(SpaceDamaged, match="renamed or copied"):
            db.space("beta").list()
        assert [m.content for m in db.space("alpha").list().memories] == ["alpha"]


def test_an_inactive_space_was_deleted_and_made_anew_and_its_old_memories_were_back(
    root: Path,
) -> None:
    with engram.open(root) as db:
        db.create_space("tenant", embedding=CALLER).remember("old", id="old", embedding=UNIT)
    with engram.open(root) as db:  # nobody has used it since the start
        db.delete_space("tenant")
        db.purge_space("tenant")
        anew = db.create_space("tenant", embedding=CALLER)
        assert anew.list().memories == ()
        assert anew.recall(embedding=UNIT, record=False).results == ()
        assert anew.info().generation == 2
    with engram.open(root) as db:
        assert db.space("tenant").list().memories == ()
        assert [event.type for event in db.space("tenant").events()] == ["space.created"]


def test_a_late_write_brought_a_deleted_space_back(root: Path) -> None:
    with engram.open(root) as db:
        late = db.create_space("tenant", embedding=CALLER)
        db.delete_space("tenant")
        with pytest.raises(SpaceNotFound):
            late.remember("too late", embedding=UNIT)
        assert not (root / "tenant").exists()
        db.purge_space("tenant")
        anew = db.create_space("tenant", embedding=CALLER)
        with pytest.raises(SpaceNotFound):
            late.remember("too late", embedding=UNIT)
        assert anew.list().memories == ()
