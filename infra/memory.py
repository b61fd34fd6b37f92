"""What agents keep and find again: by words and subject, each agent its own memories alone."""

import re

from infra.asking import until_visible
from processors.tools.builtin.memory import MODULE
from processors.tools.port import ToolError, ToolRequest
from projections.db import TRANSIENT, Pool
from schemas.errors import UnavailableError
from schemas.message import Json
from streams.log import Log

WORDS = 30
CAUGHT_UP_S = 2.0  # for what this very run kept a moment ago

# The words as they are written: `simple` knows no language, so "invoices" does not find "invoice".
RECALL = """
SELECT id::text, memory_type AS kind, subject, content, created_at
FROM projections.ai_agent_memories
WHERE site_id = $1 AND agent_id = $2 AND ($3::text IS NULL OR subject = $3)
  AND ($4::text = '' OR to_tsvector('simple', content) @@ to_tsquery('simple', $4))
ORDER BY CASE WHEN $4 = '' THEN 0 ELSE ts_rank(to_tsvector('simple', content), to_tsquery('simple', $4)) END DESC,
         created_at DESC, id
LIMIT $5
"""


class MemoryGateway:
    """A `ModuleGateway` for an agent's memory. What is kept becomes an event after the call's result, and a row."""

    def __init__(self, log: Log, pool: Pool, *, caught_up_s: float = CAUGHT_UP_S) -> None:
        self._log = log
        self._pool = pool
        self._caught_up_s = caught_up_s

    async def call(self, module: str, action: str, request: ToolRequest) -> Json:
        """Say that something is kept, or find what was.

        Raises:
            ToolError: it is not known how.
            UnavailableError: Postgres does not answer.
        """
        match module, action:
            case _, "remember" if module == MODULE:
                return {"memory_id": request.call_id, "kept": True}
            case _, "recall" if module == MODULE:
                return await self._recall(request)
            case _:
                raise ToolError(f"{request.tool.name} can't be called on this system: {module} has no {action}.")

    async def _recall(self, request: ToolRequest) -> Json:
        given = request.arguments
        is_complete = True
        try:
            await until_visible(self._log, self._pool, request.agent_id, self._caught_up_s)
        except UnavailableError:
            is_complete = False
        words = " | ".join(dict.fromkeys(re.findall(r"[^\W_]+", given["query"].lower())[:WORDS]))
        values = (request.site_id, request.agent_id, given.get("subject"), words, given.get("limit", 5))
        try:
            rows = await self._pool.fetch(RECALL, *values)
        except TRANSIENT as error:
            raise UnavailableError(f"Postgres does not answer for the memories: {error}") from error
        found = [{**dict(row), "created_at": row["created_at"].isoformat()} for row in rows]
        return {"memories": found, "count": len(found), **({} if is_complete else {"newest_may_be_missing": True})}
