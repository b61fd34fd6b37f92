"""Memories: what agents kept for their later runs, a row each, written once."""

from dataclasses import dataclass
from datetime import datetime

from projections.db import Uuid, statement


@dataclass(slots=True)
class MemoryRow:
    """One memory of one agent."""

    site_id: Uuid
    id: Uuid
    agent_id: Uuid
    execution_id: Uuid
    created_at: datetime
    memory_type: str
    subject: str | None
    content: str


MEMORIES = statement(
    MemoryRow,
    """
INSERT INTO projections.ai_agent_memories (
  site_id, id, agent_id, execution_id, created_at, memory_type, subject, content
)
SELECT site_id, id, agent_id, execution_id, created_at, memory_type, subject, content
FROM :rows
ON CONFLICT (site_id, id) DO NOTHING
""",
)
