import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import yaml

from infra.models.script import Script
from infra.models.scripted import PROVIDER, ScriptedModel
from infra.models.templates import MissingError, compiled, parse_path
from processors.executions.prompt import first_messages, outcome_text
from processors.models.call import call_model
from processors.models.port import ModelReply, ModelRequest
from processors.tools.registry import BUILTIN, Registry
from processors.tools.validation import validator_for
from schemas.agents import AgentConfig
from schemas.chat import ChatMessage, Usage
from schemas.errors import ConfigurationError, ModelError
from schemas.ids import ExecutionId, SiteId, agent_id_of
from schemas.message import Json, JsonObject
from schemas.module_events import Trigger

EXAMPLES = Path(__file__).parents[2] / "examples"
SITE = SiteId("5d9c3f0a-6a0e-4f43-9c0e-2b1d6a7f1c11")
CONTACT_ID = "7b1f0c52-3d0e-4a67-9a51-0f6c2f1d8e01"
EVENT = {"contact_id": CONTACT_ID, "email": "maya@example.com", "names": ["Maya", "Okafor"], "company": None}


def ask(
    *,
    data: Json = EVENT,
    event_type: str = "crm.contact.created",
    model: str = "probe",
    agent: str = "sdr",
    system: str = "You sell.",
) -> ModelRequest:
    told = {"trigger": {"type": "event", "event_type": event_type, "data": data}, "entity": None}
    block = orjson.dumps(told, option=orjson.OPT_INDENT_2).decode()
    return ModelRequest(
        site_id=SITE,
        agent_id=agent_id_of(SITE, agent),
        execution_id=ExecutionId("run-1"),
        step=1,
        provider=PROVIDER,
        model=model,
        messages=(
            ChatMessage(role="system", content=system),
            ChatMessage(role="user", content=f"This woke you.\n```json\n{block}\n```\nGo."),
        ),
        tools=BUILTIN,
    )


def after(request: ModelRequest, reply: ModelReply, *outcomes: JsonObject) -> ModelRequest:
    """The next question, when the calls of `reply` ended in `outcomes`."""
    said = ChatMessage(role="assistant", content=reply.text, tool_calls=reply.tool_calls)
    results = tuple(
        ChatMessage(role="tool", content=json.dumps(outcome), tool_call_id=call.id)
        for call, outcome in zip(reply.tool_calls, outcomes, strict=True)
    )
    return replace(request, step=request.step + 1, messages=(*request.messages, said, *results))


def model(*rules: JsonObject, **script: Json) -> ScriptedModel:
    return ScriptedModel([Script.model_validate({"model": "*", "rules": rules, **script})])


def call(tool: str, **arguments: Json) -> JsonObject:
    return {"tool": tool, "with": arguments}


async def said(scripted: ScriptedModel, request: ModelRequest) -> str:
    return (await scripted.complete(request)).text


# --- replies --------------------------------------------------------------------------------------------------------


async def test_holes_are_filled_from_the_trigger_with_their_types() -> None:
    rule = {
        "say": "Hello {{trigger.data.names[0]}} of {{trigger.data.company|somewhere}}: {{trigger.data.names}}",
        "call": [call("crm_get_contact", contact_id="{{trigger.data.contact_id}}", names="{{ trigger.data.names }}")],
    }
    reply = await model(rule).complete(ask())
    assert reply.text == 'Hello Maya of somewhere: ["Maya","Okafor"]'
    assert reply.tool_calls[0].arguments == {"contact_id": CONTACT_ID, "names": ["Maya", "Okafor"]}
    assert reply.finish_reason == "tool_calls"
    assert reply.provider == "scripted"


async def test_what_fills_a_hole_is_not_a_template() -> None:
    rule = {"say": "{{trigger.data.email}}"}
    assert await said(model(rule), ask(data={"email": "{{trigger.id}} ```"})) == "{{trigger.id}} ```"


