"""Where the platform's modules listen: from settings."""

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, field_validator

TIMEOUT_S = 30.0  # of one try; a tool's own time may be shorter
SECRET_CHARS = 16


class ModuleAddress(BaseModel):
    """Where a module of the platform listens, and the secret that calls to it are signed with."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: HttpUrl
    secret: SecretStr = Field(min_length=SECRET_CHARS)
    timeout_s: float = Field(default=TIMEOUT_S, gt=0, le=300)

    @field_validator("url")
    @classmethod
    def _plain(cls, url: HttpUrl) -> HttpUrl:
        if url.username or url.password or url.query or url.fragment:
            raise ValueError("must be a plain address: who calls is shown by the signature")
        return url
