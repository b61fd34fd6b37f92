"""What an agent may do: asked before every call, whatever its model says."""

from processors.executions.policy import call_sha256, is_visible, visible_tools
from schemas.catalogue import Catalogue
from schemas.events import PlannedCall, StepObserved, ToolDenied, ToolRequested
from schemas.ids import CallId
from tests.processors.asks import THINKING, activate, call, context, create, result, start, thought, update
from tests.processors.samples import CATALOGUE, LOOK_UP, OTHER_SITE, SITE, USER, config, tool
from tests.processors.spec import Spec


def test_deny_comes_before_allow() -> None:
    agent = config(allowed_tools=("look_*", "forbidden_tool"), denied_tools=("forbidden_*",))
    assert is_visible(agent, "look_up")
    assert not is_visible(agent, "forbidden_tool")
    assert not is_visible(agent, "send_mail")


def test_nothing_is_allowed_unless_somebody_allows_it() -> None:
    assert visible_tools(config(allowed_tools=(), denied_tools=()), CATALOGUE) == ()


def test_globs_are_anchored() -> None:
    assert not is_visible(config(allowed_tools=("up",)), "look_up")
    assert not is_visible(config(allowed_tools=("look",)), "look_up")
    assert not is_visible(config(allowed_tools=("l.*",)), "look_up")


def test_a_call_of_an_unknown_tool_is_denied() -> None:
    denied = THINKING.when(thought(call("a", "rm_rf")))
    denied.then("step.thought 1", "tool.denied a (unknown_tool)", "step.observed 2")


def test_a_call_of_a_denied_tool_is_denied_though_it_is_in_the_catalogue() -> None:
    THINKING.when(thought(call("a", "forbidden_tool"))).then(
        "step.thought 1", "tool.denied a (not_allowed)", "step.observed 2"
    )


def test_a_call_whose_arguments_do_not_fit_is_denied() -> None:
    denied = THINKING.when(thought(call("a", "look_up", id=7, more=True)))
    denied.then("step.thought 1", "tool.denied a (invalid_arguments)", "step.observed 2")
    assert "id must be string" in denied.the(ToolDenied).message


def test_numbers_that_no_json_holds_are_denied_not_fatal() -> None:
    anything = tool("anything", parameters={"type": "object"})
    run = Spec().given(create(), activate(), start(), context(Catalogue(tools=(anything,))))
    run.when(thought(call("a", "anything", n=2**80))).then(
        "step.thought 1", "tool.denied a (invalid_arguments)", "step.observed 2"
    )


def test_a_tool_whose_parameters_this_release_does_not_take_is_denied_not_fatal() -> None:
    old = tool("old", parameters={"type": "object", "description": "x" * 300_000})
    run = Spec().given(create(), activate(), start(), context(Catalogue(tools=(old,))))
    run.when(thought(call("a", "old"))).then("step.thought 1", "tool.denied a (invalid_arguments)", "step.observed 2")


def test_calls_beyond_the_limit_of_a_step_are_denied() -> None:
    many = THINKING.when(thought(*(call(name) for name in "abcde")))
    many.then(
        "step.thought 1",
        "tool.requested a",
        "tool.requested b",
        "tool.requested c",
        "tool.denied d (too_many_calls)",
        "tool.denied e (too_many_calls)",
    )
    asked = many.given(result("c"), result("a")).when(result("b"))
    asked.then("tool.completed b", "step.observed 2")
    assert [asked.line(e) for e in asked.all(ToolDenied)] == [
        "tool.denied d (too_many_calls)",
        "tool.denied e (too_many_calls)",
    ]
    assert [m.tool_call_id for m in asked.run.transcript[1:]] == ["a", "b", "c", "d", "e"]


def test_a_denied_call_beside_others_waits_for_them() -> None:
    both = THINKING.when(thought(call("a", "forbidden_tool"), call("b")))
    both.then("step.thought 1", "tool.denied a (not_allowed)", "tool.requested b")
    both.when(result("b")).then("tool.completed b", "step.observed 2")


def test_a_step_all_of_whose_calls_are_denied_is_followed_by_the_next() -> None:
    denied = THINKING.when(thought(call("a", "forbidden_tool"), call("b", "nothing")))
    denied.then("step.thought 1", "tool.denied a (not_allowed)", "tool.denied b (unknown_tool)", "step.observed 2")
    assert denied.the(StepObserved).calls == (denied.call_ids["a"], denied.call_ids["b"])


def test_a_model_that_only_asks_for_what_is_denied_runs_out_of_steps() -> None:
    run = Spec().given(create(config(max_steps_per_run=2)), activate(), start(), context())
    run = run.given(*(thought(call(f"a{n}", "forbidden_tool")) for n in range(2)))
    assert run.the(StepObserved).final
    run.when(thought(call("b", "forbidden_tool"))).then("step.thought 3", "execution.failed (max_steps_reached)")


def test_denials_follow_the_configuration_of_now() -> None:
    tighter = THINKING.given(update(denied_tools=("*",)), actor=USER)
    tighter.when(thought(call("a"))).then("step.thought 1", "tool.denied a (not_allowed)", "step.observed 2")


def test_prompts_follow_the_version_a_run_began_with() -> None:
    changed = THINKING.given(update(system_prompt="You help to buy.", denied_tools=("*",)), actor=USER)
    run = changed.given(thought(call("a", "nothing")))
    assert run.run.agent_version == 1
    same = THINKING.given(thought(call("a", "nothing")), later_ms=2_000)
    assert run.the(StepObserved).prompt_sha256 == same.the(StepObserved).prompt_sha256


def test_the_next_run_has_the_new_version() -> None:
    changed = THINKING.given(update(system_prompt="You help to buy."), actor=USER).given(start("trigger-2"))
    assert changed.run.agent_version == 2


def test_a_version_is_kept_as_long_as_a_run_needs_it() -> None:
    changed = THINKING.given(update(name="Two"), update(name="Three"), actor=USER)
    assert set(changed.stream.agent.configs) == {1, 3}
    done = changed.given(thought(text="Done."), update(name="Four"))
    assert set(done.stream.agent.configs) == {4}


def test_a_call_s_sha256_is_over_tool_version_arguments_and_site() -> None:
    def sha(version: str = "1", site: str = SITE, **arguments: str) -> str:
        planned = PlannedCall(call_id=CallId("c"), model_call_id="a", tool="look_up", arguments=arguments)
        return call_sha256(tool("look_up", version=version), planned, type(SITE)(site))

    shas = {sha(id="1"), sha(id="2"), sha(version="2", id="1"), sha(site=OTHER_SITE, id="1"), sha()}
    assert len(shas) == 5
    assert sha(a="1", b="2") == sha(b="2", a="1")


def test_a_requested_call_names_the_tool_s_version() -> None:
    assert THINKING.given(thought(call("a"))).the(ToolRequested).tool_version == LOOK_UP.version
