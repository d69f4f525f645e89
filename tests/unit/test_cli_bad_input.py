"""Wrong input gets a sentence and exit code 2 within a second, before anything is started or any home is made."""

import io
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli import main

STARTER = Path(__file__).parents[2] / "starter.py"
GOOD = """\
service: shop
target: staging
release: {version: "1.1.0"}
platform:
  kind: local
  run: ["python3", "app.py"]
  listen: 127.0.0.1:8080
"""


Commanded = Callable[..., "subprocess.CompletedProcess[bytes]"]


def starter(
    folder: Path, *arguments: str, stdin: bytes = b"", **environment: str
) -> "subprocess.CompletedProcess[bytes]":
    """Runs the command line as a process in a world of its own, elsewhere than in the checkout."""
    return subprocess.run(
        [sys.executable, str(STARTER), *arguments],
        input=stdin,
        capture_output=True,
        env=own(folder) | environment,
        cwd=folder,
        timeout=90,
        check=False,
    )


def here(folder: Path, *arguments: str, stdin: bytes = b"", **environment: str) -> "subprocess.CompletedProcess[bytes]":
    """Runs the command line in this process, in a world like that of `starter`: nothing has to be imported again."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    variables = own(folder) | environment
    with pytest.MonkeyPatch.context() as world:
        for name in list(os.environ):
            world.delenv(name)
        for name, value in variables.items():
            world.setenv(name, value)
        world.chdir(folder)
        world.setattr(sys, "argv", [str(STARTER), *arguments])
        world.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
        world.setattr(sys, "stdout", out)
        world.setattr(sys, "stderr", err)
        code = main.run(arguments)
    return subprocess.CompletedProcess(list(arguments), code, *(stream.buffer.getvalue() for stream in (out, err)))


def own(folder: Path) -> dict[str, str]:
    """The environment of such a world."""
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "DEPLOYMENT_SPECIALIST_HOME": str(folder / "home")}


def write(folder: Path, text: str | bytes) -> str:
    path = folder / "deployment.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def worked() -> float:
    """Seconds of processor time of all commands so far; what else runs on the machine does not count."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def refused(folder: Path, *arguments: str, stdin: bytes = b"", command: Commanded = here, **environment: str) -> str:
    """Asserts that the command was refused as it must be; gives its sentence."""
    began = worked()
    done = command(folder, *arguments, stdin=stdin, **environment)
    seconds = worked() - began
    error = done.stderr.decode()
    assert done.returncode == 2, error
    assert error.strip() and "Traceback" not in error and "pydantic" not in error
    assert not (folder / "home").exists()
    assert not (folder / ".local").exists()
    assert seconds < 1.5, "alone on a machine that is less than a second of waiting"
    if "--json" in arguments:
        document = json.loads(done.stdout)
        assert (document["outcome"], document["exit_code"]) == (None, 2)
        assert document["error"].strip() == error.strip()
    else:
        assert done.stdout == b""
    return error


BOMB = b"a: &a [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n".encode() for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("listen", "lissen"), ":7: platform.lissen: unknown key; did you mean listen?"),
        (GOOD.replace("shop", "[shop]"), ":1: service: this must be text"),
        (GOOD + "strategy: {kind: canary, steps: [{weight: 50, watch: 1m}]}\n", ":8: strategy: the weights of the"),
        (GOOD + "strategy: {kind: canary, steps: [{weight: 100, watch: -1m}]}\n", "a duration is written like"),
        (GOOD + "strategy: {deadline: 9999999h}\n", ":8: strategy.deadline: a duration is at most 30d"),
        (BOMB, "its aliases unfold to more than 20,000 values"),
        (GOOD + "service: other\n", ":8: service: the key is here a second time; the first is in line 1"),
        (b"#" * (10 << 20), "the file is larger than 1 MiB"),
        ("service: !!python/object/apply:os.system ['touch owned']\n", ":1: the tag"),
        (GOOD.replace("shop", "a/b"), ":1: service: a name has 1 to 40"),
        (GOOD.replace("staging", "../x"), ":2: target: a name has 1 to 40"),
        (GOOD.replace("shop", '"sh\\0op"'), ":1: service: a NUL character"),
        (GOOD.replace("shop", '"shop\\n"'), ":1: service: a name has 1 to 40"),
        (GOOD.replace('"1.1.0"', "1.10"), 'YAML reads a number here; write version: "1.10"'),
        (GOOD + "  directory: not-here\n", ":8: platform.directory: the directory"),
        (GOOD + '  environment: {A: {secret: "env:MISSING_ONE"}}\n', "the secret env:MISSING_ONE is missing: set the"),
        (GOOD + '  environment: {A: {secret: "file:/not/here"}}\n', "the secret file:/not/here: No such file"),
        (GOOD + 'observe: {sentry: {dsn: "env:EMPTY"}}\n', "observe.sentry.dsn: the secret env:EMPTY is empty"),
    ],
)  # fmt: skip
def test_a_wrong_spec_is_refused_before_anything_starts(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert said in refused(tmp_path, "deploy", write(tmp_path, text), "--json", EMPTY="")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["deploy"], "Missing argument 'SPEC'"),
        (["deploy", "/not/here.yaml"], "/not/here.yaml: there is no such file"),
        (["deploy", "."], "this is a directory"),
        (["deploy", "x.yaml", "--wait", "soon"], "a duration is written like 90s"),
        (["deploy", "x.yaml", "--wait", "1m", "--no-wait"], "exclude each other"),
        (["deploy", "x.yaml", "--as", "a\nb"], "a person's name has"),
        (["deploy", "x.yaml", "--nope"], "No such option '--nope'"),
        (["deplyo"], "did you mean deploy?"),
        (["watch"], "Missing argument 'SERVICE/TARGET'"),
        (["status", "shop"], "this takes SERVICE/TARGET"),
        (["status", "../staging"], "a name has 1 to 40"),
        (["status", "shop/x' OR '1'='1"], "a name has 1 to 40"),
        (["status", "a/b/c"], "this takes SERVICE/TARGET"),
        (
            ["status", "shop/staging"],
            "the stack of this home is not running; start it with `",
        ),
        (["watch", "shop/staging"], "is not running"),
        (["rollback", "shop/staging"], "Missing option '--reason'"),
        (["rollback", "shop/staging", "--reason", " "], "a reason is not empty"),
        (["approve", "shop/production"], "Missing option '--as'"),
        (["resolve", "shop/staging", "skip"], "to skip an undo needs a reason"),
        (["resolve", "shop/staging", "pray"], "'pray' is not one of"),
        (["history", "shop/staging", "--limit", "0"], "0 is not in the range"),
    ],
)
def test_a_wrong_call_is_refused_with_a_sentence(tmp_path: Path, arguments: list[str], said: str) -> None:
    assert said in refused(tmp_path, *arguments).replace("\n", " ")
    assert said in refused(tmp_path, *arguments, "--json").replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["deploy", "bomb.yaml", "--json"], "its aliases unfold to more than 20,000 values"),
        (["resolve", "shop/staging", "pray"], "'pray' is not one of"),
        (["status", "shop/staging", "--json"], "is not running; start it with"),
        (["deploy", "-", "--json"], "standard input:1: this is no YAML"),
    ],
)
def test_a_process_refuses_as_quickly_and_ends_with_the_same_code(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "bomb.yaml").write_bytes(BOMB)

    assert said in refused(tmp_path, *arguments, stdin=b"service: [", command=starter).replace("\n", " ")


