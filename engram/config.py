"""Which settings hold, and where each comes from. Pure: what to judge is handed in.

A setting comes from a flag, else from an environment variable, else from the configuration file,
else from its default. The file is TOML:

    data_root = "memories"                # relative to the file's own folder
    server = "http://127.0.0.1:7432"
    default_space = "alpha"
    host = "127.0.0.1"                    # host and ports are what `engram serve` listens on
    port = 7432
    grpc_port = 7433                      # or "off"
    delete_grace_s = 604800               # how long a deletion can be undone, in seconds
    open_spaces_max = 1024                # what stays open at once, in spaces and bytes of memory
    open_bytes_max = 2147483648
    past_bytes_max = 268435456            # what is kept of earlier states, in bytes of memory
    scrub_bytes_per_s = 4194304           # what `engram serve` reads again to verify it; 0: nothing
    quotas = "memories:100000"            # of spaces without quotas of their own; left out: none
    require_explicit_space = true         # whether requests to `engram serve` have to name a space

Sections, one for each space where wanted, say how it is to be made: :mod:`engram.sections`.

`default_space` is what is meant where nobody names a space: by a command, whose flag and variable
are `--space` and `ENGRAM_SPACE`; and, with `require_explicit_space = false`, by a request to a
server, whose own are `--default-space` and `ENGRAM_DEFAULT_SPACE`. So a variable that is there for
an agent's commands never makes a space of a server that is started beside them.

A command works on a server's spaces or on a data root. Whichever of the two is named closer to the
command (flag, environment, file) decides; where both are named equally close, the server.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from datetime import date, datetime, time
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypedDict, cast

from engram.errors import Invalid, Malformed
from engram.sections import SPACES, Section, line_of, sections_in

CONFIG_VARIABLE: Final = "ENGRAM_CONFIG"
API_KEY_VARIABLE: Final = "ENGRAM_API_KEY"
FILE_NAME: Final = "engram.toml"
DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 7432
DEFAULT_GRPC_PORT: Final = 7433
OFF: Final = "off"
"""What a setting says that can be turned off."""
DEFAULT_DELETE_GRACE_S: Final = 604_800
DEFAULT_OPEN_SPACES_MAX: Final = 1_024
DEFAULT_OPEN_BYTES_MAX: Final = 2 << 30
DEFAULT_PAST_BYTES_MAX: Final = 256 << 20
DEFAULT_SCRUB_BYTES_PER_S: Final = 4 << 20
PORT_MAX: Final = 65_535
DELETE_GRACE_S_MAX: Final = 100 * 366 * 24 * 3_600
NUMBER_MAX: Final = (1 << 63) - 1
_NUMBER_DIGITS_MAX: Final = 20
"""More are as much too many: a number is cut off here, so that none takes long to read."""

Level = Literal["flag", "environment", "file", "default"]
_LEVELS: Final[tuple[Level, ...]] = ("flag", "environment", "file", "default")


class Key(NamedTuple):
    """One setting: its name in the file, its flag, its environment variable and a likely value."""

    name: str
    flag: str
    variable: str
    example: str
    kind: type[str] | type[int] | type[bool] = str
    least: int = 0
    most: int = NUMBER_MAX
    key: str = ""
    may_be_off: bool = False

    @property
    def in_file(self) -> str:
        """What it is called in the file: its name, unless it shares its key with another."""
        return self.key or self.name


KEYS: Final = (
    Key("data_root", "--data-root", "ENGRAM_DATA_ROOT", "./data"),
    Key("server", "--server", "ENGRAM_SERVER", f"http://{DEFAULT_HOST}:{DEFAULT_PORT}"),
    Key("default_space", "--space", "ENGRAM_SPACE", "alpha"),
    Key("host", "--host", "ENGRAM_HOST", DEFAULT_HOST),
    Key("port", "--port", "ENGRAM_PORT", str(DEFAULT_PORT), int, 0, PORT_MAX),
    Key(
        "grpc_port",
        "--grpc-port",
        "ENGRAM_GRPC_PORT",
        str(DEFAULT_GRPC_PORT),
        int,
        0,
        PORT_MAX,
        may_be_off=True,
    ),
    Key(
        "delete_grace_s",
        "--delete-grace-s",
        "ENGRAM_DELETE_GRACE_S",
        str(DEFAULT_DELETE_GRACE_S),
        int,
        0,
        DELETE_GRACE_S_MAX,
    ),
    Key(
        "open_spaces_max",
        "--open-spaces-max",
        "ENGRAM_OPEN_SPACES_MAX",
        str(DEFAULT_OPEN_SPACES_MAX),
        int,
        1,
    ),
    Key(
        "open_bytes_max",
        "--open-bytes-max",
        "ENGRAM_OPEN_BYTES_MAX",
        str(DEFAULT_OPEN_BYTES_MAX),
        int,
        1,
    ),
    Key(
        "past_bytes_max",
        "--past-bytes-max",
        "ENGRAM_PAST_BYTES_MAX",
        str(DEFAULT_PAST_BYTES_MAX),
        int,
    ),
    Key(
        "scrub_bytes_per_s",
        "--scrub-bytes-per-s",
        "ENGRAM_SCRUB_BYTES_PER_S",
        str(DEFAULT_SCRUB_BYTES_PER_S),
        int,
    ),
    Key("quotas", "--quota", "ENGRAM_QUOTAS", "memories:100000,writes_per_second:50"),
    Key(
        "server_default_space",
        "--default-space",
        "ENGRAM_DEFAULT_SPACE",
        "main",
        key="default_space",
    ),
    Key(
        "require_explicit_space",
        "--require-explicit-space",
        "ENGRAM_REQUIRE_EXPLICIT_SPACE",
        "true",
        bool,
    ),
)


class File(NamedTuple):
    """A configuration file as it was read. `trusted` says whether its user named it or keeps it
    among their own settings, rather than just being in the folder where it lies.
    """

    path: str
    table: Mapping[str, object]
    trusted: bool = True
    text: str = ""


class Setting(NamedTuple):
    """A setting's value and where it comes from; `origin` names the flag, variable or file."""

    name: str
    value: str | int | None
    level: Level
    origin: str


