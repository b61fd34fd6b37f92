"""How a question is asked again so that it may be answered: shortened, or with what was wrong with the answer."""

from dataclasses import replace

from processors.models.port import ModelRequest
from schemas.chat import ChatMessage
from schemas.errors import InvalidReplyError

KEPT_CHARS = 500  # of a shortened result: enough to know what it was
MARK_CHARS = 80  # more than what marks a shortened one: none is shortened twice
RECENT = 2  # the newest results are what the model is working with
SAID_CHARS = 4_000  # of an invalid answer, shown to the model again


def shortened(request: ModelRequest) -> ModelRequest | None:
    """Return the request with its older tool results cut; None if there is nothing to gain.

    The newest `RECENT` results stay whole, unless there are no older ones worth cutting. A function of the request
    alone, so that the prompt that was asked can be told from the log.
    """
    results = [position for position, message in enumerate(request.messages) if message.role == "tool"]
    for candidates in (results[:-RECENT], results):
        messages = list(request.messages)
        for position in candidates:
            messages[position] = _cut(messages[position])
        if tuple(messages) != request.messages:
            return replace(request, messages=tuple(messages))
    return None


def _cut(message: ChatMessage) -> ChatMessage:
    mark = f" … [shortened: {len(message.content)} characters in all]"
    if len(message.content) <= KEPT_CHARS + MARK_CHARS:
        return message
    return message.model_copy(update={"content": message.content[:KEPT_CHARS] + mark})


def corrected(request: ModelRequest, error: InvalidReplyError) -> ModelRequest:
    """Return the request with the invalid answer and what was wrong with it."""
    said = error.said[:SAID_CHARS] or "(nothing)"
    told = f"Your last answer can't be used: {error.problem}. Answer again, and correctly this time."
    return replace(
        request,
        messages=(
            *request.messages,
            ChatMessage(role="assistant", content=said),
            ChatMessage(role="user", content=told),
        ),
    )