async def test_results_of_earlier_calls_fill_later_replies() -> None:
    scripted = model(
        {"when": {"step": 1}, "call": [call("crm_get_contact"), call("crm_search_contacts")]},
        {"say": "{{tools.crm_get_contact.first_name}}, {{tools.crm_search_contacts.contacts[1].id}}, {{step}}"},
    )
    first = await scripted.complete(ask())
    assert [made.id for made in first.tool_calls] == ["call_1_1", "call_1_2"]
    found = {"ok": True, "output": {"contacts": [{"id": 1}, {"id": 2}]}}
    second = after(ask(), first, {"ok": True, "output": {"first_name": "Maya"}}, found)
    assert await said(scripted, second) == "Maya, 2, 2"


async def test_a_failed_call_leaves_the_output_before_it() -> None:
    scripted = model(
        {"when": {"step": [1, 2]}, "call": [call("crm_get_contact")]}, {"say": "{{tools.crm_get_contact.id}}"}
    )
    request = ask()
    request = after(request, await scripted.complete(request), {"ok": True, "output": {"id": "kept"}})
    request = after(request, await scripted.complete(request), {"ok": False, "error": "gone"})
    assert await said(scripted, request) == "kept"


async def test_a_second_reply_to_one_question_is_a_second_reply() -> None:
    scripted, request = model({"say": "same"}), ask()
    one, two = await scripted.complete(request), await scripted.complete(request)
    assert one.reply_id != two.reply_id
    assert replace(one, reply_id="") == replace(two, reply_id="")


async def test_tokens_are_estimated_from_the_texts() -> None:
    reply = await model({"say": "x" * 41}).complete(replace(ask(system="y" * 400), tools=()))
    assert reply.usage.output_tokens == 11
    assert 100 < reply.usage.input_tokens < 250
    assert (await model({"say": "x", "usage": {"input_tokens": 7}}).complete(ask())).usage == Usage(input_tokens=7)


async def test_latency_is_waited_and_told() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    script = Script.model_validate({"model": "*", "latency_ms": 400, "rules": [{"say": "slow"}]})
    reply = await ScriptedModel([script], sleep=sleep).complete(ask())
    assert waits == [0.4]
    assert reply.latency_ms == 400


async def test_it_reads_the_prompts_that_runs_make() -> None:
    config = AgentConfig.model_validate(yaml.safe_load((EXAMPLES / "agents" / "sdr.yaml").read_text()))
    data = {"contact_id": CONTACT_ID, "note": "```json\n{}\n``` {{trigger.id}}"}
    trigger = Trigger(
        type="event", source="/crm", id="e-1", event_type="crm.contact.created", time_ms=0, data=data, subject="s"
    )
    scripted = model(
        {"when": {"event": "crm.*", "step": 1}, "say": "{{trigger.data.note}}", "call": [call("crm_get_contact")]},
        {"say": "{{trigger.subject}} {{entity.plan}} {{tools.crm_get_contact.id}}"},
    )
    request = replace(ask(), messages=first_messages(config, trigger, (), {"plan": "pro"}))
    first = await scripted.complete(request)
    assert first.text == data["note"]
    request = after(request, first, json.loads(outcome_text({"id": 7}, None)))
    assert await said(scripted, request) == "s pro 7"


# --- conditions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ({}, True),
        ({"agent": "sdr"}, True),
        ({"agent": "other"}, False),
        ({"event": "crm.*"}, True),
        ({"event": "form.*"}, False),
        ({"system": "You sell"}, True),
        ({"system": "You s.ll"}, False),
        ({"step": 1}, True),
        ({"step": [2, 3]}, False),
        ({"final": False}, True),
        ({"final": True}, False),
        ({"called": ["crm_get_contact"]}, False),
        ({"not_called": ["crm_get_contact"]}, True),
        ({"last_ok": True}, False),
        ({"last_ok": False}, False),
        ({"equals": {"trigger.data.names[1]": "Okafor"}}, True),
        ({"equals": {"trigger.data.names[9]": "Okafor"}}, False),
        ({"at_least": {"step": 1}, "below": {"step": 2}}, True),
        ({"at_least": {"trigger.data.email": 1}}, False),
    ],
)
async def test_a_rule_fits_where_all_it_names_holds(when: JsonObject, holds: bool) -> None:
    assert await said(model({"when": when, "say": "yes"}, {"say": "no"}), ask()) == ("yes" if holds else "no")


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ({"last_tool": "task_*"}, True),
        ({"last_tool": "email_*"}, False),
        ({"last_ok": False}, True),
        ({"last_ok": True}, False),
        ({"last_contains": "not allowed"}, True),
        ({"called": ["crm_get_contact", "task_create"]}, True),
        ({"not_called": ["task_create"]}, False),
    ],
)
async def test_a_rule_can_look_at_the_last_results(when: JsonObject, holds: bool) -> None:
    scripted = model(
        {"when": {"step": 1}, "call": [call("crm_get_contact"), call("task_create")]},
        {"when": when, "say": "yes"},
        {"say": "no"},
    )
    first = await scripted.complete(ask())
    request = after(ask(), first, {"ok": True, "output": 1}, {"ok": False, "error": "not allowed"})
    assert await said(scripted, request) == ("yes" if holds else "no")


