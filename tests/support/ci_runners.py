"""Runs the steps of `deploy/github/action.yml` and the job of `deploy/gitlab/` in a shell, as their runners do.

GitHub: `bash --noprofile --norc -e -o pipefail FILE` with the step's variables, outputs by a file. GitLab: inputs are
replaced in the text before it is parsed, and the script's entries are one script. Only what these two files use is
known.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
ACTION = DEPLOY / "github" / "action.yml"
COMPONENT = DEPLOY / "gitlab" / "templates" / "deploy.yml"
_EXPRESSION = re.compile(r"\$\{\{ ([a-z.-]+) \}\}")
_OUTPUT = re.compile(r"^([a-z-]+)(?:=([^\n]*)|<<(\S+)\n(.*?)\n\3)$", re.MULTILINE | re.DOTALL)
ENDS_WITHIN = 120


@dataclass
class Ran:
    """How it ended.

    Attributes:
        log: what it printed, both streams in their order.
        outputs: of the action.
        summary: the Markdown of the step.
    """

    code: int
    log: str
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""


async def run_action(folder: Path, environment: Mapping[str, str], **inputs: str) -> Ran:
    """Runs the action's steps in `folder`, the checkout of who uses it; inputs by their names with `_` for `-`."""
    action = yaml.safe_load(ACTION.read_text())
    given = {name.replace("_", "-"): value for name, value in inputs.items()}
    assert set(given) <= set(action["inputs"]), given
    context = {"github.actor": "ann"}
    for name, declared in action["inputs"].items():
        context[f"inputs.{name}"] = given.get(name, _fill(declared["default"], context))
    runner = folder / "runner"
    runner.mkdir()
    steps: dict[str, dict[str, str]] = {}
    ran = Ran(0, "")
    for number, step in enumerate(action["runs"]["steps"]):
        assert step["shell"] == "bash"
        if step.get("if") == "inputs.executable == ''" and context["inputs.executable"]:
            continue
        assert "${{" not in step["run"], "an input in a script is a way into it"
        files = {name: runner / f"{name}_{number}" for name in ("output", "summary")}
        for file in files.values():
            file.touch()
        own = {name: _fill(value, context) for name, value in step.get("env", {}).items()}
        own |= {
            "GITHUB_ACTIONS": "true",
            "CI": "true",
            "GITHUB_ACTION_PATH": str(ACTION.parent),
            "GITHUB_OUTPUT": str(files["output"]),
            "GITHUB_STEP_SUMMARY": str(files["summary"]),
            "RUNNER_TEMP": str(runner),
        }
        ran.code, log = await _bash(step["run"], runner / f"step_{number}.sh", folder, {**environment, **own})
        ran.log += log
        ran.summary += files["summary"].read_text()
        steps[step.get("id", str(number))] = {
            found[1]: found[2] if found[3] is None else found[4]
            for found in _OUTPUT.finditer(files["output"].read_text())
        }
        if ran.code:
            break
    context |= {f"steps.{name}.outputs.{key}": value for name, found in steps.items() for key, value in found.items()}
    ran.outputs = {name: _fill(declared["value"], context) for name, declared in action["outputs"].items()}
    return ran


def component(**inputs: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The component's header and its jobs, with the inputs in them as GitLab puts them there."""
    header, text = COMPONENT.read_text().split("\n---\n")
    declared = yaml.safe_load(header)["spec"]["inputs"]
    given = {name.replace("_", "-"): value for name, value in inputs.items()}
    values = {name: given[name] if name in given else declared[name]["default"] for name in declared}
    return yaml.safe_load(header), yaml.safe_load(
        re.sub(r"\$\[\[ inputs\.([a-z-]+) \]\]", lambda found: values[found[1]], text)
    )


async def run_component(folder: Path, environment: Mapping[str, str], **inputs: str) -> Ran:
    """Runs the component's one job in `folder`."""
    (job,) = component(**inputs)[1].values()
    script = "\n".join(job["script"])
    variables = {name: str(value) for name, value in job["variables"].items()}
    code, log = await _bash(script, folder / "job.sh", folder, {**environment, **variables, "GITLAB_USER_LOGIN": "ann"})
    return Ran(code, log)


def _fill(text: str, context: Mapping[str, str]) -> str:
    return _EXPRESSION.sub(lambda found: context.get(found[1], ""), text)


async def _bash(script: str, file: Path, folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    await asyncio.to_thread(file.write_text, script)
    process = await asyncio.create_subprocess_exec(
        *("bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(file)),
        cwd=folder,
        env=dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(ENDS_WITHIN):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode()
