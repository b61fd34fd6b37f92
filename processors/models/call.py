"""Asking a model until it answers, or until asking is no longer worth it."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from processors.backoff import Random, Sleep, backoff_s
from processors.models import breaker as breakers
from processors.models.breaker import Breaker
from processors.models.mending import corrected, shortened
from processors.models.port import ModelPort, ModelReply, ModelRequest
from schemas.agents import AgentConfig
from schemas.chat import Usage
from schemas.errors import InvalidReplyError, ModelError
from schemas.ids import random_id

ATTEMPTS = 3
CORRECTIONS = 2  # so often a model is told that its answer can't be used
LONG_WAIT_S = 10.0  # longer waits are worse than another model
TOTAL_TIMEOUT_S = 120.0  # all tries and waits together: the default time of a whole run

# Another model may answer what these say of one; not what they say of the question.
_ELSEWHERE = frozenset({"unknown_provider", "unknown_model", "quota", "auth", "circuit_open", "context_length"})


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model, and whose."""

    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One question that gave no thought. `usage` is what its provider told; `unsettled`: more may have been spent."""

    reply_id: str
    provider: str
    model: str
    reason: str
    message: str
    usage: Usage | None = None
    unsettled: bool = False


Tell = Callable[[Attempt], Awaitable[None]]


def fallbacks_of(config: AgentConfig) -> tuple[ModelName, ...]:
    """Return the models that a configuration names to be asked in place of its own, as `provider/model` each."""
    return tuple(ModelName(*name.split("/", 1)) for name in config.fallback_models)


def models_of(config: AgentConfig) -> tuple[ModelName, ...]:
    """Return all models that runs of a configuration may ask."""
    return ModelName(config.llm_provider, config.llm_model), *fallbacks_of(config)


class ModelPorts:
    """The adapters by the names that agents give their providers; itself a `ModelPort`.

    Each provider has a circuit breaker: while it is open, nobody is asked.
    """

    __slots__ = ("_breakers", "_now_ms", "_ports")

    def __init__(
        self, ports: Mapping[str, ModelPort], *, now_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000
    ) -> None:
        self._ports = dict(ports)
        self._breakers: dict[str, Breaker] = {}
        self._now_ms = now_ms

    def port(self, provider: str) -> ModelPort:
        """Return the adapter of `provider`.

        Raises:
            ModelError: reason `unknown_provider`; asking again does not help.
        """
        port = self._ports.get(provider)
        if port is None:
            known = ", ".join(sorted(self._ports)) or "none"
            raise ModelError(
                f"no model provider {provider[:80]!r} is configured (there is: {known}); "
                "change the agent's llm_provider or configure it",
                reason="unknown_provider",
                retryable=False,
            )
        return port

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Let the request's provider answer.

        Raises:
            ModelError: as the adapter says, or `unknown_provider`; `circuit_open` if it failed too often just now.
        """
        port, name = self.port(request.provider), request.provider
        before = self._breakers.get(name, Breaker())
        self._breakers[name], admitted = breakers.admit(before, self._now_ms())
        if not admitted:
            raise ModelError(
                f"{name!r} failed too often just now and is left alone for a while",
                reason="circuit_open",
                retryable=True,
                retry_after_s=breakers.wait_s(before, self._now_ms()),
            )
        try:
            reply = await port.complete(request)
        except ModelError as error:
            ill = error.reason in breakers.COUNTED
            self._breakers[name] = (
                breakers.failed(self._breakers[name], self._now_ms()) if ill else breakers.succeeded()
            )
            raise
        except BaseException:
            self._breakers[name] = breakers.abandoned(self._breakers[name])
            raise
        self._breakers[name] = breakers.succeeded()
        return reply


