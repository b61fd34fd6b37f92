"""What recorded bytes say, read without the adapters: the text, the calls, the usage and the end of an answer."""

import json
from typing import Any, NamedTuple

from schemas.chat import Usage


class Answer(NamedTuple):
    """What an adapter must make of an answer."""

    text: str
    calls: list[tuple[str, Any]]
    usage: Usage
    finish: str


def pieces(body: bytes) -> list[Any]:
    """Return the JSON values in a stream of server-sent events or JSON lines."""
    found = []
    for line in body.decode().replace("\r\n", "\n").split("\n"):
        line = line.removeprefix("data:").strip()
        if line.startswith("{"):
            found.append(json.loads(line))
    return found


def answer(api: str, body: bytes, *, stream: bool) -> Answer:
    """Return what an answer says."""
    readers = {
        "openai": _chat,
        "openai-responses": _responses,
        "anthropic": _messages,
        "google": _gemini,
        "ollama": _ollama,
        "ollama-generate": _ollama,
    }
    return readers[api](pieces(body) if stream else [json.loads(body)])


def _ended(finish: str, calls: list[Any]) -> str:
    return "tool_calls" if calls and finish == "stop" else finish


def _chat(found: list[Any]) -> Answer:
    text, finish = "", ""
    usage: dict[str, Any] = {}
    calls: dict[int, list[str]] = {}
    for one in found:
        usage = one.get("usage") or usage
        for choice in one["choices"]:
            if choice["index"] != 0:
                continue
            said = choice.get("message") or choice.get("delta") or {}
            text += said.get("content") or ""
            finish = choice.get("finish_reason") or finish
            told = said.get("tool_calls") or (
                [{"function": said["function_call"]}] if said.get("function_call") else []
            )
            for position, call in enumerate(told):
                kept = calls.setdefault(call.get("index", position), ["", ""])
                kept[0] += call["function"].get("name") or ""
                kept[1] += call["function"].get("arguments") or ""
    made = [(name, json.loads(arguments)) for name, arguments in calls.values()]
    return Answer(
        text,
        made,
        Usage(
            input_tokens=usage.get("prompt_tokens", 0),
            output_tokens=usage.get("completion_tokens", 0),
            cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0),
            reasoning_tokens=(usage.get("completion_tokens_details") or {}).get("reasoning_tokens", 0),
        ),
        "tool_calls" if made else finish,
    )


def _responses(found: list[Any]) -> Answer:
    whole = next((one["response"] for one in reversed(found) if "response" in one), found[-1])
    text, calls = "", []
    for item in whole["output"]:
        if item["type"] == "message":
            text += "".join(part["text"] for part in item["content"])
        elif item["type"] == "function_call":
            calls.append((item["name"], json.loads(item["arguments"])))
    usage = whole["usage"]
    return Answer(
        text,
        calls,
        Usage(
            input_tokens=usage["input_tokens"],
            output_tokens=usage["output_tokens"],
            cached_tokens=usage["input_tokens_details"]["cached_tokens"],
            reasoning_tokens=usage["output_tokens_details"]["reasoning_tokens"],
        ),
        _ended({"completed": "stop", "incomplete": "length"}[whole["status"]], calls),
    )


def _messages(found: list[Any]) -> Answer:
    text, finish = "", ""
    usage: dict[str, Any] = {}
    calls: dict[int, list[Any]] = {}
    if "content" in found[0]:
        for position, block in enumerate(found[0]["content"]):
            text += block["text"] if block["type"] == "text" else ""
            if block["type"] == "tool_use":
                calls[position] = [block["name"], json.dumps(block["input"])]
        usage, finish = found[0]["usage"], found[0]["stop_reason"]
    for one in found:
        if one["type"] == "message_start":
            usage = dict(one["message"]["usage"])
        elif one["type"] == "content_block_start" and one["content_block"]["type"] == "tool_use":
            calls[one["index"]] = [one["content_block"]["name"], ""]
        elif one["type"] == "content_block_delta":
            text += one["delta"].get("text", "")
            if one["index"] in calls:
                calls[one["index"]][1] += one["delta"].get("partial_json", "")
        elif one["type"] == "message_delta":
            usage |= one["usage"]
            finish = one["delta"]["stop_reason"]
    cached = usage.get("cache_read_input_tokens") or 0
    return Answer(
        text,
        [(name, json.loads(arguments or "{}")) for name, arguments in calls.values()],
        Usage(
            input_tokens=usage["input_tokens"] + cached + (usage.get("cache_creation_input_tokens") or 0),
            output_tokens=usage["output_tokens"],
            cached_tokens=cached,
            reasoning_tokens=(usage.get("output_tokens_details") or {}).get("thinking_tokens", 0),
        ),
        {"end_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length", "stop_sequence": "stop"}[finish],
    )


def _gemini(found: list[Any]) -> Answer:
    text, finish, calls = "", "", []
    for one in found:
        for candidate in one.get("candidates", ()):
            finish = candidate.get("finishReason") or finish
            for part in candidate.get("content", {}).get("parts", ()):
                text += "" if part.get("thought") else part.get("text", "")
                if "functionCall" in part:
                    calls.append((part["functionCall"]["name"], part["functionCall"].get("args") or {}))
    usage = found[-1]["usageMetadata"]
    thoughts = usage.get("thoughtsTokenCount", 0)
    return Answer(
        text,
        calls,
        Usage(
            input_tokens=usage["promptTokenCount"] + usage.get("toolUsePromptTokenCount", 0),
            output_tokens=usage.get("candidatesTokenCount", 0) + thoughts,
            cached_tokens=usage.get("cachedContentTokenCount", 0),
            reasoning_tokens=thoughts,
        ),
        _ended({"STOP": "stop", "MAX_TOKENS": "length"}[finish], calls),
    )


def _ollama(found: list[Any]) -> Answer:
    text = "".join(one.get("response") or one.get("message", {}).get("content", "") for one in found)
    calls = [
        (call["function"]["name"], call["function"]["arguments"])
        for one in found
        for call in one.get("message", {}).get("tool_calls", ())
    ]
    last = found[-1]
    usage = Usage(input_tokens=last.get("prompt_eval_count", 0), output_tokens=last["eval_count"])
    return Answer(
        text, calls, usage, _ended({"stop": "stop", "length": "length"}[last.get("done_reason", "stop")], calls)
    )
