"""What a migration asks of spaces, which those of a data root and those of a server both offer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from engram.memory.model import (
    EmbeddingSpec,
    Event,
    Forgotten,
    Link,
    LinksPage,
    Memory,
    NewMemory,
    Page,
    Remembered,
    SpaceInfo,
)


class Place(Protocol):
    """One space."""

    @property
    def id(self) -> str: ...

    def info(self) -> SpaceInfo: ...

    def list(
        self,
        *,
        limit: int = ...,
        after: int | None = ...,
        include_embedding: bool = ...,
    ) -> Page: ...

    def get(self, memory_id: str, *, include_embedding: bool = ...) -> Memory: ...

    def history(self, memory_id: str) -> Sequence[Event]: ...

    def remember_many(
        self, memories: Iterable[NewMemory], *, embedded_by: EmbeddingSpec | None = ...
    ) -> Remembered: ...

    def links(self, memory_id: str, *, limit: int = ..., after: int | None = ...) -> LinksPage: ...

    def link(
        self, source: str, target: str, *, weight: float = ..., relation: str = ...
    ) -> Link: ...

    def forget(self, memory_id: str, *, if_match: str | None = ...) -> Forgotten: ...


class Places(Protocol):
    """The spaces of a data root or of a server."""

    def space(self, space_id: str) -> Any: ...

    def ensure_space(self, space_id: str, *, embedding: EmbeddingSpec | None = ...) -> Any: ...
