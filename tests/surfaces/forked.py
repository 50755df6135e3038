"""`engram` as a command that starts at once: each run is a fork of a process that has it loaded.

    python -m tests.surfaces.forked SOCKET

Examples in help run some hundred commands, one process each as for a user; starting Python and
loading the embedder for every one of them took most of their time. What a fork shares with others
is modules alone: arguments, environment, folder and standard streams are its own.
"""

from __future__ import annotations

import gc
import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

COMMAND = """\
#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as fork:
    fork.connect({path!r})
    asked = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(fork, [len(asked).to_bytes(4, "big")], [0, 1, 2])
    fork.sendall(asked)
    code = fork.recv(1)
sys.exit(code[0] if code else 70)
"""


@contextmanager
def engram_command(folder: Path) -> Iterator[Path]:
    """A folder for the path, in which `engram` is this."""
    path, binaries = folder / "fork", folder / "bin"
    binaries.mkdir()
    command = binaries / "engram"
    command.write_text(COMMAND.format(python=sys.executable, path=str(path)))
    command.chmod(stat.S_IRWXU)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.surfaces.forked", str(path)], stdout=subprocess.PIPE
    ) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            yield binaries
        finally:
            server.terminate()


def _serve(path: str) -> None:
    from engram.cli.app import main

    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        named = ("--data-root", folder)
        for arguments in (  # what these load is loaded here, for all
            ("space", "create", "loaded", *named),
            ("remember", "loaded", "--space", "loaded", *named),
            ("recall", "loaded", "--space", "loaded", *named),
        ):
            assert main(arguments) == 0
    assert threading.active_count() == 1  # a fork has none but its own
    gc.freeze()  # so that no fork copies what it only looks through
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        print("ready", flush=True)
        while True:
            asker, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _run(asker, main)
            asker.close()


def _run(asker: socket.socket, main: object) -> None:
    """Be the command that was asked for. Does not return."""
    code = 70
    try:
        size, streams, _, _ = socket.recv_fds(asker, 4, 3)
        asked = asker.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
        arguments, folder, environment = json.loads(asked)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        sys.stdin, sys.stdout, sys.stderr = (
            os.fdopen(number, mode, closefd=False) for number, mode in enumerate(("r", "w", "w"))
        )
        assert callable(main)
        code = main(arguments)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        asker.send(bytes([code]))
        os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1])
