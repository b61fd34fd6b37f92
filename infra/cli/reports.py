"""`dramac reports`: what analysts found, to read and to pass on."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from infra.cli.common import JsonFlag, out, print_json, run, table
from infra.cli.tables import open_tables
from infra.reports.library import SHIPPED, load_templates
from infra.reports.rendering import print_report, with_pictures_inside, write_report
from infra.settings import Settings
from processors.reports.markdown import without_controls
from projections.queries.agents import get_agent
from projections.queries.reports import get_report, list_reports
from schemas.errors import ConfigurationError
from schemas.reports import Report

app = typer.Typer(no_args_is_help=True)

ReportId = Annotated[str, typer.Argument(metavar="ID", help="The report's id, or any unique beginning of it.")]


@app.command("list")
def list_(
    agent: Annotated[str | None, typer.Option(help="Only this agent's, by slug or id.")] = None,
    template: Annotated[str | None, typer.Option(help="Only of this template.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many, the newest first.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List the site's reports, the newest first."""

    async def work(settings: Settings) -> None:
        async with open_tables(settings) as pool:
            found = await get_agent(pool, settings.site_id, agent) if agent is not None else None
            rows = await list_reports(
                pool, settings.site_id, agent_id=found.id if found else None, template=template, limit=limit
            )
        if as_json:
            print_json([dataclasses.asdict(row) for row in rows])
            return
        shown = table("report", "title", "agent", "template", "made", "sha256")
        for row in rows:
            cells = (
                row.id,
                row.title,
                row.agent_slug or row.agent_id,
                row.template,
                f"{row.created_at:%Y-%m-%d %H:%M:%S}",
                row.sha256[:12],
            )
            shown.add_row(*(escape(without_controls(cell)) for cell in cells))
        out().print(shown if rows else "no reports yet: run an agent that may use generate_report")

    run(work)


@app.command("show")
def show(
    report: ReportId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write Markdown to this file, its charts beside it as SVG.")
    ] = None,
    inline: Annotated[bool, typer.Option("--inline", help="Put the charts into the Markdown, as data URIs.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, its charts inline.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show a report, or write it to a file."""

    async def work(settings: Settings) -> None:
        async with open_tables(settings) as pool:
            found = await get_report(pool, settings.site_id, report)
        if output is not None:
            files = _write(found.report, output, inside=inline)
            if as_json:
                print_json({"id": found.summary.id, "files": [str(file) for file in files]})
            else:
                out().print("wrote " + ", ".join(str(file) for file in files), markup=False)
        elif as_json:
            print_json({**dataclasses.asdict(found.summary), "report": found.report.model_dump(mode="json")})
        elif markdown or inline:
            sys.stdout.write(with_pictures_inside(found.report))
        else:
            print_report(out(), found.report)
            out().print(f"report {found.summary.id}, sha256 {found.summary.sha256}", style="dim")

    run(work)


@app.command("templates")
def templates(as_json: JsonFlag = False) -> None:
    """List the templates there are, checked, and what a model writes for each."""

    async def work(settings: Settings) -> None:
        found = load_templates(settings.report_templates)
        if as_json:
            print_json([template.model_dump(mode="json", exclude={"body"}) for template in found.values()])
            return
        own = settings.report_templates
        shown = table("template", "what", "period", "the model writes", "from")
        for name, one in found.items():
            is_own = own is not None and (own / f"{name}.md").is_file()
            span = f"{one.period.count} {one.period.unit}{'s' if one.period.count > 1 else ''}, by {one.bucket}"
            shown.add_row(name, one.description, span, ", ".join(one.narrative), str(own if is_own else SHIPPED.name))
        out().print(shown)

    run(work)


def _write(report: Report, path: Path, *, inside: bool) -> list[Path]:
    try:
        return write_report(report, path, inside=inside)
    except OSError as error:
        raise ConfigurationError(f"{str(path)!r} can't be written: {error.strerror}") from None
