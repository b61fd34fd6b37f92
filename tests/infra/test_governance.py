"""What sites may do, from a file."""

import json
from pathlib import Path
from typing import get_args

import pytest

from infra.governance import SHIPPED, load_governance
from schemas.errors import ConfigurationError
from schemas.governance import PermissionName, RiskRule, permission_name
from tests.processors.samples import OTHER_SITE, SITE

FILE = f"""
permissions: [read_contacts, canSendEmails]
risk_rules: [{{tool: "crm_*", risk: critical}}]
sites:
  {SITE}: {{permissions: [], risk_rules: []}}
  {OTHER_SITE.upper()}: {{permissions: [access_web]}}
"""


def told(folder: Path, text: str) -> Path:
    path = folder / "governance.yaml"
    path.write_text(text)
    return path


def test_without_a_file_a_site_may_everything_and_has_the_shipped_rules() -> None:
    grants = load_governance(None).grants(SITE, {"tasks", "crm"})
    assert set(grants.permissions) == set(get_args(PermissionName))
    assert grants.modules == ("crm", "tasks")
    assert grants.risk_rules == SHIPPED


def test_a_site_s_own_part_stands_in_place_of_what_is_said_for_all(tmp_path: Path) -> None:
    found = load_governance(told(tmp_path, FILE))
    everybody = found.grants(type(SITE)("33333333-3333-8333-8333-333333333333"), ())
    assert everybody.permissions == ("read_contacts", "send_emails")
    assert everybody.risk_rules == (RiskRule(tool="crm_*", risk="critical"),)
    assert (found.grants(SITE, ()).permissions, found.grants(SITE, ()).risk_rules) == ((), ())
    other = found.grants(OTHER_SITE, ())
    assert (other.permissions, other.risk_rules) == (("access_web",), everybody.risk_rules)


def test_approvers_are_those_of_all_and_of_single_sites_and_enter_no_grant(tmp_path: Path) -> None:
    text = (
        f"approvers: {{approver: [a@x.example, b@x.example]}}\nsites: {{{SITE}: {{approvers: {{cfo: [c@x.example]}}}}}}"
    )
    found = load_governance(told(tmp_path, text))
    for_all = [(None, "approver", "a@x.example"), (None, "approver", "b@x.example")]
    assert found.named_approvers() == [*for_all, (SITE, "cfo", "c@x.example")]
    assert found.grants(SITE, ()) == load_governance(None).grants(SITE, ())
    assert load_governance(None).named_approvers() == []


@pytest.mark.parametrize(
    "address",
    ["", "ann", "a@x.example, b@x.example", "Ann <a@x.example>", "a@x.example\nBcc: e@x.example", "a\r@x.example"],
)
def test_what_is_no_single_address_is_one_clear_line(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_governance(told(tmp_path, json.dumps({"approvers": {"cfo": [address]}})))
    assert "approvers.cfo.0" in str(caught.value)
    assert "is not an email address" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert load_governance(told(tmp_path, "")).grants(SITE, ()) == load_governance(None).grants(SITE, ())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("permissions: [fly]", "permissions.0"),
        ("permisions: []", "permisions"),
        ("risk_rules: [{tool: pay, threshold: 3}]", "a threshold and no argument"),
        ("risk_rules: [{tool: pay, condition: 'argumnts.x'}]", "argumnts"),
        ("sites: {x: {}}", "sites.x"),
        ("sites: {" + SITE + ": {risk_rules: [{tool: pay, threshold: 3}]}}", "no argument"),
        ("approvers: {CFO!: [a@x.example]}", "approvers.CFO!"),
        ("approvers: {cfo: a@x.example}", "approvers.cfo"),
        (f"approvers: {{cfo: {['a@x.example'] * 51}}}", "approvers.cfo"),
        ("[", "is not YAML"),
        ("- 1", "governance.yaml"),
    ],
)
def test_what_is_wrong_with_it_is_one_clear_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_governance(told(tmp_path, text))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't be read"):
        load_governance(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("written", "name"),
    [("canReadContacts", "read_contacts"), ("canMakeAPICalls", "make_api_calls"), ("canSendSMS", "send_sms"), (7, 7)],
)
def test_a_permission_may_be_written_as_in_the_specification(written: object, name: object) -> None:
    assert permission_name(written) == name
