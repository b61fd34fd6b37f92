"""How an audit is told; what it finds is tested where the invariants are."""

import pytest

from infra.cli.audit import print_findings
from infra.cli.common import UNAVAILABLE
from streams.audit import TOLD_VIOLATIONS, Finding
from tests.infra.cli_runs import dramac


def test_each_invariant_is_a_line_and_its_violations_follow(capsys: pytest.CaptureFixture[str]) -> None:
    well = Finding("I1", "nothing lost", {"triggers": 3, "dead_letters": 0})
    wrong = Finding("I7", "one result a call")
    for number in range(TOLD_VIOLATIONS + 2):
        wrong.violated(f"the call [{number}] has a second result")
    print_findings([well, wrong])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "✓ I1 nothing lost (3 triggers, 0 dead letters)"
    assert lines[1] == "✗ I7 one result a call"
    assert lines[2] == "    the call [0] has a second result"
    assert lines[-1] == "    … and 2 more"


def test_without_servers_there_is_nothing_to_audit(tmp_path_factory: pytest.TempPathFactory) -> None:
    ran = dramac({"DRAMAC_DATA_DIR": str(tmp_path_factory.mktemp("none"))}, "audit", "check")
    assert ran.code == UNAVAILABLE
    assert ran.says_in_one_line("dramac dev")
