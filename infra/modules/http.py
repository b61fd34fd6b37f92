"""The platform's modules over HTTP: signed, once for each call, and never waited for or read without end.

A call is `POST {url}/{action}` with JSON: `{"call_id", "site_id", "agent_id", "execution_id", "correlation_id",
"depth", "module", "action", "arguments"}`. Headers: `Idempotency-Key` is the call's id, and the signature is that of
Standard Webhooks (https://www.standardwebhooks.com) over `webhook-id.webhook-timestamp.body`. The answer is JSON with
a status of 200 to 299; an error's `error`, `detail`, `message` or `title` is told to the model.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping

import httpx2
import orjson

from infra.modules.addresses import ModuleAddress
from infra.modules.answers import Answer, read, receive
from infra.modules.posting import Posting
from processors.tools.port import BusyError, ToolError, ToolRequest
from schemas.message import Json

_ACTION = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")


class HttpModules(Posting):
    """A `ModuleGateway` over HTTP, and an async context manager. Addresses come from settings, never from a call."""

    def __init__(
        self,
        modules: Mapping[str, ModuleAddress],
        *,
        now_s: Callable[[], float] = time.time,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(transport)
        self._modules = dict(modules)
        self._now_s = now_s

    async def call(self, module: str, action: str, request: ToolRequest) -> Json:
        """Let `module` do `action`, at most once for `request.call_id` however often it is asked.

        One try; who may try again (`processors.tools.call`) does so with the same key.

        Raises:
            ToolError: refused or failed, in words for the model.
            BusyError: the module does not answer; it may have acted.
        """
        address = self._modules.get(module)
        if address is None or not _ACTION.fullmatch(action):
            raise ToolError(f"{request.tool.name} can't be called on this system: nothing serves the module {module}.")
        body = _body(module, action, request)
        try:
            async with asyncio.timeout(address.timeout_s):
                answer = await self._sent(f"{str(address.url).rstrip('/')}/{action}", body, address, request.call_id)
        except (httpx2.TransportError, httpx2.DecodingError, TimeoutError) as error:
            raise BusyError(f"the module {module!r} does not answer: {type(error).__name__}") from None
        secret = address.secret.get_secret_value().encode()
        return read(answer, f"The module {module}", secret=secret, now_s=self._now_s())

    async def _sent(self, url: str, body: bytes, address: ModuleAddress, key: str) -> Answer:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Idempotency-Key": key,
            **signed(address.secret.get_secret_value(), key, int(self._now_s()), body),
        }
        request = self._client.build_request("POST", url, content=body, headers=headers, timeout=address.timeout_s)
        response = await self._client.send(request, stream=True)
        try:
            return await receive(response)
        finally:
            await response.aclose()


def _body(module: str, action: str, request: ToolRequest) -> bytes:
    return orjson.dumps(
        {
            "call_id": request.call_id,
            "site_id": request.site_id,
            "agent_id": request.agent_id,
            "execution_id": request.execution_id,
            "correlation_id": request.correlation_id,
            "depth": request.depth,
            "module": module,
            "action": action,
            "arguments": request.arguments,
        }
    )


def signed(secret: str, key: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Return the headers that prove who sent `body`, when, and under which key."""
    signature = hmac.digest(secret.encode(), b"%s.%d.%s" % (key.encode(), timestamp_s, body), hashlib.sha256)
    return {
        "webhook-id": key,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": "v1," + base64.b64encode(signature).decode(),
    }