async def test_the_script_is_chosen_by_the_name_of_the_model() -> None:
    scripts = [Script.model_validate({"model": name, "rules": [{"say": name}]}) for name in ("sdr", "form_*")]
    assert await said(ScriptedModel(scripts), ask(model="form_triage")) == "form_*"
    with pytest.raises(ModelError, match="no script for model 'other'"):
        await ScriptedModel(scripts).complete(ask(model="other"))


async def test_a_prompt_without_a_json_block_has_no_trigger() -> None:
    request = replace(ask(), messages=(ChatMessage(role="user", content="Hi"),))
    assert await said(model({"when": {"event": "*"}, "say": "{{trigger.data.x|none}}"}), request) == "none"


# --- failures -------------------------------------------------------------------------------------------------------


async def test_a_rule_fails_so_many_times_for_each_question_and_then_answers() -> None:
    scripted = model({"fail": {"reason": "rate_limited", "times": 2}, "say": "at last"})

    async def no_wait(_: float) -> None:
        return

    for execution_id in ("run-1", "run-2"):
        request = replace(ask(), execution_id=ExecutionId(execution_id))
        with pytest.raises(ModelError, match="the script says so") as raised:
            await scripted.complete(request)
        assert (raised.value.reason, raised.value.retryable) == ("rate_limited", True)
        assert (await call_model(scripted, request, sleep=no_wait)).text == "at last"


async def test_a_rule_that_only_fails_gives_way_when_it_has_failed_enough() -> None:
    scripted = model({"fail": {"reason": "busy", "times": 1}}, {"say": "next rule"})
    with pytest.raises(ModelError):
        await scripted.complete(ask())
    assert await said(scripted, ask()) == "next rule"


async def test_a_rule_can_fail_for_good() -> None:
    scripted = model({"fail": {"reason": "refused", "retryable": False}})
    for _ in range(3):
        with pytest.raises(ModelError) as raised:
            await scripted.complete(ask())
        assert not raised.value.retryable


async def test_what_the_conversation_lacks_is_named() -> None:
    with pytest.raises(ModelError, match=r"trigger\.data\.phone") as raised:
        await model({"say": "{{trigger.data.phone}}"}).complete(ask())
    assert raised.value.reason == "script"


async def test_a_script_that_ends_too_early_says_where() -> None:
    with pytest.raises(ModelError, match="no rule for step 1 after no tool"):
        await model({"when": {"step": 2}, "say": "late"}).complete(ask())


# --- files and templates --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: sdr\nrules: []", "rules"),
        ("model: sdr\nrules: [{when: {steps: 1}, say: x}]", r"rules\.0\.when\.steps"),
        ("model: sdr\nrules: [{}]", "must say, call or fail"),
        ("model: sdr\nrules: [{say: '{{1 + 1}}'}]", "is not a path"),
        ("model: sdr\nrules: [{say: x, when: {equals: {'a b': 1}}}]", "is not a path"),
        ("model: [", "can't read"),
        ("- 1", "the file"),
    ],
)
def test_a_file_that_is_no_script_is_refused_with_the_place(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        ScriptedModel.from_yaml(file)


def test_a_missing_file_or_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't read"):
        ScriptedModel.from_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigurationError, match="no script"):
        ScriptedModel.from_yaml(tmp_path)


@pytest.mark.parametrize("path", ["a..b", ".a", "a[", "a[x]", "a.__class__()", "", "a b", "a[1", "1a"])
def test_only_names_dots_and_indexes_are_paths(path: str) -> None:
    with pytest.raises(ValueError, match="is not a path"):
        parse_path(path)


