"""What checks found is read in columns, the worst first, on a terminal of any width and by grep."""

from cli.render.check_lines import check_lines, closed, summary
from models.verdict import CheckResult, Verdict

FOUND = (
    CheckResult(name="disk", verdict=Verdict.PASS, reason="40 GiB free", seconds=0.02),
    CheckResult(name="ci", verdict=Verdict.SKIPPED, reason="nothing is configured"),
    CheckResult(name="environment", verdict=Verdict.FAIL, reason="REGION is missing", seconds=1.24),
    CheckResult(name="artifacts", verdict=Verdict.INCONCLUSIVE, reason="x" * 30 + " " + "y" * 30),
)


def test_each_check_is_one_line_for_grep() -> None:
    assert check_lines(FOUND) == [
        "fail          environment  REGION is missing (1.2s)",
        f"inconclusive  artifacts    {'x' * 30} {'y' * 30}",
        "pass          disk         40 GiB free",
        "skipped       ci           nothing is configured",
    ]


def test_on_a_terminal_long_reasons_are_wrapped_under_themselves() -> None:
    lines = check_lines(FOUND, 72)

    assert lines[1:3] == [f"inconclusive  artifacts    {'x' * 30}", " " * 27 + "y" * 30]
    assert all(len(line) <= 72 for line in lines)


def test_what_a_server_said_does_not_reach_the_terminal_as_a_command() -> None:
    lines = check_lines([CheckResult(name="ci", verdict=Verdict.ERROR, reason="a\x1b]0;owned\x07\nb")], 80)

    assert lines == ["error  ci  a ]0;owned b"]


def test_the_summary_says_what_would_follow() -> None:
    assert closed(FOUND) == ["environment", "artifacts"]
    assert summary(FOUND) == "fail, 4 checks; a deployment would stop here: environment, artifacts"
    assert summary(FOUND[:2]) == "pass, 2 checks"
    assert check_lines([]) == []
