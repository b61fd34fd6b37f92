"""Answers as they are given, on `ai.live`, for people who watch. No answer waits for it, or fails by it."""

import asyncio
import contextlib
import logging
from types import TracebackType
from typing import Self

from processors.models.port import Delta, ModelReply, ModelRequest, StreamingPort
from schemas.errors import DramacError, ModelError
from schemas.ids import random_id
from schemas.live import LivePiece
from streams.log import Draft, Log
from streams.topics import LIVE

logger = logging.getLogger(__name__)

EVERY_S = 0.1  # people read no faster, and a record for each token would be dear
PIECE_CHARS = 8_000  # of one record
WAITING = 2_000  # pieces that wait to be sent; what comes on top is dropped
SITE = "siteid"


class LivePublisher:
    """Sends pieces of answers in the background; an async context manager."""

    def __init__(self, log: Log, *, every_s: float = EVERY_S) -> None:
        self._log, self._every_s = log, every_s
        self._waiting: list[Draft] = []
        self._questions: set[LiveQuestion] = set()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    async def __aenter__(self) -> Self:
        """Begin to send."""
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        """Stop sending."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def begin(self, request: ModelRequest) -> "LiveQuestion":
        """Tell that a question is asked; what is added to it is sent some at a time."""
        question = LiveQuestion(self, request)
        self._questions.add(question)
        return question

    def put(self, request: ModelRequest, piece: LivePiece) -> None:
        """Have a piece sent, unless too many wait."""
        if len(self._waiting) >= WAITING:
            self.dropped += 1
            return
        headers = ((SITE, request.site_id.encode()),)
        self._waiting.append(Draft(request.execution_id.encode(), piece.encode(), headers))

    def leave(self, question: "LiveQuestion") -> None:
        """Add no more to a question."""
        self._questions.discard(question)

    async def flush(self) -> None:
        """Send what there is."""
        for question in self._questions:
            question.cut()
        drafts, self._waiting = self._waiting, []
        told = await asyncio.gather(*(self._log.send(LIVE, draft) for draft in drafts), return_exceptions=True)
        failures = [each for each in told if isinstance(each, BaseException)]
        if failures:
            self.dropped += len(failures)
            logger.warning("%d pieces of answers can't be watched: %s", len(failures), failures[0])
        for failure in failures:
            if not isinstance(failure, DramacError):
                raise failure

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self.flush()


class LiveQuestion:
    """One question, while it is answered."""

    def __init__(self, publisher: LivePublisher, request: ModelRequest) -> None:
        self._publisher, self._request = publisher, request
        self._id, self._position = random_id(), 0
        self._kind, self._call = "text", 0
        self._text: list[str] = []
        self._say("begun", "", 0)

    def add(self, delta: Delta) -> None:
        """Take some more of the answer."""
        if (delta.kind, delta.call) != (self._kind, self._call):
            self.cut()
            self._kind, self._call = delta.kind, delta.call
        self._text.append(delta.text)

    def cut(self) -> None:
        """Have what was taken so far sent."""
        text = "".join(self._text)
        self._text.clear()
        for start in range(0, len(text), PIECE_CHARS):
            self._say(self._kind, text[start : start + PIECE_CHARS], self._call)

    def end(self) -> None:
        """No more comes."""
        self.cut()
        self._publisher.leave(self)

    def _say(self, kind: str, text: str, call: int) -> None:
        with contextlib.suppress(ValueError):  # half of a pair of surrogates can't be written; the whole reply tells
            piece = LivePiece.model_validate(
                {
                    "execution_id": self._request.execution_id,
                    "step": self._request.step,
                    "question": self._id,
                    "position": self._position,
                    "kind": kind,
                    "text": text,
                    "call": call,
                }
            )
            self._publisher.put(self._request, piece)
            self._position += 1


class LiveModel:
    """A `ModelPort` that lets people watch what a provider answers; the reply is the whole one."""

    def __init__(self, provider: StreamingPort, live: LivePublisher) -> None:
        self._provider, self._live = provider, live

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Return the reply at the end of the stream.

        Raises:
            ModelError: as the provider says.
        """
        question = self._live.begin(request)
        try:
            async with contextlib.aclosing(self._provider.stream(request)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    if isinstance(piece, ModelReply):
                        return piece
                    question.add(piece)
        finally:
            question.end()
        raise ModelError(
            f"the answer of {request.provider!r} broke off", reason="cut_stream", retryable=True, unsettled=True
        )
