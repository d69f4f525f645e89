# ruff: noqa: T201  it is a program
"""Answers as `bd` was observed to answer (1.0.5 and 0.50.3), with its traps: a stand-in on PATH for tests.

State is `db.json` in `BEADS_DIR`. `FAKE_BD=0.50` answers as the older one, `hang` never ends, `fail-at:N` ends the N-th
call that changes something without doing it, as a kill between two calls would. `BD_JSON_ENVELOPE=1` wraps answers.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

MODE = os.environ.get("FAKE_BD", "1.0.5")
OLD = MODE == "0.50"
CHANGES = ("create", "update", "close", "comments add", "dep add")


def main() -> int:
    if MODE == "hang":
        time.sleep(600)
    words, flags = parse(sys.argv[1:])
    folder = os.environ.get("BEADS_DIR", "")
    file = Path(folder, "db.json")
    if not folder or not file.exists():
        print("Error: no beads database found", file=sys.stderr)
        return 1
    db: dict[str, Any] = json.loads(file.read_text())
    command = " ".join(words[:2]) if words[0] in ("dep", "comments") else words[0]
    log = Path(folder, "calls.log")
    with log.open("a") as out:
        out.write(json.dumps(sys.argv[1:]) + "\n")
    if MODE.startswith("fail-at:") and command in CHANGES:
        count = Path(folder, "count")
        number = int(count.read_text() if count.exists() else "0") + 1
        count.write_text(str(number))
        if number == int(MODE.split(":")[1]):
            print("Error: killed", file=sys.stderr)
            return 1
    code = COMMANDS[command](db, words[2:] if " " in command else words[1:], flags)
    file.write_text(json.dumps(db, indent=1))
    return code


def parse(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    words: list[str] = []
    flags: dict[str, str] = {}
    rest = iter(arguments)
    for each in rest:
        if each == "--json":
            flags["json"] = "1"
        elif each.startswith("-"):
            flags[each.lstrip("-")] = next(rest)
        else:
            words.append(each)
    return words, flags


def say(document: Any) -> int:
    if os.environ.get("BD_JSON_ENVELOPE") == "1":
        document = {"schema_version": 1, "data": document}
    print(json.dumps(document))
    return 0


def unknown(issue: str) -> int:
    print(json.dumps({"error": f"no issue found matching {issue!r}"}))
    return 1


def shown(issue: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in issue.items() if value not in ("", {}, [], None) and key != "comments"}


def show(db: dict[str, Any], words: list[str], flags: dict[str, str]) -> int:
    issue = db.get(words[0])
    return say([shown(issue)]) if issue else unknown(words[0])


def create(db: dict[str, Any], words: list[str], flags: dict[str, str]) -> int:
    if OLD and "metadata" in flags:
        print("Error: unknown flag: --metadata", file=sys.stderr)
        return 1
    name = f"dep-{len(db)}"
    db[name] = {
        "id": name,
        "title": words[0],
        "status": "open",
        "priority": int(flags["p"]),
        "issue_type": flags["t"],
        "description": flags["d"],
        "metadata": {},
        "needs": [],
        "comments": [],
    }
    for each in filter(None, flags.get("deps", "").split(",")):
        if each in db:
            db[name]["needs"].append(each)
        else:
            print(f"Warning: failed to add dependency {name} -> {each}", file=sys.stderr)
    return say(shown(db[name]) | ({} if OLD else {"schema_version": 1}))


def update(db: dict[str, Any], words: list[str], flags: dict[str, str]) -> int:
    issue = db.get(words[0])
    if issue is None:
        return unknown(words[0])
    if "status" in flags:
        issue["status"] = flags["status"]
    if "metadata" in flags:
        given = json.loads(flags["metadata"])
        issue["metadata"] = given if OLD else {**issue["metadata"], **given}
    return say([shown(issue)])


def close(db: dict[str, Any], words: list[str], flags: dict[str, str]) -> int:
    issue = db.get(words[0])
    if issue is None:
        return unknown(words[0])
    blockers = [each for each in issue["needs"] if db[each]["status"] != "closed"]
    if blockers:
        print(f"cannot close {words[0]}: blocked by open issues {blockers} (use --force to override)", file=sys.stderr)
        return 0 if OLD else 1
    issue.update(status="closed", close_reason=flags["reason"])
    return say([shown(issue)])


def comment(db: dict[str, Any], words: list[str], flags: dict[str, str]) -> int:
    if words[0] not in db:
        return unknown(words[0])
    db[words[0]]["comments"].append(words[1])
    return say({"id": 1, "text": words[1]})


def dep_list(db: dict[str, Any], words: list[str], flags: dict[str, str]) -> int:
    if words[0] not in db:
        return unknown(words[0])
    if flags.get("direction") == "up":
        found = [each for each in db.values() if words[0] in each["needs"]]
    else:
        found = [db[each] for each in db[words[0]]["needs"]]
    return say([{**shown(each), "dependency_type": "blocks"} for each in found])


def dep_add(db: dict[str, Any], words: list[str], flags: dict[str, str]) -> int:
    if not all(each in db for each in words[:2]):
        return unknown(next(each for each in words if each not in db))
    if words[1] not in db[words[0]]["needs"]:
        db[words[0]]["needs"].append(words[1])
    return say({"status": "added", "issue_id": words[0], "depends_on_id": words[1], "type": "blocks"})


COMMANDS = {
    "show": show,
    "create": create,
    "update": update,
    "close": close,
    "comments add": comment,
    "dep list": dep_list,
    "dep add": dep_add,
}

if __name__ == "__main__":
    sys.exit(main())
