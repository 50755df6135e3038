"""Settings: which value holds, where it comes from, and what is refused."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pytest

from engram.config import KEYS, File, Setting, Settings, settings_of
from engram.errors import Malformed
from engram.spaces.lifecycle import DELETE_GRACE_S
from engram.spaces.residency import OPEN_BYTES_MAX, OPEN_SPACES_MAX, PAST_BYTES_MAX

ROOT = "/xdg/engram"
URL = "http://127.0.0.1:7000"


def settings(
    flags: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
    table: dict[str, object] | None = None,
    *,
    trusted: bool = True,
) -> Settings:
    file = None if table is None else File("/etc/agent/engram.toml", table, trusted)
    return settings_of(flags or {}, environment or {}, file, default_data_root=ROOT, home="/h")


def test_what_nobody_names_has_its_default() -> None:
    found = settings()
    assert found.data_root == Setting("data_root", ROOT, "default", "default")
    assert (found.server.value, found.default_space.value) == (None, None)
    assert (found.host.value, found.port.value) == ("127.0.0.1", 7432)
    assert found.target == found.data_root
    assert found.opening == {
        "delete_grace_s": DELETE_GRACE_S,
        "open_spaces_max": OPEN_SPACES_MAX,
        "open_bytes_max": OPEN_BYTES_MAX,
        "past_bytes_max": PAST_BYTES_MAX,
        "quotas": "none",
    }
    assert found.serving == {**found.opening, "scrub_bytes_per_s": 4 << 20}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_a_flag_beats_the_environment_and_that_the_file(key: Any) -> None:
    kinds: dict[type, list[Any]] = {int: [1, 2, 3], str: ["a", "b", "c"], bool: [True, False, True]}
    values = kinds[key.kind]
    if key.name == "quotas":
        values = ["memories:1", "memories:2", "none"]
    table = {key.in_file: values[0]}
    environment = {key.variable: str(values[1]).lower() if key.kind is bool else str(values[1])}
    in_file = getattr(settings(table=table), key.name)
    assert in_file.level == "file"
    assert in_file.origin == "/etc/agent/engram.toml"
    assert str(in_file.value).endswith(str(values[0]))
    assert getattr(settings(None, environment, table), key.name) == Setting(
        key.name, values[1], "environment", f"environment variable {key.variable}"
    )
    assert getattr(settings({key.name: values[2]}, environment, table), key.name) == Setting(
        key.name, values[2], "flag", f"flag {key.flag}"
    )


def test_a_default_space_of_commands_and_one_of_a_server_are_told_apart_but_in_the_file() -> None:
    found = settings({"default_space": "a"}, {"ENGRAM_SPACE": "b"}, {"default_space": "c"})
    assert (found.default_space.value, found.server_default_space.value) == ("a", "c")
    found = settings({}, {"ENGRAM_SPACE": "b", "ENGRAM_DEFAULT_SPACE": "d"}, {"default_space": "c"})
    assert (found.default_space.value, found.server_default_space.value) == ("b", "d")


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    assert settings(None, dict.fromkeys((key.variable for key in KEYS), "")) == settings()


@pytest.mark.parametrize(
    ("flags", "environment", "table", "target"),
    [
        ({"server": URL}, {"ENGRAM_DATA_ROOT": "/d"}, {}, "server"),
        ({"data_root": "/d"}, {"ENGRAM_SERVER": URL}, {}, "data_root"),
        ({}, {"ENGRAM_SERVER": URL, "ENGRAM_DATA_ROOT": "/d"}, {}, "server"),
        ({}, {"ENGRAM_DATA_ROOT": "/d"}, {"server": URL}, "data_root"),
        ({}, {"ENGRAM_SERVER": URL}, {"data_root": "/d"}, "server"),
        ({}, {}, {"server": URL, "data_root": "/d"}, "server"),
        ({}, {}, {"data_root": "/d"}, "data_root"),
        ({}, {}, {"server": URL}, "server"),
    ],
)
def test_what_is_named_closest_to_the_command_is_worked_on(
    flags: dict[str, Any], environment: dict[str, str], table: dict[str, object], target: str
) -> None:
    assert settings(flags, environment, table).target.name == target


def test_a_server_and_a_data_root_as_flags_exclude_each_other() -> None:
    with pytest.raises(Malformed, match="--server and --data-root"):
        settings({"server": URL, "data_root": "/d"})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("memories", "/etc/agent/memories"),
        ("../m", "/etc/agent/../m"),
        ("/m", "/m"),
        ("~/m", "/h/m"),
        ("~", "/h"),
        ("~other/m", "/etc/agent/~other/m"),
    ],
)
def test_a_data_root_in_a_file_lies_beside_the_file(given: str, expected: str) -> None:
    assert settings(table={"data_root": given}).data_root.value == expected


def test_elsewhere_it_is_taken_as_it_is() -> None:
    assert settings({"data_root": "m"}).data_root.value == "m"
    assert settings(None, {"ENGRAM_DATA_ROOT": "~/m"}).data_root.value == "~/m"


@pytest.mark.parametrize(
    ("flags", "environment", "table", "words"),
    [
        ({}, {}, {"prot": 1}, ["/etc/agent/engram.toml", "'prot'", "port"]),
        ({}, {}, {"port": "7432"}, ["engram.toml: port", "whole number", "a string"]),
        ({}, {}, {"port": True}, ["engram.toml: port", "true or false"]),
        ({}, {}, {"port": 1.5}, ["engram.toml: port", "a fraction"]),
        ({}, {}, {"port": date(2026, 1, 1)}, ["engram.toml: port", "a date"]),
        ({}, {}, {"port": datetime(2026, 1, 1, 9)}, ["engram.toml: port", "a time"]),
        ({}, {}, {"port": 65_536}, ["engram.toml: port", "65535"]),
        ({}, {}, {"port": -1}, ["engram.toml: port", "65535"]),
        ({}, {}, {"host": 1}, ["engram.toml: host", "a string", "a whole number"]),
        ({}, {}, {"host": [1]}, ["engram.toml: host", "a list"]),
        ({}, {}, {"server": {"url": URL}}, ["engram.toml: server", "a table"]),
        ({}, {}, {"default_space": ""}, ["engram.toml: default_space", "empty"]),
        ({}, {}, {"quotas": "lots"}, ["engram.toml: quotas", "'lots'", "memories:100000"]),
        ({}, {}, {"require_explicit_space": 0}, ["require_explicit_space", "true or false"]),
        ({}, {"ENGRAM_REQUIRE_EXPLICIT_SPACE": "no"}, {}, ["SPACE='no'", "true or false"]),
        ({}, {}, {"server_default_space": "a"}, ["unknown key 'server_default_space'"]),
        ({}, {"ENGRAM_PORT": "x"}, {}, ["ENGRAM_PORT", "'x'", "whole number"]),
        ({}, {"ENGRAM_PORT": "-1"}, {}, ["ENGRAM_PORT", "whole number"]),
        ({}, {"ENGRAM_PORT": "9" * 5_000}, {}, ["ENGRAM_PORT", "65535"]),
        ({}, {"ENGRAM_PORT": "٣"}, {}, ["ENGRAM_PORT", "whole number"]),
        ({"port": 65_536}, {}, {}, ["--port", "65535"]),
        ({"data_root": ""}, {}, {}, ["--data-root", "empty"]),
        ({"server": ""}, {}, {}, ["--server", "empty"]),
    ],
)
def test_what_cannot_be_meant_is_named(
    flags: dict[str, Any], environment: dict[str, str], table: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(Malformed) as caught:
        settings(flags, environment, table)
    assert [word for word in words if word not in caught.value.detail] == []


def test_a_key_goes_only_to_a_server_that_its_user_named() -> None:
    """A folder one works in may be anybody's, with an engram.toml that names their server."""
    assert settings(table={"server": URL}).key_may_be_sent
    assert not settings(table={"server": URL}, trusted=False).key_may_be_sent
    assert settings({"server": URL}, table={"server": URL}, trusted=False).key_may_be_sent
    assert settings(None, {"ENGRAM_SERVER": URL}, {"port": 1}, trusted=False).key_may_be_sent
