"""Make a persistent Chroma folder with Chroma itself, and say what Chroma says it holds.

    .venv-foreign/bin/python tests/foreign/make_chroma.py FOLDER

FOLDER gets `chroma/` and `chroma.json`. Run by `make foreign`; it imports nothing of Engram.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import chromadb  # type: ignore[import-not-found]
from chromadb.config import Settings  # type: ignore[import-not-found]

EARLY = {"hnsw:batch_size": 5, "hnsw:sync_threshold": 10}
"""So that some vectors are in the index and some in the queue, as they are in large collections."""


def fill(client: chromadb.ClientAPI) -> None:
    chance = random.Random(0)

    def vectors(count: int, length: int) -> list[list[float]]:
        return [[chance.gauss(0, 2) for _ in range(length)] for _ in range(count)]

    for name, space in (("Euclidean", "l2"), ("cosine", "cosine")):
        settings = {"hnsw:space": space, **EARLY}
        many = client.create_collection(name, embedding_function=None, metadata=settings)
        many.add(
            ids=[f"m{n}" for n in range(34)],
            documents=[f"Fact number {n} of {space}" for n in range(34)],
            embeddings=vectors(34, 4),
        )
        many.update(ids=["m3"], documents=["Fact three was corrected"], embeddings=vectors(1, 4))
        many.delete(ids=["m4", "m33"])
        many.add(ids=["late"], documents=["Stored late"], embeddings=vectors(1, 4))
    notes = client.create_collection("notes", embedding_function=None)
    notes.add(
        ids=["plain", "a/path.md", "Zoë", "x" * 200],
        documents=["Backups run at two", "Zoë’s café", "Two\nlines\tand a tab", "Long id"],
        metadatas=[
            {"source": "standup", "n": 1, "big": 2**40, "ok": True, "no": False, "x": 1.5},
            {"text": "é", "empty": ""},
            {"chroma": "x"},
            {"tags": ["a", "b"], "numbers": [1, 2]},
        ],
        embeddings=vectors(4, 3),
    )
    notes.add(ids=["vector-only"], embeddings=vectors(1, 3), metadatas=[{"a": 1}])
    client.create_collection("empty", embedding_function=None)


def main(folder: Path) -> None:
    client = chromadb.PersistentClient(
        str(folder / "chroma"), settings=Settings(anonymized_telemetry=False)
    )
    fill(client)
    held = {}
    for listed in client.list_collections():
        collection = client.get_collection(listed.name, embedding_function=None)
        got = collection.get(include=["documents", "metadatas", "embeddings"])
        held[listed.name] = {
            record: {"document": document, "metadata": metadata, "embedding": [*map(float, vector)]}
            for record, document, metadata, vector in zip(
                got["ids"], got["documents"], got["metadatas"], got["embeddings"], strict=True
            )
        }
    document = {"version": chromadb.__version__, "collections": held}
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
    (folder / "chroma.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
