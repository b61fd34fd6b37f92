"""Recorded exchanges with model providers: what their requests mean, whoever wrote them down.

`meaning` reads a request in its provider's words into one form for all. Two requests are equal in meaning if these
forms are. The form is also what a neutral request is made from: nothing of a recorded request is dropped silently,
but what `LEFT_OUT` names with its reason.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from processors.models.port import EmbedRequest, ModelRequest
from schemas.catalogue import ToolDefinition
from schemas.chat import ChatMessage, ToolCall
from schemas.ids import AgentId, ExecutionId, SiteId

FOLDER = Path(__file__).parents[3] / "shared/data/llm"

LEFT_OUT = {
    "reasoning": "a provider's own reasoning (thinking, signatures, encrypted items): the log holds what was said",
    "strict": "arguments are validated here, whatever the provider promises of them",
    "system position": "all system messages stand in the system prompt, in their order",
    "schema name": "the name of an answer's schema means nothing to the model",
    "item id": "ids of items that a provider stored: each question has the whole conversation instead",
    "phase": "which of its texts an assistant meant as an aside",
    "cache hint": "where a provider may cut its cache of a prompt",
    "encoding": "how numbers travel",
    "modality": "text is the only one that is asked for",
    "usage wish": "usage is always asked for",
    "storing": "what is asked must not be kept at the provider",
    "keep alive": "when a local server unloads a model is its own affair",
}


class NotNeutralError(Exception):
    """A recorded request has what a neutral one can't say."""


@dataclass
class Exchange:
    """One line of a recording."""

    id: str
    path: str
    request: Any
    status: int
    headers: dict[str, str]
    stream: bool
    response: bytes

    @property
    def api(self) -> str:
        """The name of the API that the path belongs to."""
        for ending, api in (
            ("/chat/completions", "openai"),
            ("/responses", "openai-responses"),
            ("/embeddings", "openai-embed"),
            ("/messages", "anthropic"),
            (":batchEmbedContents", "google-embed"),
            (":embedContent", "google-embed"),
            (":generateContent", "google"),
            (":streamGenerateContent", "google"),
            ("/api/chat", "ollama"),
            ("/api/generate", "ollama-generate"),
        ):
            if self.path.endswith(ending):
                return api
        raise AssertionError(f"no adapter speaks {self.path!r}")


def exchanges() -> list[Exchange]:
    """Return all recorded exchanges; none where they are missing."""
    found = []
    for file in sorted(FOLDER.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            told = json.loads(line)
            found.append(
                Exchange(
                    told["id"],
                    told["path"],
                    told["request"],
                    told["status"],
                    told["headers"],
                    told["stream"],
                    told["response"].encode(),
                )
            )
    return found


def params() -> list[Any]:
    """Return the exchanges as a test's parameters; one that is skipped, with the reason, where there are none."""
    found = exchanges()
    if not found:
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"there are no recordings at {FOLDER}"))]
    return [pytest.param(exchange, id=f"{exchange.api}-{exchange.id}") for exchange in found]


@dataclass
class Meaning:
    """What a request asks. `turns` are flat: (role, kind, ...) for each text, call and result."""

    model: str
    system: list[str] = field(default_factory=list)
    turns: list[tuple[Any, ...]] = field(default_factory=list)
    tools: list[tuple[str, str, Any]] = field(default_factory=list)
    choice: str = "auto"
    temperature: float | None = None
    max_tokens: int | None = None
    stop: list[str] = field(default_factory=list)
    answer: str = "text"
    schema: Any = None
    options: dict[str, Any] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set, compare=False)

    def leave_out(self, name: str) -> None:
        """Note that something is not compared, for a reason that `LEFT_OUT` gives."""
        assert name in LEFT_OUT, name
        self.left_out.add(name)


