"""One table of all that can be done in a space, driven through every door: which space is meant,
and what is said where it cannot be used. What is missing in the table makes it fail.

The routes of REST have more ways to name a space than other doors; all of them are tried in
test_resolver, over the same routes; what a key may not do there is in test_keys. The calls
of gRPC have a table of their own in test_grpc.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import typer
from anyio.from_thread import start_blocking_portal

import engram
from engram.access.key_file import open_key_file
from engram.cli.app import app, main
from engram.client.asynchronous import AsyncSpace
from engram.client.synchronous import Client, ClientSpace
from engram.errors import EngramError, SpaceDamaged, SpaceInvalid, SpaceNotFound, SpaceRequired
from engram.memory.model import Changes, Filter

from .doors import Awaited
from .harness import OTHER, SPACE, Server
from .test_resolver import ROUTES

GONE: Final = "gone"
BAD: Final = "bad"
NOTHING: Final = Filter(tags_all=("unused",))


class Operation(NamedTuple):
    """One thing to be done with the memory `m` of a space, at each door that has it. A verb takes
    the handle and the memory; in a command and a path `{m}` stands for the memory, `{f}` for a new
    file.
    """

    routes: tuple[tuple[str, str], ...]
    verbs: Mapping[str, Callable[[Any, str, str], Any]]
    commands: tuple[str, ...] = ()


OPERATIONS: Final = {
    "remember": Operation(
        (("POST", "/memories"),),
        {
            "remember": lambda s, m, f: s.remember("more"),
            "remember_many": lambda s, m, f: s.remember_many(["more", "and more"]),
        },
        ("remember more",),
    ),
    "get": Operation((("GET", "/memories/{id}"),), {"get": lambda s, m, f: s.get(m)}, ("get {m}",)),
    "list": Operation((("GET", "/memories"),), {"list": lambda s, m, f: s.list()}, ("list",)),
    "revise": Operation(
        (("PATCH", "/memories/{id}"),),
        {"revise": lambda s, m, f: s.revise(m, Changes(tags=("seen",)))},
        ("revise {m} --tag seen",),
    ),
    "forget": Operation(
        (("DELETE", "/memories/{id}"), ("DELETE", "/memories")),
        {
            "forget": lambda s, m, f: s.forget(m),
            "forget_matching": lambda s, m, f: s.forget_matching(NOTHING),
            "purge": lambda s, m, f: s.purge(m),
            "purge_matching": lambda s, m, f: s.purge_matching(NOTHING),
        },
        ("forget {m} --yes", "forget {m} --purge --yes", "forget --policy --dry-run"),
    ),
    "restore": Operation(
        (("POST", "/memories/{id}/restore"),),
        {"restore": lambda s, m, f: s.restore(m)},
        ("restore {m}",),
    ),
    "history": Operation(
        (("GET", "/memories/{id}/history"),),
        {"history": lambda s, m, f: s.history(m)},
        ("history {m}",),
    ),
    "link": Operation(
        (("POST", "/links"),), {"link": lambda s, m, f: s.link(m, "one")}, ("link {m} one",)
    ),
    "links": Operation((("GET", "/links"),), {"links": lambda s, m, f: s.links(m)}, ("links {m}",)),
    "unlink": Operation(
        (("DELETE", "/links/{source}/{target}"),),
        {"unlink": lambda s, m, f: s.unlink(m, "one")},
        ("unlink {m} one",),
    ),
    "recall": Operation(
        (("POST", "/recall"),), {"recall": lambda s, m, f: s.recall("key")}, ("recall key",)
    ),
    "complete": Operation(
        (("POST", "/complete"),), {"complete": lambda s, m, f: s.complete("key")}, ("complete key",)
    ),
    "consolidate": Operation(
        (("POST", "/consolidate"),),
        {"consolidate": lambda s, m, f: s.consolidate(dry_run=True)},
        ("consolidate --dry-run",),
    ),
    "forgetting": Operation(
        (("POST", "/forgetting"),),
        {"apply_forgetting": lambda s, m, f: s.apply_forgetting(dry_run=True)},
    ),
    "compact": Operation(
        (("POST", "/compact"),), {"compact": lambda s, m, f: s.compact()}, ("compact",)
    ),
    "events": Operation(
        (),  # without an end; in test_events
        {"events": lambda s, m, f: list(s.events(after=0, follow=False))},
        ("watch --after 0 --no-follow",),
    ),
    "configure": Operation(
        (),
        {"configure": lambda s, m, f: s.configure(retention="all")},
        ("space configure {s} --retention all",),
    ),
    "export": Operation(
        (("GET", "/export"),), {"export": lambda s, m, f: s.export(f)}, ("space export {s} {f}",)
    ),
    "fork": Operation(
        (("POST", "/fork"),),
        {"fork": lambda s, m, f: s.fork(f"copy-{m}")},
        ("space fork {s} {m}c",),
    ),
    "reopen": Operation(
        (("POST", "/reopen"),), {"reopen": lambda s, m, f: s.reopen()}, ("space reopen {s}",)
    ),
}
SPACES: Final = {
    # By what of a database it is: the verb, and the command.
    "space_info": (lambda db, s: db.space_info(s), "space show {s}"),
    "delete_space": (lambda db, s: db.delete_space(s), "space delete {s} --yes"),
    "restore_space": (lambda db, s: db.restore_space(s), "space restore {s}"),
    "purge_space": (lambda db, s: db.purge_space(s), "space purge {s} --yes"),
}
MAKING: Final = {"create_space", "ensure_space", "import_space"}
NO_SPACE: Final = {"close", "spaces", "url", "space"}
SEAMS: Final = {
    # For surfaces, which are given a handle of the space that was found.
    "space": {"id", "incarnation", "origin", "reader", "answering", "keyed", "outgoing", "charge"},
    "database": {"receive_space", "spaces_among", "path"},
}
DESCRIBED: Final = {"info", "quotas"}
COMMANDS_WITHOUT: Final = {
    *("serve", "status", "space list", "config show", "space create", "space import"),
    *("keys create", "keys list", "keys revoke", "log inspect", "log dump", "log repair"),
    *("log salvage", "log verify", "drill crash", "migrate split", "migrate import"),
}
"""Those that work on no space that has to be there, or on files and folders."""

REFUSED: Final[dict[str, type[EngramError]]] = {
    "nowhere": SpaceNotFound,
    GONE: SpaceNotFound,
    BAD: SpaceDamaged,
    "No Where": SpaceInvalid,
    "con": SpaceInvalid,
    "..": SpaceInvalid,
}


def commands(command: Any, *before: str) -> Iterator[str]:
    """The names of all commands, with the groups that they are in before them."""
    within = getattr(command, "commands", None)
    if within is None:
        yield " ".join(before)
        return
    for name, each in within.items():
        yield from commands(each, *before, name)


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_the_table_holds_all_that_the_doors_have() -> None:
    verbs = {name for operation in OPERATIONS.values() for name in operation.verbs}
    for kind in (engram.Space, AsyncSpace, ClientSpace):
        assert public(kind) - SEAMS["space"] - DESCRIBED == verbs, kind
    for database in (engram.Database, engram.AsyncClient, Client):
        assert public(database) - SEAMS["database"] - NO_SPACE == {*SPACES, *MAKING}, database
    routes = [route for operation in OPERATIONS.values() for route in operation.routes]
    assert sorted(routes) == sorted(ROUTES)
    driven = {text for operation in OPERATIONS.values() for text in operation.commands}
    driven |= {command for _, command in SPACES.values()}
    there = set(commands(typer.main.get_command(app)))
    missing = {
        name
        for name in there - COMMANDS_WITHOUT
        if not any(text == name or text.startswith(f"{name} ") for text in driven)
    }
    assert (missing, COMMANDS_WITHOUT - there) == (set(), set())


class Places:
    """A data root of its own for programs, and one behind a server for all others."""

    def __init__(self, db: engram.Database, server: Server, keys: tuple[str, str]) -> None:
        self.db = db
        self.server = server
        self.key, self.foreign_key = keys

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        bearer = {"Authorization": f"Bearer {self.key}", **(headers or {})}
        return self.server.request(method, path, body, bearer)

    def client(self) -> Client:
        return Client(self.server.url, self.key)


def laid_out(root: Path) -> Path:
    """A data root with a space that is well, one beside it, one deleted and one damaged."""
    with engram.open(root) as db:
        db.create_space(SPACE).remember("The deploy key is rotated", id="one")
        db.create_space(OTHER)
        for name in (GONE, BAD):
            db.create_space(name).remember("not to be seen", id="one")
        db.delete_space(GONE)
    (root / BAD / "space.json").write_bytes(b"x")
    return root


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    root = laid_out(tmp_path_factory.mktemp("served"))
    with closing(open_key_file(root)) as file:
        key = file.create(spaces="*", scopes=["admin"]).text
        foreign = file.create(spaces=[OTHER], scopes=["admin"]).text
    server = Server(root)
    with engram.open(laid_out(tmp_path_factory.mktemp("own"))) as db:
        yield Places(db, server, (key, foreign))
    server.kill()


@pytest.fixture(scope="module", params=["embedded", "client", "async"])
def database(request: pytest.FixtureRequest, places: Places) -> Iterator[Any]:
    if request.param == "embedded":
        yield places.db
    elif request.param == "client":
        with places.client() as client:
            yield client
    else:
        with (
            start_blocking_portal("asyncio") as portal,
            portal.wrap_async_context_manager(
                engram.AsyncClient(places.server.url, places.key)
            ) as asynchronous,
        ):
            yield Awaited(portal, asynchronous)


def prepared(alpha: Any, name: str) -> str:
    """A memory on which the operation can be done."""
    memory: str = alpha.remember("for this request").id
    if name == "restore":
        alpha.forget(memory)
    if name == "unlink":
        alpha.link(memory, "one")
    return memory


def untouched(places: Places) -> Any:
    """Which spaces there are, and where each of them is."""
    listed = places.request("GET", "/api/v1/spaces")[1]["spaces"]
    own = [info.memory_space_id for info in places.db.spaces()]
    beside = [places.db.space(OTHER).info().position]
    beside.append(places.request("GET", f"/api/v1/spaces/{OTHER}")[1]["position"])
    return own, [space["memory_space_id"] for space in listed], beside


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_verb_means_its_space_alone(
    places: Places, database: Any, name: str, tmp_path: Path
) -> None:
    alpha = database.space(SPACE)
    for number, verb in enumerate(OPERATIONS[name].verbs.values()):
        memory = prepared(alpha, name)
        verb(alpha, memory, str(tmp_path / f"{number}.engram"))
        before = untouched(places)
        for space_id, error in REFUSED.items():
            file = tmp_path / "not.engram"
            with pytest.raises(error):
                used(verb, database, space_id, memory, file)
            assert not file.exists()
        assert untouched(places) == before


def used(verb: Any, database: Any, space_id: str, memory: str, file: Path) -> None:
    """A client only asks at the first use of a handle, a program is told as it is given one."""
    verb(database.space(space_id), memory, str(file))


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_verb_tells_a_foreign_space_from_one_that_is_not_there(
    places: Places, name: str, tmp_path: Path
) -> None:
    before = untouched(places)
    with engram.Client(places.server.url, places.foreign_key) as client:
        for verb in OPERATIONS[name].verbs.values():
            said = []
            for space_id in (SPACE, "nowhere", GONE, BAD):
                with pytest.raises(EngramError) as caught:
                    used(verb, client, space_id, "two", tmp_path / "not.engram")
                said.append((type(caught.value), caught.value.detail.replace(space_id, "-")))
            assert set(said) == {(SpaceNotFound, said[0][1])}
    assert untouched(places) == before


@pytest.mark.parametrize("name", SPACES)
def test_every_verb_on_a_space_finds_it_or_says_so(
    places: Places, database: Any, name: str
) -> None:
    verb, _ = SPACES[name]
    before = untouched(places)
    for space_id in ("nowhere", "No Where", "con", ".."):
        with pytest.raises(REFUSED[space_id]):
            verb(database, space_id)
    with pytest.raises(SpaceInvalid):
        verb(database, "")
    assert untouched(places) == before


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    for variable in ("ENGRAM_SPACE", "ENGRAM_DATA_ROOT", "ENGRAM_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> tuple[int, str]:
        capfd.readouterr()
        code = main(arguments)
        return code, capfd.readouterr().err

    return command


def filled(command: str, space_id: str, memory: str, file: Path) -> list[str]:
    """The words of a command, with the option for those that have no place for the space."""
    placed = "{s}" in command
    words = [word.format(s=space_id, m=memory, f=file) for word in command.split()]
    return words if placed else [*words, "--space", space_id]


COMMANDS: Final = [
    (name, command) for name, operation in OPERATIONS.items() for command in operation.commands
]


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[text for _, text in COMMANDS])
def test_every_command_means_its_space_alone(
    places: Places,
    run: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    command: str,
) -> None:
    monkeypatch.setenv("ENGRAM_SERVER", places.server.url)
    monkeypatch.setenv("ENGRAM_API_KEY", places.key)
    with places.client() as client:
        memory = prepared(client.space(SPACE), name)
    done = run(*filled(command, SPACE, memory, tmp_path / "a.engram"))
    assert done[0] == 0, done
    before = untouched(places)
    for space_id, error in REFUSED.items():
        file = tmp_path / "not.engram"
        code, said = run(*filled(command, space_id, memory, file))
        assert (code, file.exists()) == (error.exit_code, False), (space_id, said)
    monkeypatch.setenv("ENGRAM_API_KEY", places.foreign_key)
    foreign = run(*filled(command, SPACE, memory, tmp_path / "not.engram"))
    assert foreign[0] == SpaceNotFound.exit_code, foreign
    monkeypatch.setenv("ENGRAM_API_KEY", places.key)
    if "{s}" not in command:
        words = command.format(m=memory).split()
        code, said = run(*words)
        assert (code, "no memory space was named" in said) == (SpaceRequired.exit_code, True)
        # What is named closer to the command counts, and names no second space beside it.
        monkeypatch.setenv("ENGRAM_SPACE", "nowhere")
        assert run(*words)[0] == SpaceNotFound.exit_code
        Path("engram.toml").write_text(f'default_space = "{SPACE}"')
        assert run(*words)[0] == SpaceNotFound.exit_code
    assert untouched(places) == before


@pytest.mark.parametrize("name", SPACES)
def test_every_command_on_a_space_finds_it_or_says_so(
    places: Places,
    run: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
) -> None:
    monkeypatch.setenv("ENGRAM_SERVER", places.server.url)
    monkeypatch.setenv("ENGRAM_API_KEY", places.key)
    before = untouched(places)
    for space_id in ("nowhere", "No Where", "con", ".."):
        code, said = run(*filled(SPACES[name][1], space_id, "", tmp_path))
        assert code == REFUSED[space_id].exit_code, (space_id, said)
    assert untouched(places) == before


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("in_header", [False, True])
def test_every_route_refuses_a_space_that_cannot_be_used(
    places: Places, method: str, path: str, in_header: bool
) -> None:
    body = ROUTES[method, path].get("json")
    query = "?memory_id=one" if "params" in ROUTES[method, path] else ""
    below = path.format(id="one", source="one", target="one") + query
    before = untouched(places)
    for space_id, error in ((GONE, SpaceNotFound), (BAD, SpaceDamaged)):
        headers = {"X-Memory-Space": space_id} if in_header else {}
        prefix = "/api/v1" if in_header else f"/api/v1/spaces/{space_id}"
        status, document = places.request(method, prefix + below, body, headers)
        assert (status, document["type"].rpartition("/")[2]) == (error.status, error.problem)
        assert document["memory_space_id"] == space_id
        assert "not to be seen" not in json.dumps(document)
    assert untouched(places) == before
