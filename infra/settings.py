"""Settings: from the environment, prefix `DRAMAC_`, and from nowhere else."""

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, HttpUrl, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.models.addresses import ProviderAddress
from infra.modules.addresses import ModuleAddress
from schemas.errors import ConfigurationError
from schemas.governance import APPROVER, Role
from schemas.ids import SiteId, parse_site_id

PREFIX = "DRAMAC_"
TEST_PREFIX = "DRAMAC_TEST_"  # for the test suite alone

DEVELOPMENT_SITE = SiteId("5d9c3f0a-6a0e-4f43-9c0e-2b1d6a7f1c11")
EMBEDDED_PARTITIONS = 4

LogLevel = Literal["debug", "info", "warning", "error"]


def _data_home() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "dramac"


class Settings(BaseSettings):
    """All there is to set. Without `kafka` and `postgres`, the embedded ones of `data_dir` are used."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", env_ignore_empty=True)

    kafka: str | None = Field(default=None, description="Kafka's bootstrap servers, host:port, separated by commas")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_username: str | None = None
    kafka_password: SecretStr | None = None
    postgres: SecretStr | None = Field(default=None, description="postgresql://user:password@host:port/database")
    data_dir: Path = Field(default_factory=_data_home, description="where the embedded servers keep their data")
    site: Annotated[str, AfterValidator(parse_site_id)] = DEVELOPMENT_SITE
    user: str = Field(default="cli", pattern=r"^[A-Za-z0-9._@-]{1,100}$", description="who gives the commands")
    module_topics: tuple[str, ...] = Field(default=("module.events",), min_length=1)
    partitions: int = Field(default=32, ge=1, le=1024, description="of topics that are created on a given Kafka")
    replication_factor: int = Field(default=3, ge=1, le=10)
    api_host: str = Field(default="127.0.0.1", min_length=1, description="where `dramac api` listens")
    api_port: int = Field(default=8420, ge=0, le=65_535, description="its port; 0 for any that is free")
    secret_keys: SecretStr | None = Field(
        default=None, description="master keys, id:base64,id2:base64; the first seals"
    )
    modules: dict[str, ModuleAddress] = Field(
        default={}, description='modules over HTTP: {"crm": {"url": "https://…", "secret": "…"}}; the sandbox else'
    )
    search_url: HttpUrl | None = Field(default=None, description="a web search service that speaks Serper's protocol")
    search_key: SecretStr | None = Field(default=None, description="its key")
    providers: dict[str, ProviderAddress] = Field(
        default={}, description='model providers by name: {"openai": {"api": "openai", "key": "…"}}'
    )
    prices: Path | None = Field(default=None, description="a file of prices of models, before the shipped ones")
    provider_endpoints: tuple[HttpUrl, ...] = Field(
        default=(), description="addresses at which sites may have model providers of their own, besides the known ones"
    )
    scripts: tuple[Path, ...] = Field(default=(), description="files or folders of scripts for the scripted model")
    recordings: tuple[Path, ...] = Field(default=(), description="dumps of ai.events for the recorded model")
    report_templates: Path | None = Field(
        default=None, description="a folder of report templates, which stand in for the shipped ones of their name"
    )
    governance: Path | None = Field(
        default=None,
        description="a file of what sites may do and hold to be risky; all they can and the shipped rules else",
    )
    approval_webhook: ModuleAddress | None = Field(
        default=None, description='who is told that an approval waits: {"url": "https://…", "secret": "…"}'
    )
    roles: tuple[Role, ...] = Field(default=(APPROVER,), description="the roles of who gives the commands here")
    log_level: LogLevel = "warning"
    debug: bool = Field(default=False, description="show tracebacks of errors that should not happen")

    @property
    def site_id(self) -> SiteId:
        """The site that commands are for, where none is named."""
        return SiteId(self.site)

    @property
    def postgres_url(self) -> str | None:
        """The database's address, with its password."""
        return self.postgres.get_secret_value() if self.postgres is not None else None

    def kafka_options(self) -> dict[str, Any]:
        """Return aiokafka's options for a secured Kafka; none for a plain one."""
        if self.kafka_security_protocol == "PLAINTEXT":
            return {}
        options: dict[str, Any] = {"security_protocol": self.kafka_security_protocol}
        if self.kafka_security_protocol.startswith("SASL"):
            options["sasl_mechanism"] = self.kafka_sasl_mechanism
            options["sasl_plain_username"] = self.kafka_username
            options["sasl_plain_password"] = self.kafka_password.get_secret_value() if self.kafka_password else None
        return options


def load_settings() -> Settings:
    """Return the settings of this process.

    Raises:
        ConfigurationError: a variable is wrong or unknown; the message names it and what it may be.
    """
    known = {(PREFIX + name).upper() for name in Settings.model_fields}
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and not name.startswith(TEST_PREFIX) and name.upper() not in known:
            close = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}"
            raise ConfigurationError(f"there is no setting {name}: {hint}")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = PREFIX + str(first["loc"][0]).upper() if first["loc"] else "a setting"
        raise ConfigurationError(f"{name} is wrong: {first['msg']}") from None
    except ValueError as error:  # a variable that should be JSON, such as a list
        raise ConfigurationError(f'{error}; lists are written as JSON: ["module.events"]') from None