def meaning(api: str, body: Any, model: str = "") -> Meaning:
    """Return what a request means; `model` is that of the path, where it stands there.

    Raises:
        NotNeutralError: a neutral request can't say it.
    """
    if not isinstance(body, dict):
        raise NotNeutralError("not a JSON object")
    rest = json.loads(json.dumps(body))
    readers: dict[str, Callable[[dict[str, Any], Meaning], None]] = {
        "openai": _chat,
        "openai-responses": _responses,
        "anthropic": _messages,
        "google": _gemini,
        "ollama": _ollama,
        "ollama-generate": _ollama,
    }
    said = Meaning(rest.pop("model", model))
    rest.pop("stream", None)
    readers[api](rest, said)
    said.options = {name: value for name, value in rest.items() if value is not None}
    return said


def neutral(said: Meaning, provider: str) -> ModelRequest:
    """Return the neutral request with this meaning."""
    return ModelRequest(
        site_id=SiteId("s"),
        agent_id=AgentId("a"),
        execution_id=ExecutionId("e"),
        step=1,
        provider=provider,
        model=said.model,
        messages=tuple(_as_messages(said)),
        tools=tuple(tool(*told) for told in said.tools),
        temperature=said.temperature,
        max_tokens=said.max_tokens,
        stop=tuple(said.stop),
        tool_choice=said.choice if said.choice in ("auto", "required", "none") else "auto",  # type: ignore[arg-type]
        must_call=None if said.choice in ("auto", "required", "none") else said.choice,
        answer="json" if said.answer == "json" else "text",
        answer_schema=said.schema,
        options=said.options,
    )


def tool(name: str, description: str, parameters: Any) -> ToolDefinition:
    """Return a tool as a catalogue has it."""
    return ToolDefinition(
        name=name,
        display_name=name,
        description=description,
        category="test",
        parameters=parameters,
        handler_type="internal",
    )


def _as_messages(said: Meaning) -> Iterator[ChatMessage]:
    yield from (ChatMessage(role="system", content=text) for text in said.system)
    waiting: ChatMessage | None = None
    for role, kind, *told in said.turns:
        if kind == "call":
            call = ToolCall(id=told[0], name=told[1], arguments=told[2])
            before = waiting or ChatMessage(role="assistant", content="")
            waiting = before.model_copy(update={"tool_calls": (*before.tool_calls, call)})
            continue
        if waiting is not None:
            yield waiting
            waiting = None
        if kind == "result":
            yield ChatMessage(role="tool", content=told[1], tool_call_id=told[0])
        elif role == "assistant":
            waiting = ChatMessage(role="assistant", content=told[0])
        else:
            yield ChatMessage(role=role, content=told[0])
    if waiting is not None:
        yield waiting


def _text(content: Any, what: str = "content") -> list[str]:
    """Return the texts of a content: a text, or parts of type text."""
    if content is None:
        return []
    if isinstance(content, str):
        return [content]
    texts = []
    for part in content:
        kind = part.get("type")
        if kind not in ("text", "input_text", "output_text"):
            raise NotNeutralError(f"{what} of type {kind}: only text is carried")
        texts.append(part["text"])
    return texts


def _plain_tool(kind: str) -> None:
    if kind != "function":
        raise NotNeutralError(f"the provider's own tool {kind}: it would act outside the policy")


def _state(rest: dict[str, Any]) -> None:
    """Refuse what refers to a conversation that the provider keeps."""
    for name in ("previous_response_id", "conversation", "background", "container"):
        if rest.pop(name, None) is not None:
            raise NotNeutralError(f"{name}: the provider would keep the conversation")


# --- OpenAI ---------------------------------------------------------------------------------------------------------


