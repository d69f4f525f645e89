"""`ci-report`: what a pipeline makes of a deployment's JSON document: annotations, outputs, a test report."""

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import click

from cli.exits import CommandError
from cli.render.terminal import clean, say, show

_GOOD = ("pass", "skipped")
_LONGEST = 2000
# GitHub shows ten annotations of a step.
MOST_ANNOTATIONS = 10


@click.command(name="ci-report")
@click.argument("system", type=click.Choice(("github", "gitlab")))
@click.argument("result", type=click.Path(dir_okay=False), metavar="RESULT")
@click.option("--spec", default="", metavar="SPEC", help="The spec file, at which annotations point.")
@click.option("--to", type=click.Path(file_okay=False), default=".", metavar="FOLDER", help="Where GitLab's files go.")
def ci_report(system: str, result: str, spec: str, to: str) -> int:
    r"""Hand RESULT, the file with the document of `deploy --json`, on to the system that runs this pipeline.

    github: prints an annotation for each check that did not pass, and appends the outputs outcome, version, report,
    run-id and exit-code to $GITHUB_OUTPUT. gitlab: writes deployment.env (dotenv) and deployment-junit.xml.
    Ends with the exit code of the deployment.

    \b
    Example:
      deployment-specialist ci-report github result.json --spec deployment.yaml
    """
    document = _read(result)
    if system == "github":
        for line in annotations(document, spec):
            show(line, as_it_is=True)
        _append_outputs(document, result)
    else:
        _write(Path(to) / "deployment.env", "".join(f"{k}={v}\n" for k, v in variables(document, result).items()))
        _write(Path(to) / "deployment-junit.xml", junit(document))
    return int(document["exit_code"])


def _read(file: str) -> dict[str, Any]:
    try:
        with open(file, encoding="utf-8") as opened:
            document = json.load(opened)
        if isinstance(document, dict) and isinstance(document.get("exit_code"), int):
            return document
    except OSError as error:
        raise CommandError(f"{clean(file)} cannot be read: {error.strerror}") from None
    except ValueError:
        pass
    raise CommandError(f"{clean(file)} has no document of `deploy --json`")


def annotations(document: dict[str, Any], spec: str) -> Iterator[str]:
    """GitHub's workflow commands: one error for each check that did not pass, or for what ended it without one."""
    at = f"file={_property(spec)}," if spec and spec != "-" else ""
    found = list(_bad(document))
    for stage, check in found[:MOST_ANNOTATIONS]:
        title = _property(f"{stage}: {check.get('name', '')} {check.get('verdict', '')}")
        yield f"::error {at}title={title}::{_data(str(check.get('reason') or 'no reason given'))}"
    if not found and document["exit_code"]:
        word = "warning" if document["exit_code"] in (12, 15, 124, 130, 143) else "error"
        yield f"::{word} {at}title={_property(_outcome(document))}::{_data(_why(document))}"


def variables(document: dict[str, Any], result: str) -> dict[str, str]:
    """What a later job of GitLab knows of the deployment."""
    return {f"DEPLOYMENT_{name.upper().replace('-', '_')}": value for name, value in _outputs(document, result).items()}


def junit(document: dict[str, Any]) -> str:
    """The stages as test suites and their checks as tests: GitLab shows what failed on the merge request."""
    suites = []
    for stage in document.get("stages") or ():
        cases = "".join(_case(stage, check) for check in stage.get("checks") or ())
        suites.append(f"<testsuite name={_attribute(str(stage.get('stage')))}>{cases}</testsuite>")
    if document["exit_code"] and not any(_bad(document)):
        why = f"<failure message={_attribute(_why(document))}/></testcase></testsuite>"
        suites.append(f'<testsuite name="deployment"><testcase name="outcome" classname="deployment">{why}')
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>{"".join(suites)}</testsuites>\n'


def _case(stage: dict[str, Any], check: dict[str, Any]) -> str:
    verdict, reason = check.get("verdict"), clean(str(check.get("reason") or ""), _LONGEST)
    inner = "" if verdict == "pass" else f"<failure message={_attribute(f'{verdict}: {reason}')}/>"
    if verdict == "skipped":
        inner = f"<skipped message={_attribute(reason)}/>"
    head = f"name={_attribute(str(check.get('name')))} classname={_attribute(str(stage.get('stage')))}"
    return f'<testcase {head} time="{float(check.get("seconds") or 0):.3f}">{inner}</testcase>'


def _attribute(text: str) -> str:
    return quoteattr(clean(text, _LONGEST))


def _bad(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for stage in document.get("stages") or ():
        for check in stage.get("checks") or ():
            if check.get("verdict") not in _GOOD:
                yield str(stage.get("stage")), check


def _outcome(document: dict[str, Any]) -> str:
    return str(document.get("outcome") or "not started")


def _why(document: dict[str, Any]) -> str:
    failure = document.get("failure") or {}
    said = document.get("error") or failure.get("reason") or document.get("waiting_for") or _outcome(document)
    return clean(str(said), _LONGEST)


def _outputs(document: dict[str, Any], result: str) -> dict[str, str]:
    said = {name: str(document.get(name) or "") for name in ("outcome", "version", "run_id")}
    values = {"outcome": said["outcome"], "version": said["version"], "run-id": said["run_id"], "report": result}
    return {name: clean(value) for name, value in values.items()} | {"exit-code": str(document["exit_code"])}


def _append_outputs(document: dict[str, Any], result: str) -> None:
    file = os.environ.get("GITHUB_OUTPUT")
    if not file:
        say("GITHUB_OUTPUT is not set: no outputs were written")
        return
    end = f"end_{secrets.token_hex(8)}"
    lines = "".join(f"{name}<<{end}\n{value}\n{end}\n" for name, value in _outputs(document, result).items())
    try:
        with open(file, "a", encoding="utf-8") as opened:
            opened.write(lines)
    except OSError as error:
        raise CommandError(f"{clean(file)} cannot be written: {error.strerror}", 1) from None


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{clean(str(file))} cannot be written: {error.strerror}", 1) from None


def _data(text: str) -> str:
    return clean(text, _LONGEST).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
