# ruff: noqa: T201  it is a program
"""Answers as `cm` 0.2.13 was observed to answer: a stand-in on PATH for tests.

Its calls are kept in `CASS_MEMORY_HOME/calls.json`; `FAKE_CM` is `known` (one rule fits), `unknown` (the rule is not
there any more), `empty` (no rule fits), `error`, or `usage`.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    arguments, mode = sys.argv[1:], os.environ.get("FAKE_CM", "known")
    log = Path(os.environ["CASS_MEMORY_HOME"], "calls.json")
    calls = json.loads(log.read_text()) if log.exists() else []
    log.write_text(json.dumps([*calls, arguments]))
    if mode == "usage":
        print("error: unknown option", file=sys.stderr)
        return 1
    if mode == "error":
        error = {"message": "no such bullet", "code": "BULLET_NOT_FOUND", "exitCode": 2, "recovery": []}
        print(json.dumps({"success": False, "error": error}))
        return 2
    data: dict[str, Any]
    if arguments[0] == "context":
        bullet = {"id": "b-1", "content": "Warm the cache before 50 %"}
        data = {"relevantBullets": [] if mode == "empty" else [bullet], "degraded": {"cass": "missing"}}
    elif arguments[0] == "playbook":
        data = {"bullet": {"id": "b-2", "content": arguments[2]}}
    else:
        ids = arguments[2].split(",")
        missing = ids if mode == "unknown" else []
        data = {"applied": len(ids) - len(missing), "missing": missing, "type": "helpful"}
    print(json.dumps({"success": True, "command": arguments[0], "timestamp": "now", "data": data, "metadata": {}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
