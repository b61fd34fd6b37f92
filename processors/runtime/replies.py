"""What came of asking a model, as the command that tells the log."""

from processors.models.call import Attempt
from processors.models.port import ModelReply, ModelRequest
from schemas.commands import ERROR_CHARS, RecordAttempt, RecordModelFailure, RecordThought
from schemas.envelope import EVENT_LIMIT_BYTES
from schemas.errors import ModelError
from schemas.ids import random_id

THOUGHT_LIMIT_BYTES = EVENT_LIMIT_BYTES - 16 * 1024  # its event also has ids, a price and more
SHALLOW_BRACKETS = 64  # so few can't be nested too deeply for any reader


def thought_of(request: ModelRequest, reply: ModelReply) -> RecordThought:
    """Return what a model answered."""
    return RecordThought(
        execution_id=request.execution_id,
        step=request.step,
        reply_id=reply.reply_id,
        provider=reply.provider,
        model=reply.model,
        text=reply.text,
        tool_calls=reply.tool_calls,
        finish_reason=reply.finish_reason,
        usage=reply.usage,
        latency_ms=reply.latency_ms,
    )


def attempt_of(request: ModelRequest, attempt: Attempt) -> RecordAttempt:
    """Return one question that gave no thought."""
    return RecordAttempt(
        execution_id=request.execution_id,
        step=request.step,
        reply_id=attempt.reply_id,
        provider=attempt.provider,
        model=attempt.model,
        reason=attempt.reason[:100],
        message=attempt.message[:ERROR_CHARS],
        usage=attempt.usage,
        unsettled=attempt.unsettled,
    )


def storable(thought: RecordThought) -> tuple[bytes, tuple[str, str] | None]:
    """Return a thought's bytes, and why the log can't take it, in a word and a sentence: it is metered all the same."""
    encoded = b""
    try:
        encoded = thought.encode()
        if len(encoded) > THOUGHT_LIMIT_BYTES:
            return encoded, (
                "reply_too_large",
                f"the reply has {len(encoded)} bytes, {THOUGHT_LIMIT_BYTES} are allowed",
            )
        if encoded.count(b"{") + encoded.count(b"[") > SHALLOW_BRACKETS:
            RecordThought.model_validate_json(encoded)  # what is nested too deeply is written but not read
    except ValueError as error:
        return encoded, ("invalid_reply", f"the reply can't be stored: {type(error).__name__}")
    return encoded, None


def given_up(request: ModelRequest, error: ModelError) -> RecordModelFailure:
    """Return the end of asking: no model answered."""
    failure = model_failure(request, error.reason, str(error), None)
    provider, model = error.asked or (request.provider, request.model)
    return failure.model_copy(update={"provider": provider, "model": model, "usage": error.spent})


def model_failure(request: ModelRequest, reason: str, message: str, reply: ModelReply | None) -> RecordModelFailure:
    """Return a failed call; a `reply` that can't be used was paid for all the same."""
    return RecordModelFailure(
        execution_id=request.execution_id,
        step=request.step,
        reply_id=reply.reply_id if reply is not None else random_id(),
        provider=reply.provider if reply is not None else request.provider,
        model=reply.model if reply is not None else request.model,
        reason=reason[:100],
        message=message[:ERROR_CHARS],
        usage=reply.usage if reply is not None else None,
    )
