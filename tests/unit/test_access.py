"""Access keys: how they are made and recognised, what they grant, and their file."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import engram
from engram.access.gate import Access, admit
from engram.access.key_file import KEYS_LOCK, KEYS_NAME, KeyFile, open_key_file
from engram.access.keys import (
    NAME_CHARACTERS_MAX,
    RANDOM_BYTES,
    SCOPES,
    NewKey,
    check_records,
    new_key,
    recognised,
)
from engram.access.principal import ANYBODY, NEEDS, Need, principal_of
from engram.errors import (
    DataRootUnusable,
    EngramError,
    Forbidden,
    Invalid,
    KeyNotFound,
    KeysDamaged,
    OutcomeUnknown,
    SpaceInvalid,
    SpaceLocked,
    SpaceNotFound,
    Unauthenticated,
)
from tests.crash.histories import Books, Budget, aftermaths
from wal.sim_vfs import SimCrash, SimDisk

NOW_US = 1_800_000_000_000_000
RANDOM = bytes(range(RANDOM_BYTES))
spaces_of_keys = st.one_of(
    st.just("*"),
    st.lists(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True), min_size=1, max_size=4)
    .map(lambda ids: [space for space in ids if space not in {"con", "prn", "aux", "nul"}])
    .filter(bool),
)
scopes_of_keys = st.sets(st.sampled_from(SCOPES), min_size=1)


def key(randomness: bytes = RANDOM, **given: Any) -> NewKey:
    return new_key(
        randomness,
        **{"spaces": ["alpha"], "scopes": ["read"], "now_us": NOW_US, **given},
    )


def bearer(made: NewKey) -> list[str]:
    return [f"Bearer {made.text}"]


@given(st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES), spaces_of_keys, scopes_of_keys)
def test_a_key_is_recognised_by_its_own_text(randomness: bytes, spaces: Any, scopes: Any) -> None:
    made = key(randomness, spaces=spaces, scopes=scopes)
    other = key(bytes(byte ^ 0xFF for byte in randomness))
    keys = check_records([made.record, other.record])
    assert recognised(bearer(made), keys, NOW_US) is made.record
    assert made.text.isascii()
    assert made.text.isprintable()
    granted = principal_of(made.record)
    for space in ("alpha", "zz", *(() if spaces == "*" else spaces)):
        assert granted.sees(space) == (spaces == "*" or space in spaces)
        for scope in SCOPES:
            has = scope in scopes or "admin" in scopes
            assert granted.allows(space, scope) == (granted.sees(space) and has)
    assert granted.may_create == (spaces == "*" and "admin" in scopes)


@given(st.data())
def test_any_other_secret_is_refused_like_an_unknown_id(data: st.DataObject) -> None:
    made, unknown = key(), key(b"x" * RANDOM_BYTES)
    secret = made.text.rpartition(f"{made.record.id}_")[2]
    place = data.draw(st.integers(0, len(secret) - 1))
    other = data.draw(st.sampled_from("AZaz09_-").filter(lambda c: c != secret[place]))
    wrong = made.text[: len(made.text) - len(secret) + place] + other + secret[place + 1 :]
    refusals = set()
    for text in (wrong, unknown.text):
        with pytest.raises(Unauthenticated) as refused:
            recognised([f"Bearer {text}"], {made.record.id: made.record}, NOW_US)
        refusals.add(refused.value.detail)
        assert text[-len(secret) :] not in str(refused.value)
    assert len(refusals) == 1


@pytest.mark.parametrize("known", [True, False])
def test_a_comparison_is_made_in_constant_time_also_where_there_is_nothing_to_compare(
    known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("engram.access.keys.hmac.compare_digest", compare)
    wrong = key().text[:-1] + "_"
    with pytest.raises(Unauthenticated):
        recognised([f"Bearer {wrong}"], {key().record.id: key().record} if known else {}, NOW_US)
    assert [(len(one), len(other)) for one, other in compared] == [(64, 64)]


TEXT = key().text
NO_KEYS_AT_ALL: list[list[str]] = [
    [],
    [""],
    ["Bearer"],
    ["Bearer "],
    [TEXT],
    [f"Basic {TEXT}"],
    [f"Bearer {TEXT}", f"Bearer {TEXT}"],
    [f"Bearer {TEXT}, Bearer {TEXT}"],
    [f"Bearer {TEXT}\n"],
    [f"Bearer {TEXT}="],
    [f"Bearer {TEXT[:-1]}"],
    [f"Bearer {TEXT}A"],
    [f"Bearer {TEXT.upper()}"],
    [f"Bearer {TEXT.replace('engram', 'engrам')}"],
    [f"Bearer {TEXT.replace('_', '-', 2)}"],
    ["Bearer engram__"],
    ["Bearer \x00"],
    ["Bearer " + "a" * 100_000],
]


@pytest.mark.parametrize("values", NO_KEYS_AT_ALL)
def test_what_is_no_key_is_refused_and_not_repeated(values: list[str]) -> None:
    with pytest.raises(Unauthenticated) as refused:
        recognised(values, {key().record.id: key().record}, NOW_US)
    assert TEXT[-20:] not in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
def test_the_scheme_may_be_written_in_any_case(scheme: str) -> None:
    record = key().record
    assert recognised([scheme + TEXT], {record.id: record}, NOW_US) is record


def test_a_key_counts_until_it_expires_and_only_its_owner_is_told_that_it_has() -> None:
    made = key(expires_us=NOW_US + 10)
    keys = {made.record.id: made.record}
    assert recognised(bearer(made), keys, NOW_US + 9) is made.record
    with pytest.raises(Unauthenticated, match="expired at 2027-01-15"):
        recognised(bearer(made), keys, NOW_US + 10)
    with pytest.raises(Unauthenticated, match="not known, or was revoked"):
        recognised([bearer(made)[0][:-2] + "zz"], keys, NOW_US + 10)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"spaces": []}, Invalid),
        ({"spaces": "alpha"}, Invalid),
        ({"spaces": ["Alpha"]}, SpaceInvalid),
        ({"spaces": ["*"]}, SpaceInvalid),
        ({"spaces": [f"s{number}" for number in range(1_001)]}, Invalid),
        ({"scopes": []}, Invalid),
        ({"scopes": ["read", "root"]}, Invalid),
        ({"expires_us": NOW_US}, Invalid),
        ({"name": "a\nb"}, Invalid),
        ({"name": "x" * (NAME_CHARACTERS_MAX + 1)}, Invalid),
    ],
)
def test_a_key_that_cannot_be_meant_is_not_made(
    given: dict[str, Any], error: type[EngramError]
) -> None:
    with pytest.raises(error):
        key(**given)


def test_nothing_that_is_kept_or_shown_holds_the_secret() -> None:
    made = key()
    secret = made.text.rpartition(f"{made.record.id}_")[2]
    raw = base64.urlsafe_b64decode(secret + "=")
    assert len(raw) * 8 >= 256
    for shown in (repr(made), str(made), f"{made}", repr(made.record), made.record.digest):
        assert secret not in shown
        assert raw.hex() not in shown
    assert made.record.digest != hashlib.sha256(secret.encode()).hexdigest(), "bound to its id"


EVERY_NEED: list[Need] = sorted(set(NEEDS.values()), key=repr)


@pytest.mark.parametrize("need", EVERY_NEED)
def test_who_needs_no_key_may_do_everything(need: Need) -> None:
    assert not ANYBODY.lacks(need)
    assert ANYBODY.may_create


@given(spaces_of_keys, scopes_of_keys, st.sampled_from(EVERY_NEED))
def test_more_scopes_never_allow_less(spaces: Any, scopes: Any, need: Need) -> None:
    some = principal_of(key(spaces=spaces, scopes=scopes).record)
    more = principal_of(key(spaces=spaces, scopes=[*scopes, "admin"]).record)
    assert not (more.lacks(need) and not some.lacks(need))
    assert not principal_of(key(spaces="*", scopes=["admin"]).record).lacks(need)


def test_only_being_seen_takes_no_scope() -> None:
    assert {name for name, need in NEEDS.items() if not need.scopes} == {
        *("list_spaces", "show_space", "health")
    }
    assert NEEDS["recall"].scopes == {"read"}, "also where it is recorded"


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[engram.Database]:
    with engram.open(tmp_path_factory.mktemp("data")) as database:
        for space in ("alpha", "beta"):
            database.create_space(space)
        yield database


def refused(db: engram.Database, need: str, space: str, **grant: Any) -> EngramError | None:
    try:
        admit(db, principal_of(key(**grant).record), space, NEEDS[need])
    except EngramError as error:
        return error
    return None


def test_a_space_is_looked_for_before_scopes_are_and_a_foreign_one_is_not_there(
    db: engram.Database,
) -> None:
    one = {"spaces": ["alpha", "gone"], "scopes": ["read"]}
    assert refused(db, "recall", "alpha", **one) is None
    assert isinstance(refused(db, "remember", "alpha", **one), Forbidden)
    assert isinstance(refused(db, "remember", "gone", **one), SpaceNotFound)
    foreign, missing = (refused(db, "recall", space, **one) for space in ("beta", "nowhere"))
    with pytest.raises(SpaceNotFound) as not_there:
        db.space("nowhere")
    for error, space in ((foreign, "beta"), (missing, "nowhere")):
        assert isinstance(error, SpaceNotFound)
        assert error.detail == not_there.value.detail.replace("nowhere", space)
        assert error.memory_space_id == space


def test_making_a_space_takes_admin_everywhere_whatever_it_is_called(db: engram.Database) -> None:
    for operation in ("create_space", "import"):
        for space in ("alpha", "beta", "nowhere"):
            for grant in (
                {"spaces": ["alpha", "nowhere"], "scopes": ["admin"]},
                {"spaces": "*", "scopes": ["read", "write", "subscribe"]},
            ):
                assert isinstance(refused(db, operation, space, **grant), Forbidden)
            assert refused(db, operation, space, spaces="*", scopes=["admin"]) is None
    assert isinstance(refused(db, "fork", "beta", scopes=["admin"]), SpaceNotFound)
    assert isinstance(refused(db, "fork", "alpha", scopes=["admin"]), Forbidden)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    engram.open(tmp_path).close()
    return tmp_path


@pytest.fixture
def file(root: Path) -> Iterator[KeyFile]:
    opened = open_key_file(root)
    yield opened
    opened.close()


def make(file: KeyFile, **given: Any) -> NewKey:
    return file.create(**{"spaces": ["alpha"], "scopes": ["read"], **given})


def test_keys_outlive_their_process_and_only_their_owner_may_read_the_file(
    root: Path, file: KeyFile
) -> None:
    assert file.read() is None
    first, second = make(file, name="planner"), make(file, spaces="*", scopes=["admin"])
    reopened = open_key_file(root)
    assert list((reopened.read() or {}).values()) == [first.record, second.record]
    reopened.close()
    path = root / ".engram" / KEYS_NAME
    assert path.stat().st_mode & 0o777 == 0o600
    for made in (first, second):
        assert made.text.rpartition(made.record.id)[2].encode() not in path.read_bytes()
    assert file.revoke(first.record.id) == first.record
    assert list(file.read() or {}) == [second.record.id]
    with pytest.raises(KeyNotFound):
        file.revoke(first.record.id)


def test_who_changes_keys_at_once_waits_and_loses_none(root: Path) -> None:
    made: list[NewKey] = []

    def create() -> None:
        file = open_key_file(root)
        for _ in range(5):
            made.append(make(file))
        file.close()

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file = open_key_file(root)
    assert set(file.read() or {}) == {one.record.id for one in made}
    assert len(made) == 20
    file.close()


def test_a_held_lock_is_named_and_nothing_changes(
    file: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engram.access.key_file.LOCK_WAIT_S", 0.0)
    lock = file._control.lock(KEYS_LOCK, "somebody else")
    try:
        with pytest.raises(SpaceLocked, match="somebody else"):
            make(file)
    finally:
        lock.release()
    assert file.read() is None


DAMAGE = ["", "{}", "ENGRAM-KEYS 1 2 00000000\n{}", "\0" * 100]


def test_damaged_keys_let_nobody_in_and_are_not_written_over(root: Path, file: KeyFile) -> None:
    made = make(file)
    access = Access(file)
    path = root / ".engram" / KEYS_NAME
    whole = path.read_bytes()
    newer = whole.replace(b"ENGRAM-KEYS 1", b"ENGRAM-KEYS 2")
    twice = whole.replace(b'"read"', b'"root"')
    for damage in [*(text.encode() for text in DAMAGE), whole[:-1], newer, twice]:
        path.write_bytes(damage)
        for attempt in (
            lambda: access.authenticate(bearer(made)),
            lambda: make(file),
            lambda: file.revoke(made.record.id),
            lambda: Access(file),
        ):
            with pytest.raises(KeysDamaged, match="bring it back"):
                attempt()
        assert path.read_bytes() == damage
    path.unlink()
    path.mkdir()
    with pytest.raises(KeysDamaged):
        access.authenticate(bearer(made))
    path.rmdir()
    path.write_bytes(whole)
    assert access.authenticate(bearer(made)).key_id == made.record.id
    access.close()


def test_a_folder_that_is_no_data_root_has_no_keys(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataRootUnusable):
            open_key_file(folder)


def test_keys_are_needed_once_there_is_one_and_ever_after(root: Path, file: KeyFile) -> None:
    access = Access(file)
    assert access.authenticate([]) is ANYBODY
    assert access.authenticate(["Bearer of bad news"]) is ANYBODY
    assert not access.required
    made = make(file)
    with pytest.raises(Unauthenticated):
        access.authenticate([])
    assert access.authenticate(bearer(made)) == principal_of(made.record)
    file.revoke(made.record.id)
    with pytest.raises(Unauthenticated):
        access.authenticate(bearer(made))
    assert Access(file).required, "a file without keys in it is a file"
    (root / ".engram" / KEYS_NAME).unlink()
    with pytest.raises(Unauthenticated):
        access.authenticate([])
    assert not Access(file).required


def test_a_server_that_needs_keys_from_the_start_takes_nobody_without(file: KeyFile) -> None:
    with pytest.raises(Unauthenticated):
        Access(file, required=True).authenticate([])


def test_who_is_watched_is_told_when_a_key_is_revoked_or_expires(file: KeyFile) -> None:
    now_ns = [10**18]
    access = Access(file, clock=lambda: now_ns[0])
    before = threading.Event()
    access.watch(ANYBODY, before.set)
    stays, revoked = make(file), make(file)
    expires = make(file, expires_us=4 * 10**18 // 1_000)
    told = {made.record.id: threading.Event() for made in (stays, revoked, expires)}
    for made in (stays, revoked, expires):
        access.watch(access.authenticate(bearer(made)), told[made.record.id].set)
    assert before.wait(10), "whoever came without a key, while none was needed"
    file.revoke(revoked.record.id)
    assert told[revoked.record.id].wait(10)
    now_ns[0] = 5 * 10**18
    assert told[expires.record.id].wait(10)
    assert not told[stays.record.id].is_set()
    access.close()


def test_who_has_stopped_being_watched_is_told_nothing(file: KeyFile) -> None:
    access, told, control = Access(file), threading.Event(), threading.Event()
    made = make(file)
    principal = access.authenticate(bearer(made))
    access.watch(principal, told.set)()
    access.watch(principal, control.set)
    file.revoke(made.record.id)
    assert control.wait(10)
    assert not told.is_set()
    access.close()


def test_a_crash_leaves_the_old_keys_or_the_new_ones() -> None:
    """Create two and revoke one; whatever a crash leaves can be read, and holds what was told."""
    start = SimDisk()
    kept = make(KeyFile(start.root(), clock=lambda: NOW_US * 1_000)).record.id
    finished = False
    point = 0
    while not finished:
        point += 1
        for after in (False, True):
            disk, told = start.clone(), list[str]()
            file = KeyFile(disk.root(), clock=lambda: NOW_US * 1_000)
            disk.crash_at(point, after=after)
            doing = "create"
            try:
                told.append(make(file).record.id)
                doing = "revoke"
                file.revoke(told[0])
                doing = "nothing"
                finished = True
            except (SimCrash, OutcomeUnknown):
                pass
            for left in aftermaths(disk, Books(), f"{point}", Budget(few=40, samples=10)):
                again = KeyFile(left.disk.root())
                keys = list(again.read() or {})
                assert keys[0] == kept
                assert len(keys) <= 2
                if doing == "revoke":
                    assert keys[1:] in ([], told)
                assert doing != "nothing" or keys == [kept]
                assert make(again).record.id in (again.read() or {})
    assert point > 5