class Opening(TypedDict):
    """What `engram.open` takes of the settings."""

    delete_grace_s: int
    open_spaces_max: int
    open_bytes_max: int
    past_bytes_max: int
    quotas: str


class Serving(Opening):
    """What `engram.open` takes of them for a server, which is there for long."""

    scrub_bytes_per_s: int


class Settings(NamedTuple):
    """All settings of one command."""

    data_root: Setting
    server: Setting
    default_space: Setting
    host: Setting
    port: Setting
    grpc_port: Setting
    delete_grace_s: Setting
    open_spaces_max: Setting
    open_bytes_max: Setting
    past_bytes_max: Setting
    scrub_bytes_per_s: Setting
    quotas: Setting
    server_default_space: Setting
    require_explicit_space: Setting
    file: File | None
    spaces: Mapping[str, Section] = MappingProxyType({})

    @property
    def target(self) -> Setting:
        """The server or the data root that the command works on."""
        server, root = self.server, self.data_root
        if server.value is None or _LEVELS.index(root.level) < _LEVELS.index(server.level):
            return root
        return server

    @property
    def opening(self) -> Opening:
        """How a data root is opened."""
        return Opening(
            delete_grace_s=int(self.delete_grace_s.value or 0),
            open_spaces_max=int(self.open_spaces_max.value or 1),
            open_bytes_max=int(self.open_bytes_max.value or 1),
            past_bytes_max=int(self.past_bytes_max.value or 0),
            quotas=str(self.quotas.value),
        )

    @property
    def serving(self) -> Serving:
        """How a server opens its data root."""
        return Serving(**self.opening, scrub_bytes_per_s=int(self.scrub_bytes_per_s.value or 0))

    @property
    def key_may_be_sent(self) -> bool:
        """Whether the server was named by the user, so that their API key may go to it.

        A file that happens to lie in the current folder may be anybody's.
        """
        return self.server.level != "file" or (self.file is not None and self.file.trusted)


def settings_of(
    flags: Mapping[str, str | int | None],
    environment: Mapping[str, str],
    file: File | None,
    *,
    default_data_root: str,
    home: str = "",
) -> Settings:
    """The settings that hold, by the names of :data:`KEYS`; a flag that is None was not given.

    `home` stands in for a leading `~/` in the file. Raises :class:`engram.errors.Malformed` naming
    the flag, variable or file, and the key, for what cannot be meant.
    """
    if flags.get("server") is not None and flags.get("data_root") is not None:
        raise Malformed(
            "--server and --data-root exclude each other: a command works on a server's spaces or "
            "on those of a data root. Give one of them"
        )
    if file is not None:
        _refuse_unknown(file)
    defaults: dict[str, str | int] = {
        "data_root": default_data_root,
        "host": DEFAULT_HOST,
        "port": DEFAULT_PORT,
        "grpc_port": DEFAULT_GRPC_PORT,
        "delete_grace_s": DEFAULT_DELETE_GRACE_S,
        "open_spaces_max": DEFAULT_OPEN_SPACES_MAX,
        "open_bytes_max": DEFAULT_OPEN_BYTES_MAX,
        "past_bytes_max": DEFAULT_PAST_BYTES_MAX,
        "scrub_bytes_per_s": DEFAULT_SCRUB_BYTES_PER_S,
        "quotas": "none",
        "require_explicit_space": True,
    }
    found = {}
    for key in KEYS:
        setting = (
            _from_flag(key, flags)
            or _from_environment(key, environment)
            or (None if file is None else _from_file(key, file, home))
        )
        found[key.name] = setting or Setting(key.name, defaults.get(key.name), "default", "default")
    spaces = {} if file is None else sections_in(file.table, file.path, file.text)
    return Settings(**found, file=file, spaces=spaces)


