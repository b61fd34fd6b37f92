"""An adapter: a provider's dialect over its wire, with timeouts, and every failure in our words."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace

from infra.models.wire import Dialect, Gathering, InBandError, Refusal, Wire, not_an_answer
from processors.models.failures import refused
from processors.models.port import Delta, EmbedReply, EmbedRequest, ModelReply, ModelRequest
from schemas.errors import ModelError
from schemas.message import Json

logger = logging.getLogger(__name__)

# What SDKs, and our own reading, make of an answer that has a list for a text, say, or is nested without end.
MISSHAPEN = (TypeError, AttributeError, LookupError, RecursionError)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long an adapter waits, in seconds: for a connection, for each next piece of a stream, and in all."""

    connect_s: float = 5.0
    first_token_s: float = 45.0  # reasoning models think long before they speak
    between_tokens_s: float = 30.0
    total_s: float = 110.0  # below the call's own limit, so that the adapter's own error is told


class Provider:
    """A `StreamingPort` and `EmbeddingPort`. It asks once; who calls decides on another try."""

    def __init__(
        self,
        dialect: Dialect,
        wire: Wire,
        *,
        timeouts: Timeouts | None = None,
        secrets: Iterable[str] = (),
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """`secrets` are taken out of whatever a provider says; `now_s` is Unix time."""
        self._dialect = dialect
        self._wire = wire
        self._timeouts = timeouts or Timeouts()
        self._secrets = tuple(secrets)
        self._now_s = now_s

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Return the model's answer.

        Raises:
            ModelError: see `processors.models.failures`.
        """
        body = self._dialect.body(request)
        begun_s = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeouts.total_s):
                raw = await self._wire.ask(body)
        except TimeoutError:
            raise self._late("answer", self._timeouts.total_s) from None
        except self._wire.errors as error:
            raise self._failure(error, None) from None
        except MISSHAPEN as error:
            raise self._strange(error) from None
        return self._read(raw, request, begun_s)

    async def stream(self, request: ModelRequest) -> AsyncIterator[Delta | ModelReply]:
        """Yield pieces as they come, and at the end the reply.

        Raises:
            ModelError: as `complete` does; `cut_stream` where the end did not come, with the usage that is known.
        """
        body = self._dialect.body(request)
        begun_s = time.perf_counter()
        gathering = self._dialect.gathering(request)
        events = self._wire.events(body)
        try:
            while (event := await self._next(events, gathering, begun_s)) is not None:
                for delta in self._taken(gathering, event):
                    yield delta
        finally:
            await _closed(events)
        whole = gathering.whole()
        if whole is None:
            raise self._cut(gathering)
        yield self._read(whole, request, begun_s)

    async def embed(self, request: EmbedRequest) -> EmbedReply:
        """Return a vector for each text.

        Raises:
            ModelError: see `processors.models.failures`.
        """
        body = self._dialect.embed_body(request)
        begun_s = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeouts.total_s):
                raw = await self._wire.embed(body)
        except TimeoutError:
            raise self._late("answer", self._timeouts.total_s) from None
        except self._wire.errors as error:
            raise self._failure(error, None) from None
        except MISSHAPEN as error:
            raise self._strange(error) from None
        try:
            return replace(self._dialect.embed_reply(raw, request), latency_ms=_since_ms(begun_s))
        except MISSHAPEN as error:
            raise self._strange(error) from None

    async def aclose(self) -> None:
        """Close the connections; nothing can be asked any more."""
        await self._wire.aclose()

    # --- streams ----------------------------------------------------------------------------------------------------

    async def _next(
        self, events: AsyncIterator[dict[str, object]], gathering: Gathering, begun_s: float
    ) -> dict[str, object] | None:
        begun = getattr(gathering, "begun", False)
        limit_s = self._timeouts.between_tokens_s if begun else self._timeouts.first_token_s
        left_s = begun_s + self._timeouts.total_s - time.perf_counter()
        try:
            async with asyncio.timeout(min(limit_s, max(left_s, 0.0))):
                return await anext(events, None)
        except TimeoutError:
            raise self._late("go on" if begun else "begin to answer", min(limit_s, left_s), gathering) from None
        except self._wire.errors as error:
            raise self._failure(error, gathering) from None
        except MISSHAPEN as error:
            raise self._strange(error, gathering) from None

    def _taken(self, gathering: Gathering, event: dict[str, object]) -> Iterable[Delta]:
        try:
            return list(gathering.add(event))
        except InBandError as error:
            raise self._explained(Refusal(200, {}, error.body), gathering) from None
        except MISSHAPEN as error:
            raise self._strange(error, gathering) from None

    def _read(self, raw: Json, request: ModelRequest, begun_s: float) -> ModelReply:
        try:
            return replace(self._dialect.reply(raw, request), latency_ms=_since_ms(begun_s))
        except MISSHAPEN as error:
            raise self._strange(error) from None

    # --- failures ---------------------------------------------------------------------------------------------------

    def _late(self, what: str, limit_s: float, gathering: Gathering | None = None) -> ModelError:
        return ModelError(
            f"{self._dialect.provider!r} did not {what} within {max(limit_s, 0):.3g} s",
            reason="timeout",
            retryable=True,
            spent=gathering.spent() if gathering is not None else None,
            unsettled=True,
        )

    def _cut(self, gathering: Gathering | None) -> ModelError:
        return ModelError(
            f"the answer of {self._dialect.provider!r} broke off",
            reason="cut_stream",
            retryable=True,
            spent=gathering.spent() if gathering is not None else None,
            unsettled=True,
        )

    def _strange(self, error: Exception, gathering: Gathering | None = None) -> ModelError:
        logger.warning("an answer of %r has a shape that nothing can read: %r", self._dialect.provider, error)
        spent = None if gathering is None else gathering.spent()
        return not_an_answer(self._dialect.provider, "in a shape that can be read", spent)

    def _failure(self, error: Exception, gathering: Gathering | None) -> ModelError:
        return self._explained(self._wire.refusal(error), gathering)

    def _explained(self, refusal: Refusal, gathering: Gathering | None) -> ModelError:
        if refusal.status == 0:
            if refusal.reached:
                return self._cut(gathering)
            return ModelError(
                f"{self._dialect.provider!r} can't be reached: check its address and the network",
                reason="timeout" if refusal.late else "unavailable",
                retryable=True,
            )
        error = refused(
            self._dialect.provider,
            refusal.status,
            refusal.headers,
            refusal.body,
            now_s=self._now_s(),
            secrets=self._secrets,
        )
        if gathering is not None:
            error.spent = gathering.spent()
            error.unsettled = error.unsettled or refusal.status == 200
        return error


def _since_ms(begun_s: float) -> int:
    return int((time.perf_counter() - begun_s) * 1000)


async def _closed(events: AsyncIterator[object]) -> None:
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()
