"""The official SDKs as wires: they authenticate, carry and stream; retries and timeouts are ours.

They take a second to import, so each is imported when its first wire is made.
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from infra.models.provider import Timeouts
from infra.models.wire import Refusal, loads
from schemas.message import Json, JsonObject

logger = logging.getLogger(__name__)

ANSWER_BYTES = 64 * 1024 * 1024  # vectors of some thousand texts; no answer in words has a hundredth of it
CONNECTIONS = 1_000  # a process may think for so many runs at once


def http_client(timeouts: Timeouts, transport: Any = None) -> Any:
    """Return an HTTP client that bounds only connecting: for the rest, adapters have deadlines of their own.

    It follows no redirects: a key goes to the address that was configured, and nowhere else. It asks for answers as
    they are, since a small one that is packed may be of any size, and reads none above ANSWER_BYTES.
    """
    import httpx2

    class Bounded(httpx2.AsyncByteStream):
        def __init__(self, answer: Any) -> None:
            self._answer = answer

        async def __aiter__(self) -> AsyncIterator[bytes]:
            got = 0
            async for part in self._answer:
                got += len(part)
                if got > ANSWER_BYTES:
                    raise httpx2.ReadError(f"the answer has more than {ANSWER_BYTES} bytes")
                yield part

        async def aclose(self) -> None:
            await self._answer.aclose()

    async def bound(response: Any) -> None:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise httpx2.ReadError("the answer is packed, which was not asked for")
        response.stream = Bounded(response.stream)

    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(None, connect=timeouts.connect_s, pool=timeouts.connect_s),
        limits=httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=100),
        headers={"accept-encoding": "identity"},
        event_hooks={"response": [bound]},
        follow_redirects=False,
        transport=transport,
    )


def _unreached(error: BaseException | None) -> bool:
    import httpx2

    return isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)


def _unanswered(error: BaseException | None) -> Refusal:
    import httpx2

    late = isinstance(error, httpx2.TimeoutException)
    return Refusal(0, {}, None, reached=not _unreached(error), late=late)


def _answered(response: Any, body: Json) -> Refusal:
    """Return an HTTP answer with an error; what is not JSON is taken as text."""
    if body is None:
        try:
            body = loads(response.content)
        except ValueError:
            body = response.content[:4_000].decode(errors="replace")
        except RuntimeError:  # a stream that was not read
            body = None
    return Refusal(response.status_code, dict(response.headers), body)


class _StainlessWire:
    """What the SDKs of OpenAI and Anthropic have in common: they are made by one generator."""

    def __init__(self, sdk: Any, client: Any) -> None:
        import httpx2

        self._sdk = sdk
        self._http = client
        self.errors: tuple[type[Exception], ...] = (sdk.APIError, httpx2.HTTPError, ValueError)

    def refusal(self, error: Exception) -> Refusal:
        """Return what the SDK's error says; a ValueError is JSON that broke off."""
        if isinstance(error, self._sdk.APIStatusError):
            return _answered(error.response, _enveloped(error.body))
        if isinstance(error, self._sdk.APIConnectionError):
            return _unanswered(error.__cause__)
        if isinstance(error, self._sdk.APIError) and error.body is not None:
            return Refusal(200, {}, _enveloped(error.body))
        return _unanswered(error)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _enveloped(body: Any) -> Json:
    """Return an error's body as it was sent: OpenAI's SDK takes the inner object out."""
    return {"error": body} if isinstance(body, dict) and "error" not in body else body


class OpenAIWire(_StainlessWire):
    """Chat completions or responses, at OpenAI or at any compatible address."""

    def __init__(self, *, api_key: str, base_url: str, api: str, client: Any) -> None:
        import openai

        super().__init__(openai, client)
        self._client = openai.AsyncOpenAI(
            api_key=api_key, base_url=base_url, max_retries=0, timeout=client.timeout, http_client=client
        )
        self._resource = self._client.responses if api == "responses" else self._client.chat.completions
        self._said = "input" if api == "responses" else "messages"
        self._streamed: JsonObject = {} if api == "responses" else {"stream_options": {"include_usage": True}}
        self._cold: set[str] = set()

    async def ask(self, body: JsonObject) -> Json:
        """Return the decoded answer."""
        answer = await self._tempered(lambda arguments: self._resource.with_raw_response.create(**arguments), body)
        return loads(answer.http_response.content)

    async def events(self, body: JsonObject) -> AsyncIterator[JsonObject]:
        """Yield the chunks or events."""
        stream = await self._tempered(
            lambda arguments: self._resource.create(**arguments, stream=True), {**body, **self._streamed}
        )
        async with contextlib.aclosing(stream) if hasattr(stream, "aclose") else stream:
            async for event in stream:
                yield event.to_dict(mode="json", warnings=False)

    async def embed(self, body: JsonObject) -> Json:
        """Return the decoded answer."""
        rest = {name: value for name, value in body.items() if name not in ("model", "input", "encoding_format")}
        answer = await self._client.embeddings.with_raw_response.create(
            model=body["model"], input=body["input"], encoding_format=body["encoding_format"], extra_body=rest
        )
        return loads(answer.http_response.content)

    async def _tempered(self, create: Callable[[JsonObject], Awaitable[Any]], body: JsonObject) -> Any:
        """Ask; a model that takes no temperature says so before it works, and is asked without from then on."""
        model = body["model"]
        if model in self._cold:
            body = _without(body, "temperature")
        try:
            return await create(self._arguments(body))
        except self._sdk.BadRequestError as error:
            if getattr(error, "param", None) != "temperature" or "temperature" not in body:
                raise
            self._cold.add(model)
            logger.warning("the model %r takes no temperature: it is asked without", model)
        return await create(self._arguments(_without(body, "temperature")))

    def _arguments(self, body: JsonObject) -> JsonObject:
        named = {"model": body["model"], self._said: body[self._said]}
        return {**named, "extra_body": {name: value for name, value in body.items() if name not in named}}