def _from_flag(key: Key, flags: Mapping[str, str | int | None]) -> Setting | None:
    value = flags.get(key.name)
    if value is None:
        return None
    if isinstance(value, str):
        value = _read(key, value, f"{key.flag} {value!r}")
    return Setting(key.name, _checked(key, value, key.flag), "flag", f"flag {key.flag}")


def _from_environment(key: Key, environment: Mapping[str, str]) -> Setting | None:
    """A variable that is set to nothing counts as not set, as is usual."""
    text = environment.get(key.variable)
    if not text:
        return None
    value = _read(key, text, f"{key.variable}={text!r}")
    checked = _checked(key, value, key.variable)
    return Setting(key.name, checked, "environment", f"environment variable {key.variable}")


def _read(key: Key, text: str, where: str) -> str | int:
    """What is written as text."""
    if key.kind is str or (key.may_be_off and text == OFF):
        return text
    if key.kind is bool:
        if text not in _FLAG_TEXTS:
            raise Malformed(f"{where} must be true or false")
        return _FLAG_TEXTS[text]
    if not (text.isascii() and text.isdigit()):
        off = f", or {OFF}" if key.may_be_off else ""
        raise Malformed(f"{where} must be a whole number{off}")
    return int(text[:_NUMBER_DIGITS_MAX])


def _from_file(key: Key, file: File, home: str) -> Setting | None:
    if key.in_file not in file.table:
        return None
    value = file.table[key.in_file]
    where = f"{file.path}: {key.in_file}"
    off = key.may_be_off and value == OFF
    if isinstance(value, bool) != (key.kind is bool) or not (off or isinstance(value, key.kind)):
        kind = "a whole number" if key.kind is int else _TOML_NAMES[key.kind]
        raise Malformed(f"{where} must be {kind}, not {_TOML_NAMES.get(type(value), 'that')}")
    checked = _checked(key, cast("str | int", value), where)
    if key.name == "data_root" and isinstance(checked, str):
        checked = _placed(checked, file.path, home)
    return Setting(key.name, checked, "file", file.path)


def _checked(key: Key, value: str | int, where: str) -> str | int:
    """The bounds that settings themselves have; what an id, a URL or a host may be is told by those
    who use them.
    """
    if value == "":
        raise Malformed(f"{where} is empty; give a value, as {key.example}, or leave it out")
    if key.name == "quotas":
        _check_quotas(str(value), where)
    if key.may_be_off and value == OFF:
        return value
    if key.kind is int and not (isinstance(value, int) and key.least <= value <= key.most):
        if key.most == PORT_MAX:
            off = f", or {OFF} for none" if key.may_be_off else ""
            raise Malformed(f"{where} must be a port: 1 to {PORT_MAX}, or 0 for a free one{off}")
        raise Malformed(f"{where} must be a whole number from {key.least} to {key.most}")
    return value


def _check_quotas(text: str, where: str) -> None:
    from engram.memory.quotas import parse_quotas  # which most commands do without

    try:
        parse_quotas(where, text)
    except Invalid as error:
        raise Malformed(error.detail) from None


def _placed(data_root: str, file_path: str, home: str) -> str:
    if home and (data_root == "~" or data_root.startswith("~/")):
        return posixpath.join(home, data_root[2:]).rstrip("/")
    return posixpath.join(posixpath.dirname(file_path), data_root)


def _refuse_unknown(file: File) -> None:
    known = list(dict.fromkeys(key.in_file for key in KEYS))
    for name in file.table:
        if name not in known and name != SPACES:
            raise Malformed(
                f"{file.path}{line_of(file.text, name)}: unknown key {name!r}; there are "
                f"{', '.join(known)}, and sections [{SPACES}.ID]"
            )


_FLAG_TEXTS: Final = {"true": True, "1": True, "false": False, "0": False}
_TOML_NAMES: Final[dict[type, str]] = {
    bool: "true or false",
    str: "a string",
    int: "a whole number",
    float: "a fraction",
    list: "a list",
    dict: "a table",
    date: "a date",
    datetime: "a time",
    time: "a time of day",
}
