"""Make the file of the reference MCP memory server with that server, asked over its own protocol.

    python tests/foreign/make_mcp.py FOLDER

FOLDER gets `memory.jsonl`, and `mcp.json` with the graph as the server reads it. The server is
looked for in FOLDER/node_modules. Run by `make foreign`; it imports nothing of Engram.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGE = "node_modules/@modelcontextprotocol/server-memory"
ENTITIES = [
    {
        "name": "John_Smith",
        "entityType": "person",
        "observations": ["Speaks fluent Spanish", "Prefers morning meetings", "Zoë’s neighbour"],
    },
    {"name": "Anthropic", "entityType": "organization", "observations": ["Is in San Francisco"]},
    {"name": "deploy/key\nrotation", "entityType": "", "observations": ["Happens on Mondays"]},
    {"name": "quiet", "entityType": "concept", "observations": []},
    {"name": "short-lived", "entityType": "person", "observations": ["Goes again"]},
]
RELATIONS = [
    {"from": "John_Smith", "to": "Anthropic", "relationType": "works_at"},
    {"from": "Anthropic", "to": "John_Smith", "relationType": "employs"},
    {"from": "John_Smith", "to": "deploy/key\nrotation", "relationType": "does"},
    {"from": "John_Smith", "to": "nobody", "relationType": "knows"},
    {"from": "nowhere", "to": "nobody", "relationType": "knows"},
    {"from": "quiet", "to": "quiet", "relationType": "is"},
]
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("create_entities", {"entities": ENTITIES}),
    ("create_relations", {"relations": RELATIONS}),
    (
        "add_observations",
        {"observations": [{"entityName": "John_Smith", "contents": ["Moved in May"]}]},
    ),
    ("delete_entities", {"entityNames": ["short-lived"]}),
    (
        "delete_observations",
        {"deletions": [{"entityName": "John_Smith", "observations": ["Prefers morning meetings"]}]},
    ),
]


class Server:
    """The server, spoken to by JSON-RPC on its standard streams."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._number = 0

    def ask(self, method: str, parameters: dict[str, Any]) -> Any:
        self._number += 1
        self.tell(method, parameters, id=self._number)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            if answer.get("id") == self._number:
                if "error" in answer or answer["result"].get("isError"):
                    sys.exit(f"{method} {parameters}: {answer}")
                return answer["result"]
        sys.exit("the server is gone")

    def tell(self, method: str, parameters: dict[str, Any], **more: Any) -> None:
        assert self._process.stdin is not None
        message = {"jsonrpc": "2.0", "method": method, "params": parameters, **more}
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()


def main(folder: Path) -> None:
    package = folder / PACKAGE
    about = json.loads((package / "package.json").read_text(encoding="utf-8"))
    file = (folder / "memory.jsonl").absolute()
    command = ["node", str(package / next(iter(about["bin"].values())))]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "MEMORY_FILE_PATH": str(file)},
    ) as process:
        server = Server(process)
        server.ask(
            "initialize",
            {
                "protocolVersion": "2024-11-05",
                "capabilities": {},
                "clientInfo": {"name": "foreign", "version": "1"},
            },
        )
        server.tell("notifications/initialized", {})
        for name, arguments in CALLS:
            server.ask("tools/call", {"name": name, "arguments": arguments})
        graph = server.ask("tools/call", {"name": "read_graph", "arguments": {}})
        process.terminate()
    document = {"version": about["version"], "graph": graph["structuredContent"]}
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (folder / "mcp.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
