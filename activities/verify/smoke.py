"""One thing that users do, tried on what serves now: a request with expectations, or a program.

Every expectation that is not met is named, not the first one only: the next attempt costs a deployment.
"""

import json
from typing import Any

from activities.check_result import Finding, quote
from activities.http.client import Answer, CannotAskError, NoAnswerError, ask
from activities.verify.command import run_command
from models.checks import SmokeCheck
from models.gates import SMOKE_PREFIX
from models.spec import SmokeExpectation, SmokeRequest
from models.units import format_duration
from models.verdict import CheckResult

_ABSENT = object()


async def run_smoke_test(check: SmokeCheck) -> CheckResult:
    """Runs the test once; `expect.within` bounds the whole of it."""
    finding = Finding(f"{SMOKE_PREFIX}{check.test.name}")
    if check.test.request is not None:
        return await _run_request(finding, check, check.test.request)
    if check.test.command is not None:
        return await run_command(finding, check, check.test.command)
    return finding.not_asked("the smoke test has neither a request nor a command")


async def _run_request(finding: Finding, check: SmokeCheck, request: SmokeRequest) -> CheckResult:
    expect = check.test.expect
    asked = f"{request.method} {request.path}"
    try:
        answer = await _ask(check, request, expect)
    except CannotAskError as error:
        return finding.not_asked(f"{asked} could not be asked: {error}")
    except NoAnswerError as error:
        return finding.failed(f"{asked} was not answered: {error}")
    evidence = {"request": asked, "status": answer.status, "milliseconds": round(answer.seconds * 1000, 1)}
    wrong = find_mismatches(expect, answer)
    if wrong:
        return finding.failed(f"{asked}: " + "; ".join(wrong), **evidence, mismatches=len(wrong))
    return finding.passed(f"{asked} answered as expected within {format_duration(expect.within)}", **evidence)


async def _ask(check: SmokeCheck, request: SmokeRequest, expect: SmokeExpectation) -> Answer:
    url, headers = check.base_url.rstrip("/") + request.path, dict(request.headers)
    if check.host and "host" not in {name.lower() for name in headers}:
        headers["Host"] = check.host
    content = request.body
    if request.json_body is not None:
        content = json.dumps(request.json_body)
        if "content-type" not in {name.lower() for name in headers}:
            headers["Content-Type"] = "application/json"
    return await ask(request.method, url, expect.within, headers=headers, content=content)


def find_mismatches(expect: SmokeExpectation, answer: Answer) -> list[str]:
    """Compares an answer with what was expected of it.

    Returns:
        One part of a sentence for each expectation that is not met, with what was expected and what was found.
    """
    wrong = []
    if answer.status != expect.status:
        wrong.append(f"status {answer.status}, expected {expect.status}")
    for name, value in expect.header.items():
        found = answer.headers.get(name)
        if found != value:
            said = "is missing" if found is None else f"is {quote(found)}"
            wrong.append(f"header {quote(name)} {said}, expected {quote(value)}")
    if expect.body is not None and expect.body not in answer.text:
        wrong.append(f"the body does not contain {quote(expect.body)}; it is {quote(answer.text)}")
    if expect.json_fields:
        wrong.extend(_json_mismatches(expect.json_fields, answer))
    return wrong


def _json_mismatches(fields: dict[str, Any], answer: Answer) -> list[str]:
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return [f"the body is no JSON: {quote(answer.text)}"]
    wrong = []
    for path, value in fields.items():
        found = look_up(document, path)
        if found is _ABSENT:
            wrong.append(f"json {quote(path)} is missing, expected {quote(_written(value))}")
        elif not is_same(found, value):
            wrong.append(f"json {quote(path)} is {quote(_written(found))}, expected {quote(_written(value))}")
    return wrong


def look_up(document: Any, path: str) -> Any:
    """What stands at a dotted path like `items.0.id`; a key that itself has dots is found as well.

    Returns:
        The value, or a marker that equals nothing when there is none.
    """
    if isinstance(document, dict):
        if path in document:
            return document[path]
        for end in (i for i, c in enumerate(path) if c == "."):
            if path[:end] in document:
                found = look_up(document[path[:end]], path[end + 1 :])
                if found is not _ABSENT:
                    return found
    elif isinstance(document, list):
        index, _, rest = path.partition(".")
        if index.isascii() and index.isdecimal() and len(index) < 10 and int(index) < len(document):
            return look_up(document[int(index)], rest) if rest else document[int(index)]
    return _ABSENT


def is_same(found: Any, expected: Any) -> bool:
    """Whether two JSON values are equal: 1 is 1.0, but true is not 1 and "1" is not 1."""
    if isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(is_same(found[key], expected[key]) for key in found)
    if isinstance(found, list) and isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(is_same, found, expected))
    return bool(found == expected)


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
