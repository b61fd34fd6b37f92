"""`POST /hooks/{hook_id}`: deliveries of webhooks. What each status means to a sender is in docs/webhooks.md."""

import logging

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from infra.hooks.intake import Intake
from infra.hooks.payload import check_media
from infra.hooks.refusals import (
    BadSignatureError,
    DeliveryError,
    HookGoneError,
    MalformedDeliveryError,
    OtherPayloadError,
    TooManyDeliveriesError,
    UnsupportedMediaError,
    WrongPayloadError,
)
from infra.hooks.signatures import read_claims
from infra.http.problems import Problem

logger = logging.getLogger(__name__)

# 202: it is on the log, or was filtered; 200: it was taken before. Senders take both for success.
_STATUSES = {"accepted": 202, "filtered": 202, "duplicate": 200}
_PROBLEMS: dict[type[DeliveryError], tuple[int, str]] = {
    MalformedDeliveryError: (400, "malformed"),
    WrongPayloadError: (400, "wrong-payload"),
    BadSignatureError: (401, "bad-signature"),
    OtherPayloadError: (409, "id-reused"),
    UnsupportedMediaError: (415, "unsupported-media-type"),
    TooManyDeliveriesError: (429, "too-many-deliveries"),
}


def hooks_router(intake: Intake) -> APIRouter:
    """Return the route of deliveries."""
    router = APIRouter(tags=["hooks"])

    @router.post("/hooks/{hook_id}", status_code=202)
    async def deliver(hook_id: str, request: Request) -> Response:
        """Take one signed delivery: 202 once it is on the log, 200 if it was there before."""
        hook = await intake.store.find(hook_id)
        if hook is None:
            raise _not_found()
        try:
            check_media(request.headers.get("content-type"), request.headers.get("content-encoding"))
            claims = read_claims(hook.scheme, request.headers.raw)
            status = await intake.take(hook, claims, await request.body())
        except DeliveryError as error:
            logger.info("a delivery was refused (%s): %s", type(error).__name__, error, extra={"hook_id": hook.id})
            raise _told(error) from None
        return JSONResponse({"id": claims.id, "status": status}, _STATUSES[status])

    return router


def _told(error: DeliveryError) -> Problem:
    if isinstance(error, HookGoneError):
        return _not_found()
    status, word = _PROBLEMS[type(error)]
    headers = {"Retry-After": str(error.wait_s)} if isinstance(error, TooManyDeliveriesError) else None
    return Problem(status, word, str(error), headers=headers)


def _not_found() -> Problem:
    """Return one answer for a hook that never was, one that is disabled, and one that was deleted."""
    return Problem(404, "no-such-hook", "there is no such hook")
