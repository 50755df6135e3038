"""The entry point of `engram`: its commands, and what errors become (one line, one exit code)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
import typer.main

from engram.cli import (
    compact,
    complete,
    configuration,
    consolidate,
    drill,
    forget,
    keys,
    links,
    log,
    memories,
    migrate,
    output,
    recall,
    remember,
    serve,
    space,
    status,
    watch,
)
from engram.cli.exit_codes import INTERRUPTED
from engram.errors import EngramError, Malformed

app = typer.Typer(
    name="engram",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("remember")(remember.remember)
app.command("recall")(recall.recall)
app.command("complete")(complete.complete)
app.command("get")(memories.get)
app.command("list")(memories.list_memories)
app.command("revise")(memories.revise)
app.command("forget")(forget.forget)
app.command("restore")(memories.restore)
app.command("history")(memories.history)
app.command("link")(links.link)
app.command("unlink")(links.unlink)
app.command("links")(links.links)
app.command("consolidate")(consolidate.consolidate)
app.command("compact")(compact.compact)
app.command("watch")(watch.watch)
app.command("status")(status.status)
app.add_typer(space.app, name="space")
app.command("serve")(serve.serve)
app.add_typer(keys.app, name="keys")
app.add_typer(log.app, name="log")
app.add_typer(drill.app, name="drill")
app.add_typer(migrate.app, name="migrate")
app.add_typer(configuration.app, name="config")


def _print_version(wanted: bool) -> None:
    if wanted:
        from engram import __version__

        output.print_line(f"engram {__version__}")
        raise typer.Exit


@app.callback(
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5 damaged data found, "
    "130 interrupted."
)
def engram(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Engram, a memory database for AI agents: every agent has a memory space of its own.

    Commands work on a data root directly, or with --server on the spaces of a running server.

    \b
    Begin with:  engram space create alpha
                 engram remember "Backups run at two" --space alpha
                 engram recall "when do backups run?" --space alpha
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given[: given.index("--")] if "--" in given else "--json" in given
    output.prepare_streams()
    try:
        result = typer.main.get_command(app).main(
            args=given, prog_name="engram", standalone_mode=False
        )
    except EngramError as error:
        output.print_error(error, as_json=as_json)
        return error.exit_code
    except typer.TyperException as error:
        return _usage_error(error, given, as_json=as_json)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except OSError as error:
        failed = _failed(error)
        output.print_error(failed, as_json=as_json)
        return failed.exit_code
    return result if isinstance(result, int) else 0


def _failed(error: OSError) -> EngramError:
    """What the system refused and nobody in between had a word for."""
    if error.filename is None:  # of help, which typer prints
        return output.output_failed(error)
    return EngramError(f"{error.filename}: {error.strerror}")


def _usage_error(error: typer.TyperException, given: list[str], *, as_json: bool) -> int:
    """One line that also says where help is. No word at all is answered with the help itself."""
    context: Any = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "engram"
    is_group = context is not None and hasattr(context.command, "commands")
    if is_group and command.split()[1:] == given:
        # None of the group's commands was named: all of them are shown.
        output.print_hint(context.get_help())
        return error.exit_code
    message = error.format_message().rstrip(".").replace("Value error, ", "", 1)
    output.print_error(Malformed(f"{message}. Try '{command} --help'"), as_json=as_json)
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
