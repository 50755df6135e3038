"""Several faults at once: what is served is what was written; see tests/crash/multifaults.py."""

from __future__ import annotations

import pytest

from tests.crash import multifaults
from tests.crash.test_damage import WHOLE


def test_several_faults_at_once_are_detected_or_do_no_harm() -> None:
    served = [multifaults.check(seed) for seed in range(2_000)]
    assert 20 < sum(served) < 1_500, "the faults are such that both happen"


def test_a_log_that_serves_less_than_was_durable_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a reader took damage for the end of a log."""
    whole = WHOLE["closed"]
    less = whole.facts[:-1]
    monkeypatch.setattr(whole, "facts", less)
    monkeypatch.setattr(multifaults, "case", lambda seed: (whole, whole.contents))
    with pytest.raises(AssertionError, match="something else than was written"):
        multifaults.check(0)
