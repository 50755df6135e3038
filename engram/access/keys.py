"""Access keys: how they are written, recorded and recognised. Pure.

    engram_<key id>_<secret>          engram_7k2m9qx4tz_yHq…

The id is no secret: it stands in lists and names a key to be revoked. The secret is 256 random
bits, and only its SHA-256 is kept. A slow hash is for secrets that people choose: it makes each
guess dear where few are likely. Here no guess is likely (2^256 of them), so it would protect
nothing, and whoever sends wrong keys could keep a server busy.

A key that is unknown costs what a known one with a wrong secret costs, and both are refused in the
same words: neither the answer nor its time tells which ids there are.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from engram.errors import Invalid, SpaceInvalid, Unauthenticated
from engram.memory.times import from_us
from engram.spaces.ids import check_space_id

PREFIX: Final = "engram"
ID_CHARACTERS: Final = 10
SECRET_BYTES: Final = 32
RANDOM_BYTES: Final = 16 + SECRET_BYTES
"""What one new key takes: for its id, and for its secret."""
NAME_CHARACTERS_MAX: Final = 100
SPACES_PER_KEY_MAX: Final = 1_000
EVERY_SPACE: Final = "*"

Scope = Literal["read", "write", "subscribe", "admin"]
SCOPES: Final[tuple[Scope, ...]] = ("read", "write", "subscribe", "admin")
"""In the order in which they are shown."""

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_ID: Final = f"[{_ALPHABET}]{{{ID_CHARACTERS}}}"
_KEY: Final = re.compile(rf"{PREFIX}_({_ID})_([A-Za-z0-9_-]{{43}})")
_NOBODY: Final = "0" * 64
"""Compared with where no such key is known: no secret is known that has this digest."""
_HOW: Final = "Send the header `Authorization: Bearer engram_…`; clients and commands take the key "
_WHERE: Final = (
    "from api_key or ENGRAM_API_KEY. `engram keys create` makes one, on the server's machine"
)


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of a key. `digest` is that of its secret, in hex; `expires_us` None: never."""

    id: Annotated[str, msgspec.Meta(pattern=rf"\A{_ID}\Z")]
    digest: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    spaces: Literal["*"] | tuple[str, ...]
    scopes: tuple[Scope, ...]
    created_us: int
    expires_us: int | None = None
    name: str = ""

    def expired(self, now_us: int) -> bool:
        return self.expires_us is not None and self.expires_us <= now_us


class NewKey(NamedTuple):
    """A key and the one moment at which its text is known."""

    record: KeyRecord
    text: str

    def __repr__(self) -> str:
        return f"NewKey({self.record.id})"  # a text in a log would be a key in a log


def new_key(
    randomness: bytes,
    *,
    spaces: Literal["*"] | Iterable[str],
    scopes: Iterable[str],
    now_us: int,
    expires_us: int | None = None,
    name: str = "",
) -> NewKey:
    """A key from :data:`RANDOM_BYTES` random bytes. Raises :class:`engram.errors.Invalid` for what
    no key can have, `SpaceInvalid` for what is no space id.
    """
    if len(randomness) != RANDOM_BYTES:
        raise ValueError(f"a key takes {RANDOM_BYTES} random bytes, not {len(randomness)}")
    number = int.from_bytes(randomness[:-SECRET_BYTES], "big")
    letters = []
    for _ in range(ID_CHARACTERS):
        number, index = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[index])
    key_id = "".join(letters)
    secret = base64.urlsafe_b64encode(randomness[-SECRET_BYTES:]).rstrip(b"=").decode()
    record = KeyRecord(
        id=key_id,
        digest=_digest(key_id, secret),
        spaces=_checked_spaces(spaces),
        scopes=_checked_scopes(scopes),
        created_us=now_us,
        expires_us=_checked_end(expires_us, now_us),
        name=_checked_name(name),
    )
    return NewKey(record, f"{PREFIX}_{key_id}_{secret}")


