"""Which hosts the tools of sites may reach: those that whoever runs this system names, and no others."""

from collections.abc import Iterable
from dataclasses import dataclass

import httpx2

from infra.web.addresses import DEFAULT_PORTS, Exemption, checked_url
from processors.tools.globs import matches_any
from processors.tools.port import ToolError

HOW = 'name it in DRAMAC_TOOL_HOSTS, such as ["api.example.com", "*.shop.example"]'


@dataclass(frozen=True, slots=True)
class Hosts:
    """Globs of public hosts; and single ones, with a port, that are reached though they may not be public."""

    public: tuple[str, ...] = ()
    exempt: frozenset[Exemption] = frozenset()

    def check(self, url: str) -> httpx2.URL:
        """Return the URL, if it may be reached by its form; its addresses are checked where it is connected to.

        Raises:
            ToolError: it may not; it says what to do.
        """
        checked = checked_url(url, self.exempt)
        host = checked.raw_host.decode("ascii").lower()
        if self.is_exempt(checked) or matches_any(self.public, host):
            return checked
        raise ToolError(f"The host {host[:120]!r} is not one that tools of sites may reach: {HOW}.")

    def is_exempt(self, url: httpx2.URL) -> bool:
        """Whether a host is reached by the word of whoever runs this system alone."""
        host = url.raw_host.decode("ascii").lower()
        return Exemption(host, url.port or DEFAULT_PORTS[url.scheme]) in self.exempt


def parse_hosts(entries: Iterable[str]) -> Hosts:
    """Return what the entries name: `api.example.com`, `*.example.com`, or `10.0.0.7:8080` for what is not public."""
    public, exempt = [], set()
    for entry in entries:
        host, colon, port = entry.strip().lower().rpartition(":")
        if colon and port.isdecimal():
            exempt.add(Exemption(host.strip("[]"), int(port)))
        else:
            public.append(entry.strip().lower())
    return Hosts(tuple(public), frozenset(exempt))
