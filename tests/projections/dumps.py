"""Whole tables as text, to compare."""

from projections.db import Pool

TABLES = """
SELECT table_name FROM information_schema.tables
WHERE table_schema = 'projections' AND table_type = 'BASE TABLE' ORDER BY 1
"""


async def dump(pool: Pool, *, without: frozenset[str] = frozenset()) -> dict[str, list[str]]:
    """Return every row of every table of the schema, sorted."""
    rows: dict[str, list[str]] = {}
    for (name,) in await pool.fetch(TABLES):
        if name not in without:
            found = await pool.fetch(f"SELECT t::text AS row FROM projections.{name} t")
            rows[name] = sorted(row["row"] for row in found)
    return rows
