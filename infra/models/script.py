"""A script for the `scripted` model: rules, the first that fits the conversation gives the reply.

    model: sdr                    # agents with llm_provider: scripted and llm_model: sdr follow this script
    latency_ms: 300               # how long each reply takes
    rules:
      - when: {event: crm.contact.created, step: 1}
        say: I look the contact up.
        call:
          - tool: crm_get_contact
            with: {contact_id: "{{trigger.data.contact_id}}"}
      - when: {called: [crm_get_contact]}
        say: "{{tools.crm_get_contact.first_name|The contact}} is a good fit."

Holes begin at `trigger` or `entity` (of the prompt), `tools` (each tool's last output that was not an error) or `step`.
"""

from pathlib import Path

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from infra.models.templates import compiled, parse_path
from schemas.agent_rules import Glob, Slug
from schemas.chat import FinishReason, Usage
from schemas.errors import ConfigurationError
from schemas.message import Json, JsonObject, Message


class When(Message):
    """What must hold for a rule; everything named must. Without anything, a rule always fits.

    `agent` is a slug; `event` a glob of the trigger's event type; `system` a text within the system prompts;
    `step` a number from 1, or several; `called` and `not_called` name tools; `final`: no tools are offered.
    `last_*` look at the results that the last reply's calls gave: `last_tool` was among the calls, `last_ok`
    says whether all went well, `last_contains` is a text within one. `equals`, `at_least` and `below` compare
    what stands at paths; where nothing stands, they do not hold.
    """

    agent: Slug | None = None
    event: Glob | None = None
    system: str | None = None
    step: int | tuple[int, ...] | None = None
    final: bool | None = None
    called: tuple[str, ...] = ()
    not_called: tuple[str, ...] = ()
    last_tool: Glob | None = None
    last_ok: bool | None = None
    last_contains: str | None = None
    equals: dict[str, Json] = Field(default_factory=dict)
    at_least: dict[str, float] = Field(default_factory=dict)
    below: dict[str, float] = Field(default_factory=dict)

    @field_validator("equals", "at_least", "below")
    @classmethod
    def _paths(cls, compared: dict[str, Json]) -> dict[str, Json]:
        for path in compared:
            parse_path(path)
        return compared


class Call(Message):
    """A tool call; its arguments may have holes."""

    tool: str = Field(min_length=1, max_length=200)
    arguments: JsonObject = Field(default_factory=dict, alias="with")

    @field_validator("arguments")
    @classmethod
    def _holes(cls, arguments: JsonObject) -> JsonObject:
        compiled(arguments)
        return arguments


class Fail(Message):
    """A failure instead of a reply: the first `times` questions of each step, or all of them."""

    reason: str = Field(min_length=1, max_length=100)
    message: str = "the script says so"
    retryable: bool = True
    times: int | None = Field(default=None, ge=1)


class Rule(Message):
    """When it fits, fail, or else say something and call tools, side by side."""

    when: When = When()
    fail: Fail | None = None
    say: str = ""
    call: tuple[Call, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    latency_ms: int | None = Field(default=None, ge=0, le=600_000)

    @field_validator("say")
    @classmethod
    def _holes(cls, say: str) -> str:
        compiled(say)
        return say

    @model_validator(mode="after")
    def _does_something(self) -> "Rule":
        if not (self.say or self.call or self.fail or self.finish_reason):
            raise ValueError("a rule must say, call or fail")
        return self


class Script(Message):
    """The rules of one model; `model` is a glob of the model names that follow it."""

    model: Glob
    latency_ms: int = Field(default=0, ge=0, le=600_000)
    rules: tuple[Rule, ...] = Field(min_length=1, max_length=1_000)


def load_script(path: Path) -> Script:
    """Return the script in a YAML file.

    Raises:
        ConfigurationError: it can't be read, or is not a script; says where.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"can't read the script {str(path)!r}: {' '.join(str(error).split())}") from error
    try:
        return Script.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(step) for step in problem['loc']) or 'the file'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_context=False)[:5]
        )
        raise ConfigurationError(f"{str(path)!r} is not a script: {problems}") from error
