"""At which addresses sites may have providers of their own: a key, and a site's data, go there."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from infra.settings import Settings
from schemas.errors import ConfigurationError

# The providers' own.
KNOWN = (
    "https://api.openai.com",
    "https://api.anthropic.com",
    "https://generativelanguage.googleapis.com",
)


def allowed_endpoints(settings: Settings) -> tuple[str, ...]:
    """Return the addresses that are allowed: the known ones, and those of DRAMAC_PROVIDER_ENDPOINTS."""
    return (*KNOWN, *(str(url) for url in settings.provider_endpoints))


def check_endpoint(url: str | None, allowed: tuple[str, ...]) -> None:
    """Check an address; None is the API's own.

    Scheme, host and port must be those of an allowed one, and the path must be below its path.

    Raises:
        ConfigurationError: it is not allowed, not encrypted though it is not on this machine, or no plain address.
    """
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ConfigurationError(f"{url!r:.200} is no address of a provider: write https://host/path")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ConfigurationError("a provider's address has no user, password, query or fragment: keys are given apart")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ConfigurationError(f"{url!r:.200} would send the key in clear: only this machine may be asked over http")
    if ".." in parts.path.split("/") or "%" in parts.path or "\\" in url:
        raise ConfigurationError(f"{url!r:.200} is no plain address: write its path as it is")
    if not any(_is_within(url, other) for other in allowed):
        raise ConfigurationError(
            f"{url!r:.200} is not among the allowed addresses: whoever runs the platform can add it to "
            "DRAMAC_PROVIDER_ENDPOINTS"
        )


def _is_within(url: str, allowed: str) -> bool:
    ours, theirs = urlsplit(url), urlsplit(allowed)
    if (ours.scheme, ours.hostname, _port(ours.scheme, ours.port)) != (
        theirs.scheme,
        theirs.hostname,
        _port(theirs.scheme, theirs.port),
    ):
        return False
    root = theirs.path.rstrip("/")
    return ours.path == root or ours.path.startswith(root + "/") or not root


def _port(scheme: str, port: int | None) -> int:
    return port if port is not None else {"https": 443, "http": 80}[scheme]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
