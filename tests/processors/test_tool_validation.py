import math

import pytest

from processors.tools.builtin.crm import GET_CONTACT, UPDATE_CONTACT
from processors.tools.registry import BUILTIN, Registry
from processors.tools.validation import validator_for
from schemas.catalogue import ToolDefinition
from schemas.errors import ConfigurationError, NotFoundError
from schemas.message import JsonObject

CONTACT_ID = "7b1f0c52-3d0e-4a67-9a51-0f6c2f1d8e01"
GOOD: dict[str, JsonObject] = {
    "crm_get_contact": {"email": "maya@example.com"},
    "crm_search_contacts": {"query": "", "tags": ["lead"], "status": "lead", "limit": 100},
    "crm_create_contact": {"email": "maya@example.com", "custom_fields": {"employees": 12}},
    "crm_update_contact": {"contact_id": CONTACT_ID, "updates": {"status": "customer"}},
    "crm_add_note": {"contact_id": CONTACT_ID, "content": "called", "type": "call"},
    "email_send": {"to": ["maya@example.com"], "subject": "Hello", "body": "…", "template_id": "t1"},
    "email_draft": {"to": ["maya@example.com"], "subject": "Hello", "body": "…"},
    "delegate": {"agent": "sales", "task": "Call.", "context": {"id": 1}},
    "data_query": {"entity_type": "contacts", "filters": {"status": "lead"}, "limit": 200, "order_by": "-created_at"},
    "data_aggregate": {"entity_type": "executions", "metric": "count", "date_range": {"from": "2026-01-01"}},
    "web_search": {"query": "joinery", "num_results": 20},
    "web_scrape": {"url": "https://example.com/prices", "selector": "main p"},
    "notify_user": {"user_id": "u1", "message": "Look.", "channel": "in_app"},
    "trigger_workflow": {"workflow_id": "w1", "input_data": {"a": 1}},
    "calendar_create_event": {
        "title": "Fitting",
        "start_time": "2026-03-01T09:00:00Z",
        "end_time": "2026-03-01T10:00:00Z",
        "attendees": ["maya"],
    },
    "calendar_check_availability": {"start_time": "2026-03-01T09:00:00Z", "end_time": "2026-03-01T10:00:00Z"},
    "wait": {"seconds": 3_600},
    "finish": {"result": "Done."},
    "remember": {"content": "She likes tea.", "subject": "contact:maya", "kind": "preference"},
    "recall": {"query": "tea", "subject": "contact:maya", "limit": 20},
    "task_create": {"title": "Call", "due_date": "2026-03-01T09:00:00Z", "priority": "high"},
}


def tool(parameters: JsonObject, name: str = "probe") -> ToolDefinition:
    return ToolDefinition(
        name=name, display_name="", description="", category="", parameters=parameters, handler_type="internal"
    )


def problem(arguments: JsonObject, checked: ToolDefinition = GET_CONTACT) -> str:
    found = validator_for(checked)(arguments)
    assert found is not None
    return found


@pytest.mark.parametrize("checked", BUILTIN, ids=lambda checked: checked.name)
def test_every_built_in_tool_takes_what_it_is_for_and_nothing_else(checked: ToolDefinition) -> None:
    good = GOOD[checked.name]
    check = validator_for(checked)
    assert check(good) is None
    assert check({**good, "site_id": "another"}) is not None
    assert all(check({name: value for name, value in good.items() if name != missing}) for missing in required(checked))


def required(checked: ToolDefinition) -> list[str]:
    names: list[str] = checked.parameters.get("required", [])
    return names


@pytest.mark.parametrize("checked", BUILTIN, ids=lambda checked: checked.name)
def test_every_built_in_parameter_is_described(checked: ToolDefinition) -> None:
    assert all(field.get("description") for field in checked.parameters["properties"].values())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "the arguments must have contact_id or must have email"),
        ({"contact_id": CONTACT_ID, "email": "a@example.com"}, "exactly one of the alternatives"),
        ({"email": "nobody"}, "email must be in the format email"),
        ({"contact_id": 7}, "contact_id must be string"),
        ({"contact_id": CONTACT_ID, "extra": 1}, "must not have extra"),
        ({"contact_id": math.nan}, "contact_id must be string"),
        ({"contact_id": CONTACT_ID, "\ud800": 1}, "can't be read"),
    ],
)
def test_a_problem_names_its_place_and_what_would_fit(arguments: JsonObject, words: str) -> None:
    assert words in problem(arguments)


def test_a_field_that_a_model_made_up_is_refused_in_updates() -> None:
    arguments = {"contact_id": CONTACT_ID, "updates": {"site_id": "x", "email": "new@example.com"}}
    assert "updates must not have email, site_id" in problem(arguments, UPDATE_CONTACT)


def test_a_place_in_an_array_is_shown_by_its_index() -> None:
    arguments = {"to": ["a@example.com", "b"], "subject": "s", "body": "b"}
    assert "to[1] must be in the format email" in problem(arguments, Registry(BUILTIN).get("email_draft"))


