"""What a person wrote becomes a configuration, or everything that is wrong with it is said: field, and fix."""

from typing import Any

import pytest

from processors.agents.reading import read_config
from schemas.agent_rules import duration_s
from schemas.agents import AgentConfig
from schemas.errors import InvalidAgentError
from schemas.message import Json

PLAIN: dict[str, Any] = {"slug": "sales", "name": "Sales", "type": "specialist", "system_prompt": "Sell."}
BOSS = PLAIN | {"type": "orchestrator", "managed_agents": ["helper", "health_monitor"]}
GUARDIAN = PLAIN | {"type": "guardian"}
RULE = {"name": "Logins", "event": "auth.login.failed", "threshold": 5, "window": "5m"}


def faults(told: Json) -> dict[str, str]:
    """Return what is told of each field."""
    with pytest.raises(InvalidAgentError) as caught:
        read_config(told)
    return {fault.where: fault.message for fault in caught.value.faults}


def fault(told: Json) -> tuple[str, str]:
    """Return the only fault."""
    ((where, message),) = faults(told).items()
    return where, message


def test_every_fault_is_told_at_once_with_its_path() -> None:
    found = faults(
        PLAIN
        | {
            "type": "specalist",
            "temperature": 5,
            "goals": [{"name": "ok"}, {"name": "Win", "priority": 11, "metrik": "won"}],
            "allowed_tools": "crm_*",
            "maxSteps": 3,
        }
    )
    wrong = {"goals[1].metrik", "maxSteps", "agent_type", "temperature", "allowed_tools", "goals[1].priority"}
    assert set(found) == wrong
    assert found["goals[1].metrik"].endswith("did you mean 'metric'?")
    assert found["maxSteps"].endswith("did you mean 'max_steps_per_run'?")
    assert found["agent_type"].endswith("did you mean 'specialist'?")
    assert found["temperature"] == "may be at most 2.0, and is 5"
    assert found["allowed_tools"] == "must be a list, such as [one, two], and is 'crm_*'"


def test_names_of_the_specification_are_taken_as_ours() -> None:
    told = {
        "name": "CS Orchestrator",
        "type": "orchestrator",
        "personality": "You coordinate.",
        "systemPrompt": "Delegate.",
        "managedAgents": ["health_monitor"],
        "delegationRules": [{"condition": "data.health_score < 50", "agent": "health_monitor", "priority": "high"}],
        "goals": [{"name": "Health", "successMetric": "avg_health_score", "targetValue": 80, "isRecurring": False}],
        "allowedTools": ["crm_*"],
        "maxStepsPerRun": 7,
    }
    config = read_config(told)
    assert (config.slug, config.system_prompt, config.max_steps_per_run) == ("cs_orchestrator", "Delegate.", 7)
    assert (config.managed_agents, config.delegation_rules[0].priority) == (("health_monitor",), "high")
    (goal,) = config.goals
    assert (goal.metric, goal.target, goal.is_recurring) == ("avg_health_score", 80, False)
    assert config == read_config(config.model_dump(mode="json"))


def test_a_field_under_two_names_is_given_once() -> None:
    assert fault(PLAIN | {"agentType": "analyst"}) == ("agentType", "this is 'agent_type' once more: give it once")


def test_a_personality_alone_may_say_what_to_do() -> None:
    told = {"name": "Alex", "type": "assistant", "personality": "You help."}
    assert (read_config(told).slug, read_config(told).system_prompt) == ("alex", "")
    assert fault(told | {"personality": " ", "systemPrompt": ""})[0] == "system_prompt"


@pytest.mark.parametrize(
    ("field", "value", "owner"),
    [
        ("managed_agents", ["helper"], "an orchestrator"),
        ("report_templates", ["weekly_performance"], "an analyst"),
        ("monitoring_rules", [RULE], "a guardian"),
    ],
)
def test_what_only_one_type_has_is_refused_for_the_others(field: str, value: Json, owner: str) -> None:
    where, message = fault(PLAIN | {field: value})
    assert where == field
    assert message.startswith(f"only {owner} has ")
    assert "or leave the field out" in message
    assert getattr(read_config(PLAIN | {field: value, "type": owner.split()[1]}), field)


def test_a_rule_of_delegation_names_a_managed_agent() -> None:
    where, message = fault(BOSS | {"delegation_rules": [{"condition": "true", "agent": "health_monitr"}]})
    assert where == "delegation_rules[0].agent"
    assert message.endswith("did you mean 'health_monitor'?")
    assert fault(BOSS | {"managed_agents": ["sales"]}) == (
        "managed_agents[0]",
        "an agent can't manage itself: leave it out",
    )


def test_what_forced_rules_tell_one_agent_fits_into_a_task() -> None:
    rules = [{"condition": "true", "agent": "health_monitor", "mode": "force", "instructions": "x" * 6_000}] * 2
    assert fault(BOSS | {"delegation_rules": rules}) == (
        "delegation_rules[1].instructions",
        "what rules that are forced tell one agent may have 10,000 characters together: say it more briefly",
    )
    proposed = [rule | {"mode": "propose"} for rule in rules]
    assert len(read_config(BOSS | {"delegation_rules": proposed}).delegation_rules) == 2