def test_a_secret_is_never_repeated(tmp_path: Path) -> None:
    text = GOOD + "  environment: {PASSWORD: {secret: hunter2}, 'bad key': hunter2, B: [hunter2]}\n"

    assert "hunter2" not in refused(tmp_path, "deploy", write(tmp_path, text), "--json", "--set", "hunter2")


def test_standard_input_is_checked_like_a_file(tmp_path: Path) -> None:
    assert refused(tmp_path, "deploy", "-", stdin=b"service: [").startswith("standard input:1: this is no YAML")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"TEMPORAL_PROFILE": "nobody-has-this"}, "the Temporal configuration cannot be read"),
        ({"TEMPORAL_ADDRESS": "127.0.0.1:1"}, "Temporal does not answer at 127.0.0.1:1 (TEMPORAL_ADDRESS)"),
        ({"TEMPORAL_ADDRESS": "not an address"}, "not an address (TEMPORAL_ADDRESS)"),
    ],
)
def test_a_temporal_that_cannot_be_reached_is_named(tmp_path: Path, variables: dict[str, str], said: str) -> None:
    assert said in refused(tmp_path, "status", "shop/staging", stdin=b"", command=here, **variables)


def test_planning_needs_no_stack_and_leaves_no_trace(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + '  environment: {A: {secret: "env:MISSING_ONE"}}\n')

    text = here(tmp_path, "plan", path)
    document = json.loads(starter(tmp_path, "plan", path, "--json").stdout)

    assert text.returncode == 0
    assert b"what serves now is not known" in text.stdout and b"MISSING_ONE is missing" in text.stdout
    assert (document["known"], document["version"], document["id"]) == (False, "1.1.0", "")
    assert [step["weight"] for step in document["steps"]] == [50, 100]
    assert not (tmp_path / "home").exists()


def test_the_schema_is_one_json_document(tmp_path: Path) -> None:
    done = here(tmp_path, "schema")

    document = json.loads(done.stdout)

    assert done.returncode == 0
    assert {"service", "target", "release", "platform"} <= set(document["properties"])


def test_doctor_says_that_nothing_runs(tmp_path: Path) -> None:
    done = here(tmp_path, "doctor", "--json")

    document = json.loads(done.stdout)

    assert done.returncode == 1
    assert (document["running"], document["components"]) == (False, [])
    assert document["home"] == str(tmp_path / "home")
    assert any("start it with" in sentence for sentence in document["missing"])
    assert not (tmp_path / "home").exists()


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(STARTER), "schema"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()

    assert process.wait(20) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


FROZEN = GOOD + "freeze: [{reason: quiet, cron: '* * * * *', for: 1d}]\n"


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        (GOOD, ["--break-glass", "payments"], "there is no glass to break"),
        (FROZEN, ["--break-glass", " "], "to break the glass needs a reason"),
        (FROZEN + "approvals: {by: [Ann]}\n", ["--break-glass", "payments", "--as", "ann"], "needs a second person"),
    ],
)
def test_a_glass_that_cannot_be_broken_starts_nothing(
    tmp_path: Path, text: str, arguments: list[str], said: str
) -> None:
    assert said in refused(tmp_path, "deploy", write(tmp_path, text), *arguments, "--json")


def test_a_plan_that_asks_nobody_knows_the_freeze(tmp_path: Path) -> None:
    done = here(tmp_path, "plan", write(tmp_path, FROZEN), "--json")

    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["freeze"]["verdict"] == "fail"
    assert "deploy would end as frozen" in checks["freeze"]["reason"]
