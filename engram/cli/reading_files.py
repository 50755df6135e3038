"""The file that `engram migrate import` is given, as a source, and what of its options fits it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from engram.cli.settings import read_settings, space_of
from engram.errors import Malformed, SpaceConflict, SpaceInvalid
from engram.migrate.chroma import ChromaFolder, Collection
from engram.migrate.jsonl import Extra, JsonLines, fields_of
from engram.migrate.mcp import KnowledgeGraph
from engram.migrate.routing import space_id_of

if TYPE_CHECKING:
    from engram.cli.options import Named
    from engram.migrate.items import Source

_FORMATS: Final = ("jsonl", "mcp-memory", "chroma")


class Asked(NamedTuple):
    """The options, as they were given."""

    format: str
    into: str | None
    collection: list[str] | None
    create: bool
    embeddings: str | None
    field: list[str]
    extra: str
    keep_times: bool


@contextmanager
def opened_source(file: str, named: Named, asked: Asked) -> Iterator[Source]:
    """The source. Raises :class:`engram.errors.Malformed` for options that do not go with it."""
    _check(asked)
    if not file:
        raise Malformed("FILE is empty; name a file or a folder")
    path = Path(file)
    if asked.format == "chroma":
        folder = ChromaFolder(path, keep_times=asked.keep_times)
        try:
            folder.send(_spaces(folder, named, asked), keep_vectors=asked.embeddings == "keep")
            yield folder
        finally:
            folder.close()
        return
    space = space_of(read_settings(named))
    if asked.format == "mcp-memory":
        yield KnowledgeGraph(path, space)
    else:
        yield JsonLines(
            path,
            space,
            fields=fields_of(asked.field),
            extra=cast("Extra", asked.extra),
            keep_vectors=asked.embeddings == "keep",
        )


def _check(asked: Asked) -> None:
    if asked.format not in _FORMATS:
        raise Malformed(f"--format {asked.format!r} is not known; use one of {', '.join(_FORMATS)}")
    if asked.embeddings not in {None, "keep"}:
        raise Malformed(f"--embeddings {asked.embeddings!r} is not known; it is keep, if given")
    if asked.extra not in {"refuse", "metadata", "ignore"}:
        raise Malformed(f"--extra {asked.extra!r} is not known; use refuse, metadata or ignore")
    fits = {
        "--into": (asked.into is not None, ("chroma",)),
        "--collection": (bool(asked.collection), ("chroma",)),
        "--keep-times": (asked.keep_times, ("chroma",)),
        "--embeddings": (asked.embeddings is not None, ("chroma", "jsonl")),
        "--field": (bool(asked.field), ("jsonl",)),
        "--extra": (asked.extra != "refuse", ("jsonl",)),
    }
    for option, (given, formats) in fits.items():
        if given and asked.format not in formats:
            raise Malformed(f"{option} does not go with --format {asked.format}")


def _spaces(folder: ChromaFolder, named: Named, asked: Asked) -> dict[str, Collection]:
    """Which collection goes where."""
    wanted = _collections(folder, asked.collection)
    if asked.into is None:
        if len(wanted) != 1:
            names = ", ".join(repr(collection.name) for collection in folder.collections) or "none"
            raise Malformed(
                f"one collection goes into a space, and there are: {names}. Name one with "
                "--collection, or give each a space of its own with --into '{value}'"
            )
        return {space_of(read_settings(named)): wanted[0]}
    if named.space is not None:
        raise Malformed("--space and --into exclude each other. Give one of them")
    if "{value}" not in asked.into:
        raise Malformed(f"--into {asked.into!r} does not say where the name goes: {{value}}")
    spaces: dict[str, Collection] = {}
    for collection in wanted:
        try:
            space = space_id_of(collection.name, asked.into)
        except SpaceInvalid as error:
            raise SpaceInvalid(
                f"no space id can be made of collection {collection.name!r}: {error.detail}. "
                "Import it by itself, with --collection and --space"
            ) from None
        if space in spaces:
            raise SpaceConflict(
                f"collections {spaces[space].name!r} and {collection.name!r} both make the space "
                f"{space!r}. Import each by itself, with --collection and --space"
            )
        spaces[space] = collection
    return spaces


def _collections(folder: ChromaFolder, names: list[str] | None) -> list[Collection]:
    if not names:
        return list(folder.collections)
    found = []
    for name in dict.fromkeys(names):
        named = [collection for collection in folder.collections if collection.name == name]
        if len(named) != 1:
            known = ", ".join(repr(collection.name) for collection in folder.collections) or "none"
            many = "several collections are" if named else "no collection is"
            raise Malformed(f"{many} called {name!r}; there are: {known}")
        found += named
    return found