def test_a_path_walks_json_and_never_objects() -> None:
    class Scene:
        def root(self, name: str) -> Json:
            return {"a": ["x"], "text": "abc"}[name]

    assert compiled("{{a[0]}}")(Scene()) == "x"
    for path in ("a.append", "a.0", "text[0]", "text.upper", "a[1]", "a.__class__", "missing"):
        with pytest.raises(MissingError):
            compiled("{{" + path + "}}")(Scene())


# --- the examples ---------------------------------------------------------------------------------------------------


def _examples() -> Iterator[tuple[str, JsonObject]]:
    triggers = {"contact_created": "sdr", "form_submitted": "form_triage", "booking_created": "booking_prep"}
    for file, agent in triggers.items():
        for line in (EXAMPLES / "events" / f"{file}.jsonl").read_text().splitlines():
            yield agent, json.loads(line)


OUTPUTS: JsonObject = {
    "crm_get_contact": {
        "id": CONTACT_ID,
        "email": "maya.okafor@lindqvist.example.com",
        "first_name": "Maya",
        "last_name": "Okafor",
        "company": "Lindqvist Logistics",
        "status": "lead",
    },
    "crm_search_contacts": {"contacts": [], "count": 0},
}


async def run_example(agent: str, data: Json, event_type: str, *, ok: bool = True) -> list[list[str]]:
    """Let an example agent's script run to its end and return the tools that each step called."""
    config = AgentConfig.model_validate(yaml.safe_load((EXAMPLES / "agents" / f"{agent}.yaml").read_text()))

    async def no_wait(_: float) -> None:
        await asyncio.sleep(0)

    scripted = ScriptedModel.from_yaml(EXAMPLES / "scripts", sleep=no_wait)
    visible = Registry(BUILTIN).visible(config.allowed_tools, config.denied_tools, ["crm", "email"])
    request = replace(ask(data=data, event_type=event_type, model=config.llm_model), tools=visible)
    steps: list[list[str]] = []
    while request.step <= config.max_steps_per_run:
        reply = await scripted.complete(request)
        assert reply.text
        if not reply.tool_calls:
            return steps
        assert len(reply.tool_calls) <= config.max_tool_calls_per_step
        for made in reply.tool_calls:
            tool = next(tool for tool in visible if tool.name == made.name)
            assert validator_for(tool)(made.arguments) is None
        steps.append([made.name for made in reply.tool_calls])
        outcomes = [
            {"ok": True, "output": OUTPUTS.get(made.name, {})} if ok else {"ok": False, "error": "no"}
            for made in reply.tool_calls
        ]
        request = after(request, reply, *outcomes)
    raise AssertionError(f"{agent} did not come to an end")


@pytest.mark.parametrize(("agent", "event"), list(_examples()), ids=lambda value: str(value)[:12])
@pytest.mark.parametrize("ok", [True, False])
async def test_every_example_event_is_worked_through_by_its_agent(agent: str, event: JsonObject, ok: bool) -> None:
    assert event["siteid"] == SITE
    assert await run_example(agent, event["data"], event["type"], ok=ok)


async def test_the_sales_agent_takes_four_steps_to_a_draft() -> None:
    assert await run_example("sdr", EVENT, "crm.contact.created") == [
        ["crm_get_contact", "crm_search_contacts"],
        ["crm_add_note", "task_create"],
        ["email_draft"],
    ]


async def test_the_sales_agent_drafts_nothing_for_a_tiny_company(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {**OUTPUTS["crm_get_contact"], "custom_fields": {"employees": 4}}
    monkeypatch.setitem(OUTPUTS, "crm_get_contact", small)
    assert await run_example("sdr", EVENT, "crm.contact.created") == [
        ["crm_get_contact", "crm_search_contacts"],
        ["crm_add_note"],
    ]


@pytest.mark.parametrize("event_type", ["form.submitted", "schedule.hourly"])
async def test_the_sales_agent_comes_to_an_end_on_its_other_triggers(event_type: str) -> None:
    assert await run_example("sdr", {"fields": {"email": "a@example.com"}}, event_type) == [["crm_search_contacts"]]
