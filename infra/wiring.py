"""Where everything is put together: the only place that knows which implementation serves which port."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Literal

import asyncpg

from infra.connections import open_log, open_pool
from infra.context import CatalogueContext
from infra.data.reader import DataReader
from infra.dev.stack import Endpoints
from infra.governance import Governance, load_governance
from infra.guardians import Guardians
from infra.live import LivePublisher
from infra.mcp.frozen import MODULE as MCP_TOOLS
from infra.mcp.gateway import McpGateway, Sessions
from infra.mcp.store import McpStore
from infra.memory import MemoryGateway
from infra.models.endpoints import allowed_endpoints
from infra.models.opening import open_models
from infra.models.prices import load_prices
from infra.models.sites import SiteModels
from infra.models.store import ProviderStore
from infra.modules.doors import Doors
from infra.modules.http import HttpModules
from infra.modules.router import ToolRouter
from infra.modules.sandbox import Sandbox
from infra.modules.telling import EventGateway
from infra.notify import ApprovalNotifier, ApprovalWebhook, Channel
from infra.notify_email import ApprovalEmails
from infra.reports.gateway import ReportGateway
from infra.reports.library import load_templates
from infra.secrets import sealer_of
from infra.settings import Settings
from infra.tools.entry_points import installed_tools
from infra.tools.hosts import parse_hosts
from infra.tools.http_gateway import HttpToolGateway
from infra.tools.http_tool import MODULE as HTTP_TOOLS
from infra.tools.offered import OfferedTools
from infra.tools.store import SiteToolStore
from infra.web.fetching import WebFetcher
from infra.web.gateway import SearchService, WebGateway
from processors.models.port import ModelPort
from processors.runtime.process import Process
from processors.runtime.worker import Worker
from processors.tools.builtin.memory import MODULE as MEMORY
from processors.tools.builtin.reports import REPORTS_MODULE, report_tool
from processors.tools.own import MODULE as PYTHON_TOOLS
from processors.tools.own import PythonTools
from processors.tools.port import ModuleGateway, ToolPort
from processors.tools.registry import BUILTIN, Registry
from processors.triggers.agent_events import AgentEventRouter
from processors.triggers.router import Router
from projections.db import Pool
from projections.projector import Projector
from schemas.errors import DramacError
from streams.client import ModuleEventPublisher
from streams.log import Log

logger = logging.getLogger(__name__)

Role = Literal["decider", "router", "projector", "guardian"]
ROLES: tuple[Role, ...] = ("decider", "router", "projector", "guardian")

TOLD_MODULES = ("notifications", "automation")  # asked by an event
SANDBOX_MODULES = frozenset({"crm", "email", "tasks", "booking"})


@dataclass(slots=True)
class House:
    """The long-running parts of one process, ready to run."""

    log: Log
    pool: "asyncpg.Pool[asyncpg.Record]"
    sandbox: Sandbox
    worker: Worker | None
    routers: Sequence[Router]
    projector: Projector | None
    guardians: Guardians | None
    notifiers: Sequence[ApprovalNotifier]

    async def run(self) -> None:
        """Run everything until cancelled; if one part ends with an error, all end with it."""
        parts = [router.run() for router in self.routers]
        others = (self.worker, self.projector, self.guardians, *self.notifiers)
        parts += [part.run() for part in others if part is not None]
        parts += [self.sandbox.run()] if self.worker is not None else []
        try:
            async with asyncio.TaskGroup() as group:
                for part in parts:
                    group.create_task(part)
        except* DramacError as errors:
            raise errors.exceptions[0] from None


@asynccontextmanager
async def open_house(
    settings: Settings, endpoints: Endpoints, roles: Iterable[Role] = ROLES, scripts: Sequence[Path] = ()
) -> AsyncIterator[House]:
    """Put the parts of `roles` together. `scripts` are for the scripted model, besides those of the settings."""
    wanted = frozenset(roles)
    async with (
        open_log(settings, endpoints) as log,
        open_pool(endpoints) as pool,
        ModuleEventPublisher(log) as publisher,
        HttpModules(settings.modules) as modules,
        LivePublisher(log) as live,
        open_models(
            settings.providers, (*scripts, *settings.scripts, *shipped("scripts")), settings.recordings, live
        ) as platform,
        site_models(settings, platform, pool, live) as models,
        _webhook(settings, wanted) as webhook,
    ):
        sandbox = Sandbox(pool, publisher)
        await sandbox.open()
        data = DataReader(pool)
        templates = await asyncio.to_thread(load_templates, settings.report_templates)
        governance = await asyncio.to_thread(load_governance, settings.governance)
        prices = await asyncio.to_thread(load_prices, settings.prices)
        reports = ReportGateway(pool, templates, system_ms)
        own_tools, mcp, python = SiteToolStore(pool), McpStore(pool), PythonTools(installed_tools())
        if "decider" in wanted:
            await ProviderStore(pool).open()
            await data.open()
            await reports.open()
            await own_tools.open()
        events = EventGateway(publisher)
        hosts, sealer = parse_hosts(settings.tool_hosts), partial(sealer_of, settings)
        outside: dict[str, ModuleGateway] = {
            HTTP_TOOLS: HttpToolGateway(own_tools, sealer, hosts),
            MCP_TOOLS: McpGateway(mcp, partial(_mcp_sessions, settings)),
        }
        ours: dict[str, ModuleGateway] = {"data": data, REPORTS_MODULE: reports, **dict.fromkeys(TOLD_MODULES, events)}
        ours |= {PYTHON_TOOLS: python, MEMORY: MemoryGateway(log, pool)}
        emails = _emails(module_doors(settings, modules, sandbox, ours), governance, wanted)
        channels: list[Channel] = [each for each in (webhook, emails) if each is not None]
        process = Process(
            log=log,
            models=models,
            tools=tool_port(settings, modules, sandbox, ours, outside),
            context=CatalogueContext(
                Registry((*BUILTIN, report_tool(templates), *python.definitions)),
                SANDBOX_MODULES | settings.modules.keys(),
                governance,
                prices,
                system_ms,
                OfferedTools([own_tools.definitions, mcp.definitions]),
            ),
        )
        now_ms = process.now_ms
        yield House(
            log,
            pool,
            sandbox,
            Worker(process) if "decider" in wanted else None,
            _routers(log, settings, now_ms) if "router" in wanted else [],
            Projector(log, pool) if "projector" in wanted else None,
            Guardians(log, settings) if "guardian" in wanted else None,
            [ApprovalNotifier(pool, channel) for channel in channels],
        )


def _mcp_sessions(settings: Settings) -> Sessions:
    from infra.mcp.opening import open_sessions  # the library takes a second to import, and most call no such server

    return open_sessions(settings)


def _webhook(settings: Settings, roles: Collection[Role]) -> AbstractAsyncContextManager[ApprovalWebhook | None]:
    """Return who tells of approvals by webhook: the projector's part, since it reads what that writes."""
    if settings.approval_webhook is None or "projector" not in roles:
        return nullcontext()
    return ApprovalWebhook(settings.approval_webhook)


