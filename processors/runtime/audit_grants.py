"""What must hold of approvals (I8), from the events alone: no risky call without a grant that is good for it.

Whether a call had to be asked for is a decision, which strict replay makes again; that what was asked for had its
answer shows here. Events may break the rules that are checked, so nothing is taken for granted of their order.
"""

from dataclasses import dataclass, field

from processors.executions.policy import grant_sha256
from schemas import events as ev
from schemas.envelope import EventEnvelope, is_person, spelled
from schemas.ids import ApprovalId, CallId, ExecutionId
from schemas.message import JsonObject
from streams.audit import Finding


@dataclass(slots=True)
class _Asked:
    """An approval; `open` until it is answered or has expired."""

    call_id: CallId
    sha256: str
    expires_at_ms: int
    arguments: JsonObject | None
    open: bool = True


@dataclass(slots=True)
class _Gated:
    """A call that a person was asked for. `grant` is the one that was given, until it is used."""

    editors: set[str] = field(default_factory=set)
    grant: _Asked | None = None


class GrantAudit:
    """Audits the approvals of one partition."""

    def __init__(self) -> None:
        """Start before the first event."""
        self.finding = Finding("I8", "a call that was asked for has one grant, in time, by somebody who may")
        self._asked: dict[ApprovalId, _Asked] = {}
        self._gated: dict[CallId, _Gated] = {}
        self._requesters: dict[ExecutionId, str] = {}

    def look(self, envelope: EventEnvelope, where: str) -> None:
        """Take the next event that counts; `where` says where it stands."""
        event = envelope.event
        match event:
            case ev.ExecutionStarted(requester=requester) if requester is not None:
                self._requesters[event.execution_id] = spelled(requester.actor)
            case ev.ApprovalRequested():
                self._ask(event, where)
            case ev.ApprovalEscalated():
                if (asked := self._open(event.approval_id, event.call_id, where)) is not None:
                    asked.expires_at_ms = event.expires_at_ms
            case ev.ApprovalExpired():
                if (asked := self._open(event.approval_id, event.call_id, where)) is not None:
                    asked.open = False
                    if envelope.at_ms < asked.expires_at_ms:
                        self.finding.violated(f"{where}: the approval {event.approval_id} expired before its time")
            case ev.ApprovalResolved():
                self._resolve(envelope, event, where)
            case ev.ToolRequested() if event.call_id in self._gated:
                self._use(envelope, event, where)
            case _:
                pass

    def _ask(self, event: ev.ApprovalRequested, where: str) -> None:
        self.finding.count({"asked": 1})
        gated = self._gated.setdefault(event.call_id, _Gated())
        if event.edited_by is not None:
            gated.editors.add(spelled(event.edited_by))
        if event.approval_id in self._asked:
            self.finding.violated(f"{where}: the approval {event.approval_id} is asked for a second time")
        self._asked[event.approval_id] = _Asked(event.call_id, event.call_sha256, event.expires_at_ms, event.arguments)

    def _open(self, approval_id: ApprovalId, call_id: CallId, where: str) -> _Asked | None:
        asked = self._asked.get(approval_id)
        if asked is not None and asked.open and asked.call_id == call_id:
            return asked
        self.finding.violated(f"{where}: the approval {approval_id} of the call {call_id} is not pending")
        return None

    def _resolve(self, envelope: EventEnvelope, event: ev.ApprovalResolved, where: str) -> None:
        asked = self._open(event.approval_id, event.call_id, where)
        if asked is None:
            return
        asked.open = False
        if not event.approved:
            return
        self.finding.count({"granted": 1})
        gated, by = self._gated[event.call_id], spelled(event.resolved_by)
        gated.grant = asked
        named = f"{where}: the grant of {event.approval_id} by {event.resolved_by!r}"
        if envelope.at_ms >= asked.expires_at_ms:
            self.finding.violated(f"{named} comes after its time")
        if not is_person(event.resolved_by):
            self.finding.violated(f"{named} is not a person's")
        if by == self._requesters.get(event.execution_id) or by in gated.editors:
            self.finding.violated(f"{named} is of who asked for it")

    def _use(self, envelope: EventEnvelope, event: ev.ToolRequested, where: str) -> None:
        named = f"{where}: the call {event.call_id} of {event.tool!r}"
        gated = self._gated[event.call_id]
        grant, gated.grant = gated.grant, None
        if grant is None:
            self.finding.violated(f"{named} has no grant that is not used up")
            return
        self.finding.count({"used": 1})
        if event.call_sha256 != grant.sha256:
            self.finding.violated(f"{named} is not the one that was approved")
        if grant.arguments is not None:
            sha256 = grant_sha256(event.tool, event.tool_version, grant.arguments, envelope.site_id)
            if sha256 != event.call_sha256:
                self.finding.violated(f"{named} has other arguments than were shown")
