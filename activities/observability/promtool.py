"""Rules that are wrong are found before Prometheus is told to read them, and rules that never fire before they should.

`promtool check rules` finds what is no rule; `promtool test rules` runs the cases that each of our rules is made with.
"""

import shutil
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from activities.check_result import Finding
from activities.observability.alert_rules import AlertRule, as_group, as_tests
from activities.system.program_runner import CannotRunError, run_program
from models.verdict import CheckResult

NAME = "alert_rules_tested"
WITHIN = timedelta(seconds=30)


async def check_rules(rules: tuple[AlertRule, ...], service: str, target: str) -> CheckResult:
    """Has promtool check the rules, and run their cases."""
    finding = Finding(NAME)
    if not rules:
        return finding.skipped("the spec has no alerts (observe.prometheus.alerts)")
    program = shutil.which("promtool")
    if program is None:
        return finding.skipped("promtool is not on the worker's PATH: the rules are only seen loaded, not tested")
    tests = as_tests(rules, "rules.yml")
    untested = [rule.alert for rule in rules if not (rule.fires and rule.silent)]
    with tempfile.TemporaryDirectory(prefix="deployment-specialist-rules-") as folder:
        _write(folder, "rules.yml", as_group(rules, service, target))
        _write(folder, "tests.yml", tests)
        for what, command in (
            ("promtool check rules", ["check", "rules", "rules.yml"]),
            ("promtool test rules", ["test", "rules", "tests.yml"]),
        ):
            if command[0] == "test" and not tests["tests"]:
                continue
            said = await _run([program, *command], folder)
            if said:
                return finding.failed(f"{what}: {said}", rules=[rule.alert for rule in rules])
    count = len(tests["tests"])
    reason = f"{len(rules)} rules, {count} cases in which they must fire or be silent"
    if untested:
        reason += f"; only checked, without a case: {', '.join(untested)}"
    return finding.passed(reason, rules=[rule.alert for rule in rules], cases=count)


def _write(folder: str, name: str, content: Any) -> None:
    (Path(folder) / name).write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000))


async def _run(command: Sequence[str], folder: str) -> str:
    try:
        ended = await run_program(command, folder, WITHIN, {})
    except CannotRunError as error:
        return f"it could not be run: {error}"
    if ended.code == 0:
        return ""
    return (f"it ended with {ended.code}" if ended.code is not None else "it took too long") + ended.said