def _chat(rest: dict[str, Any], said: Meaning) -> None:
    for message in rest.pop("messages"):
        role = message["role"]
        if role in ("system", "developer"):
            if said.turns:
                role = "system"
                said.turns += [("system", "text", text) for text in _text(message["content"])]
            else:
                said.system += _text(message["content"])
        elif role == "tool":
            said.turns.append(("user", "result", message["tool_call_id"], "".join(_text(message["content"]))))
        else:
            said.turns += [(role, "text", text) for text in _text(message.get("content")) if text or role == "user"]
            for call in message.get("tool_calls") or ():
                told = call["function"]
                said.turns.append((role, "call", call["id"], told["name"], json.loads(told["arguments"])))
    for told in rest.pop("tools", ()):
        _plain_tool(told["type"])
        _function(told["function"], said)
    for told in rest.pop("functions", ()):  # the deprecated form
        _function(told, said)
    choice = rest.pop("tool_choice", None) or rest.pop("function_call", None) or "auto"
    said.choice = choice if isinstance(choice, str) else choice["function"]["name"]
    rest.pop("function_call", None)
    if rest.pop("web_search_options", None) is not None:
        raise NotNeutralError("the provider's own tool web_search: it would act outside the policy")
    said.temperature = rest.pop("temperature", None)
    said.max_tokens = rest.pop("max_completion_tokens", None) or rest.pop("max_tokens", None)
    stop = rest.pop("stop", None) or []
    said.stop = [stop] if isinstance(stop, str) else stop
    if rest.pop("stream_options", None):
        said.leave_out("usage wish")
    _format(rest.pop("response_format", None), said)


def _function(told: dict[str, Any], said: Meaning) -> None:
    if told.pop("strict", None):
        said.leave_out("strict")
    said.tools.append((told["name"], told.get("description") or "", told.get("parameters")))


def _format(told: Any, said: Meaning) -> None:
    match (told or {}).get("type"):
        case "json_object":
            said.answer = "json"
        case "json_schema":
            said.schema = (told.get("json_schema") or told)["schema"]
            said.leave_out("schema name")


def _responses(rest: dict[str, Any], said: Meaning) -> None:
    _state(rest)
    if rest.get("instructions"):
        said.system.append(rest["instructions"])
    rest.pop("instructions", None)
    asked = rest.pop("input")
    for item in [{"role": "user", "content": asked}] if isinstance(asked, str) else asked:
        _item(item, said)
    for told in rest.pop("tools", ()):
        _plain_tool(told["type"])
        if told.get("defer_loading"):
            raise NotNeutralError("tools that the provider's own search finds: it would act outside the policy")
        _function(told, said)
    choice = rest.pop("tool_choice", "auto")
    said.choice = choice if isinstance(choice, str) else choice["name"]
    said.temperature, said.max_tokens = rest.pop("temperature", None), rest.pop("max_output_tokens", None)
    if rest.pop("store", None) is not None:
        said.leave_out("storing")
    _format((rest.pop("text", None) or {}).get("format"), said)


def _item(item: dict[str, Any], said: Meaning) -> None:
    if item.get("namespace"):
        raise NotNeutralError("tools that the provider's own search finds: it would act outside the policy")
    match item.get("type", "message"):
        case "message":
            role = item["role"]
            texts = _text(item["content"])
            if role in ("system", "developer") and not said.turns:
                said.system += texts
            else:
                role = "system" if role == "developer" else role
                said.turns += [(role, "text", text) for text in texts]
        case "function_call":
            arguments = json.loads(item["arguments"])
            said.turns.append(("assistant", "call", item["call_id"], item["name"], arguments))
        case "function_call_output":
            output = "".join(_text(item["output"], "a tool's result"))
            said.turns.append(("user", "result", item["call_id"], output))
        case "reasoning":
            said.leave_out("reasoning")
        case kind:
            raise NotNeutralError(f"the provider's own item {kind}: it would act outside the policy")
    if item.get("id"):
        said.leave_out("item id")
    if item.get("phase"):
        said.leave_out("phase")


# --- Anthropic ------------------------------------------------------------------------------------------------------


