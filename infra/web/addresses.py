"""Which URLs and addresses a tool may reach: the public web, and nothing else.

What is not plainly public is denied: the tables are those of IANA's special-purpose address registries (RFC 6890),
and of IPv6 only global unicast is let through at all.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

import httpx2

from processors.tools.port import ToolError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

URL_CHARS = 2_000
WEB_PORTS = frozenset({80, 443})
DEFAULT_PORTS = {"http": 80, "https": 443}

_IPV4_DENIED = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' NAT; some clouds keep their metadata here
        "127.0.0.0/8",
        "168.63.129.16/32",  # public by number, but inside Azure it is the host's own service
        "169.254.0.0/16",  # link-local; clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_IPV6_DENIED = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # protocols' own, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4: out of use, and leads to an IPv4 address of the writer's choice
        "3fff::/20",
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP = re.compile(r":(?:0|200):5efe:")  # an IPv4 address in the lower half, by RFC 5214

# Names that lead somewhere else on each network. A name without a dot is completed by the machine's search list.
_LOCAL_NAMES = ("localhost", "local", "internal", "intranet", "lan", "home", "corp", "home.arpa", "localdomain")
_NUMBER = re.compile(r"(?:[0-9]+|0[xX][0-9a-fA-F]*)")  # what a resolver would read as a part of an IPv4 address
_HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)+")


@dataclass(frozen=True, slots=True)
class Exemption:
    """An address and port that may be reached though they are not public. Only whoever wires a fetcher has a say."""

    address: str
    port: int


def is_public(address: Address) -> bool:
    """Whether `address` is one of the public internet, also if it stands for an IPv4 address within an IPv6 one."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _IPV4_DENIED) and address.is_global
    if address.scope_id is not None:
        return False
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if address in _NAT64:
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    if _ISATAP.search(address.exploded.replace(":0000:5efe:", ":0:5efe:").replace(":0200:5efe:", ":200:5efe:")):
        return False
    if address not in _GLOBAL_UNICAST or any(address in network for network in _IPV6_DENIED):
        return False
    return address.is_global and not address.is_multicast


def checked_url(text: str, exempt: Iterable[Exemption] = ()) -> httpx2.URL:
    """Return the URL, if its form is that of a public page. Its host's addresses are checked where it is connected to.

    Raises:
        ToolError: it is not; in words for the model. Nothing was looked up.
    """
    if len(text) > URL_CHARS:
        raise ToolError(f"The URL is longer than {URL_CHARS} characters.")
    if any(character <= " " or character in '\\"<>^`{|}' or character == "\x7f" for character in text):
        raise ToolError(f"{_shown(text)} is not a URL: it holds spaces or characters that must be encoded.")
    try:
        url = httpx2.URL(text)
        host, port = url.raw_host.decode("ascii").lower(), url.port
    except (httpx2.InvalidURL, UnicodeError, ValueError) as error:
        raise ToolError(f"{_shown(text)} is not a URL: write it like https://example.com/page.") from error
    if url.scheme not in DEFAULT_PORTS or not host:
        raise ToolError(f"{_shown(text)} can't be read: only http:// and https:// pages can.")
    if url.userinfo or "@" in text.split("//", 1)[-1].split("/", 1)[0]:
        raise ToolError(f"{_shown(text)} can't be read: leave out the user name and password.")
    port = port if port is not None else DEFAULT_PORTS[url.scheme]
    if Exemption(host, port) in tuple(exempt):
        return url
    if port not in WEB_PORTS:
        raise ToolError(f"{_shown(text)} can't be read: only ports 80 and 443 can be reached, not {port}.")
    _check_host(host)
    return url


def _check_host(host: str) -> None:
    if ":" in host:  # what stands in brackets in a URL
        try:
            address = ipaddress.IPv6Address(host)
        except ValueError as error:
            raise ToolError(f"The host {_shown(host)} is not an address that can be reached.") from error
        if not is_public(address):
            raise not_public(host)
        return
    name = host.rstrip(".")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        _check_ipv4(name)
        return
    if not _HOST.fullmatch(name) or len(name) > 253:
        raise not_public(host)
    if any(name == local or name.endswith("." + local) for local in _LOCAL_NAMES):
        raise not_public(host)


def _check_ipv4(name: str) -> None:
    """A host whose last part is a number is an IPv4 address, in whatever form: only the plain one is taken."""
    try:
        address = ipaddress.IPv4Address(name)
    except ValueError as error:
        raise ToolError(
            f"The host {_shown(name)} is an address in an unusual form: use the site's name instead."
        ) from error
    if not is_public(address):
        raise not_public(name)


def not_public(host: str) -> ToolError:
    """Return the refusal of a host that is not on the public web."""
    return ToolError(f"The host {_shown(host)} can't be reached: only public websites can.")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 120 else text[:120] + "…")
