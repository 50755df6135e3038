"""Files of models that other packages carry: found without importing the package, and pinned.

A space's vectors must mean the same for as long as it lives, so a model's name stands for exact
files. Another version of a file is refused instead of silently mixing vectors.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from engram.errors import EmbedderUnavailable

Loaded = TypeVar("Loaded")


class NotUsable(Exception):
    """Why a model cannot be read, as the rest of a sentence."""


class PinnedFile(NamedTuple):
    """A path inside a package, and the CRC32C of the whole file."""

    path: str
    crc32c: int


def folder_of(package: str) -> Path:
    """Where a package is installed; none of its code is run. Raises :class:`NotUsable`."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise NotUsable(f"the package {package} is not installed")
    return Path(spec.submodule_search_locations[0])


def pinned(folder: Path, file: PinnedFile) -> bytes:
    """The bytes of a file, if they are the ones its model is named after, else `NotUsable`."""
    # Imported here because whoever brings their own vectors needs none of it.
    from crc32c import crc32c

    path = folder / file.path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NotUsable(f"{path} cannot be read ({error.strerror})") from error
    if crc32c(data) != file.crc32c:
        raise NotUsable(f"{path} is not the file this model is made of")
    return data


class Packaged(ABC, Generic[Loaded]):
    """A model that is read when it is first needed, once for all threads."""

    def __init__(self) -> None:
        self._loading = threading.Lock()
        self._loaded: Loaded | None = None

    @abstractmethod
    def _read(self) -> Loaded:
        """The model. Raises :class:`NotUsable`, or whatever the readers of its files raise."""

    @abstractmethod
    def _unavailable(self, reason: str) -> EmbedderUnavailable:
        """What to tell those who cannot have it, and what to do about it."""

    def _load(self) -> Loaded:
        with self._loading:
            if self._loaded is None:
                try:
                    self._loaded = self._read()
                except NotUsable as error:
                    raise self._unavailable(str(error)) from error
                except Exception as error:
                    raise self._unavailable(f"its files cannot be read ({error})") from error
            return self._loaded