def _messages(rest: dict[str, Any], said: Meaning) -> None:
    _state(rest)
    said.system += _text(rest.pop("system", None))
    for message in rest.pop("messages"):
        if not isinstance(message, dict):
            raise NotNeutralError("a message that is none")
        role, content = message["role"], message["content"]
        if role == "system":
            said.system += _text(content)
            said.leave_out("system position")
            continue
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            _block(role, block, said)
    for told in rest.pop("tools", ()):
        _plain_tool("function" if told.get("type", "custom") == "custom" else told["type"])
        if told.get("defer_loading"):
            raise NotNeutralError("tools that the provider's own search finds: it would act outside the policy")
        if told.pop("strict", None):
            said.leave_out("strict")
        said.tools.append((told["name"], told.get("description") or "", told["input_schema"]))
    choice = rest.pop("tool_choice", {"type": "auto"})
    said.choice = {"any": "required", "tool": choice.get("name", "")}.get(choice["type"], choice["type"])
    said.temperature, said.max_tokens = rest.pop("temperature", None), rest.pop("max_tokens")
    said.stop = rest.pop("stop_sequences", [])
    output = rest.pop("output_config", {})
    _format(output.pop("format", None), said)
    if output:
        rest["output_config"] = output


def _block(role: str, block: dict[str, Any], said: Meaning) -> None:
    if block.get("cache_control"):
        said.leave_out("cache hint")
    match block["type"]:
        case "text":
            said.turns.append((role, "text", block["text"]))
        case "tool_use":
            said.turns.append((role, "call", block["id"], block["name"], block["input"]))
        case "tool_result":
            result = "".join(_text(block.get("content"), "a tool's result"))
            if block.get("is_error"):
                raise NotNeutralError("is_error: a result says in its text that it failed")
            said.turns.append((role, "result", block["tool_use_id"], result))
        case "thinking" | "redacted_thinking":
            said.leave_out("reasoning")
        case "image" | "document" | "container_upload" as kind:
            raise NotNeutralError(f"content of type {kind}: only text is carried")
        case kind:
            raise NotNeutralError(f"the provider's own item {kind}: it would act outside the policy")


# --- Google ---------------------------------------------------------------------------------------------------------


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _gemini(rest: dict[str, Any], said: Meaning) -> None:
    for part in (rest.pop("systemInstruction", None) or {}).get("parts", ()):
        said.system.append(part["text"])
    for content in rest.pop("contents"):
        role = "assistant" if content.get("role") == "model" else "user"
        for part in content["parts"]:
            _part(role, part, said)
    for group in rest.pop("tools", None) or ():
        for kind, declared in group.items():
            _plain_tool("function" if kind == "functionDeclarations" else kind)
            for told in declared:
                schema = told.get("parametersJsonSchema", told.get("parameters_json_schema", told.get("parameters")))
                said.tools.append((told["name"], told.get("description") or "", schema))
    _gemini_choice(rest, said)
    config = rest.pop("generationConfig", None) or {}
    if config.pop("responseModalities", ["TEXT"]) != ["TEXT"]:
        raise NotNeutralError("answers other than text")
    said.temperature, said.max_tokens = config.pop("temperature", None), config.pop("maxOutputTokens", None)
    said.stop = config.pop("stopSequences", [])
    if config.pop("responseMimeType", None) == "application/json":
        said.answer = "json"
    said.schema = config.pop("responseJsonSchema", None)
    if config:
        rest["generationConfig"] = config


def _gemini_choice(rest: dict[str, Any], said: Meaning) -> None:
    calling = (rest.pop("toolConfig", None) or {}).pop("functionCallingConfig", {})
    mode, names = calling.get("mode", "AUTO"), calling.get("allowedFunctionNames") or []
    if mode == "VALIDATED":
        said.leave_out("strict")
    elif mode == "ANY":
        if len(names) > 1:
            raise NotNeutralError("one of several tools must be called")
        said.choice = names[0] if names else "required"
    elif mode == "NONE":
        said.choice = "none"


