"""SSRF: what is not the public web is denied before anything is connected to, in whatever form it is written."""

import contextlib
import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.web.addresses import Exemption, checked_url, is_public
from infra.web.connecting import Connector
from infra.web.fetching import WebFetcher
from processors.tools.port import ToolError
from tests.infra.web.wires import PUBLIC, Names, Wires, answer, redirect

DENIED_ADDRESSES = [
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.8", "192.0.2.1", "192.88.99.1"),
    *("198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "100::1"),
    *("2001:db8::1", "2001::1", "2001:10::1", "2001:20::1", "3fff::1", "5f00::1", "4000::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::ffff:0:127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:5db8:d70e::"),
    *("2001:0:4136:e378:8000:63bf:3fff:fdd2", "2606:4700::5efe:7f00:1", "2606:4700::200:5efe:a00:1"),
]
PUBLIC_ADDRESSES = ["93.184.215.14", "8.8.8.8", "172.15.0.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111"]
MAPPED_PUBLIC = ["::ffff:8.8.8.8", "64:ff9b::808:808"]

# Hosts as they may stand in a URL. Each must be denied without a name being looked up.
DENIED_HOSTS = [
    *(f"[{text}]" if ":" in text else text for text in DENIED_ADDRESSES if "%" not in text),
    *("[fe80::1%25eth0]", "[fe80::1%eth0]", "[::1", "[]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]"),
    *("2130706433", "0x7f000001", "017700000001", "0177.0.0.1", "0x7f.0.0.1", "0x7f.1", "127.1", "127.0.1", "0", "0x"),
    *(
        "127.0.0.1.",
        "127.0.0.1..",
        "10.1",
        "192.168.257",
        "3232235777",
        "0xC0A80101",
        "0300.0250.1.1",
        "00000127.0.0.1",
    ),
    *("0xa9fea9fe", "2852039166", "169.254.43518", "1.2.3.4.5", "4294967296", "99999999999999999999", "127.0.0.0x1"),
    *("localhost", "LOCALHOST", "localhost.", "a.localhost", "printer", "printer.local", "db.internal", "router.lan"),
    *("metadata.google.internal", "intranet", "kubernetes.default.svc.cluster.local", "localhost.localdomain"),
    *(
        "\uff11\uff12\uff17.0.0.1",
        "127。0。0。1",
        "①②⑦.⓪.⓪.①",
        "ⓛocalhost",
        "loc%61lhost",
        "127.0.0.1%00.example.com",
        "exa mple.com",
    ),
    *(
        "example..com",
        ".example.com",
        "example.com\\@127.0.0.1",
        "example.com\t",
        "127.0.0.1\n",
        "a\0b.com",
        "%31%32%37.1",
    ),
]


def fetcher(names: Names, wires: Wires) -> WebFetcher:
    return WebFetcher(Connector(wires, names))


@pytest.mark.parametrize("text", DENIED_ADDRESSES)
def test_an_address_that_is_not_public_is_known_as_such(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", PUBLIC_ADDRESSES + MAPPED_PUBLIC)
def test_a_public_address_is_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_however_it_is_embedded(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    mapped = ipaddress.IPv6Address(0xFFFF << 32 | number)
    nat64 = ipaddress.IPv6Address((0x64FF9B << 96) | number)
    assert is_public(mapped) is is_public(nat64) is is_public(address)
    assert not is_public(ipaddress.IPv6Address(number))
    assert not is_public(ipaddress.IPv6Address(0x2002 << 112 | number << 80))


@given(st.ip_addresses())
def test_what_python_knows_as_not_global_is_never_public(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    plain = getattr(address, "ipv4_mapped", None) or address
    if is_public(address) and plain not in ipaddress.ip_network("64:ff9b::/96"):
        assert plain.is_global
        assert not plain.is_multicast
        assert not plain.is_reserved


@pytest.mark.parametrize("host", DENIED_HOSTS)
@pytest.mark.parametrize("form", ["http://{}/", "https://{}/x?y#z", "http://{}:80/"])
async def test_a_host_that_is_not_public_is_denied_before_it_is_looked_up(host: str, form: str) -> None:
    names, wires = Names(), Wires()
    with pytest.raises(ToolError):
        await fetcher(names, wires).get(form.format(host))
    assert (names.asked, wires.connected) == ([], [])


@pytest.mark.parametrize("host", DENIED_HOSTS)
async def test_a_redirect_to_a_host_that_is_not_public_is_denied_before_it_is_connected_to(host: str) -> None:
    names = Names({"example.com": [[PUBLIC]]})
    wires = Wires(redirect(f"http://{host.encode('ascii', 'ignore').decode() or '127.0.0.1'}/".replace("\n", "")))
    with pytest.raises(ToolError):
        await fetcher(names, wires).get("http://example.com/")
    assert wires.connected == [(PUBLIC, 80)]


@pytest.mark.parametrize("address", DENIED_ADDRESSES)
async def test_a_name_that_leads_to_what_is_not_public_is_denied_before_a_connection(address: str) -> None:
    names, wires = Names({"example.com": [[address]]}), Wires()
    with pytest.raises(ToolError, match="only public websites"):
        await fetcher(names, wires).get("https://example.com/")
    assert (names.asked, wires.connected) == (["example.com"], [])


async def test_one_private_address_among_public_ones_denies_them_all() -> None:
    names, wires = Names({"example.com": [[PUBLIC, "10.0.0.1"]]}), Wires()
    with pytest.raises(ToolError, match="only public websites"):
        await fetcher(names, wires).get("http://example.com/")
    assert wires.connected == []


async def test_a_name_is_looked_up_once_and_its_checked_address_is_what_is_connected_to() -> None:
    names, wires = Names({"rebind.example.com": [[PUBLIC], ["127.0.0.1"]]}), Wires(answer("hello"))
    page = await fetcher(names, wires).get("http://rebind.example.com/")
    assert page.text == "hello"
    assert names.asked == ["rebind.example.com"]
    assert wires.connected == [(PUBLIC, 80)]


async def test_a_name_that_changes_its_address_between_two_redirects_is_denied() -> None:
    names, wires = Names({"rebind.example.com": [[PUBLIC], ["127.0.0.1"]]}), Wires(redirect("/again"))
    with pytest.raises(ToolError, match="only public websites"):
        await fetcher(names, wires).get("http://rebind.example.com/")
    assert names.asked == ["rebind.example.com"] * 2
    assert wires.connected == [(PUBLIC, 80)]


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_every_kind_of_redirect_is_checked(status: str) -> None:
    names = Names({"example.com": [[PUBLIC]], "inside.example.com": [["192.168.0.7"]]})
    wires = Wires(redirect("//inside.example.com/", status))
    with pytest.raises(ToolError, match="only public websites"):
        await fetcher(names, wires).get("http://example.com/")
    assert wires.connected == [(PUBLIC, 80)]


@pytest.mark.parametrize(
    "url",
    [
        *(
            "ftp://example.com/",
            "file:///etc/passwd",
            "gopher://example.com/",
            "javascript:alert(1)",
            "data:,x",
            "//x.com",
        ),
        *(
            "",
            "example.com",
            "http://",
            "http:///x",
            "http:example.com",
            "http://user@example.com/",
            "http://u:p@example.com/",
        ),
        *(
            "http://@example.com/",
            "http://example.com@127.0.0.1/",
            "http://127.0.0.1@example.com/",
            "jar:http://x.com!/",
        ),
        *("http://example.com:22/", "http://example.com:0/", "http://example.com:6379/", "https://example.com:99999/"),
        *(
            "http://example.com:-1/",
            "http://example.com:\uff18\uff10/x y",
            "http://example.com:8080/",
            "http://example.com:9092/",
        ),
        *(
            "http://example.com/\r\nHost: inside",
            "http://example.com/" + "a" * 2_000,
            "http://\ud800.com/",
            "http://xn--/",
        ),
        *("http://[::ffff:127.0.0.1]:80@example.com/", "unix:///var/run/docker.sock", "http+unix://%2Fvar%2Frun/x"),
    ],
)
async def test_what_is_no_plain_url_of_the_web_is_denied(url: str) -> None:
    names, wires = Names({"example.com": [[PUBLIC]]}), Wires()
    with pytest.raises(ToolError):
        await fetcher(names, wires).get(url)
    assert (names.asked, wires.connected) == ([], [])


@given(st.text(max_size=60))
def test_any_text_is_a_url_or_refused_in_words(text: str) -> None:
    for candidate in (text, "http://" + text, "http://example.com/" + text):
        try:
            url = checked_url(candidate)
        except ToolError:
            continue
        assert url.scheme in ("http", "https")


class OldResolver(Names):
    """Reads numbers in all the forms that C libraries do, and gives a public address to every other name."""

    async def __call__(self, host: str, port: int) -> list[str]:
        try:
            return [socket.inet_ntoa(socket.inet_aton(host.rstrip(".")))]
        except (OSError, ValueError):
            return [PUBLIC]


NUMBERS = st.integers(0, 2**32).flatmap(
    lambda number: st.sampled_from([str(number), hex(number), f"0{number:o}", f"{number & 0xFF}"])
)
HOSTS = (
    st.lists(NUMBERS, min_size=1, max_size=4).map(".".join)
    | st.ip_addresses(v=6).map(lambda address: f"[{address}]")
    | st.text("0123456789abcdefx.:[]%@#/\\?&-_", max_size=30)
)


@given(host=HOSTS, tail=st.sampled_from(["", "/", ":80/", ":443", "@example.com/", "#@example.com", ".", "%2e/"]))
async def test_whatever_the_form_nothing_but_public_addresses_is_connected_to(host: str, tail: str) -> None:
    wires = Wires(answer("ok"))
    with contextlib.suppress(ToolError):
        await WebFetcher(Connector(wires, OldResolver())).get(f"http://{host}{tail}")
    for address, port in wires.connected:
        assert port in (80, 443)
        connected = ipaddress.ip_address(address)
        assert (getattr(connected, "ipv4_mapped", None) or connected).is_global


async def test_an_international_name_is_looked_up_as_it_is_written_in_dns() -> None:
    names, wires = Names({"xn--bcher-kva.example": [[PUBLIC]]}), Wires(answer("ok"))
    assert (await fetcher(names, wires).get("http://bücher.example/")).text == "ok"
    assert names.asked == ["xn--bcher-kva.example"]


async def test_a_connection_has_no_second_way_in() -> None:
    connector = Connector(Wires(), Names())
    with pytest.raises(ToolError):
        await connector.connect_unix_socket("/var/run/docker.sock")
    with pytest.raises(ToolError):
        await connector.connect_tcp("127.0.0.1", 80)


@pytest.mark.parametrize(
    "to",
    [
        *("http://example.com:6379/", "//example.com:22/", "http://u:p@example.com/", "ftp://example.com/"),
        *(
            "file:///etc/passwd",
            "javascript:alert(1)",
            "http://localhost/",
            "http://printer/",
            "http://127.1/",
        ),
    ],
)
async def test_a_redirect_to_what_is_no_plain_url_of_the_web_is_denied(to: str) -> None:
    names, wires = Names({"example.com": [[PUBLIC]]}), Wires(redirect(to))
    with pytest.raises(ToolError):
        await fetcher(names, wires).get("http://example.com/")
    assert (names.asked, wires.connected) == (["example.com"], [(PUBLIC, 80)])


async def test_an_exemption_is_for_one_address_and_port() -> None:
    exempt = (Exemption("127.0.0.1", 8080),)
    names, wires = Names(), Wires(answer("in a test"))
    reader = WebFetcher(Connector(wires, names, exempt), exempt)
    assert (await reader.get("http://127.0.0.1:8080/")).text == "in a test"
    for url in ("http://127.0.0.1:8081/", "http://127.0.0.2:8080/", "http://127.0.0.1/"):
        with pytest.raises(ToolError):
            await reader.get(url)
    assert wires.connected == [("127.0.0.1", 8080)]
