"""Retrieval measures and the description of where a figure was taken. Pure but for `machine`."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from collections.abc import Collection, Sequence
from importlib.metadata import version
from typing import Any


def recall_at(k: int, ranked: Sequence[str], relevant: Collection[str]) -> float:
    """Share of the relevant ids among the first k ranked ones."""
    return len(set(ranked[:k]) & set(relevant)) / len(relevant)


def ndcg_at(k: int, ranked: Sequence[str], relevant: Collection[str]) -> float:
    """Normalised discounted cumulative gain with binary gains (Järvelin & Kekäläinen 2002)."""
    gained = sum(1 / math.log2(i + 2) for i, id_ in enumerate(ranked[:k]) if id_ in relevant)
    ideal = sum(1 / math.log2(i + 2) for i in range(min(k, len(relevant))))
    return gained / ideal


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def machine() -> dict[str, Any]:
    """What a figure depends on: commit, processor count, versions."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "commit": commit or "unknown",
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": version("numpy"),
    }
