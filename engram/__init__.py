"""Engram: a memory database for AI agents.

    import engram
    with engram.open("./data") as db:
        alpha = db.create_space("alpha")
        alpha.remember("The deploy key is rotated every Monday", tags=["ops"])
        for hit in alpha.recall("when is the deploy key rotated?"):
            print(hit.score, hit.memory.content)

`engram.Client(url)` and `engram.AsyncClient(url)` have the same verbs on a server's spaces.

The names below are loaded at first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engram.client.asynchronous import AsyncClient
    from engram.client.synchronous import Client
    from engram.errors import (
        DataRootUnusable,
        DiskFull,
        EmbedderMismatch,
        EmbedderUnavailable,
        EngramError,
        Forbidden,
        HistoryGone,
        Invalid,
        LinkNotFound,
        MemoryExists,
        MemoryNotFound,
        OutcomeUnknown,
        PositionBeyondEnd,
        QuotaExceeded,
        RateLimited,
        ServerAnswerInvalid,
        ServerUnreachable,
        SpaceDamaged,
        SpaceDeleted,
        SpaceExists,
        SpaceInvalid,
        SpaceLocked,
        SpaceNotFound,
        Stale,
        TooLarge,
        Unauthenticated,
        Unavailable,
    )
    from engram.memory.beliefs import Belief, Consolidation
    from engram.memory.completion import Completion, Filled, Known, Voter
    from engram.memory.decay import Decay
    from engram.memory.forgetting import Forgetting, ForgettingReport, Lapsed
    from engram.memory.model import (
        Activated,
        BeliefSource,
        Changes,
        Citation,
        Compaction,
        Confidence,
        DeletedSpace,
        EmbeddingSpec,
        Event,
        ExportReport,
        Filter,
        Forgotten,
        ForgottenMatching,
        Hit,
        Link,
        LinksPage,
        Memory,
        NewMemory,
        Origin,
        Page,
        PurgedFile,
        PurgeReceipt,
        Recall,
        Recalled,
        Receipt,
        Reembedded,
        Remembered,
        SpaceInfo,
        Spread,
        Step,
        Unlinked,
        Why,
    )
    from engram.memory.quotas import Quotas
    from engram.memory.retention import Retention
    from engram.memory.rhythm import Rhythm
    from engram.spaces.database import Database
    from engram.spaces.database import open_database as open
    from engram.spaces.space import Space

__version__ = "0.1.0.dev0"

__all__ = [
    "Activated",
    "AsyncClient",
    "Belief",
    "BeliefSource",
    "Changes",
    "Citation",
    "Client",
    "Compaction",
    "Completion",
    "Confidence",
    "Consolidation",
    "DataRootUnusable",
    "Database",
    "Decay",
    "DeletedSpace",
    "DiskFull",
    "EmbedderMismatch",
    "EmbedderUnavailable",
    "EmbeddingSpec",
    "EngramError",
    "Event",
    "ExportReport",
    "Filled",
    "Filter",
    "Forbidden",
    "Forgetting",
    "ForgettingReport",
    "Forgotten",
    "ForgottenMatching",
    "HistoryGone",
    "Hit",
    "Invalid",
    "Known",
    "Lapsed",
    "Link",
    "LinkNotFound",
    "LinksPage",
    "Memory",
    "MemoryExists",
    "MemoryNotFound",
    "NewMemory",
    "Origin",
    "OutcomeUnknown",
    "Page",
    "PositionBeyondEnd",
    "PurgeReceipt",
    "PurgedFile",
    "QuotaExceeded",
    "Quotas",
    "RateLimited",
    "Recall",
    "Recalled",
    "Receipt",
    "Reembedded",
    "Remembered",
    "Retention",
    "Rhythm",
    "ServerAnswerInvalid",
    "ServerUnreachable",
    "Space",
    "SpaceDamaged",
    "SpaceDeleted",
    "SpaceExists",
    "SpaceInfo",
    "SpaceInvalid",
    "SpaceLocked",
    "SpaceNotFound",
    "Spread",
    "Stale",
    "Step",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "Unlinked",
    "Voter",
    "Why",
    "__version__",
    "open",
]


_HOMES = {
    "open": ("engram.spaces.database", "open_database"),
    "Database": ("engram.spaces.database", "Database"),
    "Space": ("engram.spaces.space", "Space"),
    "AsyncClient": ("engram.client.asynchronous", "AsyncClient"),
    "Belief": ("engram.memory.beliefs", "Belief"),
    "Consolidation": ("engram.memory.beliefs", "Consolidation"),
    "Completion": ("engram.memory.completion", "Completion"),
    "Filled": ("engram.memory.completion", "Filled"),
    "Known": ("engram.memory.completion", "Known"),
    "Voter": ("engram.memory.completion", "Voter"),
    "Decay": ("engram.memory.decay", "Decay"),
    "Forgetting": ("engram.memory.forgetting", "Forgetting"),
    "ForgettingReport": ("engram.memory.forgetting", "ForgettingReport"),
    "Lapsed": ("engram.memory.forgetting", "Lapsed"),
    "Quotas": ("engram.memory.quotas", "Quotas"),
    "Retention": ("engram.memory.retention", "Retention"),
    "Rhythm": ("engram.memory.rhythm", "Rhythm"),
    "Client": ("engram.client.synchronous", "Client"),
}
"""What is neither an error nor a model."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'engram' has no attribute {name!r}")
    module, attribute = _HOMES.get(name, ("engram.errors", name))
    home = import_module(module)
    if not hasattr(home, attribute):
        home = import_module("engram.memory.model")
    value = getattr(home, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