def _emails(gateway: ModuleGateway, governance: Governance, roles: Collection[Role]) -> ApprovalEmails | None:
    """Return who tells of approvals by email, where the governance file names anybody."""
    if "projector" not in roles or not governance.named_approvers():
        return None
    return ApprovalEmails(gateway, governance)


@asynccontextmanager
async def site_models(
    settings: Settings, platform: ModelPort, pool: Pool, live: LivePublisher
) -> AsyncIterator[SiteModels]:
    """Let sites' own providers answer before the platform's."""
    allowed = allowed_endpoints(settings)
    store = ProviderStore(pool)
    models = SiteModels(platform, settings.providers, store, lambda: sealer_of(settings), allowed, live=live)
    try:
        yield models
    finally:
        await models.aclose()


def _routers(log: Log, settings: Settings, now_ms: Callable[[], int]) -> list[Router]:
    return [*(Router(log, topic, now_ms) for topic in settings.module_topics), AgentEventRouter(log, now_ms)]


def system_ms() -> int:
    """Return the time of this machine, in Unix ms."""
    return time.time_ns() // 1_000_000


def module_doors(
    settings: Settings, http: ModuleGateway, sandbox: ModuleGateway, ours: Mapping[str, ModuleGateway]
) -> ModuleGateway:
    """Return who serves modules: those with an address over HTTP, whatever else could serve them."""
    return Doors({**ours, **dict.fromkeys(settings.modules, http)}, sandbox)


def tool_port(
    settings: Settings,
    http: ModuleGateway,
    sandbox: ModuleGateway,
    ours: Mapping[str, ModuleGateway],
    outside: Mapping[str, ModuleGateway] | None = None,
) -> ToolPort:
    """Return who makes tool calls.

    `outside` serves tools that sites registered, by kind.
    """
    doors = module_doors(settings, http, sandbox, ours)
    key = settings.search_key
    search = SearchService(str(settings.search_url), key) if settings.search_url is not None and key else None
    external = Doors({"web": WebGateway(WebFetcher(), search), **(outside or {})})
    return ToolRouter({"module": doors, "internal": doors, "workflow": doors, "external": external})


def shipped(folder: str) -> list[Path]:
    """Return the folder of the examples that come with the project."""
    room = Path(str(files("infra")))
    places = (room / "examples" / folder, room.parent / "examples" / folder)  # installed, and in a checkout
    return [next(place for place in places if place.is_dir())]
