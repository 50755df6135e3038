"""The golden files: data roots as versions of the format wrote them, and what must be read in them.

    python -m tests.format.golden VERSION

makes those of a version that has none yet. Golden files are never made again: that today's Engram
reads what earlier ones wrote is what they are for.
"""

from __future__ import annotations

import json
import sys
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

import engram

FOLDER: Final = Path(__file__).parent / "golden"
SPEC: Final = engram.EmbeddingSpec(model="caller", dimensions=2)
NOON: Final = datetime(2026, 11, 23, 12, tzinfo=UTC)
QUERY: Final = "deploy key"
CENTURY_S: Final = 100 * 365 * 24 * 3_600


def fill(space: engram.Space) -> None:
    """Something of everything that a memory can have, and of all that can happen to it."""
    space.remember_many(
        [
            {
                "id": "key",
                "content": "The deploy key is rotated every Monday",
                "tags": ["ops", "schlüssel"],
                "metadata": {"n": 1, "x": 1.5, "deep": {"list": [None, True, "猫"]}},
                "confidence": 0.75,
                "occurred_at": NOON,
                "source": "planner",
                "embedding": [0.6, 0.8],
            },
            {"id": "ü 2", "content": "Tea at four ☕", "kind": "fact", "embedding": [1.0, 0.0]},
        ]
    )
    space.remember("Forgotten for good", id="gone", embedding=[0.0, 1.0])
    space.remember("Forgotten and taken back", id="back", embedding=[-1.0, 0.5])
    space.revise("key", engram.Changes(tags=["ops"], metadata={"n": 2}))
    space.forget("gone")
    space.forget("back")
    space.restore("back")
    space.recall(QUERY, embedding=[0.6, 0.8])


def make(root: Path) -> None:
    # A deletion that can be undone for as long as the files are kept.
    with engram.open(root, delete_grace_s=CENTURY_S) as db:
        for name in ("plain", "compacted", "purged", "shortened", "deleted"):
            fill(db.create_space(name, embedding=SPEC))
        db.space("compacted").compact()
        db.space("compacted").remember("behind the checkpoint", id="late", embedding=[1, 1])
        db.space("purged").purge("key")
        db.space("purged").remember("used again", id="key", embedding=[1, 1])
        shortened = db.space("shortened")
        shortened.compact()
        shortened.configure(retention="positions:2")
        shortened.remember("behind the base", id="late", embedding=[1, 1])
        shortened.compact()
        db.space("plain").export(root / "plain.bundle")
        db.delete_space("deleted")


def told(root: Path) -> dict[str, Any]:
    """All that is read in a data root."""
    with engram.open(root) as db:
        told: dict[str, Any] = {}
        for info in db.spaces():
            space = db.space(info.memory_space_id)
            told[space.id] = {
                "info": plain(msgspec.structs.replace(space.info(), bytes=None)),
                "memories": [plain(each) for each in space.list(include_embedding=True).memories],
                "events": [plain(event) for event in space.events()],
                "recalled": [
                    [hit.memory.id, score_without_recalls(hit)]
                    for hit in space.recall(QUERY, embedding=[0.6, 0.8], record=False, explain=True)
                ],
            }
        told["deleted"] = [plain(info) for info in db.spaces(deleted=True)][-1]
        return told


def score_without_uses(hit: engram.Hit) -> float:
    """What does not depend on when it is asked."""
    uses = 0.0 if hit.why is None else hit.why.recency + hit.why.frequency
    return round(hit.score - uses, 6)


def score_without_recalls(hit: engram.Hit) -> float:
    """Nor on what was recalled before, which counted for nothing when the first files were made."""
    why = hit.why
    if why is None or all(step.relation != "recall" for step in why.path):
        return score_without_uses(hit)
    return round(score_without_uses(hit) - why.activation, 6)


def nobodys(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without whose files they were."""
    return entry.replace(uid=0, gid=0, uname="", gname="", deep=False)


def plain(value: Any) -> Any:
    """As JSON has it, whatever JSON leaves out of it."""
    data = msgspec.json.encode(value, enc_hook=lambda array: array.tolist())
    return msgspec.json.decode(data)


def main(version: str) -> None:
    archive, expected = FOLDER / f"{version}.tar", FOLDER / f"{version}.json"
    if archive.exists():
        raise SystemExit(f"{archive} exists; golden files are never made again")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "root"
        make(root)
        with tarfile.open(archive, "w") as tar:
            tar.add(root, "root", filter=nobodys)
        expected.write_text(json.dumps(told(root), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
