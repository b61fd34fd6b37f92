"""Whether this process lives, and whether it can do its work."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from projections.db import TRANSIENT, Pool
from schemas.errors import DramacError
from streams.log import Log
from streams.topics import COMMANDS

CHECK_S = 2.0  # shorter than what orchestrators usually wait

Check = Callable[[], Awaitable[object]]


def checks_of(log: Log, pool: Pool) -> dict[str, Check]:
    """Return what readiness depends on."""
    return {"kafka": lambda: log.bounds(COMMANDS, 0), "postgres": lambda: pool.fetchval("SELECT 1")}


def health_router(checks: Mapping[str, Check]) -> APIRouter:
    """Return the routes of /health; ready is who passes all `checks`."""
    router = APIRouter(prefix="/health", tags=["health"])

    @router.get("/live")
    async def live() -> dict[str, str]:
        """Whether the process answers at all."""
        return {"status": "ok"}

    @router.get("/ready")
    async def ready() -> Response:
        """Whether Kafka and Postgres answer, each by itself; 503 where one does not."""
        found = await asyncio.gather(*(_checked(check) for check in checks.values()))
        is_ready = all(part["status"] == "ok" for part in found)
        body = {"status": "ok" if is_ready else "unavailable", "parts": dict(zip(checks, found, strict=True))}
        return JSONResponse(body, 200 if is_ready else 503)

    return router


async def _checked(check: Check) -> dict[str, object]:
    begun_s = time.monotonic()
    try:
        async with asyncio.timeout(CHECK_S):
            await check()
    except (DramacError, *TRANSIENT):
        return {"status": "unavailable"}  # why is in our log, not for whoever asks
    return {"status": "ok", "ms": round((time.monotonic() - begun_s) * 1000, 1)}
