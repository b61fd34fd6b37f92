import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.models.breaker import FAILURES, OPEN_MS, PROBE_MS, Breaker, abandoned, admit, failed, succeeded, wait_s
from processors.models.call import ModelPorts
from processors.models.port import ModelReply, ModelRequest
from schemas.errors import ModelError
from schemas.ids import AgentId, ExecutionId, SiteId

REQUEST = ModelRequest(SiteId("s"), AgentId("a"), ExecutionId("e"), 1, "p", "m", ())
REPLY = ModelReply(reply_id="r", provider="p", model="m", text="hello")


def opened(at_ms: int = 0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker = failed(breaker, at_ms)
    return breaker


def test_it_opens_after_enough_failures_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(FAILURES - 1):
        breaker = failed(breaker, 0)
        assert admit(breaker, 0)[1]
    assert not admit(failed(breaker, 0), 0)[1]
    assert admit(failed(succeeded(), 0), 0)[1]


def test_after_a_while_one_call_may_try() -> None:
    assert not admit(opened(), OPEN_MS - 1)[1]
    probing, admitted = admit(opened(), OPEN_MS)
    assert admitted
    assert not admit(probing, OPEN_MS)[1]


def test_a_probe_closes_it_or_opens_it_again() -> None:
    probing, _ = admit(opened(), OPEN_MS)
    assert not admit(failed(probing, OPEN_MS), OPEN_MS + 1)[1]
    assert admit(succeeded(), OPEN_MS)[1]


def test_a_probe_that_nobody_heard_of_again_gives_way() -> None:
    probing, _ = admit(opened(), OPEN_MS)
    assert admit(abandoned(probing), OPEN_MS)[1]
    assert admit(probing, OPEN_MS + PROBE_MS)[1]


@given(st.lists(st.sampled_from(["ask", "fail", "succeed", "abandon", "wait"]), max_size=60))
def test_it_never_refuses_for_ever(story: list[str]) -> None:
    breaker, now_ms = Breaker(), 0
    for event in story:
        now_ms += OPEN_MS if event == "wait" else 1
        if event == "ask":
            breaker, _ = admit(breaker, now_ms)
        elif event == "fail":
            breaker = failed(breaker, now_ms)
        elif event == "succeed":
            breaker = succeeded()
        elif event == "abandon":
            breaker = abandoned(breaker)
        assert wait_s(breaker, now_ms) <= OPEN_MS / 1000
    assert admit(breaker, now_ms + OPEN_MS + PROBE_MS)[1]


class Clock:
    ms = 0

    def __call__(self) -> int:
        return self.ms


class Ill:
    reason = "overloaded"
    asked = 0

    async def complete(self, request: ModelRequest) -> ModelReply:
        self.asked += 1
        if self.reason:
            raise ModelError("ill", reason=self.reason, retryable=True)
        return REPLY


async def refusals(ports: ModelPorts, times: int) -> list[str]:
    reasons = []
    for _ in range(times):
        with pytest.raises(ModelError) as raised:
            await ports.complete(REQUEST)
        reasons.append(raised.value.reason)
    return reasons


async def test_a_provider_that_keeps_failing_is_left_alone_and_then_tried_once() -> None:
    model, clock = Ill(), Clock()
    ports = ModelPorts({"p": model}, now_ms=clock)
    assert await refusals(ports, FAILURES + 2) == ["overloaded"] * FAILURES + ["circuit_open"] * 2
    clock.ms = OPEN_MS
    assert await refusals(ports, 2) == ["overloaded", "circuit_open"]
    clock.ms, model.reason = 2 * OPEN_MS, ""
    assert await ports.complete(REQUEST) is REPLY
    assert await ports.complete(REQUEST) is REPLY


@pytest.mark.parametrize("reason", ["rate_limited", "invalid_request", "auth", "content_filter", "invalid_reply"])
async def test_a_refusal_of_one_question_says_nothing_of_the_provider(reason: str) -> None:
    model = Ill()
    model.reason = reason
    assert await refusals(ModelPorts({"p": model}, now_ms=Clock()), 3 * FAILURES) == [reason] * 3 * FAILURES
