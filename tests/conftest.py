"""What all tests share: how hypothesis searches."""

from __future__ import annotations

import os

from hypothesis import settings

# Examples are drawn anew on a developer's machine and are always the same in checks, so that a red
# check can be repeated. No deadline: two busy cores say nothing about the code.
settings.register_profile("developer", deadline=None)
settings.register_profile("checks", deadline=None, derandomize=True)
settings.load_profile("checks" if os.environ.get("CI") else "developer")