def test_a_subject_can_not_begin_another_header() -> None:
    arguments = {"to": ["a@example.com"], "subject": "s\r\nBcc: all@example.com", "body": "b"}
    assert "subject must match" in problem(arguments, Registry(BUILTIN).get("email_send"))


@pytest.mark.parametrize(
    "address",
    [
        "Ann <ann@press.example>",
        "<ann@press.example>",
        '"ann@press.example, "@example.com',
        '"a b"@example.com',
        "ann@[127.0.0.1]",
        "ann@press.example,bob@example.com",
        "ann@press.example\n",
        "ann@one@two.example",
    ],
)
def test_an_address_has_one_form_so_that_rules_over_it_hold(address: str) -> None:
    registry = Registry(BUILTIN)
    for name in ("email_send", "email_draft"):
        arguments: JsonObject = {"to": [address], "subject": "s", "body": "b"}
        assert problem(arguments, registry.get(name)).startswith("The arguments don't fit: to[0] must")
    for name in ("crm_get_contact", "crm_create_contact"):
        assert "email must" in problem({"email": address}, registry.get(name))


@pytest.mark.parametrize("address", ["maya@example.com", "o'neil+tag@mail.example.co.uk", "a@xn--bcher-kva.example"])
def test_a_plain_address_is_one(address: str) -> None:
    assert validator_for(GET_CONTACT)({"email": address}) is None
    sent = {"to": [address], "subject": "s", "body": "b"}
    assert validator_for(Registry(BUILTIN).get("email_send"))(sent) is None


def test_a_long_list_of_problems_is_counted_not_told() -> None:
    checked = tool({"type": "object", "required": [f"field_{n}" for n in range(9)]})
    assert problem({}, checked).endswith("; and 6 more.")


def test_what_callers_write_is_shown_in_part_only() -> None:
    assert len(problem({"x" * 100_000: 1})) < 1_000


def test_arguments_nested_without_end_are_refused() -> None:
    nested: JsonObject = {}
    for _ in range(10_000):
        nested = {"a": nested}
    assert "can't be read" in problem({"contact_id": nested})


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"$ref": "https://example.com/s.json"},
        {"$ref": "file:///etc/passwd"},
        {"pattern": "(?=a)"},
    ],
)
def test_a_schema_that_is_broken_or_leads_outside_is_refused(schema: JsonObject) -> None:
    with pytest.raises(ConfigurationError, match="'probe'"):
        Registry([tool(schema)])


def test_a_pattern_takes_linear_time() -> None:
    checked = tool({"properties": {"a": {"pattern": "^(a+)+$"}}})
    assert "a must match" in problem({"a": "a" * 50_000 + "!"}, checked)


def test_a_schema_is_compiled_once() -> None:
    assert validator_for(GET_CONTACT) is validator_for(GET_CONTACT.model_copy(deep=True))


# --- the registry ---------------------------------------------------------------------------------------------------


def names(*allowed: str, denied: tuple[str, ...] = (), modules: tuple[str, ...] = ("crm", "email")) -> list[str]:
    return [found.name for found in Registry(BUILTIN).visible(allowed, denied, modules)]


def test_an_agent_sees_what_its_globs_allow_in_order_of_name() -> None:
    assert names("task_*", "crm_get_*") == ["crm_get_contact", "task_create"]


def test_a_denied_tool_is_not_seen() -> None:
    assert names("email_*", denied=("*_send",)) == ["email_draft"]


def test_a_tool_of_a_module_that_the_site_lacks_is_not_seen() -> None:
    assert names("*", modules=()) == [
        *("data_aggregate", "data_query", "delegate", "email_draft", "finish", "notify_user", "recall", "remember"),
        *("task_create", "trigger_workflow", "wait", "web_scrape", "web_search"),
    ]


def test_the_order_of_registration_does_not_show() -> None:
    assert Registry(reversed(BUILTIN)).visible(["*"], [], ["crm", "email"]) == Registry(BUILTIN).visible(
        ["*"], [], ["crm", "email"]
    )


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ConfigurationError, match="'crm_get_contact' already"):
        Registry([GET_CONTACT, GET_CONTACT])


def test_an_unknown_tool_is_named_with_those_that_are_known() -> None:
    with pytest.raises(NotFoundError, match=r"'nope'.*crm_get_contact"):
        Registry([GET_CONTACT]).get("nope")


def test_all_tools_of_the_specification_are_there() -> None:
    assert {
        *("crm_get_contact", "crm_search_contacts", "crm_create_contact", "crm_update_contact", "crm_add_note"),
        *("email_send", "email_draft", "calendar_create_event", "calendar_check_availability", "task_create"),
        *("data_query", "data_aggregate", "web_search", "web_scrape", "wait", "notify_user", "trigger_workflow"),
    } <= {tool.name for tool in BUILTIN}


def test_what_can_not_be_called_back_is_dangerous() -> None:
    assert sorted(found.name for found in BUILTIN if found.is_dangerous) == ["email_send", "trigger_workflow"]
