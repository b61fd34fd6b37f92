"""461 strings that break programs, as people's notes, and as names of agents: they come back as they were given."""

from pydantic import ValidationError

from schemas.agents import AgentConfig
from schemas.commands import ERROR_CHARS
from schemas.events import AgentCreated, ApprovalResolved, ExecutionCancelled
from streams.log import Record
from streams.records import decode_event
from streams.topics import EVENTS
from tests.naughty import naughty_strings
from tests.processors.asks import approve, cancel, create
from tests.processors.samples import APPROVING, USER, config
from tests.processors.spec import Spec
from tests.processors.test_approvals import WAITING


def stored(spec: Spec) -> list[object]:
    """Return what the log's bytes of a decision say."""
    drafts = enumerate(spec.drafts)
    return [decode_event(Record(EVENTS, 0, at, 0, d.key, d.value, d.headers)).event for at, d in drafts]


def test_notes_come_back_as_they_were_given() -> None:
    for text in naughty_strings():
        note = text[:ERROR_CHARS]
        for approved in (True, False):
            said = WAITING.when(approve("a", approved=approved, note=note), actor=APPROVING)
            (resolved,) = (event for event in stored(said) if isinstance(event, ApprovalResolved))
            assert (resolved.note, resolved.approved, resolved.resolved_by) == (note, approved, APPROVING)


def test_reasons_come_back_as_they_were_given() -> None:
    for text in naughty_strings():
        said = WAITING.when(cancel(reason=text[:200]), actor=USER)
        (cancelled,) = (event for event in stored(said) if isinstance(event, ExecutionCancelled))
        assert text[:200] in cancelled.reason


def test_a_name_comes_back_without_space_around_it_or_is_refused_with_a_reason() -> None:
    refused: list[object] = []
    for text in naughty_strings():
        try:
            agent: AgentConfig = config(name=text, description=text, system_prompt=text or "-")
        except ValidationError as error:
            refused.append(error.errors()[0]["loc"][0])
            continue
        (created,) = (event for event in stored(Spec().when(create(agent))) if isinstance(event, AgentCreated))
        assert created.config.name == text.strip()
        assert created.config == agent
    assert set(refused) <= {"name", "system_prompt"}
    assert len(refused) < 10
