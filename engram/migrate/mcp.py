"""The knowledge graph of the reference MCP memory server as a source: its JSON Lines file.

An entity becomes a fact that names it, and each of its observations a fact that begins with its
name, so that recall finds it by that. They have the entity's name as their source and its type as
their tag; relations become links between entities, and `observation` leads from an entity to what
was observed of it. The server holds the whole graph in memory, so names and relations are here too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from engram.errors import Invalid
from engram.memory.model import EmbeddingSpec, NewMemory
from engram.migrate.files import (
    described,
    id_or_made,
    lines_of,
    made_id,
    object_of,
    source_or_none,
    tags_of,
)
from engram.migrate.items import Item, SourceLink

OBSERVATION: Final = "observation"


class KnowledgeGraph:
    """The entities and relations of a file, all for one space."""

    lives = False
    unit = "line"

    def __init__(self, path: Path, space: str) -> None:
        self._path = path
        self._space = space
        self._links: dict[str, list[SourceLink]] = {}
        self.loose: list[SourceLink] = []

    def items(self, *, vectors: bool) -> Iterator[Item]:
        self._links, self.loose = {}, []
        types: dict[str, str] = {}
        relations: dict[tuple[str, str, str], SourceLink] = {}
        for number, line in lines_of(self._path):
            given = object_of(number, line)
            kind = given.get("type")
            if kind == "entity":
                for new in self._entity(number, given, types):
                    yield Item(new, number, (self._space,))
            elif kind == "relation":
                link = _relation(number, given)
                relations.setdefault((link.source, link.target, link.relation), link)
            else:
                raise Invalid(
                    f"line {number}: its type is {kind!r}; a knowledge graph has lines of the type "
                    "'entity' and 'relation'. Nothing was stored"
                )
        there = {_entity_id(name) for name in types}
        for link in relations.values():
            ends = there & {link.source, link.target}
            for end in ends:
                self._links.setdefault(end, []).append(link)
            if not ends:
                self.loose.append(link)

    def links(self, memory_id: str) -> Iterator[SourceLink]:
        yield from self._links.get(memory_id, ())

    def described(self) -> Mapping[str, Any]:
        return described("mcp-memory", self._path)

    def embedding_for(self, space_id: str) -> EmbeddingSpec | None:
        return None

    def vectors_of(self, space_id: str) -> EmbeddingSpec | None:
        return None

    def _entity(
        self, number: int, given: Mapping[str, Any], types: dict[str, str]
    ) -> Iterator[NewMemory]:
        name, kind = _text(number, given, "name"), _text(number, given, "entityType", empty=True)
        observations = given.get("observations")
        if not isinstance(observations, list) or not all(isinstance(o, str) for o in observations):
            raise Invalid(
                f"line {number}: its 'observations' are not a list of texts. Nothing was stored"
            )
        kind = types.setdefault(name, kind)  # the server, too, means the first of a name
        fields: dict[str, Any] = {
            "kind": "fact",
            "tags": tags_of(kind),
            "source": source_or_none(name),
            "metadata": {"entity": name, "entity_type": kind},
        }
        entity = _entity_id(name)
        yield NewMemory(id=entity, content=f"{name} ({kind})" if kind else name, **fields)
        found = self._links.setdefault(entity, [])
        for observation in dict.fromkeys(observations):
            fact = made_id(OBSERVATION, name, observation)
            found.append(SourceLink(entity, fact, OBSERVATION, 1.0, number))
            yield NewMemory(id=fact, content=f"{name}: {observation}", **fields)


def _entity_id(name: str) -> str:
    return id_or_made("entity", name)


def _relation(number: int, given: Mapping[str, Any]) -> SourceLink:
    ends = [_entity_id(_text(number, given, end)) for end in ("from", "to")]
    return SourceLink(ends[0], ends[1], _text(number, given, "relationType"), 1.0, number)


def _text(number: int, given: Mapping[str, Any], field: str, *, empty: bool = False) -> str:
    value = given.get(field)
    if not isinstance(value, str) or not (value or empty):
        raise Invalid(f"line {number}: its {field!r} is missing or no text. Nothing was stored")
    return value
