"""Makes the adapters of the providers that we know, each with its address and key."""

from dataclasses import dataclass, field
from typing import Any

from infra.models.addresses import Api
from infra.models.anthropic_messages import MessagesDialect
from infra.models.google_gemini import GeminiDialect
from infra.models.ollama import OllamaDialect
from infra.models.openai_chat import ChatDialect
from infra.models.openai_responses import ResponsesDialect
from infra.models.provider import Provider, Timeouts
from infra.models.wires import AnthropicWire, GoogleWire, OllamaWire, OpenAIWire, http_client
from processors.models.decisions import DecisionModel
from processors.models.port import ModelPort
from schemas.errors import ConfigurationError

ADDRESSES: dict[Api, str] = {
    "openai": "https://api.openai.com/v1",
    "openai-responses": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "google": "https://generativelanguage.googleapis.com",
    "ollama": "http://127.0.0.1:11434",
    "ollama-generate": "http://127.0.0.1:11434",
}


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """A provider: which API it speaks, where, and with which key.

    `openai` with a `base_url` is any compatible endpoint. `tools` false: its models have no tool calls of their own,
    and decide in our JSON format instead.
    """

    name: str
    api: Api
    api_key: str = field(default="", repr=False)
    base_url: str | None = None
    tools: bool = True
    timeouts: Timeouts = field(default_factory=Timeouts)


def make_provider(config: ProviderConfig, *, transport: Any = None) -> Provider:
    """Return the adapter; `transport` replaces the network, for tests.

    Raises:
        ConfigurationError: it needs a key and has none.
    """
    if not config.api_key and config.api not in ("ollama", "ollama-generate") and config.base_url is None:
        raise ConfigurationError(f"the model provider {config.name!r} needs a key: set it")
    client = http_client(config.timeouts, transport)
    address = config.base_url or ADDRESSES[config.api]
    key = config.api_key or "none"  # the SDKs insist on one; a compatible endpoint may not want any
    made: tuple[Any, Any]
    match config.api:
        case "openai":
            field_name = "max_completion_tokens" if config.base_url is None else "max_tokens"
            wire = OpenAIWire(api_key=key, base_url=address, api="chat", client=client)
            made = ChatDialect(config.name, max_tokens_field=field_name), wire
        case "openai-responses":
            wire = OpenAIWire(api_key=key, base_url=address, api="responses", client=client)
            made = ResponsesDialect(config.name), wire
        case "anthropic":
            made = MessagesDialect(config.name), AnthropicWire(api_key=key, base_url=address, client=client)
        case "google":
            made = GeminiDialect(config.name), GoogleWire(api_key=key, base_url=address, client=client)
        case "ollama":
            local = OllamaWire(base_url=address, client=client, api_key=config.api_key)
            made = OllamaDialect(config.name), local
        case "ollama-generate":
            local = OllamaWire(base_url=address, client=client, api_key=config.api_key)
            made = OllamaDialect(config.name, "generate"), local
    dialect, carrier = made
    return Provider(dialect, carrier, timeouts=config.timeouts, secrets=(config.api_key,))


def make_port(config: ProviderConfig) -> ModelPort:
    """Return what runs ask: the adapter, or the adapter behind the JSON decision format.

    Raises:
        ConfigurationError: as `make_provider` does.
    """
    provider = make_provider(config)
    return provider if config.tools else DecisionModel(provider)