def _checked_spaces(spaces: Literal["*"] | Iterable[str]) -> Literal["*"] | tuple[str, ...]:
    if isinstance(spaces, str):
        if spaces == EVERY_SPACE:
            return EVERY_SPACE
        raise Invalid.of("spaces", "must be a list of space ids, or '*' for all of them")
    checked = tuple(dict.fromkeys(check_space_id(space) for space in spaces))
    if not 1 <= len(checked) <= SPACES_PER_KEY_MAX:
        raise Invalid.of("spaces", f"name 1 to {SPACES_PER_KEY_MAX} spaces, or '*' for all")
    return checked


def _checked_scopes(scopes: Iterable[str]) -> tuple[Scope, ...]:
    given = set(scopes)
    if not given:
        raise Invalid.of("scopes", f"name at least one of {', '.join(SCOPES)}")
    if unknown := given.difference(SCOPES):
        raise Invalid.of("scopes", f"{min(unknown)!r} is none of {', '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in given)


def _checked_end(expires_us: int | None, now_us: int) -> int | None:
    if expires_us is not None and expires_us <= now_us:
        raise Invalid.of("expires", "lies in the past; a key needs some time to be used in")
    return expires_us


def _checked_name(name: str) -> str:
    if len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
        raise Invalid.of("name", f"must be at most {NAME_CHARACTERS_MAX} printable characters")
    return name


def check_records(records: Iterable[KeyRecord]) -> dict[str, KeyRecord]:
    """Records by their id. Raises ValueError for what :func:`new_key` never makes."""
    found: dict[str, KeyRecord] = {}
    for record in records:
        if record.id in found:
            raise ValueError(f"the key {record.id} is there twice")
        try:
            if (_checked_spaces(record.spaces), _checked_scopes(record.scopes)) != (
                record.spaces,
                record.scopes,
            ):
                raise ValueError(f"the key {record.id} names something twice")
            _checked_name(record.name)
        except (Invalid, SpaceInvalid) as error:
            raise ValueError(f"the key {record.id}: {error.detail}") from None
        found[record.id] = record
    return found


def recognised(values: Sequence[str], keys: Mapping[str, KeyRecord], now_us: int) -> KeyRecord:
    """The key that a request was sent with; `values` has one item for each time that
    `Authorization` was sent. Raises :class:`engram.errors.Unauthenticated`, which never quotes it.
    """
    key_id, secret = _parsed(values)
    record = keys.get(key_id)
    same = hmac.compare_digest(
        _digest(key_id, secret), record.digest if record is not None else _NOBODY
    )
    if record is None or not same:
        raise Unauthenticated(f"this key is not known, or was revoked. {_HOW}{_WHERE}")
    if record.expired(now_us):
        raise Unauthenticated(
            f"the key {key_id} expired at {from_us(record.expires_us or 0).isoformat()}. Make a "
            "new one with `engram keys create`, on the server's machine"
        )
    return record


def id_of(text: str) -> str | None:
    """The id in the text of a key, whatever its secret; None for any other text."""
    parsed = _KEY.fullmatch(text)
    return None if parsed is None else parsed[1]


def _parsed(values: Sequence[str]) -> tuple[str, str]:
    """(key id, secret) of what `Authorization` holds."""
    if not values:
        raise Unauthenticated(f"this server takes requests with a key only. {_HOW}{_WHERE}")
    if len(values) > 1:
        raise Unauthenticated("the header Authorization was sent twice; send it once")
    scheme, _, text = values[0].partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated(f"the header Authorization holds no bearer token. {_HOW}{_WHERE}")
    parsed = _KEY.fullmatch(text.strip(" "))
    if parsed is None:
        raise Unauthenticated(f"the bearer token is no key of Engram's. {_HOW}{_WHERE}")
    return parsed[1], parsed[2]


def _digest(key_id: str, secret: str) -> str:
    """Bound to the id, so that no record can lend its digest to another one."""
    return hashlib.sha256(f"engram key\0{key_id}\0{secret}".encode()).hexdigest()
