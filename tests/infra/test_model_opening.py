"""Providers from the settings: each under the name that agents give it."""

from pathlib import Path

import pytest
from pydantic import HttpUrl, SecretStr

from infra.models.addresses import ProviderAddress
from infra.models.opening import open_models
from processors.models.port import ModelRequest
from schemas.chat import ChatMessage
from schemas.errors import ConfigurationError, ModelError
from schemas.ids import AgentId, ExecutionId, SiteId
from tests.fake_provider import FakeProvider, Say

SCRIPTS = Path(__file__).parents[2] / "examples" / "scripts"


def question(provider: str) -> ModelRequest:
    words = (ChatMessage(role="user", content="hello"),)
    return ModelRequest(SiteId("s"), AgentId("a"), ExecutionId("e"), 1, provider, "m", words)


async def test_a_provider_of_the_settings_answers_under_its_name() -> None:
    async with FakeProvider(say=lambda body: Say(text="Hello to you.")).running() as fake:
        given = ProviderAddress(api="openai", key=SecretStr("sk-test-0123456789"), url=HttpUrl(f"{fake.address}/v1"))
        async with open_models({"house": given}, [SCRIPTS]) as models:
            reply = await models.complete(question("house"))
            with pytest.raises(ModelError, match="there is: house, scripted"):
                await models.complete(question("openai"))
    assert (reply.provider, reply.text) == ("house", "Hello to you.")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (fake.told.input_tokens, fake.told.output_tokens)


async def test_a_provider_without_its_key_is_one_clear_sentence() -> None:
    with pytest.raises(ConfigurationError, match="'openai' needs a key"):
        async with open_models({"openai": ProviderAddress(api="openai")}, [SCRIPTS]):
            pass


async def test_nobody_takes_the_name_of_the_scripted_model() -> None:
    with pytest.raises(ConfigurationError, match="choose another name"):
        async with open_models({"scripted": ProviderAddress(api="ollama")}, [SCRIPTS]):
            pass
