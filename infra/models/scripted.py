"""The `scripted` provider: replies by rule, without a network. For the demo, for tests, and to try a policy.

It sees what any model sees, the prompt: the trigger comes from the first fenced JSON block of a user's
message, results from the tools' messages. Token counts are estimates: four characters are taken for a token.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from infra.models.conversation import Conversation, fits, script_error
from infra.models.script import Call, Rule, Script, load_script
from infra.models.templates import Filled, MissingError, compiled
from processors.backoff import Sleep
from processors.models.port import ModelReply, ModelRequest
from processors.tools.globs import matches
from schemas.chat import ToolCall, Usage
from schemas.errors import ConfigurationError, ModelError
from schemas.ids import random_id

PROVIDER = "scripted"
CHARS_A_TOKEN = 4  # a common rule of thumb for English; only an estimate
REMEMBERED_FAILURES = 10_000  # questions whose failures are counted at a time


class ScriptedModel:
    """A `ModelPort` that follows scripts; the first whose `model` fits the request's is taken."""

    def __init__(self, scripts: Iterable[Script], *, sleep: Sleep = asyncio.sleep) -> None:
        self._scripts = [(script, [_Reply.of(rule) for rule in script.rules]) for script in scripts]
        self._sleep = sleep
        self._failures: dict[tuple[str, int, str, int], int] = {}

    @classmethod
    def from_yaml(cls, *paths: Path, sleep: Sleep = asyncio.sleep) -> "ScriptedModel":
        """Load script files, and all `*.yaml` of folders, by name.

        Raises:
            ConfigurationError: there is none, or one is not a script.
        """
        files = [file for path in paths for file in (sorted(path.glob("*.yaml")) if path.is_dir() else [path])]
        if not files:
            raise ConfigurationError(
                f"there is no script in {', '.join(repr(str(path)) for path in paths) or 'no path'}"
            )
        return cls([load_script(file) for file in files], sleep=sleep)

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Return what the first rule that fits says.

        Raises:
            ModelError: a rule fails; or, with reason `script`, no rule fits or a path leads nowhere.
        """
        script, replies = self._script(request.model)
        conversation = Conversation(request)
        for position, reply in enumerate(replies):
            if not fits(reply.rule.when, conversation):
                continue
            latency_ms = script.latency_ms if reply.rule.latency_ms is None else reply.rule.latency_ms
            if latency_ms:
                await self._sleep(latency_ms / 1_000)
            self._fail_if_due(script, position, reply.rule, request)
            if reply.answers:
                return replace(reply.reply(conversation), latency_ms=latency_ms)
        so_far = ", ".join(conversation.called) or "no tool"
        raise script_error(
            f"the script of model {request.model!r} has no rule for step {request.step} after {so_far}: add one"
        )

    def _script(self, model: str) -> "tuple[Script, list[_Reply]]":
        for script, replies in self._scripts:
            if matches(script.model, model):
                return script, replies
        known = ", ".join(sorted(script.model for script, _ in self._scripts))
        raise script_error(f"no script for model {model!r}; there are scripts for: {known}")

    def _fail_if_due(self, script: Script, position: int, rule: Rule, request: ModelRequest) -> None:
        fail = rule.fail
        if fail is None:
            return
        if fail.times is not None:
            key = (script.model, position, request.execution_id, request.step)
            failed = self._failures.pop(key, 0)
            if failed >= fail.times:
                return
            if len(self._failures) >= REMEMBERED_FAILURES:
                self._failures.pop(next(iter(self._failures)))  # the oldest: its run was given up
            self._failures[key] = failed + 1
        raise ModelError(fail.message, reason=fail.reason, retryable=fail.retryable)


@dataclass(frozen=True, slots=True)
class _Reply:
    """A rule with its templates compiled."""

    rule: Rule
    say: Filled
    calls: tuple[tuple[Call, Filled], ...]

    @classmethod
    def of(cls, rule: Rule) -> "_Reply":
        return cls(rule, compiled(rule.say), tuple((call, compiled(call.arguments)) for call in rule.call))

    @property
    def answers(self) -> bool:
        """Whether there is a reply behind the rule's failures; if not, the rules after it are asked."""
        return bool(self.rule.say or self.rule.call or self.rule.finish_reason)

    def reply(self, seen: Conversation) -> ModelReply:
        request = seen.request
        try:
            text = self.say(seen)
            calls = tuple(
                ToolCall(id=f"call_{request.step}_{position}", name=call.tool, arguments=arguments(seen))
                for position, (call, arguments) in enumerate(self.calls, start=1)
            )
        except MissingError as error:
            raise script_error(
                f"the script of model {request.model!r} asks for {error}, which the conversation does not have: "
                "give it a default after a bar"
            ) from error
        text = text if isinstance(text, str) else orjson.dumps(text).decode()
        return ModelReply(
            reply_id=random_id(),
            provider=PROVIDER,
            model=request.model,
            text=text,
            tool_calls=calls,
            finish_reason=self.rule.finish_reason or ("tool_calls" if calls else "stop"),
            usage=self.rule.usage or estimated_usage(request, text, calls),
        )


def estimated_usage(request: ModelRequest, text: str, calls: tuple[ToolCall, ...]) -> Usage:
    """Return an estimate of the tokens, the same for the same conversation. Parameters of tools are not counted."""
    asked = sum(len(message.content) + _chars(message.tool_calls) for message in request.messages)
    asked += sum(len(tool.name) + len(tool.description) for tool in request.tools)
    answered = len(text) + _chars(calls)
    return Usage(input_tokens=-(-asked // CHARS_A_TOKEN), output_tokens=-(-answered // CHARS_A_TOKEN))


def _chars(calls: tuple[ToolCall, ...]) -> int:
    return sum(len(call.name) + len(orjson.dumps(call.arguments)) for call in calls)
