"""An app served on loopback, by the server that `dramac api` runs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
from fastapi import FastAPI

from infra.http.server import SILENT_S, listen, serve, url_of


@asynccontextmanager
async def served(app: FastAPI, *, silent_s: float = SILENT_S) -> AsyncIterator[httpx2.AsyncClient]:
    """Serve `app` while the block runs, and yield a client of it."""
    listening = listen("127.0.0.1", 0)
    url = url_of(listening)
    serving = asyncio.create_task(serve(app, listening, silent_s=silent_s))
    try:
        async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=20) as client:
            yield client
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def raw_request(client: httpx2.AsyncClient, sent: bytes, *more: bytes, pause_s: float = 0.0) -> bytes:
    """Send bytes as they are, then each of `more` after a pause, until something comes back; return all of it."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    answer = asyncio.create_task(reader.read())
    try:
        writer.write(sent)
        for part in more:
            done, _ = await asyncio.wait([answer], timeout=pause_s)
            if not done:
                writer.write(part)
        return await asyncio.wait_for(answer, 20)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
