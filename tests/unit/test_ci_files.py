"""What pipelines read: the action and the component are what their systems accept, and no text becomes a command."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from cli import main
from cli.commands.ci import MOST_ANNOTATIONS, annotations, junit
from cli.render.markdown import append_summary, plan_comment, report_summary
from cli.spec.reader import read_spec
from models.document import contract_document
from models.outcome import EXIT_CODES, Outcome
from models.plan_diff import NOT_SHOWN, compare_with_stable
from models.release import Release, Revision
from models.spec import DeploymentSpec
from models.verdict import CheckResult, Verdict
from tests.support import cli_reports as reports
from tests.support.ci_runners import ACTION, COMPONENT, component

CHECK = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
SPEC = """
service: shop
target: staging
release: {version: "1.1.0"}
platform:
  kind: local
  run: ["python3", "app.py"]
  listen: 127.0.0.1:8080
  instances: 3
  environment: {COLOUR: red, KEY: {secret: "env:NEW_KEY"}}
"""


@pytest.fixture
def spec(tmp_path: Path) -> DeploymentSpec:
    (tmp_path / "deployment.yaml").write_text(SPEC)
    return read_spec(str(tmp_path / "deployment.yaml"), on_this_machine=False)


def test_the_action_is_one_by_githubs_schema() -> None:
    done = subprocess.run([*CHECK, "vendor.github-actions", str(ACTION)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_the_component_is_one_by_gitlabs_schema(tmp_path: Path) -> None:
    header, jobs = component(temporal_address="temporal:7233", image="registry/deployer:1")
    for name, document in (("header", header), ("jobs", jobs)):
        (tmp_path / f"{name}.yml").write_text(yaml.safe_dump(document))
    done = subprocess.run(
        [*CHECK, "vendor.gitlab-ci", str(tmp_path / "header.yml"), str(tmp_path / "jobs.yml")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert COMPONENT.parent.name == "templates", "GitLab finds components there"


@pytest.mark.parametrize("script", ["install", "run"])
def test_the_scripts_of_the_action_are_shell(script: str) -> None:
    assert subprocess.run(["bash", "-n", str(ACTION.parent / script)], timeout=30).returncode == 0


def test_codes_that_a_job_may_end_with_are_those_of_the_contract() -> None:
    (job,) = component(temporal_address="t", image="i")[1].values()
    waits = {EXIT_CODES[outcome] for outcome in (Outcome.AWAITING_APPROVAL, Outcome.HELD, Outcome.RUNNING)}

    assert set(job["allow_failure"]["exit_codes"]) == waits


def document(outcome: Outcome, **fields: Any) -> dict[str, Any]:
    return contract_document(reports.finished(outcome, **fields))


def test_each_check_that_did_not_pass_is_an_annotation_of_the_spec_file() -> None:
    (line,) = annotations(document(Outcome.ROLLED_BACK), "deploy/shop.yaml")

    assert line.startswith("::error file=deploy/shop.yaml,title=deploy%3A step_25 fail::41 of 412 answers")
    assert "10.0%25" in line
    assert list(annotations(document(Outcome.DEPLOYED), "deploy/shop.yaml")) == []


def test_what_was_not_started_is_an_annotation_and_what_waits_a_warning() -> None:
    refused = {"outcome": None, "exit_code": 2, "error": "there is no key plattform"}
    waits = contract_document(reports.awaiting())

    assert list(annotations(refused, "a.yaml")) == ["::error file=a.yaml,title=not started::there is no key plattform"]
    assert next(annotations(waits, "")).startswith("::warning title=awaiting-approval::approval of 1.1.0 before deploy")


def test_no_text_becomes_another_command_of_the_runner() -> None:
    bad = CheckResult(name="smoke:x,y", verdict=Verdict.FAIL, reason="first\n::set-env name=PATH::/tmp%0A::error::x")
    stage = reports.failing().model_copy(update={"checks": (bad,) * 20})
    lines = list(annotations(document(Outcome.ROLLED_BACK, stages=(stage,)), "a,b:c.yaml"))

    assert len(lines) == MOST_ANNOTATIONS
    assert all("\n" not in line and line.startswith("::error file=a%2Cb%3Ac.yaml,title=") for line in lines)
    assert all("%250A" in line for line in lines)


def test_outputs_are_appended_and_the_code_is_the_deployments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result, outputs = tmp_path / "result.json", tmp_path / "outputs"
    result.write_text(json.dumps(document(Outcome.ROLLED_BACK)))
    outputs.write_text("before=1\n")
    monkeypatch.setenv("GITHUB_OUTPUT", str(outputs))

    assert main.run(["ci-report", "github", str(result)]) == 10
    assert capsys.readouterr().out.startswith("::error title=deploy%3A step_25 fail::")
    lines = outputs.read_text().splitlines()
    assert lines[0] == "before=1"
    assert lines[1].startswith("outcome<<end_") and lines[2] == "rolled-back"
    assert str(result) in lines


def test_gitlab_gets_variables_and_a_test_report(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    result.write_text(json.dumps(document(Outcome.ROLLED_BACK)))

    assert main.run(["ci-report", "gitlab", str(result), "--to", str(tmp_path)]) == 10
    variables = dict(line.split("=", 1) for line in (tmp_path / "deployment.env").read_text().splitlines())
    assert (variables["DEPLOYMENT_OUTCOME"], variables["DEPLOYMENT_EXIT_CODE"]) == ("rolled-back", "10")
    tests = ElementTree.parse(tmp_path / "deployment-junit.xml").getroot()  # noqa: S314  our own
    (failure,) = tests.findall(".//failure")
    assert failure.attrib["message"].startswith("fail: 41 of 412 answers")


def test_a_test_report_of_what_never_started_has_its_reason() -> None:
    tests = ElementTree.fromstring(junit({"outcome": None, "exit_code": 2, "error": 'no "key" <x> & y'}))  # noqa: S314

    assert [each.attrib["message"] for each in tests.findall(".//failure")] == ['no "key" <x> & y']


@pytest.mark.parametrize("text", ["", "[]", '{"outcome": "deployed"}', "nonsense"])
def test_a_file_without_a_document_is_a_usage_error(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "result.json").write_text(text)

    assert main.run(["ci-report", "github", str(tmp_path / "result.json")]) == 2
    assert "has no document of `deploy --json`" in capsys.readouterr().err


def test_a_summary_is_appended_and_says_first_how_it_ended(tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    append_summary(str(file), reports.finished(Outcome.ROLLED_BACK), "https://temporal.example.com/run")

    lines = file.read_text().splitlines()
    assert lines[:2] == ["before", "## shop 1.1.0 was rolled back on staging: 1.0.0 serves, verified."]
    assert "[The run in Temporal](https://temporal.example.com/run)" in lines
    assert any(line.startswith("- **step\\_25** (deploy) fail: 41 of 412") for line in lines)
    assert lines[-1] == "</details>"


def test_a_summary_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append_summary(str(tmp_path), reports.finished(Outcome.DEPLOYED))

    assert "the summary was not written" in capsys.readouterr().err


def test_a_summary_calls_nobody_and_has_no_marks_of_others() -> None:
    nasty = "@acme/everyone | <img src=x> [click](http://x) `rm`"
    bad = CheckResult(name="x", verdict=Verdict.FAIL, reason=nasty)
    stage = reports.failing().model_copy(update={"checks": (bad,)})
    shown = report_summary(reports.finished(Outcome.ROLLED_BACK, stages=(stage,))).split("<details>")[0]

    assert "@\u200bacme" in shown and "@acme" not in shown
    assert "\\<img" in shown and "\\[click\\](" in shown


def test_a_plan_says_what_differs_from_what_serves(spec: DeploymentSpec) -> None:
    before = {"COLOUR": "", "GONE": "", "KEY": {"secret": "env:OLD_KEY"}}
    platform = spec.platform.model_validate(
        spec.platform.model_dump() | {"instances": 2, "environment": before}, strict=False
    )
    release = Release(service="shop", version="1.0.0", config_hash="0")
    lines = compare_with_stable(spec, Revision(id="1.0.0-a", release=release, platform=platform, abridged=True))

    assert lines == (
        f"- platform.environment.GONE: {NOT_SHOWN}",
        "- platform.environment.KEY: secret env:OLD_KEY",
        "+ platform.environment.KEY: secret env:NEW_KEY",
        "- platform.instances: 2",
        "+ platform.instances: 3",
        '- release.version: "1.0.0"',
        '+ release.version: "1.1.0"',
    )
    assert compare_with_stable(spec, None) == ()


def test_a_value_that_is_not_shown_is_said_to_have_changed(spec: DeploymentSpec) -> None:
    release = Release(service="shop", version="1.1.0", config_hash="0")
    lines = compare_with_stable(spec, Revision(id="1.1.0-a", release=release, platform=spec.platform).abridge())

    assert len(lines) == 1 and "values that are not shown" in lines[0]


def test_a_comment_begins_with_its_mark_and_no_line_ends_the_diff(spec: DeploymentSpec) -> None:
    check = CheckResult(name="disk", verdict=Verdict.FAIL, reason="full; ask @ops")
    plan = reports.PLAN.model_copy(update={"against": ("- a: ```", "+ a: ````"), "checks": (check,)})
    lines = plan_comment(plan, spec, why_unknown="", missing=[]).splitlines()

    assert lines[0] == "<!-- deployment-specialist plan shop/staging -->"
    assert "- **disk** fail: full; ask @\u200bops" in lines
    begin = lines.index("`````diff")
    assert lines[begin : begin + 4] == ["`````diff", "- a: ```", "+ a: ````", "`````"]
