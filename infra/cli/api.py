"""`dramac api`: webhooks and health over HTTP."""

import asyncio
import contextlib

from infra.cli.common import err, run
from infra.cli.worker import stop_by_signal
from infra.connections import open_log, open_pool
from infra.places import endpoints_of
from infra.settings import Settings

POOL = 16  # connections: a delivery takes one for some milliseconds


def api() -> None:
    """Serve webhooks and health at DRAMAC_API_HOST and DRAMAC_API_PORT until SIGTERM or Ctrl-C."""
    from infra.http.server import listen, open_api, serve, url_of  # FastAPI doubles the time any command takes to start

    async def work(settings: Settings) -> None:
        endpoints = await endpoints_of(settings)
        async with (
            open_log(settings, endpoints) as log,
            open_pool(endpoints, size=POOL) as pool,
            open_api(settings, log, pool) as app,
        ):
            with contextlib.closing(listen(settings.api_host, settings.api_port)) as listening:
                serving = asyncio.create_task(serve(app, listening))
                stop_by_signal(serving)
                err().print(f"serving at {url_of(listening)}")
                with contextlib.suppress(asyncio.CancelledError):
                    await serving

    run(work)
