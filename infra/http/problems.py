"""Errors as `application/problem+json` (RFC 9457): every one, whoever raised it; none shows a body or a secret."""

import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from schemas.errors import DramacError, NotFoundError, RecordTooLargeError, RefusedError, UnavailableError

logger = logging.getLogger(__name__)

MEDIA = "application/problem+json"
TYPES = "urn:dramac:problem:"  # before the word for programs
RETRY_S = 5  # when to try again what was not there: a restart of Kafka or Postgres takes some seconds
FAULTS = 10  # of a request that does not validate: more would not help anybody


class Problem(HTTPException):
    """An error on its way out: a status, a word for programs, a sentence for people."""

    def __init__(
        self, status: int, word: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: object
    ) -> None:
        super().__init__(status, detail, dict(headers) if headers else None)
        self.word = word
        self.more = more


def problem_response(problem: Problem) -> Response:
    """Return the response that tells of a problem."""
    status = problem.status_code
    body = {
        "type": TYPES + problem.word,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": problem.detail,
        **problem.more,
    }
    return JSONResponse(body, status, dict(problem.headers or {}), MEDIA)


def handle_errors(app: FastAPI) -> None:
    """Let `app` answer every error as a problem."""
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(DramacError, _on_ours)
    app.add_exception_handler(Exception, _on_bug)


async def _on_http(_request: Request, error: Exception) -> Response:
    if isinstance(error, Problem):
        return problem_response(error)
    assert isinstance(error, HTTPException)  # noqa: S101 - it is what this is registered for
    detail = "there is nothing at this address" if error.status_code == HTTPStatus.NOT_FOUND else error.detail
    word = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    return problem_response(Problem(error.status_code, word, detail, headers=error.headers))


async def _on_validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - it is what this is registered for
    faults = [
        {"where": ".".join(map(str, fault["loc"])), "what": fault["msg"]}  # never its input: it may be a secret
        for fault in list(error.errors())[:FAULTS]
    ]
    told = "; ".join(f"{fault['where']}: {fault['what']}" for fault in faults)
    return problem_response(Problem(422, "invalid-request", told, errors=faults))


async def _on_ours(_request: Request, error: Exception) -> Response:
    match error:
        case UnavailableError():
            told = "Kafka or Postgres does not answer: try again later"  # where they are is nobody's business
            logger.warning("a request was not served: %s", error)
            return problem_response(Problem(503, "unavailable", told, headers={"Retry-After": str(RETRY_S)}))
        case NotFoundError():
            return problem_response(Problem(404, "not-found", str(error)))
        case RefusedError(reason=reason):
            return problem_response(Problem(409, reason.replace("_", "-"), str(error)))
        case RecordTooLargeError():
            return problem_response(Problem(413, "too-large", str(error)))
        case _:
            logger.error("a request failed: %s", error)
            return problem_response(_bug())


async def _on_bug(_request: Request, _error: Exception) -> Response:
    return problem_response(_bug())  # the server logs the error itself


def _bug() -> Problem:
    return Problem(500, "internal", "something went wrong here, not with what you sent; it is in the server's log")
