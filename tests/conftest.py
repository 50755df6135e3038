"""What holds for every test: no example of hypothesis fails for being slow on a busy machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("engram", deadline=None)
settings.load_profile("engram")
