"""Asking a model until it answers, or until asking is no longer worth it."""

import asyncio
import random
from collections.abc import Mapping

from processors.backoff import Random, Sleep, backoff_s
from processors.models.port import ModelPort, ModelReply, ModelRequest
from schemas.errors import ModelError

ATTEMPTS = 3
TOTAL_TIMEOUT_S = 120.0  # all tries and waits together: the default time of a whole run


class ModelPorts:
    """The adapters by the names that agents give their providers; itself a `ModelPort`."""

    __slots__ = ("_ports",)

    def __init__(self, ports: Mapping[str, ModelPort]) -> None:
        self._ports = dict(ports)

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
            ModelError: as the adapter says, or `unknown_provider`.
        """
        return await self.port(request.provider).complete(request)


async def call_model(
    port: ModelPort,
    request: ModelRequest,
    *,
    sleep: Sleep = asyncio.sleep,
    attempts: int = ATTEMPTS,
    random: Random = random.random,
    total_timeout_s: float = TOTAL_TIMEOUT_S,
) -> ModelReply:
    """Return the first answer of at most `attempts` tries, with waits between them.

    Raises:
        ModelError: the last one seen; with reason `timeout` if `total_timeout_s` ran out before there was any.
    """
    last: ModelError | None = None
    try:
        async with asyncio.timeout(total_timeout_s):
            for tries in range(1, attempts + 1):
                try:
                    return await port.complete(request)
                except ModelError as error:
                    last = error
                    if not error.retryable or tries == attempts:
                        break
                await sleep(backoff_s(tries, random))
    except TimeoutError as error:
        if last is None:
            last = ModelError(
                f"{request.provider!r} did not answer within {total_timeout_s:g} s", reason="timeout", retryable=True
            )
            raise last from error
    if last is None:
        raise ValueError(f"attempts must be at least 1, not {attempts}")
    raise last
