"""Random commands: what a run waits for, nonsense, things out of order, and things said before."""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from schemas.agents import Goal
from schemas.chat import ToolCall, Usage
from schemas.commands import AnyCommand
from schemas.governance import APPROVER
from tests.processors import asks
from tests.processors.asks import NOBODY
from tests.processors.samples import AGENT, APPROVING, USER, WORKER
from tests.processors.spec import SECOND_MS, Ask, Spec

TOOLS = ("look_up", "look_up", "charge_card", "send_mail", "wire_money", "forbidden_tool", "no_such_tool")
GOALS = (Goal(name="Win", event="crm.deal.won", target=50, period="week"),)
LATER_MS = (0, *[SECOND_MS] * 12, 60 * SECOND_MS, -30 * SECOND_MS, 25 * 3_600 * SECOND_MS)


@dataclass(frozen=True)
class Said:
    """One command of a random story: who asks, how much later than the one before."""

    ask: Ask
    actor: str
    later_ms: int


def _name(spec: Spec, pick: int) -> str:
    """Return any call that was ever planned; now and then one that never was."""
    names = [*spec.call_ids, "never"]
    return names[-1 - pick % len(names)]


def _calls(spec: Spec, picks: list[int]) -> tuple[ToolCall, ...]:
    return tuple(
        asks.call(f"{spec.offset}-{position}", TOOLS[pick % len(TOOLS)], **({"id": str(pick)} if pick % 5 else {}))
        for position, pick in enumerate(picks)
    )


def _sensible(pick: int, picks: list[int]) -> Callable[[Spec], AnyCommand]:
    """What somebody would say next, if they know the state."""

    def ask(spec: Spec) -> AnyCommand:
        run = spec.stream.runs.get(spec.run_id)
        if not spec.stream.agent.active:
            return asks.activate() if spec.stream.agent.exists else asks.create()
        if pick % 3 == 0 and spec.stream.agent.schedules:
            return asks.advance(next(iter(spec.stream.agent.schedules)), pick)(spec)
        if run is None or run.ended:
            return asks.start(f"t{spec.offset}", time_ms=spec.at_ms)
        if run.status == "assembling":
            return asks.context(entity=pick)(spec)
        if run.status == "thinking":
            return asks.thought(*_calls(spec, picks), text="so")(spec)
        open_calls = run.open_calls()
        if not open_calls:
            return asks.cancel()(spec)
        call = open_calls[pick % len(open_calls)]
        name = spec.named(call.id)
        match call.status:
            case "approval":
                return _answer(name, pick)(spec)
            case "in_doubt":
                return asks.resolve_doubt(name, done=pick % 2 > 0)(spec)
            case "requested" if not call.idempotent:
                return asks.start_tool(name)(spec)
            case "started" if pick % 3 == 0:
                return asks.doubt(name)(spec)
        return asks.result(name, pick, error="no" if pick % 7 == 0 else None)(spec)

    return ask


def _answer(name: str, pick: int) -> Callable[[Spec], AnyCommand]:
    if pick % 9 == 1:
        return asks.approve(name, arguments={"id": str(pick)})
    return asks.approve(name, approved=pick % 4 > 0, roles=(APPROVER,) if pick % 5 else ("manager",))


def _any(kind: int, pick: int, picks: list[int]) -> Callable[[Spec], AnyCommand]:
    """Anything at all, whether or not it makes sense now."""

    def ask(spec: Spec) -> AnyCommand:
        name, step = _name(spec, pick), 1 + pick % (spec.step + 2)
        said: list[Ask] = [
            asks.start(f"t{pick % 9}", time_ms=max(0, spec.at_ms + (pick % 5 - 2) * 86_400_000 * 5)),
            asks.start(f"e{pick}", type_="event", event_type="contact.x", caused_by=AGENT if pick % 2 else None),
            asks.context(entity=pick, body=pick % 2 == 0),
            asks.thought(*_calls(spec, picks), step=step, reply=f"reply-{pick % (spec.offset + 1)}"),
            asks.thought(step=step, finish="content_filter" if pick % 2 else "length", model=f"m{pick % 2}"),
            asks.model_failure(step=step, usage=Usage(input_tokens=pick) if pick % 2 else None),
            asks.result(name, pick),
            asks.start_tool(name, f"runner-{pick % 2}"),
            asks.doubt(name, f"runner-{pick % 2}"),
            asks.resolve_doubt(name, done=pick % 2 == 0),
            asks.approve(name, approved=pick % 2 == 0),
            asks.expire(name),
            asks.time_out(),
            asks.cancel(),
            asks.update(
                name=f"name {pick % 3}",
                denied_tools=("look_*",) if pick % 4 == 0 else (),
                triggers=(
                    "manual",
                    "event:contact.*",
                    *(f"schedule:every_{n}_minutes" for n in range(1, 1 + pick % 4)),
                ),
                goals=GOALS,
                on_denial="tell" if pick % 2 else "cancel",
                on_expiry=("cancel", "deny", "escalate")[pick % 3],
                escalate_to="manager" if pick % 3 == 2 else None,
                permissions=("read_contacts",) if pick % 5 == 0 else None,
                approval_threshold="low" if pick % 7 == 0 else "high",
            ),
            asks.advance(f"every_{1 + pick % 3}_minutes @ UTC", pick) if pick % 3 == 2 else asks.activate(),
            asks.deactivate(cancel_runs=pick % 3 == 0),
            asks.progress(id_=f"e{pick % 7}", amount=pick, time_ms=max(0, spec.at_ms - pick % 3 * 86_400_000)),
            asks.delete(),
            asks.create(),
        ]
        chosen = said[kind % len(said)]
        return chosen(spec) if callable(chosen) else chosen

    return ask


def _stray(kind: int) -> Callable[[Spec], AnyCommand]:
    """What names a run that never was."""

    def ask(spec: Spec) -> AnyCommand:
        said = _any(kind, 1, [])(spec)
        return said.model_copy(update={"execution_id": NOBODY}) if hasattr(said, "execution_id") else said

    return ask


_numbers = st.integers(0, 50)
_few = st.lists(_numbers, max_size=5)
_actors = st.sampled_from((*[WORKER] * 3, USER, APPROVING))
_asks: st.SearchStrategy[Ask] = st.one_of(
    *[st.builds(_sensible, _numbers, _few)] * 6,
    st.builds(_any, _numbers, _numbers, _few),
    st.builds(_stray, _numbers),
)

sayings = st.builds(Said, _asks, _actors, st.sampled_from(LATER_MS))
stories = st.lists(sayings, min_size=15, max_size=40)
