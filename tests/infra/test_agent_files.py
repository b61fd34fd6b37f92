"""Agents as files: what is wrong is told with its line, and what is written is read again."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.agent_diffs import changes_between
from infra.agent_fields import MEANINGS, agent_fields, markdown_table
from infra.agent_files import read_agent, write_agent
from infra.cli.agent_versions import whole
from infra.cli.common import UNAVAILABLE, USAGE
from infra.reports.library import SHIPPED
from projections.queries.versions import AgentVersion
from schemas.agents import AgentConfig, Example, Goal
from schemas.errors import ConfigurationError, InvalidAgentError
from tests.infra.cli_runs import PROJECT, dramac
from tests.processors.test_run_properties import bounded

NAUGHTY = Path(__file__).parents[3] / "shared" / "data" / "naughty_strings.json"
WRONG = """\
name: Sales
type: specalist
personality: You sell.
goals:
  - name: Win
    metrik: won
  - name: Keep
    priority: 11
    name: Twice
allowedTools: crm_*
managedAgents: [helper]
"""

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


def file(folder: Path, text: str) -> Path:
    path = folder / "agent.yaml"
    path.write_text(text)
    return path


def test_each_fault_has_its_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidAgentError) as caught:
        read_agent(file(tmp_path, WRONG))
    assert sorted((fault.line, fault.where) for fault in caught.value.faults) == [
        (2, "agent_type"),
        (6, "goals[0].metrik"),
        (8, "goals[1].priority"),
        (9, "goals[1].name"),
        (10, "allowed_tools"),
    ]


@pytest.mark.parametrize("command", ["create", "apply", "update"])
def test_a_report_template_that_is_not_there_is_refused_before_anything_is_saved(command: str, tmp_path: Path) -> None:
    text = "name: BI\ntype: analyst\npersonality: You count.\nreportTemplates: [monthly_trends, weekly_performence]\n"
    path = file(tmp_path, text)
    ran = dramac({"DRAMAC_DATA_DIR": str(tmp_path)}, "agents", command, str(path))
    assert ran.code == USAGE
    assert ran.err.splitlines()[-1].endswith(
        "agent.yaml: line 4: report_templates[1]: 'weekly_performence' is no report template; did you mean "
        "'weekly_performance'?; there are anomaly_detection, monthly_trends, quarterly_forecast, weekly_performance"
    )
    own = tmp_path / "templates"
    own.mkdir()
    (own / "weekly_performence.md").write_bytes((SHIPPED / "weekly_performance.md").read_bytes())
    ran = dramac({"DRAMAC_DATA_DIR": str(tmp_path), "DRAMAC_REPORT_TEMPLATES": str(own)}, "agents", command, str(path))
    assert ran.code == UNAVAILABLE
    assert "report template" not in ran.err


def test_the_command_line_lists_the_faults_as_editors_know_them(tmp_path: Path) -> None:
    path = file(tmp_path, WRONG)
    ran = dramac({"DRAMAC_DATA_DIR": str(tmp_path)}, "agents", "create", str(path))
    assert (ran.code, ran.out) == (USAGE, "")
    lines = ran.err.splitlines()
    assert lines[0] == f"error: {path} has 5 faults"
    assert lines[1].startswith(f"  {path}:2  agent_type: 'specalist' is not one of ")
    assert len(lines) == 6


def test_one_fault_is_one_line(tmp_path: Path) -> None:
    path = file(tmp_path, "name: Boss\ntype: analyst\npersonality: x\nmanaged_agents: [a]\n")
    ran = dramac({"DRAMAC_DATA_DIR": str(tmp_path)}, "agents", "update", str(path))
    assert ran.code == USAGE
    assert ran.says_in_one_line(f"error: {path}: line 4: managed_agents: only an orchestrator has agents to manage")


@pytest.mark.parametrize(
    "text",
    [
        *("", "- a", "7", "name: [", "a: &a [*a]", "{[]: 1}", "? [a]\n: b", "name: !!python/object:os.system x", "\0"),
        *("name: !!timestamp x", "name: " + "9" * 5_000, "[" * 100_000, "a: " + "{a: " * 100_000),
        '{type: assistant, name: a, personality: b, capabilities: ["\\ud800"]}',
        '{type: assistant, name: a, personality: b, goals: [{name: c, metric: "\\ud800"}]}',
    ],
)
def test_whatever_is_no_agent_is_one_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        read_agent(file(tmp_path, text))


@bounded
@given(name=texts, prompt=texts, constraint=texts, shown=texts)
def test_whatever_stands_in_texts_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, name: str, prompt: str, constraint: str, shown: str
) -> None:
    config = AgentConfig(
        slug="a",
        name=name.strip() or "x",
        agent_type="assistant",
        system_prompt=prompt + ".",
        constraints=(constraint, "yes", "007", "1e3", "null", "2026-01-01", "{{a}}", "a: b", "# no"),
        examples=(Example(input=shown, output=f"{shown}\n  {shown}\n\n"),),
        goals=(Goal.model_validate({"name": "x", "deadline": "2026-03-01T12:00:00+01:00", "target": 0.1}),),
    )
    assert read_agent(file(tmp_path_factory.getbasetemp(), write_agent(config))) == config


def test_naughty_strings_survive_a_file(tmp_path: Path) -> None:
    if not NAUGHTY.exists():
        pytest.skip(f"no naughty strings at {NAUGHTY}")
    strings = [text for text in json.loads(NAUGHTY.read_text()) if isinstance(text, str)]
    for at in range(0, len(strings), 40):
        config = AgentConfig(
            slug="a", name="a", agent_type="assistant", system_prompt="x", constraints=tuple(strings[at : at + 40])
        )
        assert read_agent(file(tmp_path, write_agent(config))) == config


# --- what differs ---------------------------------------------------------------------------------------------------


def told(old: Any, new: Any) -> list[tuple[str, str]]:
    return [(change.kind, change.field) for change in changes_between(old, new)]


def test_differences_are_told_by_field() -> None:
    old = {"name": "A", "tools": ["a", "b"], "goals": [{"name": "x", "target": 1}, {"name": "y"}], "same": [1, {}]}
    new = {"name": "B", "tools": ["b", "c"], "goals": [{"name": "x", "target": 2}, {"name": "z"}], "same": [1, {}]}
    assert told(old, new) == [
        ("changed", "name"),
        ("removed", "tools[]"),
        ("added", "tools[]"),
        ("changed", "goals[x].target"),
        ("removed", "goals[y]"),
        ("added", "goals[z]"),
    ]
    assert told(old, old) == []
    assert told({"a": ["x", "y"]}, {"a": ["y", "x"]}) == [("changed", "a")]
    assert told({"a": [{"name": "x"}, {"name": "y"}]}, {"a": [{"name": "y"}, {"name": "x"}]}) == [("changed", "a")]
    assert told({"a": [{"name": "x"}, {"name": "x"}]}, {"a": []}) == [("changed", "a")]
    assert told({"a": {"b": 1}}, {"a": {"c": 1}}) == [("removed", "a.b"), ("added", "a.c")]


values = st.recursive(
    st.none() | st.integers(0, 3) | st.sampled_from(["a", "b"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "x"]), inner, max_size=2)
        | st.lists(st.fixed_dictionaries({"name": st.sampled_from("abc"), "x": inner}), max_size=3)
    ),
    max_leaves=8,
)


@bounded
@given(values, values)
def test_nothing_is_told_exactly_where_nothing_differs(old: Any, new: Any) -> None:
    assert bool(changes_between(old, new)) == (old != new)


# --- the reference --------------------------------------------------------------------------------------------------


def test_every_field_has_a_meaning_and_every_meaning_a_field() -> None:
    assert {field.name for field in agent_fields()} == set(MEANINGS)


def test_the_documentation_has_the_fields_as_they_are() -> None:
    page = (PROJECT / "docs" / "agents.md").read_text()
    assert markdown_table() in page, "docs/agents.md is behind the models: put the table of `markdown_table()` into it"


def test_the_fields_can_be_listed_without_servers(tmp_path: Path) -> None:
    ran = dramac({"DRAMAC_DATA_DIR": str(tmp_path)}, "agents", "fields", "--json")
    assert ran.code == 0
    assert {"name": "slug", "type": "text", "default": "required", "meaning": MEANINGS["slug"]} in ran.json
    assert "monitoring_rules[].window" in dramac({"DRAMAC_DATA_DIR": str(tmp_path)}, "agents", "fields").out


def test_a_version_that_would_not_be_saved_today_can_still_be_looked_at() -> None:
    saved = read_agent(PROJECT / "examples/agents/sdr.yaml").model_dump(mode="json")
    config = saved | {"timezone": "Europe/Atlantis", "triggers": ["schedule:daily_9am @ Europe/Atlantis"]}
    version = AgentVersion(1, datetime(2026, 1, 1, tzinfo=UTC), "created", "user:1", config, None, None, "")
    assert whole((version,), 1).timezone == "Europe/Atlantis"