def _without(body: JsonObject, name: str) -> JsonObject:
    return {key: value for key, value in body.items() if key != name}


class AnthropicWire(_StainlessWire):
    """Messages."""

    def __init__(self, *, api_key: str, base_url: str, client: Any) -> None:
        import anthropic

        super().__init__(anthropic, client)
        self._client = anthropic.AsyncAnthropic(
            api_key=api_key, base_url=base_url, max_retries=0, timeout=client.timeout, http_client=client
        )

    async def ask(self, body: JsonObject) -> Json:
        """Return the decoded answer."""
        answer = await self._client.messages.with_raw_response.create(**_anthropic_arguments(body))
        return loads(answer.http_response.content)

    async def events(self, body: JsonObject) -> AsyncIterator[JsonObject]:
        """Yield the events."""
        stream: Any = await self._client.messages.create(**_anthropic_arguments(body), stream=True)
        async with stream:
            async for event in stream:
                yield event.to_dict(mode="json", warnings=False)

    async def embed(self, body: JsonObject) -> Json:
        """Raise: there are no embeddings, and the dialect said so."""
        raise NotImplementedError("Anthropic has no embeddings")


def _anthropic_arguments(body: JsonObject) -> Any:
    """Return the SDK's arguments; the body is sent as it is, over what is named.

    The model's name goes with the rest: the SDK warns of names that it takes for old, which is its provider's to say.
    """
    named = {"max_tokens": body["max_tokens"], "messages": body["messages"]}
    rest = {name: value for name, value in body.items() if name not in named}
    return {**named, "model": "", "extra_body": rest}


class GoogleWire:
    """generateContent and embeddings of the Gemini API."""

    def __init__(self, *, api_key: str, base_url: str, client: Any) -> None:
        import httpx2
        from google import genai
        from google.genai import errors, types

        self._http = client
        self._api_error = errors.APIError
        self.errors: tuple[type[Exception], ...] = (errors.APIError, httpx2.HTTPError, ValueError)
        self._client = genai.Client(
            api_key=api_key,
            vertexai=False,
            http_options=types.HttpOptions(base_url=base_url, api_version="v1beta", httpx_async_client=client),
        )

    async def ask(self, body: JsonObject) -> Json:
        """Return the decoded answer."""
        answer = await self._client.aio.models.generate_content(
            model=body["model"], contents=body["contents"], config=self._config(body)
        )
        return _dumped(answer)

    async def events(self, body: JsonObject) -> AsyncIterator[JsonObject]:
        """Yield the chunks."""
        stream = await self._client.aio.models.generate_content_stream(
            model=body["model"], contents=body["contents"], config=self._config(body)
        )
        async for chunk in stream:
            yield _dumped(chunk)

    async def embed(self, body: JsonObject) -> Json:
        """Return the decoded answer."""
        answer = await self._client.aio.models.embed_content(
            model=body["model"], contents=body["contents"], config=body["config"] or None
        )
        return _dumped(answer)

    def _config(self, body: JsonObject) -> Any:
        config = dict(body["config"])
        if body["extra"]:
            config["http_options"] = {"extra_body": body["extra"]}
        return config

    def refusal(self, error: Exception) -> Refusal:
        """Return what the SDK's error says."""
        if isinstance(error, self._api_error):
            headers = getattr(error.response, "headers", None) or {}
            return Refusal(error.code or 200, dict(headers), error.details)
        return _unanswered(error)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _dumped(answer: Any) -> JsonObject:
    dumped: JsonObject = answer.model_dump(mode="json", by_alias=True, exclude_none=True)
    dumped.pop("sdkHttpResponse", None)
    return dumped


class OllamaWire:
    """Ollama's own API, by HTTP: it has no SDK that streams what we need without its own types."""

    def __init__(self, *, base_url: str, client: Any, api_key: str = "") -> None:
        import httpx2

        self._status_error = httpx2.HTTPStatusError
        self.errors: tuple[type[Exception], ...] = (httpx2.HTTPError, ValueError)
        self._base_url = base_url.rstrip("/")
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = client

    async def ask(self, body: JsonObject) -> Json:
        """Return the decoded answer."""
        return await self._post({**body, "stream": False})

    async def embed(self, body: JsonObject) -> Json:
        """Return the decoded answer."""
        return await self._post(body)

    async def _post(self, body: JsonObject) -> Json:
        path, sent = _split(body)
        response = await self._client.post(self._base_url + path, json=sent, headers=self._headers)
        _raise_for_status(response)
        return loads(response.content)

    async def events(self, body: JsonObject) -> AsyncIterator[JsonObject]:
        """Yield the lines."""
        path, sent = _split({**body, "stream": True})
        async with self._client.stream("POST", self._base_url + path, json=sent, headers=self._headers) as response:
            if response.status_code != 200:
                await response.aread()
                _raise_for_status(response)
            async for line in response.aiter_lines():
                if line.strip():
                    yield loads(line)

    def refusal(self, error: Exception) -> Refusal:
        """Return what an HTTP error says."""
        if isinstance(error, self._status_error):
            return _answered(error.response, None)
        return _unanswered(error)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _raise_for_status(response: Any) -> None:
    """Raise also for a redirect, which is not followed."""
    if not response.is_success:
        import httpx2

        raise httpx2.HTTPStatusError("refused", request=response.request, response=response)


def _split(body: JsonObject) -> tuple[str, JsonObject]:
    return body["path"], _without(body, "path")
