"""Makes a backup in a process of its own, to be killed: the check on standard input, the home as argument."""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from activities.database.activities import check_backup
from home.paths import Home
from models.checks import PreflightCheck

if __name__ == "__main__":
    check = PreflightCheck.model_validate_json(sys.stdin.read())
    sys.stdout.write(asyncio.run(check_backup(check, Home(Path(sys.argv[1])))).model_dump_json())
