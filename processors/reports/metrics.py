"""What reports can count. Each is a number a UTC day; where it is read from is the data source's business."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """A count by day: `title` heads a row, `unit` says what is counted."""

    name: str
    title: str
    unit: str


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("contacts_created", "New contacts", "contacts"),
        Metric("notes_added", "Notes on contacts", "notes"),
        Metric("tasks_created", "New tasks", "tasks"),
        Metric("emails_drafted", "Emails drafted", "emails"),
        Metric("emails_sent", "Emails sent", "emails"),
        Metric("runs_started", "Agent runs started", "runs"),
        Metric("runs_completed", "Agent runs completed", "runs"),
        Metric("runs_failed", "Agent runs failed or timed out", "runs"),
        Metric("model_calls", "Model calls", "calls"),
        Metric("tool_calls", "Tool calls", "calls"),
        Metric("approvals", "Approvals asked for", "approvals"),
        Metric("tokens", "Tokens used", "tokens"),
    )
}
