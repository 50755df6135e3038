"""`engram log inspect`: what a log holds, and a picture of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engram.cli import output
from engram.cli.options import JsonOption
from engram.cli.render import size_text, time_text
from engram.errors import SpaceDamaged

if TYPE_CHECKING:
    from engram.inspect.checkpoints import CheckpointFigures
    from engram.inspect.figures import Inspection, ManifestFigures, SegmentFigures

PathArgument = Annotated[
    Path,
    typer.Argument(
        metavar="PATH",
        help="A data root, the folder of one space, or one file: a segment (.seg), a checkpoint "
        "(.ckpt) or a manifest.",
        show_default=False,
    ),
]
GAPS_SHOWN_MAX = 20


def inspect(
    path: PathArgument,
    columns: Annotated[
        bool,
        typer.Option("--columns", help="Also list the columns of each checkpoint, with sizes."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a log holds, segment by segment.

    Positions, records, events and their types, sizes, times, reserved room, gaps, and damage with
    its bytes; the checkpoints that stand for history, and where history begins. Files in use may
    be looked at: nothing is locked or changed, and what a writer is just adding is shown as in
    flux. Damage ends with exit code 5.

    \b
    Example:  engram space create alpha --if-not-exists --data-root ./data && \
engram log inspect ./data
    """
    from engram.inspect.figures import inspect as run

    reports = run(path)
    for number, report in enumerate(reports):
        if as_json:
            output.print_json(_document(report))
            continue
        if number:
            output.print_line("")
        for line in _lines(report, columns):
            output.print_line(line)
    if not reports:
        output.print_hint(f"no spaces in {path}")
    if not all(report.ok for report in reports):
        raise typer.Exit(SpaceDamaged.exit_code)


def _document(report: Inspection) -> dict[str, Any]:
    from dataclasses import fields

    return {"ok": report.ok} | {f.name: getattr(report, f.name) for f in fields(report)}


def _lines(report: Inspection, columns: bool) -> Iterator[str]:
    name = output.printable(report.memory_space_id or Path(report.path).name)
    state = "DAMAGED" if not report.ok else "in use" if report.owner else "ok"
    yield f"{name}: {state}, {output.printable(report.path)}"
    for manifest in report.manifests:
        yield f"  {_manifest_line(manifest)}"
        if report.kind == "manifest" and manifest.ok:
            yield from (f"    {line}" for line in _named_lines(manifest))
    if report.owner is not None:
        yield f"  in use by {output.one_line(report.owner)}"
    if report.kind == "checkpoint":
        yield ""
        yield from _checkpoint_lines(report, columns=True)
    elif report.kind != "manifest":
        yield from _contents(report, columns)
    yield from _troubles(report)


def _manifest_line(manifest: ManifestFigures) -> str:
    if not manifest.ok:
        return f"{manifest.name}: does not verify"
    checkpoints = len(manifest.checkpoints)
    held = f", {_count(checkpoints, 'checkpoint')}" if checkpoints else ""
    return f"{manifest.name}: {len(manifest.sealed)} sealed, 1 active{held}"


def _named_lines(manifest: ManifestFigures) -> Iterator[str]:
    yield from (f"sealed  {name}" for name in manifest.sealed)
    yield f"active  {manifest.active}"
    for each in manifest.checkpoints:
        kind = "base  " if each.base else "checkpoint"
        yield f"{kind}  {each.name}, {size_text(each.length)}"
    yield from (f"let go of  {output.printable(name)}" for name in manifest.retired)


