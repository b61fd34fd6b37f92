"""Serving the API: a socket that is ours before anything starts, and an end in good order."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from infra.hooks.conditions import Conditions, configs_in
from infra.hooks.intake import Intake
from infra.hooks.store import HookStore
from infra.http.app import create_app
from infra.http.health import checks_of, health_router
from infra.http.hooks import hooks_router
from infra.secrets import sealer_of
from infra.settings import Settings
from processors.triggers.conditions import admits
from projections.db import Pool
from schemas.errors import ConfigurationError
from streams.log import Log

GRACE_S = 7  # for requests under way when the server is to end: supervisors often kill after 10 s
KEEP_ALIVE_S = 15
BACKLOG = 1_024
SILENT_S = 10.0  # without a whole head of a request, twice looked at: who says nothing would hold a file for ever


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: who runs us has their own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def open_api(
    settings: Settings, log: Log, pool: Pool, *, conditions: Conditions | None = None
) -> AsyncIterator[FastAPI]:
    """Put the API together; what it does besides answering is done while the block runs.

    Deliveries are filtered by their agents' conditions, unless other `conditions` are given.

    Raises:
        ConfigurationError: there are no keys to open secrets with.
        UnavailableError: Postgres does not answer.
    """
    store = HookStore(pool)
    intake = Intake(store, sealer_of(settings), log, conditions=conditions or Conditions(admits, configs_in(pool)))
    await store.open()
    chores = asyncio.create_task(store.run())
    try:
        yield create_app([health_router(checks_of(log, pool)), hooks_router(intake)])
    finally:
        chores.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await chores


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at `host` and `port`; 0 is any port that is free.

    Raises:
        ConfigurationError: nobody can listen there; it says why and what to set.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        made = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        told = f"the API can't listen at {host}:{port} ({error.strerror or error})"
        raise ConfigurationError(f"{told}: set DRAMAC_API_HOST or DRAMAC_API_PORT") from None
    # Inherited by connections: an answer is written in two parts, and the second would wait 40 ms for a delayed ACK.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setblocking(False)
    return made


def url_of(listening: socket.socket) -> str:
    """Return the address of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(app: FastAPI, listening: socket.socket, *, silent_s: float = SILENT_S) -> None:
    """Serve `app` until cancelled; requests under way then have GRACE_S to end.

    A connection on which no request comes for `silent_s` is closed, at twice that time at the latest.
    """
    config = uvicorn.Config(
        app,
        log_config=None,  # ours is set
        access_log=False,
        server_header=False,
        lifespan="off",
        proxy_headers=False,  # nothing here believes what a client says of where it comes from
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    closing = asyncio.create_task(_close_silent(server, silent_s))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise
    finally:
        closing.cancel()
        listening.close()


async def _close_silent(server: uvicorn.Server, silent_s: float) -> None:
    """Close connections that wait for a request for too long; uvicorn bounds only the time between two of them."""
    waited: dict[Any, Any] = {}
    while True:
        await asyncio.sleep(silent_s)
        before, waited = waited, {}
        for connection in list(server.server_state.connections):
            request = getattr(connection, "cycle", None)
            if request is not None and not request.response_complete:
                continue
            if connection in before and before[connection] is request:
                connection.transport.close()
            else:
                waited[connection] = request
