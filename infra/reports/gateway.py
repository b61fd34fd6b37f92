"""The door to reports: a `ModuleGateway` over what Postgres has of a site."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import orjson

from infra.own_schema import OwnSchema
from infra.reports.sources import Pool, read_data
from processors.reports.compose import compose
from processors.reports.narrative import written
from processors.reports.periods import MAX_BUCKETS, MAX_DAYS, Period, before, buckets, is_whole, last_full
from processors.reports.template import Template
from processors.tools.builtin.reports import GENERATE, REPORTS_MODULE
from processors.tools.cleaning import OUTPUT_LIMIT_BYTES
from processors.tools.port import ToolError, ToolRequest
from projections.db import TRANSIENT
from schemas.errors import UnavailableError
from schemas.message import Json, JsonObject
from schemas.reports import Report, body_sha256

KEPT = timedelta(days=45)  # longer than commands are kept: nobody makes a call again after that

SCHEMA = OwnSchema("reports", Path(__file__).with_name("store.sql"), "calls_made_at", lock=0x72657073)  # "reps"
FIND = "SELECT asked, result FROM reports.calls WHERE site_id = $1 AND key = $2"
KEEP = """
INSERT INTO reports.calls (site_id, key, asked, result) VALUES ($1, $2, $3, $4) ON CONFLICT (site_id, key) DO NOTHING
"""
FORGET = "DELETE FROM reports.calls WHERE made_at < now() - $1::interval"


class ReportGateway:
    """Serves the module `reports`. Call `open` once before anything else.

    `now_ms` is the time in Unix ms: it says which day is today.
    """

    def __init__(self, pool: Pool, templates: Mapping[str, Template], now_ms: Callable[[], int]) -> None:
        self._pool = pool
        self._templates = templates
        self._now_ms = now_ms

    async def open(self) -> None:
        """Create the table of answers where it is missing.

        Raises:
            UnavailableError: Postgres does not answer.
        """
        with _unavailable():
            await SCHEMA.ensure(self._pool)

    async def call(self, module: str, action: str, request: ToolRequest) -> Json:
        """Make a report: once for `request.call_id`, which is its id.

        Raises:
            ToolError: refused, in words for the model.
            UnavailableError: Postgres does not answer; asking again is safe.
        """
        if (module, action) != (REPORTS_MODULE, GENERATE):
            raise ToolError(f"There is no {action} in the module {module}.")
        return await self._generate(request)

    async def _generate(self, request: ToolRequest) -> Json:
        asked = hashlib.sha256(orjson.dumps(request.arguments, option=orjson.OPT_SORT_KEYS)).hexdigest()
        if (answer := await self._answered(request, asked)) is not None:
            return answer
        report = await self._made(request)
        result = report.encode()
        if len(result) > OUTPUT_LIMIT_BYTES:
            raise ToolError(
                f"The report has {len(result)} bytes, over {OUTPUT_LIMIT_BYTES}: write less, or take fewer days."
            )
        with _unavailable():
            await self._pool.execute(KEEP, request.site_id, request.call_id, asked, result.decode())
            await self._pool.execute(FORGET, KEPT)
        # Of two that made it at the same time, the first to store it counts for both.
        return await self._answered(request, asked)

    async def _answered(self, request: ToolRequest, asked: str) -> JsonObject | None:
        with _unavailable():
            row = await self._pool.fetchrow(FIND, request.site_id, request.call_id)
        if row is None:
            return None
        if row["asked"] != asked:
            raise ToolError("This call's key was used for another report before: nothing was done.")
        answer: JsonObject = orjson.loads(row["result"])
        return answer

    async def _made(self, request: ToolRequest) -> Report:
        arguments = request.arguments
        template = self._templates.get(str(arguments["template"]))
        if template is None:
            raise ToolError(f"There is no such template: there are {', '.join(self._templates)}.")
        texts = written(template, arguments.get("narrative") or {})
        now = datetime.fromtimestamp(self._now_ms() / 1000, UTC)
        period = chosen_period(template, arguments.get("period"), now.date())
        first = before(period, template.bucket).first
        read = await read_data(self._pool, request.site_id, template.metrics(), first, period)
        as_of = f"{now:%Y-%m-%d %H:%M:%S} UTC"
        composed = compose(template, period, read, texts, as_of)
        return Report(
            report_id=request.call_id,
            template=template.name,
            template_sha256=template.sha256,
            title=composed.title,
            first=period.first,
            last=period.last,
            as_of=as_of,
            sha256=body_sha256(composed.title, composed.markdown, composed.charts),
            markdown=composed.markdown,
            charts=composed.charts,
        )


def chosen_period(template: Template, wanted: Json, today: date) -> Period:
    """Return the period that was asked for, or the template's own.

    Raises:
        ToolError: it can't be read, lies in the future, is too long, or does not fit the template's buckets.
    """
    if not wanted:
        return last_full(template.period.unit, template.period.count, today)
    try:
        period = Period(date.fromisoformat(str(wanted["first"])), date.fromisoformat(str(wanted["last"])))
    except (KeyError, TypeError, ValueError):
        raise ToolError('The period must be two days, such as {"first": "2026-03-02", "last": "2026-03-08"}.') from None
    if period.last > today:
        raise ToolError(f"The period ends after today, {today}: end it today or earlier.")
    if not 1 <= period.days <= MAX_DAYS or period.first.year < 2000:
        raise ToolError(f"The period must have from 1 to {MAX_DAYS} days, and begin in 2000 or later.")
    if not is_whole(period, template.bucket):
        raise ToolError(
            f"{template.name} counts by {template.bucket}: begin and end the period with whole {template.bucket}s."
        )
    if len(buckets(period, template.bucket)) > MAX_BUCKETS:
        raise ToolError(f"The period may have at most {MAX_BUCKETS} {template.bucket}s.")
    return period


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except TRANSIENT as error:
        raise UnavailableError(f"Postgres does not answer for reports: {str(error) or repr(error)}") from error
