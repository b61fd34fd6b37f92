"""The `recorded` provider: the replies of earlier runs, out of their events, so that a run can be played again.

An agent that names `recorded` as its provider and a run's id as its model is given that run's replies, step by step:
against other code, other tools or another policy, without a network and without a cent. Recordings are dumps of
`ai.events` (`dramac events dump`), named by DRAMAC_RECORDINGS.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from processors.models.port import ModelReply, ModelRequest
from schemas.chat import ToolCall
from schemas.errors import ConfigurationError, DecodeError, ModelError
from schemas.events import Event, ExecutionStarted, StepModelFailed, StepThought
from schemas.ids import ExecutionId, random_id
from streams.chain import Heads
from streams.dump_lines import FOOTER_START, decode_record
from streams.log import Record
from streams.records import decode_event
from streams.topics import EVENTS, is_genesis

PROVIDER = "recorded"

Answer = StepThought | StepModelFailed
_WANTED = {kind.wire.encode() for kind in (ExecutionStarted, StepThought, StepModelFailed)}


class RecordedModel:
    """A `ModelPort` that answers as models did before."""

    def __init__(self, runs: Mapping[ExecutionId, Mapping[int, Answer]]) -> None:
        """Know the answers of runs by step."""
        self._runs = runs

    @classmethod
    def from_events(cls, events: Iterable[Event]) -> "RecordedModel":
        """Take the answers out of events that count, in the order of their streams."""
        runs: dict[ExecutionId, dict[int, Answer]] = {}
        for event in events:
            if isinstance(event, ExecutionStarted):
                runs.setdefault(event.execution_id, {})
            elif isinstance(event, StepThought | StepModelFailed):
                runs.setdefault(event.execution_id, {})[event.step] = event
        return cls(runs)

    @classmethod
    def from_records(cls, records: Iterable[Record]) -> "RecordedModel":
        """Take them out of records of `ai.events`, partition by partition; what does not count is passed over.

        Raises:
            DecodeError: one counts, but this release can't read it.
        """
        heads = Heads()
        counted = (record for record in records if not is_genesis(record) and heads.admit(record))
        return cls.from_events(decode_event(r).event for r in counted if r.header("ce_type") in _WANTED)

    @classmethod
    def from_dumps(cls, *paths: Path) -> "RecordedModel":
        """Take them out of dumps.

        Raises:
            ConfigurationError: a file can't be read, or is no dump.
        """
        runs: dict[ExecutionId, Mapping[int, Answer]] = {}
        for path in paths:
            try:
                with path.open("rb") as lines:
                    records = (decode_record(line, EVENTS) for line in lines if not line.startswith(FOOTER_START))
                    runs |= cls.from_records(records)._runs
            except OSError as error:
                raise ConfigurationError(f"{path} can't be read: {error.strerror or error}") from None
            except (DecodeError, ValueError, KeyError, TypeError) as error:
                raise ConfigurationError(
                    f"{path} is no dump of ai.events ({error}): make one with `dramac events dump`"
                ) from None
        return cls(runs)

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Return what was answered at this step of the run that the request's model names.

        Raises:
            ModelError: what was recorded is a failure; or, with reason `recording`, nothing was recorded.
        """
        answer = self._answer(request.model, request.step)
        if isinstance(answer, StepModelFailed):
            raise ModelError(answer.message, reason=answer.reason, retryable=False, spent=answer.usage)
        return ModelReply(
            reply_id=random_id(),
            provider=request.provider,
            model=request.model,
            text=answer.text,
            tool_calls=tuple(
                ToolCall(id=call.model_call_id, name=call.tool, arguments=call.arguments) for call in answer.calls
            ),
            finish_reason=answer.finish_reason,
            usage=answer.usage,
            answered_by=answer.model,
        )

    def _answer(self, name: str, step: int) -> Answer:
        ids = [run_id for run_id in self._runs if run_id == name] or [r for r in self._runs if r.startswith(name)]
        if len(ids) != 1:
            told = "more than one recorded run begins so" if ids else f"none of {len(self._runs)} recorded runs has it"
            raise _missing(f"{name[:80]!r} names no recorded run ({told}): write a run's id as llm_model")
        answers = self._runs[ids[0]]
        if step not in answers:
            raise _missing(
                f"the run {ids[0]!r} has answers to {len(answers)} questions, and step {step} asks one more: it was "
                "played against something else then"
            )
        return answers[step]


def _missing(said: str) -> ModelError:
    return ModelError(said, reason="recording", retryable=False)
