"""The settings of a space: their forms, what is refused, and that changes leave the rest alone."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import engram
from engram.errors import Invalid
from engram.memory.decay import (
    EXPONENT_DEFAULT,
    EXPONENT_MAX,
    EXPONENT_MIN,
    HALF_LIFE_S_DEFAULT,
    HALF_LIFE_S_MAX,
    WEIGHT_DEFAULT,
    Decay,
    check_decay,
    checked_decay,
    parse_decay,
)
from engram.memory.retention import Retention
from engram.memory.rhythm import Rhythm, check_rhythm, checked_rhythm
from engram.memory.settings import SETTINGS, Settings, settings_column, settings_of

DAY_S = 24 * 3_600
weights = st.floats(0, 1)
decays = st.one_of(
    st.builds(Decay, exponent=st.floats(EXPONENT_MIN, EXPONENT_MAX), weight=weights),
    st.builds(
        Decay,
        family=st.just("exponential"),
        half_life_s=st.integers(1, HALF_LIFE_S_MAX),
        weight=weights,
    ),
    st.builds(Decay, family=st.just("none"), weight=weights),
)


@pytest.mark.parametrize(
    ("text", "decay"),
    [
        ("power", Decay()),
        ("power:0.5", Decay(exponent=0.5)),
        ("power:1", Decay(exponent=1.0)),
        ("power:0.3,weight:0.2", Decay(exponent=0.3, weight=0.2)),
        ("power,weight:0", Decay(weight=0.0)),
        ("power,weight:1e-3", Decay(weight=0.001)),
        ("exponential", Decay(family="exponential", half_life_s=30 * DAY_S)),
        ("exponential:36h", Decay(family="exponential", half_life_s=36 * 3_600)),
        ("exponential:1s,weight:1", Decay(family="exponential", half_life_s=1, weight=1.0)),
        ("none", Decay(family="none")),
        ("none,weight:0.05", Decay(family="none", weight=0.05)),
    ],
)
def test_the_textual_forms(text: str, decay: Decay) -> None:
    assert parse_decay("decay", text) == decay
    assert check_decay("decay", text) == decay


def test_what_is_left_out_has_a_default() -> None:
    assert Decay() == Decay(family="power", exponent=EXPONENT_DEFAULT, weight=WEIGHT_DEFAULT)
    assert Decay(family="exponential").half_life_s == HALF_LIFE_S_DEFAULT
    assert str(Decay()) == f"power:{EXPONENT_DEFAULT},weight:{WEIGHT_DEFAULT}"
    assert str(Decay(family="exponential", weight=0.5)) == "exponential:30d,weight:0.5"
    assert str(Decay(family="none", weight=0)) == "none,weight:0"


@given(decays)
def test_every_decay_comes_back_from_its_forms(decay: Decay) -> None:
    assert parse_decay("decay", str(decay)) == decay
    assert msgspec.json.decode(msgspec.json.encode(decay), type=Decay) == decay
    assert check_decay("decay", decay) == decay
    parts = msgspec.structs.asdict(decay)
    assert checked_decay("decay", **parts) == decay
    settings = Settings(retention=Retention(positions=3), decay=decay)
    assert settings_of(settings.retention, settings_column(settings)) == settings


@pytest.mark.parametrize(
    "text",
    [
        *("", "all", "Power", "power:", "power: 0.5", "power:x", "power:nan", "power:inf"),
        *("power:0", "power:-1", "power:5.1", "power:1_0", "power:30d", "power:.5", "power:٣"),
        *("exponential:", "exponential:0s", "exponential:30", "exponential:36601d"),
        *("exponential:0.5", "none:1", "none:", "none,", "none,weight", "none,weight:"),
        *("none,weight:2", "none,weight:-1", "none,weight:nan", "none,heaviness:1"),
        *("none,weight:1,weight:1", "weight:1", ",weight:1", "power" * 1_000, "power:1e400"),
    ],
)
def test_what_is_no_decay_is_refused_by_name(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_decay("--decay", text)
    assert [error.field for error in caught.value.errors] == ["--decay"]
    assert len(caught.value.detail) < 400


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ({"family": "linear"}, "decay.family"),
        ({"family": None}, "decay.family"),
        ({"family": ["power"]}, "decay.family"),
        ({"exponent": 0}, "decay.exponent"),
        ({"exponent": float("nan")}, "decay.exponent"),
        ({"exponent": 10**400}, "decay.exponent"),
        ({"exponent": True}, "decay.exponent"),
        ({"exponent": "1"}, "decay.exponent"),
        ({"half_life_s": 60}, "decay"),
        ({"family": "none", "exponent": 1.0}, "decay"),
        ({"family": "exponential", "exponent": 1.0}, "decay"),
        ({"family": "exponential", "half_life_s": 0}, "decay.half_life_s"),
        ({"family": "exponential", "half_life_s": 1.5}, "decay.half_life_s"),
        ({"family": "exponential", "half_life_s": True}, "decay.half_life_s"),
        ({"family": "exponential", "half_life_s": HALF_LIFE_S_MAX + 1}, "decay.half_life_s"),
        ({"weight": -0.1}, "decay.weight"),
        ({"weight": 1.1}, "decay.weight"),
        ({"weight": float("nan")}, "decay.weight"),
        ({"weight": "much"}, "decay.weight"),
    ],
)
def test_parts_that_cannot_be_are_refused_by_name(parts: dict[str, Any], field: str) -> None:
    whole = {"family": "power", "exponent": None, "half_life_s": None, "weight": None, **parts}
    with pytest.raises(Invalid) as caught:
        checked_decay("decay", **whole)
    assert [error.field for error in caught.value.errors] == [field]


@pytest.mark.parametrize(
    "value",
    [
        *(None, 5, True, {}, {"family": "none"}, b"none", Decay, Retention()),
        Decay(weight=7.0),
        Decay(exponent=float("1e9")),
        Decay(family="linear"),  # type: ignore[arg-type]
    ],
)
def test_what_was_never_checked_is_checked_where_it_is_used(value: object) -> None:
    with pytest.raises(Invalid):
        check_decay("decay", value)


@pytest.mark.parametrize(
    "said",
    [
        {"decay": {"family": "linear"}},
        {"decay": {"family": "none", "exponent": 1.0}},
        {"decay": {"weight": 2.0}},
        {"decay": {"weight": float("nan")}},
        {"decay": {"exponent": float("nan")}},
        {"decay": {"exponent": 0.0}},
        {"decay": {"family": "exponential", "half_life_s": 0}},
        {"decay": 5},
        [],
        7,
    ],
)
def test_a_checkpoint_that_holds_no_settings_is_refused(said: object) -> None:
    column = np.frombuffer(msgspec.msgpack.encode(said), np.uint8)
    with pytest.raises(ValueError, match="settings"):
        settings_of(Retention(), column)


def test_of_before_there_were_others_a_checkpoint_holds_the_retention_alone() -> None:
    kept = Retention(age_s=60)
    assert settings_of(kept, None) == Settings(retention=kept)
    assert settings_of(kept, settings_column(Settings())) == Settings(retention=kept)


def test_what_is_not_named_stays(tmp_path: Path) -> None:
    law = engram.Decay(family="exponential", half_life_s=DAY_S, weight=0.2)
    with engram.open(tmp_path) as db:
        alpha = db.create_space("alpha")
        assert (alpha.info().retention, alpha.info().decay) == (engram.Retention(), engram.Decay())
        alpha.configure(retention="positions:7")
        assert alpha.configure(decay=law).retention == engram.Retention(positions=7)
        assert alpha.configure(retention="age:1d").decay == law
        told = [(str(e.retention), e.decay) for e in alpha.events(types=["space.configured"])]
        assert told == [
            ("positions:7", engram.Decay()),
            ("positions:7", law),
            ("age:1d", law),
        ]
        assert db.spaces()[0].decay is None or db.spaces()[0].decay == law
    with engram.open(tmp_path) as db:
        info = db.space("alpha").info()
        assert (str(info.retention), info.decay) == ("age:1d", law)


def test_settings_go_with_checkpoints_bundles_and_forks(tmp_path: Path) -> None:
    with engram.open(tmp_path) as db:
        alpha = db.create_space("alpha")
        alpha.remember("something")
        alpha.configure(retention="positions:1", decay="none,weight:0.5")
        alpha.compact()
        alpha.remember("more")
        alpha.compact()
        assert alpha.info().oldest_position is not None
        alpha.export(tmp_path / "alpha.bundle")
        copies = [db.import_space("beta", tmp_path / "alpha.bundle"), alpha.fork("gamma")]
        for copy in copies:
            assert str(copy.info().decay) == "none,weight:0.5"
            assert str(copy.info().retention) == "positions:1"
    with engram.open(tmp_path) as db:
        for name in ("alpha", "beta", "gamma"):
            assert str(db.space(name).info().decay) == "none,weight:0.5"


def test_two_who_configure_at_once_undo_nothing_of_each_other(tmp_path: Path) -> None:
    with engram.open(tmp_path) as db:
        alpha = db.create_space("alpha")
        together = threading.Barrier(2)

        def configure(name: str, texts: list[str]) -> None:
            for text in texts:
                together.wait()
                alpha.configure(**{name: text})  # type: ignore[arg-type]

        rounds = range(1, 31)
        texts = {
            "retention": [f"positions:{n}" for n in rounds],
            "decay": [f"exponential:{n}s" for n in rounds],
        }
        threads = [threading.Thread(target=configure, args=each) for each in texts.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        told = list(alpha.events(types=["space.configured"]))
        positions = [event.retention.positions or 0 for event in told if event.retention]
        lives = [
            0 if event.decay is None or event.decay.family == "power" else event.decay.half_life_s
            for event in told
        ]
        assert len(told) == 60
        assert positions == sorted(positions)  # each stays until the next, whoever comes between
        assert lives == sorted(lives, key=lambda each: each or 0)
        assert (positions[-1], lives[-1]) == (30, 30)


def test_nothing_and_what_is_no_setting_are_refused(tmp_path: Path) -> None:
    with engram.open(tmp_path) as db:
        alpha = db.create_space("alpha")
        with pytest.raises(Invalid, match=", ".join(SETTINGS)):
            alpha.configure()
        with pytest.raises(TypeError, match="'colour'"):
            alpha.configure(colour="red")  # type: ignore[call-arg]
        assert alpha.info().position == 1


@pytest.mark.parametrize(
    ("text", "rhythm"),
    [
        ("off", Rhythm()),
        ("after:100", Rhythm(after=100)),
        ("every:1d", Rhythm(every_s=DAY_S)),
        ("after:1,every:90s", Rhythm(after=1, every_s=90)),
        ("every:36h,after:7", Rhythm(after=7, every_s=36 * 3_600)),
    ],
)
def test_the_textual_forms_of_a_rhythm(text: str, rhythm: Rhythm) -> None:
    for said in (text, rhythm, str(rhythm)):
        assert check_rhythm("consolidation", said) == rhythm
    assert checked_rhythm("consolidation", rhythm.after, rhythm.every_s) == rhythm


@pytest.mark.parametrize(
    "value",
    [
        *("", "on", "after", "after:", "after:0", "after:x", "after:-1", "after:1.5", "after:٣"),
        *("every:1", "every:0s", "every:1y", "after:1,after:2", "after:1,", "off,after:1"),
        *(f"after:{10**18}", f"every:{10**18}d", None, 5, Rhythm(after=0)),
        *(Rhythm(after=True), Rhythm(every_s=-1), Rhythm(every_s=1.5)),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_rhythm_is_refused(value: object) -> None:
    with pytest.raises(Invalid) as caught:
        check_rhythm("consolidation", value)
    assert all(item.field.startswith("consolidation") for item in caught.value.errors)
