"""Bundles from a server and to one: in pieces, checked as they pass, never held as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TypeVar

import anyio.to_thread

from engram.bundles.codec import MEDIA_TYPE, BundleDecoder, BundleError
from engram.bundles.files import Source, Target, chunks_of, opened_source, opened_target
from engram.client.answers import Answer
from engram.client.transport import Transport
from engram.errors import EngramError, ServerUnreachable
from engram.memory.model import ExportReport

_T = TypeVar("_T")


async def download(transport: Transport, path: str, file: Target, *, force: bool) -> ExportReport:
    """Write the bundle at `path` into a file, whole or not at all.

    Raises FileExistsError and OSError for the file, and what :meth:`Transport.download` raises.
    """
    decoder, size = BundleDecoder(), 0
    async with _entered(opened_target(file, force=force)) as target:
        try:
            async for chunk in transport.download(path, MEDIA_TYPE):
                for _ in decoder.feed(chunk):
                    pass
                await anyio.to_thread.run_sync(target.write, chunk)
                size += len(chunk)
            totals = decoder.finish()
        except BundleError as error:
            raise ServerUnreachable(
                f"the bundle did not come whole: {error}. Export it again"
            ) from error
        document = decoder.document
        if document is None:
            raise RuntimeError("a bundle that is whole has a document")
    return ExportReport(
        memory_space_id=document.memory_space_id,
        space_uuid=document.space_uuid,
        oldest_position=document.base_position + 1,
        position=document.position,
        records=totals.records,
        events=totals.events,
        bytes=size,
        digest=totals.digest,
    )


async def upload(transport: Transport, path: str, file: Source) -> Answer:
    """Send a bundle. Raises what reading it raises, and what :meth:`Transport.upload` raises."""
    failed: list[EngramError] = []
    async with _entered(opened_source(file)) as source:
        chunks = chunks_of(source)

        async def body() -> AsyncIterator[bytes]:
            try:
                while chunk := await anyio.to_thread.run_sync(_following, chunks):
                    yield chunk
            except EngramError as error:
                failed.append(error)  # the connection would turn it into one of its own
                raise

        try:
            return await transport.upload(path, body(), MEDIA_TYPE)
        except EngramError:
            if failed:
                raise failed[0] from None
            raise


def _following(chunks: Iterator[bytes]) -> bytes:
    return next(chunks, b"")


@asynccontextmanager
async def _entered(context: AbstractContextManager[_T]) -> AsyncIterator[_T]:
    """Enter and leave what blocks, in a thread."""
    entered = await anyio.to_thread.run_sync(context.__enter__)
    try:
        yield entered
    except BaseException as error:
        with anyio.CancelScope(shield=True):
            leave = context.__exit__
            await anyio.to_thread.run_sync(leave, type(error), error, error.__traceback__)
        raise
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(context.__exit__, None, None, None)
