import asyncio

import pytest

from processors.backoff import FIRST_WAIT_S, LONGEST_WAIT_S, backoff_s
from processors.models.call import ModelPorts, call_model
from processors.models.port import ModelReply, ModelRequest
from schemas.errors import ModelError
from schemas.ids import AgentId, ExecutionId, SiteId

REQUEST = ModelRequest(
    site_id=SiteId("s"),
    agent_id=AgentId("a"),
    execution_id=ExecutionId("e"),
    step=1,
    provider="good",
    model="m",
    messages=(),
)
REPLY = ModelReply(reply_id="r", provider="good", model="m", text="hello")


class Model:
    """Answers with what it was given, one a question."""

    def __init__(self, *answers: ModelReply | ModelError) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def complete(self, request: ModelRequest) -> ModelReply:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, ModelError):
            raise answer
        return answer


class Waits:
    """A clock that only remembers how long it was to wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def busy(reason: str = "busy") -> ModelError:
    return ModelError("try later", reason=reason, retryable=True)


async def test_the_first_answer_is_returned_without_a_wait() -> None:
    waits = Waits()
    assert await call_model(Model(REPLY), REQUEST, sleep=waits) is REPLY
    assert waits.seconds == []


async def test_a_passing_failure_is_waited_out_longer_each_time() -> None:
    model, waits = Model(busy(), busy(), REPLY), Waits()
    assert await call_model(model, REQUEST, sleep=waits, random=lambda: 1.0) is REPLY
    assert waits.seconds == [FIRST_WAIT_S, FIRST_WAIT_S * 2]


async def test_the_last_failure_is_raised_when_the_tries_are_used_up() -> None:
    model, waits = Model(busy("one"), busy("two"), busy("three"), REPLY), Waits()
    with pytest.raises(ModelError) as raised:
        await call_model(model, REQUEST, sleep=waits, attempts=3)
    assert raised.value.reason == "three"
    assert len(waits.seconds) == 2


async def test_a_lasting_failure_is_not_tried_again() -> None:
    model, waits = Model(ModelError("no", reason="refused", retryable=False), REPLY), Waits()
    with pytest.raises(ModelError, match="no"):
        await call_model(model, REQUEST, sleep=waits)
    assert model.asked == 1
    assert waits.seconds == []


async def test_a_model_that_hangs_is_given_up_as_a_timeout() -> None:
    class Hanging:
        async def complete(self, request: ModelRequest) -> ModelReply:
            await asyncio.Event().wait()
            return REPLY

    with pytest.raises(ModelError) as raised:
        await call_model(Hanging(), REQUEST, total_timeout_s=0.01)
    assert raised.value.reason == "timeout"
    assert raised.value.retryable


async def test_what_failed_before_the_time_ran_out_is_what_is_raised() -> None:
    async def forever(_: float) -> None:
        await asyncio.Event().wait()

    with pytest.raises(ModelError) as raised:
        await call_model(Model(busy("rate_limited")), REQUEST, sleep=forever, total_timeout_s=0.01)
    assert raised.value.reason == "rate_limited"


async def test_being_cancelled_is_not_a_failure_of_the_model() -> None:
    entered = asyncio.Event()

    class Hanging:
        async def complete(self, request: ModelRequest) -> ModelReply:
            entered.set()
            await asyncio.Event().wait()
            return REPLY

    task = asyncio.create_task(call_model(Hanging(), REQUEST))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_provider_of_the_request_answers() -> None:
    good, other = Model(REPLY), Model()
    assert await ModelPorts({"good": good, "other": other}).complete(REQUEST) is REPLY


async def test_an_unknown_provider_is_named_with_those_that_are_known() -> None:
    waits = Waits()
    with pytest.raises(ModelError, match=r"'good'.*there is: other") as raised:
        await call_model(ModelPorts({"other": Model()}), REQUEST, sleep=waits)
    assert raised.value.reason == "unknown_provider"
    assert waits.seconds == []


def test_a_wait_is_between_half_and_all_of_a_bounded_ceiling() -> None:
    assert backoff_s(1, lambda: 0.0) == FIRST_WAIT_S / 2
    assert backoff_s(1_000, lambda: 1.0) == LONGEST_WAIT_S
