"""Making one tool call: in time, and with a result in words that help the model, whatever happens."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from processors.backoff import Random, Sleep, backoff_s
from processors.tools.cleaning import clean_output, clean_text
from processors.tools.port import ToolError, ToolRequest, ToolResult
from schemas.commands import ERROR_CHARS
from schemas.errors import UnavailableError
from schemas.message import Json

logger = logging.getLogger(__name__)

ATTEMPTS = 3

Answer = Callable[[ToolRequest], Awaitable[Json]]


async def call_tool(
    answer: Answer,
    request: ToolRequest,
    *,
    sleep: Sleep = asyncio.sleep,
    attempts: int = ATTEMPTS,
    random: Random = random.random,
) -> ToolResult:
    """Return what came of the call; only cancellation is raised.

    `answer` makes the call and returns its output. All of it, retries included, takes at most the definition's
    `timeout_s`. A try is repeated only where that is safe: the failure may pass, and the other side honours
    the idempotency key. No error text but a ToolError's own reaches the model.
    """
    tool = request.tool
    deadline = asyncio.timeout(tool.timeout_s)
    try:
        async with deadline:
            return clean_output(await _answered(answer, request, sleep, attempts, random))
    except ToolError as error:
        return _failed(str(error))
    except UnavailableError:
        logger.warning("tool %s is unavailable", tool.name, exc_info=True, extra=_ids(request))
        return _failed(f"{tool.name} is not available at the moment.{_unknown_outcome(request)}")
    except Exception as error:
        if isinstance(error, TimeoutError) and deadline.expired():
            return _failed(f"{tool.name} did not answer within {tool.timeout_s:g} s.{_unknown_outcome(request)}")
        logger.exception("tool %s failed", tool.name, extra=_ids(request))
        return _failed(f"{tool.name} failed for an internal reason.{_unknown_outcome(request)}")


async def _answered(answer: Answer, request: ToolRequest, sleep: Sleep, attempts: int, random: Random) -> Json:
    tries = 1
    while True:
        try:
            return await answer(request)
        except (ToolError, UnavailableError) as error:
            passing = isinstance(error, UnavailableError) or error.retryable
            if not passing or not request.tool.idempotent or tries >= attempts:
                raise
            asked_s = getattr(error, "retry_after_s", None) or 0.0
        # What the other side asks for comes first; the chance still spreads those whom it asked the same.
        await sleep(asked_s + backoff_s(tries, random))
        tries += 1


def _failed(error: str) -> ToolResult:
    return ToolResult(error=clean_text(error)[:ERROR_CHARS])


def _unknown_outcome(request: ToolRequest) -> str:
    """Say what a model must know before it tries again: each call it plans is a new one, with a new key."""
    if request.tool.risk == "low" and not request.tool.is_dangerous:
        return ""
    return " It may have taken effect all the same: check before you try again."


def _ids(request: ToolRequest) -> dict[str, str]:
    return {"call_id": request.call_id, "execution_id": request.execution_id, "site_id": request.site_id}