def _contents(report: Inspection, columns: bool) -> Iterator[str]:
    from engram.cli.log_picture import histogram_lines, legend, segment_bar

    memories = "" if report.memories is None else f", {report.memories} memories"
    yield (
        f"  {_count(report.events, 'event')} in {_count(report.records, 'record')}, "
        f"{_count(len(report.segments), 'segment')}, "
        f"last position {report.position}{memories}"
    )
    if report.oldest_position > 1:
        yield f"  history begins at position {report.oldest_position}"
    if report.segments:
        yield ""
    largest = max((segment.bytes for segment in report.segments), default=0)
    for segment in report.segments:
        yield f"  {output.printable(segment.file)}  {segment.state}, {_size_text(segment)}"
        yield f"  {segment_bar(segment.spans, segment.bytes, largest)}".rstrip()
        if segment.records:
            yield f"  {_range_text(segment)}"
    if report.segments:
        yield f"  {legend()}"
    if report.checkpoints:
        yield ""
        yield from _checkpoint_lines(report, columns=columns)
    if report.types:
        yield ""
        width = max(map(len, report.types))
        yield from (f"  {name.ljust(width)}  {count}" for name, count in report.types.items())
    if report.record_bytes is not None:
        sizes = report.record_bytes
        yield ""
        yield (
            f"  records of {size_text(sizes.least)} to {size_text(sizes.most)}, median "
            f"{size_text(sizes.median)}; at least:"
        )
        yield from (f"  {line}" for line in histogram_lines(sizes.histogram))


def _checkpoint_lines(report: Inspection, *, columns: bool) -> Iterator[str]:
    for each in report.checkpoints:
        yield f"  {output.printable(each.file)}  {_checkpoint_text(each)}"
        if columns and each.columns:
            width = max(len(column.name) for column in each.columns)
            for column in each.columns:
                shape = "x".join(map(str, column.shape)) if column.ok else "does not verify"
                yield (
                    f"    {output.printable(column.name).ljust(width)}  "
                    f"{size_text(column.bytes):>10}  {column.dtype} {shape}".rstrip()
                )


def _checkpoint_text(each: CheckpointFigures) -> str:
    kinds = {
        "base": "base",
        "live": "checkpoint",
        "loose": "checkpoint",
        "leftover": "left over",
    }
    parts = [kinds[each.standing], size_text(each.bytes)]
    if each.position is not None:
        parts.append(f"at position {each.position}")
    if each.time is not None:
        parts.append(time_text(each.time))
    if each.memories is not None:
        parts.append(f"{each.memories} memories")
    return ", ".join([*parts, *([] if each.ok else ["does not verify"])])


def _size_text(segment: SegmentFigures) -> str:
    parts = [size_text(segment.bytes)]
    if segment.zero_bytes:
        parts.append(f"{size_text(segment.zero_bytes)} of it reserved")
    if segment.damaged_bytes:
        parts.append(f"{segment.damaged_bytes} bytes of it unreadable")
    if segment.rewritten:
        parts.append("rewritten with contents taken out")
    if segment.seed_from_records:
        parts.append("records found without its header")
    return ", ".join(parts)


def _range_text(segment: SegmentFigures) -> str:
    times = [time_text(t) for t in (segment.first_time, segment.last_time) if t is not None]
    return (
        f"positions {segment.first_position} to {segment.last_position} in "
        f"{_count(segment.records, 'record')}, {' to '.join(dict.fromkeys(times))}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _troubles(report: Inspection) -> Iterator[str]:
    lines = [f"damage in {d.file} at byte {d.offset}: {d.reason}" for d in report.damage]
    lines += [
        f"positions {gap.first} to {gap.last} are in no record"
        for gap in report.gaps[:GAPS_SHOWN_MAX]
    ]
    if len(report.gaps) > GAPS_SHOWN_MAX:
        lines.append(f"and {len(report.gaps) - GAPS_SHOWN_MAX} more gaps; --json lists them all")
    if report.torn is not None:
        what = "in flux" if report.in_flux else "unfinished"
        lines.append(
            f"{what}: {report.torn_bytes} bytes in {report.torn.file} at byte "
            f"{report.torn.offset}: {report.torn.reason}"
        )
    lines += [f"left over: {each.file}: {each.reason}" for each in report.leftovers]
    lines += [f"not part of a log: {name}" for name in report.strangers]
    lines += [
        f"set aside earlier: quarantine/{q.name}, {size_text(q.bytes)}" for q in report.quarantined
    ]
    if lines:
        yield ""
        yield from (f"  {output.one_line(line)}" for line in lines)