@pytest.mark.parametrize(
    ("changes", "where", "words"),
    [
        ({"window": "5 min"}, "window", "such as '5m'"),
        ({"threshold": 0}, "threshold", "at least 1"),
        ({"key": "user.id"}, "key", "data.user_id"),
        ({"baseline": "user_normal"}, "key", "say whose"),
        ({"severity": "hihg"}, "severity", "did you mean 'high'?"),
        ({"condition": "data.x >"}, "condition", "Syntax error"),
        ({"condition": "1 + 1"}, "condition", "not a condition"),
        ({"event": "a b"}, "event", "glob"),
        ({"deviation": 0}, "deviation", "more than 0"),
    ],
)
def test_a_rule_of_monitoring_is_told_what_is_wrong(changes: dict[str, Json], where: str, words: str) -> None:
    found = fault(GUARDIAN | {"monitoring_rules": [RULE | changes]})
    assert found[0] == f"monitoring_rules[0].{where}"
    assert words in found[1]


def test_a_rule_may_be_named_as_a_pattern() -> None:
    told = {name: value for name, value in RULE.items() if name != "name"} | {"pattern": "api_abuse", "window": "1h"}
    (rule,) = read_config(GUARDIAN | {"monitoringRules": [told]}).monitoring_rules
    assert (rule.name, rule.threshold, duration_s(rule.window)) == ("api_abuse", 5, 3_600)


@pytest.mark.parametrize(
    ("goal", "where", "words"),
    [
        ({"event": "crm.deal.won", "progress": "amount"}, "progress", "there is no 'amount'"),
        ({"event": "crm.deal.won", "progress": "data.amount +"}, "progress", "Syntax error"),
        ({"event": "crm.deal.won", "progress": "event.type"}, "progress", "is no number"),
        ({"event": "crm.deal.won", "condition": "event.typ == ''"}, "condition", "event"),
        ({"event": "crm.deal.won", "period": "week", "is_recurring": False}, "period", "only a recurring goal"),
        ({"event": "ai.*"}, "event", "can't be moved by goals"),
        ({"progress": "data.amount"}, "progress", "add `event:"),
        ({"period": "week"}, "period", "add `event:"),
        ({"event": "crm.deal.won", "period": "weekly"}, "period", "did you mean 'week'?"),
    ],
)
def test_a_measured_goal_is_told_what_is_wrong(goal: dict[str, Json], where: str, words: str) -> None:
    found = fault(PLAIN | {"goals": [{"name": "Win", **goal}]})
    assert found[0] == f"goals[0].{where}"
    assert words in found[1]


def test_two_measured_goals_of_one_name_are_refused() -> None:
    goals = [{"name": "Win", "event": "crm.deal.won"}, {"name": "Win", "event": "crm.deal.signed"}]
    assert fault(PLAIN | {"goals": goals})[0] == "goals[1].name"


@pytest.mark.parametrize("field", ["is_active", "trigger_events", "triggerSchedule", "site_id"])
def test_what_is_no_configuration_is_told_where_it_is(field: str) -> None:
    assert fault(PLAIN | {field: "x"})[1].startswith("there is no such field: ")


@pytest.mark.parametrize("told", [None, [], "name: x", 7, {}, {1: 2}, {"goals": [[]]}, {"goals": {"a": 1}}])
def test_whatever_is_no_agent_has_faults(told: Json) -> None:
    assert faults(told)


def test_a_configuration_of_an_earlier_release_can_be_read_whatever_the_rules_say_now() -> None:
    stored = {**PLAIN, "agent_type": "assistant", "goals": [{"name": "a"}, {"name": "a"}], "system_prompt": ""}
    del stored["type"]
    config = AgentConfig.model_validate(stored)
    assert (config.managed_agents, config.monitoring_rules, config.goals[0].event) == ((), (), None)


@pytest.mark.parametrize(
    ("told", "where", "words"),
    [
        ({"risk_rules": [{"tool": "pay", "threshold": 10}]}, "risk_rules[0].argument", "what the threshold is for"),
        ({"risk_rules": [{"tool": "pay", "condition": "argument.x"}]}, "risk_rules[0].condition", "argument"),
        ({"risk_rules": [{"tool": "pay", "argument": "a..b"}]}, "risk_rules[0].argument", ""),
        ({"risk_rules": [{"tool": "pay", "risk": "hihg"}]}, "risk_rules[0].risk", "did you mean 'high'?"),
        (
            {"enforced_constraints": [{"text": "No.", "condition": "1 +"}]},
            "enforced_constraints[0].condition",
            "",
        ),
        ({"permissions": ["read_contact"]}, "permissions[0]", "did you mean 'read_contacts'?"),
        ({"on_expiry": "escalate"}, "escalate_to", "which role is asked"),
        ({"escalate_to": "manager"}, "on_expiry", "only with `on_expiry: escalate`"),
        ({"on_expiry": "escalate", "escalate_to": "approver"}, "escalate_to", "was asked already"),
        ({"approval_timeout_seconds": 5}, "approval_timeout_seconds", "60"),
    ],
)
def test_what_is_wrong_with_rules_and_approvals_is_told_where_it_is(
    told: dict[str, Any], where: str, words: str
) -> None:
    found = fault(PLAIN | told)
    assert found[0] == where
    assert words in found[1]


def test_permissions_are_taken_as_the_specification_writes_them() -> None:
    found = read_config(
        PLAIN | {"permissions": ["canReadContacts", "canSendSMS", "canAccessExternalAPIs", "access_web"]}
    )
    assert found.permissions == ("read_contacts", "send_sms", "access_external_apis", "access_web")
