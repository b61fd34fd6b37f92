"""What befell an agent outside its runs, and the catalogues that its stream refers to. Rows are written once."""

from dataclasses import dataclass
from datetime import datetime

from projections.db import Uuid, statement


@dataclass(slots=True)
class ActivityRow:
    """One change, skipped trigger or refused command. `details` is JSON text."""

    site_id: Uuid
    agent_id: Uuid
    sequence: int
    at: datetime
    kind: str
    reason: str | None
    message: str | None
    execution_id: str | None
    actor: str
    causation_id: str
    correlation_id: str
    details: str


ACTIVITY = statement(
    ActivityRow,
    """
INSERT INTO projections.ai_agent_activity (
  site_id, agent_id, sequence, at, kind, reason, message, execution_id, actor, causation_id, correlation_id, details
)
SELECT
  site_id, agent_id, sequence, at, kind, reason, message, execution_id, actor, causation_id, correlation_id,
  details::jsonb
FROM :rows
""",
)


@dataclass(slots=True)
class CatalogueRow:
    """A catalogue's body, as JSON text."""

    site_id: Uuid
    agent_id: Uuid
    sha256: str
    recorded_at: datetime
    catalogue: str


CATALOGUES = statement(
    CatalogueRow,
    """
INSERT INTO projections.ai_agent_catalogues (site_id, agent_id, sha256, recorded_at, catalogue)
SELECT site_id, agent_id, sha256, recorded_at, catalogue::jsonb
FROM :rows
ON CONFLICT (site_id, agent_id, sha256) DO NOTHING
""",
)
