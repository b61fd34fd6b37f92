"""Where the platform's model providers are asked, and with which keys: from settings."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr

Api = Literal["openai", "openai-responses", "anthropic", "google", "ollama", "ollama-generate"]


class ProviderAddress(BaseModel):
    """A provider: the API that it speaks, its key, and its address where that is not the API's own.

    `tools` false: its models have no tool calls of their own, and decide in our JSON format instead. The limits a
    minute are of each site and process. `stream`: whether answers are taken piece by piece, so that people can watch;
    where unset, at the APIs' own addresses alone, since others may not tell then what was spent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    api: Api
    key: SecretStr | None = None
    url: HttpUrl | None = None
    tools: bool = True
    stream: bool | None = None
    requests_per_minute: int | None = Field(default=None, ge=1, le=10_000_000)
    tokens_per_minute: int | None = Field(default=None, ge=1)

    @property
    def streams(self) -> bool:
        """Whether answers are taken piece by piece."""
        return self.stream if self.stream is not None else self.url is None
