"""The API: routers, one a concern, under common limits and one form of errors."""

from collections.abc import Sequence

from fastapi import APIRouter, FastAPI

from infra.http.limits import AT_ONCE, BODY_BYTES, BODY_S, Limits
from infra.http.problems import handle_errors


def create_app(
    routers: Sequence[APIRouter], *, body_bytes: int = BODY_BYTES, body_s: float = BODY_S, at_once: int = AT_ONCE
) -> FastAPI:
    """Return an app that serves `routers`; for the limits see `infra.http.limits`.

    It describes itself at /openapi.json; there is no page that would fetch scripts from elsewhere.
    """
    app = FastAPI(title="DRAMAC agents", docs_url=None, redoc_url=None, redirect_slashes=False)
    handle_errors(app)
    app.add_middleware(Limits, body_bytes=body_bytes, body_s=body_s, at_once=at_once)
    for router in routers:
        app.include_router(router)
    return app
