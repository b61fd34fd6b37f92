"""The models that runs may ask: the scripted and the recorded one, and the providers of the settings."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from infra.live import LiveModel, LivePublisher
from infra.models.addresses import ProviderAddress
from infra.models.recorded import PROVIDER as RECORDED
from infra.models.recorded import RecordedModel
from infra.models.scripted import PROVIDER as SCRIPTED
from infra.models.scripted import ScriptedModel
from processors.models.call import ModelPorts
from processors.models.decisions import DecisionModel
from processors.models.port import ModelPort
from schemas.errors import ConfigurationError


@asynccontextmanager
async def open_models(
    providers: Mapping[str, ProviderAddress],
    scripts: Iterable[Path],
    recordings: Iterable[Path] = (),
    live: LivePublisher | None = None,
) -> AsyncIterator[ModelPorts]:
    """Make the adapters, by the names that agents give their providers; without scripts or recordings, no such model.

    What they answer can be watched on `live`.

    Raises:
        ConfigurationError: a provider lacks its key, or bears the name of the scripted model.
    """
    paths = tuple(scripts)
    ports: dict[str, ModelPort] = {SCRIPTED: ScriptedModel.from_yaml(*paths)} if paths else {}
    if dumps := tuple(recordings):
        ports[RECORDED] = RecordedModel.from_dumps(*dumps)
    async with AsyncExitStack() as stack:
        for name, given in providers.items():
            if name in (SCRIPTED, RECORDED):
                raise ConfigurationError(f"DRAMAC_PROVIDERS: {name!r} is the {name} model: choose another name")
            # The providers' clients take a second to import: only who names one waits for them.
            from infra.models.providers import ProviderConfig, make_provider

            key = given.key.get_secret_value() if given.key is not None else ""
            url = str(given.url).rstrip("/") if given.url is not None else None
            provider = make_provider(ProviderConfig(name, given.api, key, url, tools=given.tools))
            stack.push_async_callback(provider.aclose)
            watched = LiveModel(provider, live) if live is not None and given.streams else provider
            ports[name] = watched if given.tools else DecisionModel(provider)
        yield ModelPorts(ports)