async def call_model(
    port: ModelPort,
    request: ModelRequest,
    *,
    sleep: Sleep = asyncio.sleep,
    attempts: int = ATTEMPTS,
    random: Random = random.random,
    total_timeout_s: float = TOTAL_TIMEOUT_S,
    fallbacks: tuple[ModelName, ...] = (),
    tell: Tell | None = None,
) -> ModelReply:
    """Return the first useful answer, with waits between the tries.

    Each model has `attempts` tries; then the next of `fallbacks` is asked, unless it was the question that was
    refused. An answer that can't be used is told to the model at most `CORRECTIONS` times, and a prompt too long
    for a model is shortened once. `tell` hears of every try but the last that gave no thought, as it happens; the
    last one is raised.

    Raises:
        ModelError: the last one seen; with reason `timeout` if `total_timeout_s` ran out before there was any.
    """
    if attempts < 1:
        raise ValueError(f"attempts must be at least 1, not {attempts}")
    asking = _Asking(port, sleep, attempts, random, tell)
    try:
        async with asyncio.timeout(total_timeout_s):
            reply = await asking.any_of(request, fallbacks)
    except TimeoutError as error:
        if asking.failure is not None:
            raise asking.failure from error
        late = ModelError(
            f"{asking.asked.provider!r} did not answer within {total_timeout_s:g} s",
            reason="timeout",
            retryable=True,
            unsettled=asking.in_flight,
        )
        late.asked = (asking.asked.provider, asking.asked.model)
        raise late from error
    return reply


def without_usage(reply: ModelReply) -> Attempt:
    """Return what is to be noted of an answer whose provider did not say what it cost."""
    said = "the answer came without its usage"
    return Attempt(random_id(), reply.provider, reply.model, "usage_missing", said, unsettled=True)


class _Asking:
    """One call. `failure` is the last one, while nobody heard of it; `in_flight`: a question is on its way."""

    def __init__(self, port: ModelPort, sleep: Sleep, attempts: int, random: Random, tell: Tell | None) -> None:
        self._port, self._sleep, self._attempts, self._random, self._tell = port, sleep, attempts, random, tell
        self._shortened = False
        self.failure: ModelError | None = None
        self.in_flight = False
        self.asked = ModelName("", "")

    async def any_of(self, request: ModelRequest, fallbacks: tuple[ModelName, ...]) -> ModelReply:
        """Ask the request's model, then the others."""
        names = (ModelName(request.provider, request.model), *fallbacks)
        for name in names[:-1]:
            try:
                return await self._one(replace(request, provider=name.provider, model=name.model), last=False)
            except InvalidReplyError:
                raise
            except ModelError as error:
                if not error.retryable and error.reason not in _ELSEWHERE:
                    raise
        name = names[-1]
        return await self._one(replace(request, provider=name.provider, model=name.model), last=True)

    async def _one(self, question: ModelRequest, *, last: bool) -> ModelReply:
        tries = corrections = 0
        while True:
            try:
                return await self._once(question)
            except InvalidReplyError as error:
                corrections += 1
                if corrections > CORRECTIONS:
                    raise
                question = corrected(question, error)
            except ModelError as error:
                if error.reason == "context_length" and not self._shortened:
                    self._shortened = True
                    if (shorter := shortened(question)) is not None:
                        question = shorter
                        continue
                tries += 1
                if not error.retryable or tries >= self._attempts or not (last or _worth_waiting(error)):
                    raise
                await self._sleep(self._wait_s(tries, error))

    def _wait_s(self, tries: int, error: ModelError) -> float:
        own_s = backoff_s(tries, self._random)
        if error.retry_after_s is None:
            return own_s
        return max(own_s, error.retry_after_s * (1 + self._random() / 10))  # not all at the same moment

    async def _once(self, question: ModelRequest) -> ModelReply:
        if (failure := self.failure) is not None:
            self.failure = None
            await self._note(failure)
        self.asked = ModelName(question.provider, question.model)
        self.in_flight = True
        try:
            reply = await self._port.complete(question)
        except ModelError as error:
            self.in_flight = False
            error.asked = (question.provider, question.model)
            self.failure = error
            raise
        self.in_flight = False
        return reply

    async def _note(self, error: ModelError) -> None:
        if self._tell is None:
            return
        provider, model = self.asked.provider, self.asked.model
        await self._tell(Attempt(random_id(), provider, model, error.reason, str(error), error.spent, error.unsettled))


def _worth_waiting(error: ModelError) -> bool:
    """Whether to wait for a model though another one could be asked instead."""
    return error.reason != "circuit_open" and (error.retry_after_s or 0.0) <= LONG_WAIT_S
