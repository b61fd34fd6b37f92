"""The platform's modules over HTTP: signed, once for each call, and never waited for or read without end.

A call is `POST {url}/{action}` with JSON: `{"call_id", "site_id", "agent_id", "execution_id", "correlation_id",
"depth", "module", "action", "arguments"}`. Headers: `Idempotency-Key` is the call's id, and the signature is that of
Standard Webhooks (https://www.standardwebhooks.com) over `webhook-id.webhook-timestamp.body`. The answer is JSON with
a status of 200 to 299; an error's `error`, `detail`, `message` or `title` is told to the model.
"""

import asyncio
import base64
import email.utils
import hashlib
import hmac
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx
import orjson

from infra.modules.addresses import ModuleAddress
from processors.tools.cleaning import clean_text
from processors.tools.port import BusyError, ToolError, ToolRequest
from schemas.message import Json

logger = logging.getLogger(__name__)

ANSWER_BYTES = 1024 * 1024  # a result is cut at a sixteenth of it: the rest only gives it a length and a sha256
ERROR_BYTES = 16 * 1024
ERROR_CHARS = 500
LONGEST_RETRY_AFTER_S = 60.0
REDACTED = b"[secret]"

# Nothing was done, and it may be done later. 409 is told instead: what it conflicts with does not pass by itself.
_LATER = frozenset({425, 429})
_ACTION = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    retry_after: str | None
    body: bytes
    cut: bool


class HttpModules:
    """A `ModuleGateway` over HTTP, and an async context manager. Addresses come from settings, never from a call."""

    def __init__(
        self,
        modules: Mapping[str, ModuleAddress],
        *,
        now_s: Callable[[], float] = time.time,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._modules = dict(modules)
        self._now_s = now_s
        # No proxy and no redirect: a signed call goes where the settings say, and nowhere else.
        self._client = httpx.AsyncClient(trust_env=False, follow_redirects=False, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        await self._client.aclose()

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
        except (httpx.TransportError, httpx.DecodingError, TimeoutError) as error:
            raise BusyError(f"the module {module!r} does not answer: {type(error).__name__}") from None
        secret = address.secret.get_secret_value().encode()
        return self._read(answer, module, secret)

    async def _sent(self, url: str, body: bytes, address: ModuleAddress, key: str) -> _Answer:
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
            most = ANSWER_BYTES if response.is_success else ERROR_BYTES
            received = bytearray()
            async for chunk in response.aiter_raw():
                received += chunk
                if len(received) > most:
                    break
            cut = len(received) > most
            return _Answer(response.status_code, response.headers.get("retry-after"), bytes(received[:most]), cut)
        finally:
            await response.aclose()

    def _read(self, answer: _Answer, module: str, secret: bytes) -> Json:
        status, body = answer.status, answer.body.replace(secret, REDACTED)
        if 200 <= status < 300:
            if answer.cut:
                raise ToolError(f"The module {module} answered more than {ANSWER_BYTES // 1024} KiB: ask for less.")
            if not body:
                return None
            try:
                return orjson.loads(body)
            except ValueError:
                # It acted, and its answer was lost on the way: the same key gives it again.
                raise BusyError(f"the module {module!r} answered what is not JSON") from None
        if status in _LATER:
            words = _words(body) or f"The module {module} is busy."
            raise ToolError(words, retryable=True, retry_after_s=self._wait(answer))
        if status == 408 or status >= 500:
            raise BusyError(f"the module {module!r} answered with status {status}", retry_after_s=self._wait(answer))
        if status in (401, 403) or status < 400:
            logger.error("the module %s answered with status %s: check its address and secret", module, status)
            raise ToolError(f"The module {module} does not accept calls of this system.")
        raise ToolError(_words(body) or f"The module {module} refused this call with status {status}.")

    def _wait(self, answer: _Answer) -> float | None:
        """Return the seconds to wait by Retry-After (RFC 9110, 10.2.3): a number, or a date."""
        text = answer.retry_after
        if text is None:
            return None
        if text.strip().isdecimal() and len(text) < 10:
            seconds = float(text)
        else:
            try:
                seconds = email.utils.parsedate_to_datetime(text).timestamp() - self._now_s()
            except (ValueError, TypeError, OverflowError):
                return None
        return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)


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


def _words(body: bytes) -> str:
    """Return what an error's body says, in one line; nothing if it says nothing in a way we know."""
    try:
        found = orjson.loads(body)
    except ValueError:
        return ""
    for name in ("error", "detail", "message", "title"):
        value = found.get(name) if isinstance(found, dict) else None
        if isinstance(value, dict):
            value = value.get("message")
        if isinstance(value, str) and value.strip():
            return " ".join(clean_text(value).split())[:ERROR_CHARS]
    return ""
