"""What a site's file may say of a tool, and what a call of it looks like."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.tools.files import read_tools
from infra.tools.hosts import parse_hosts
from processors.tools.port import ToolError
from schemas.errors import ConfigurationError
from schemas.message import Json, JsonObject
from tests.infra.tools.samples import CANCEL, http, tool
from tests.naughty import naughty_strings


def test_what_changes_something_is_risky_and_not_repeated_unless_its_owner_says_so() -> None:
    asked = tool().definition(3)
    assert (asked.version, asked.risk, asked.idempotent) == ("3", "high", False)
    assert asked.requires_permissions == ("access_external_apis",)
    reading = tool(http=http(method="GET", headers={})).definition(1)
    assert (reading.risk, reading.idempotent) == ("low", True)
    assert tool(idempotent=True, risk="low").definition(1).idempotent


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"http": http(url="https://{order_id}.example.com/")}, "a host, in which no argument stands"),
        ({"http": http(url="ftp://api.example.com/")}, "begins with https://"),
        ({"http": http(url="https://api.example.com/{order-id}")}, "no other braces"),
        ({"http": http(url="https://api.example.com/{reason}")}, "name it in parameters.required"),
        ({"http": http(headers={"Host": "elsewhere"})}, "none that a tool may set"),
        ({"http": http(headers={"x-dramac-site": "another"})}, "none that a tool may set"),
        ({"http": http(headers={"X-A": "a\r\nX-B: b"})}, "plain ASCII"),
        ({"http": http(headers={"X-A": "{order_id}"})}, "no other braces"),
        ({"name": "mcp_shop_cancel"}, "taken by the system"),
        ({"name": "delegate"}, "taken by the system"),
        ({"name": "Cancel Order"}, "pattern"),
        ({"parameters": {"type": "array"}}, "type object"),
        ({"timeout_s": 0}, "greater than 0"),
        ({"retries": 3}, "Extra inputs"),
    ],
)
def test_a_tool_that_could_not_work_or_not_be_trusted_is_refused(changes: JsonObject, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        tool(**changes)


def test_a_schema_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not a usable JSON Schema"):
        tool(parameters={**CANCEL["parameters"], "properties": {"order_id": {"type": "text"}}})


def test_arguments_stand_in_the_path_the_body_or_the_query() -> None:
    assert tool().http.request({"order_id": "#W1/2", "reason": "late"}) == (
        "https://api.example.com/orders/%23W1%2F2/cancel",
        b'{"reason":"late"}',
    )
    reading = tool(http=http(method="GET", url="https://api.example.com/orders/{order_id}?a=1", headers={}))
    url, body = reading.http.request({"order_id": "7", "tags": ["a", "b"], "open": True})
    assert (url, body) == ("https://api.example.com/orders/7?a=1&tags=%5B%22a%22%2C%22b%22%5D&open=true", None)


@pytest.mark.parametrize("value", ["", ".", "..", None, "../admin", "7/../../admin", "7/..", "..\\admin", "a/./b"])
def test_an_argument_can_not_lead_to_another_path(value: Json) -> None:
    with pytest.raises(ToolError):
        tool().http.request({"order_id": value})


@pytest.mark.parametrize("value", ["7/8", "...", "a..b", "..;", "%2e%2e", "v1.2"])
def test_an_argument_with_dots_or_a_slash_in_it_is_one_part_of_the_path(value: str) -> None:
    url, _ = tool().http.request({"order_id": value})
    assert url.count("/") == tool().http.url.count("/")


def test_no_argument_leaves_its_place_in_the_address() -> None:
    hosts = parse_hosts(["api.example.com"])
    for text in naughty_strings():
        try:
            url = hosts.check(tool().http.request({"order_id": text})[0])
        except (ToolError, UnicodeEncodeError):
            continue
        assert url.host == "api.example.com"
        assert url.raw_path.startswith(b"/orders/")
        assert url.raw_path.endswith(b"/cancel")
        assert url.raw_path.count(b"/") == 3


def test_only_named_hosts_are_reached_and_private_ones_only_with_their_port() -> None:
    hosts = parse_hosts(["api.example.com", "*.shop.example", "127.0.0.1:8099", "10.0.0.1"])
    for url in ("https://api.example.com/a", "https://eu.shop.example/", "http://127.0.0.1:8099/x"):
        hosts.check(url)
    for url in (
        "https://example.com/",
        "https://api.example.com.evil.example/",
        "https://shop.example/",
        "http://127.0.0.1:8098/",
        "http://10.0.0.1/",
        "https://api.example.com:8443/",
        "https://user@api.example.com/",
    ):
        with pytest.raises(ToolError):
            hosts.check(url)
    with pytest.raises(ToolError, match="DRAMAC_TOOL_HOSTS"):
        parse_hosts([]).check("https://api.example.com/")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: a\n", "tool.yaml: a: "),
        ("[]", "describes no tool"),
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("{", "not YAML"),
    ],
)
def test_a_file_that_is_wrong_is_told_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "tool.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        read_tools(path)
