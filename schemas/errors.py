"""Every error that this project raises itself.

    DramacError
    ├── ConfigurationError       a setting or an agent file is wrong                      crash: tell the person
    │   ├── InvalidAgentError    an agent's configuration, with everything that is wrong with it
    │   └── ConditionError       an expression is wrong; also a ValueError, for validators
    ├── NotFoundError            what was named does not exist
    ├── RefusedError             a command was answered with `ai.command.rejected`
    ├── UnavailableError         Kafka, Postgres or a module does not answer              retry
    ├── DecodeError              a record can't be read                                   dead-letter
    ├── RecordTooLargeError      a record is larger than its topic takes                  told to its publisher
    ├── AppendError              an append was refused or its outcome is unknown          restore from the log
    ├── RivalError               somebody else wrote what counts on our partition         restore from the log
    ├── LogReplacedError         a topic was deleted and created anew under us            crash
    ├── LogTruncatedError        the log begins after what was already read               crash
    ├── CheckpointMovedError     another projector owns the partition                     seek again
    ├── ModelError               a model did not answer usefully                          becomes an event
    │   └── InvalidReplyError    a model answered what can't be used                      the model is told
    ├── OfflineError             a replay reached for the network                         crash: a bug of ours
    └── StackError               the embedded Kafka or Postgres can't start               crash: tell the person

Three fates: retry, dead-letter, crash. A message quotes identifiers with `!r` and says what to do next.
"""

from collections.abc import Sequence
from typing import NamedTuple

from schemas.chat import Usage


class DramacError(Exception):
    """Anything this project raises itself; its text is one line for a person."""


class ConfigurationError(DramacError):
    """A setting or an agent file is wrong."""


class Fault(NamedTuple):
    """One thing that is wrong with a configuration: the way to the field, and what to do about it."""

    path: tuple[str | int, ...]
    message: str
    line: int | None = None  # of the file, from 1, where there is one

    @property
    def where(self) -> str:
        """The field as a person writes it: `goals[0].metric`."""
        text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)
        return text.removeprefix(".")

    def __str__(self) -> str:
        """Return the fault as a sentence."""
        place = f"line {self.line}: " if self.line is not None else ""
        return f"{place}{self.where}: {self.message}" if self.path else f"{place}{self.message}"


class InvalidAgentError(ConfigurationError):
    """An agent's configuration is wrong; `faults` is all that is, `source` where it was read."""

    def __init__(self, faults: Sequence[Fault], source: str = "") -> None:
        self.faults = tuple(faults)
        self.source = source
        super().__init__(f"{source}: " * bool(source) + "; ".join(map(str, self.faults)))


class ConditionError(ConfigurationError, ValueError):
    """An expression can't be read, its types do not fit, or it could cost too much."""


class NotFoundError(DramacError):
    """What was named does not exist."""


class RefusedError(DramacError):
    """A command was understood and refused; `reason` is the word for programs, and both are on the log."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnavailableError(DramacError):
    """Kafka, Postgres or a module does not answer; trying again later may help."""


class DecodeError(DramacError):
    """A record can't be read: it belongs in the dead letters, and the stream goes on."""


class RecordTooLargeError(DramacError):
    """A record is larger than its topic takes; nothing was written."""


class AppendError(DramacError):
    """An append was refused, or nobody knows whether it landed: only the log can tell."""


class RivalError(DramacError):
    """Somebody else wrote what counts on a partition that we took for ours."""


class LogReplacedError(DramacError):
    """A topic is not the one that was read before: it was deleted and created anew."""


class LogTruncatedError(DramacError):
    """The log begins after the offset at which reading was to go on."""


class CheckpointMovedError(DramacError):
    """Another projector advanced the checkpoint: nothing was written, read it again."""


class ModelError(DramacError):
    """A model did not give a useful answer.

    `reason` is the word for programs (`processors.models.failures` has the list); `retry_after_s` is how long its
    provider asks to wait. `spent` is the usage that the provider told; `unsettled` says that tokens may have been
    spent of which nobody told us. `asked` is the provider and the model, where several may have been asked.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        retryable: bool,
        retry_after_s: float | None = None,
        spent: Usage | None = None,
        unsettled: bool = False,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.spent = spent
        self.unsettled = unsettled
        self.asked: tuple[str, str] | None = None


class InvalidReplyError(ModelError):
    """A model answered what can't be used, and was paid: `problem` tells it why, `said` is what it said.

    `said` goes back to the model alone, never into the log.
    """

    def __init__(self, problem: str, *, said: str = "", spent: Usage | None = None) -> None:
        super().__init__(
            f"the model's answer can't be used: {problem}",
            reason="invalid_reply",
            retryable=True,
            spent=spent,
            unsettled=spent is None,
        )
        self.problem = problem
        self.said = said


class OfflineError(DramacError):
    """What must be a function of the log alone reached for the network, or for another process."""


class StackError(DramacError):
    """The embedded Kafka or Postgres can't be started."""
