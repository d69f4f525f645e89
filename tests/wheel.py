"""Builds the wheel and tries it where users put it: in an environment of its own, far from the checkout.

python -m tests.wheel
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SPEC = """\
service: hello
target: staging
release:
  version: "1.0.0"
platform:
  kind: local
  run: ["python3", "app.py"]
  listen: 127.0.0.1:8080
"""


def run(*command: str | Path, cwd: Path, environment: dict[str, str]) -> str:
    """Runs one command; its output, or the end of this program."""
    ran = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=600)
    if ran.returncode:
        said = f"exit code {ran.returncode}\n{ran.stdout}{ran.stderr}"
        raise SystemExit(f"{' '.join(str(each) for each in command)}: {said}")
    return ran.stdout


def main() -> None:
    """Builds, installs, and runs the commands that need no network and the stack."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "hello.yaml").write_text(SPEC)
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
        environment = {**kept, "DEPLOYMENT_SPECIALIST_HOME": str(folder / "home")}
        pip = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, cwd=ROOT, environment=pip)
        wheel = next(folder.glob("*.whl"))
        venv.create(folder / "venv", with_pip=True)
        python, product = folder / "venv/bin/python", folder / "venv/bin/deployment-specialist"
        locked = ROOT / "requirements" / "runtime.txt"
        run(python, "-m", "pip", "install", "-q", "--require-hashes", "-r", locked, cwd=folder, environment=pip)
        run(python, "-m", "pip", "install", "-q", "--no-deps", wheel, cwd=folder, environment=pip)
        run(product, "--help", cwd=folder, environment=environment)
        run(product, "plan", "hello.yaml", cwd=folder, environment=environment)
        run(product, "schema", cwd=folder, environment=environment)
        try:
            run(product, "up", cwd=folder, environment=environment)
            run(product, "doctor", cwd=folder, environment=environment)
        finally:
            run(product, "down", "--all", cwd=folder, environment=environment)
        sys.stderr.write(f"{wheel.name}: installed and tried\n")


if __name__ == "__main__":
    main()