def _part(role: str, part: dict[str, Any], said: Meaning) -> None:
    part = {_camel(name): value for name, value in part.items()}
    if part.pop("thoughtSignature", None):
        said.leave_out("reasoning")
    if "functionCall" in part:
        call = part["functionCall"]
        said.turns.append((role, "call", call.get("id"), call["name"], call.get("args") or {}))
    elif "functionResponse" in part:
        told = part["functionResponse"]
        if told.get("parts"):
            raise NotNeutralError("a tool's result with a file: only text is carried")
        said.turns.append((role, "result", told.get("id"), json.dumps(told["response"], sort_keys=True)))
    elif set(part) == {"text"}:
        said.turns.append((role, "text", part["text"]))
    elif part:
        kind = ", ".join(sorted(part))
        if kind in ("fileData", "inlineData"):
            raise NotNeutralError(f"content of type {kind}: only text is carried")
        raise NotNeutralError(f"the provider's own item {kind}: it would act outside the policy")


# --- Ollama ---------------------------------------------------------------------------------------------------------


def _ollama(rest: dict[str, Any], said: Meaning) -> None:
    if rest.pop("keep_alive", None) is not None:
        said.leave_out("keep alive")
    if rest.pop("images", None):
        raise NotNeutralError("content of type image: only text is carried")
    for name in ("template", "context", "raw"):
        if not rest.get(name):
            rest.pop(name, None)
    if rest.get("system"):
        said.system.append(rest["system"])
    rest.pop("system", None)
    if "prompt" in rest:
        said.turns.append(("user", "text", rest.pop("prompt")))
    _ollama_turns(rest.pop("messages", ()), said)
    for told in rest.pop("tools", None) or ():
        _plain_tool(told["type"])
        _function(told["function"], said)
    options = rest.pop("options", None) or {}
    said.temperature, said.max_tokens = options.pop("temperature", None), options.pop("num_predict", None)
    said.stop = options.pop("stop", [])
    if options:
        rest["options"] = options
    wanted = rest.pop("format", None) or None
    said.answer, said.schema = ("json", None) if wanted == "json" else ("text", wanted)


def _ollama_turns(messages: Any, said: Meaning) -> None:
    calls: list[str] = []
    for message in messages:
        role = message["role"]
        if message.get("images"):
            raise NotNeutralError("content of type image: only text is carried")
        if role == "tool":  # it answers the first call that has no answer yet
            said.turns.append(("user", "result", calls.pop(0), message["content"]))
        elif role == "system":
            said.system.append(message["content"])
        else:
            if message["content"] or role == "user":
                said.turns.append((role, "text", message["content"]))
            for call in message.get("tool_calls") or ():
                calls.append(f"call_{len(said.turns)}")
                told = call["function"]
                said.turns.append((role, "call", calls[-1], told["name"], told["arguments"]))


# --- embeddings -----------------------------------------------------------------------------------------------------


def embedding(api: str, body: dict[str, Any], provider: str) -> EmbedRequest:
    """Return the neutral request for embeddings with a body's meaning.

    Raises:
        NotNeutralError: a neutral request can't say it.
    """
    if api == "openai-embed":
        known = {"model", "input", "dimensions", "encoding_format"}
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        if not all(isinstance(text, str) for text in texts):
            raise NotNeutralError("texts as numbers of tokens")
        asked = EmbedRequest(provider, body["model"], tuple(texts), body.get("dimensions"))
    else:
        known = {"requests"}
        one = body["requests"][0]
        texts = ["".join(part["text"] for part in each["content"]["parts"]) for each in body["requests"]]
        tasks = {"RETRIEVAL_QUERY": "query", "RETRIEVAL_DOCUMENT": "document", None: None}
        assert {**one, "content": 0} == {**body["requests"][-1], "content": 0}
        purpose: Any = tasks[one.get("taskType")]
        model = one["model"].removeprefix("models/")
        asked = EmbedRequest(provider, model, tuple(texts), one.get("outputDimensionality"), purpose)
    if set(body) - known:
        raise NotNeutralError(f"{', '.join(sorted(set(body) - known))} of embeddings")
    return asked
