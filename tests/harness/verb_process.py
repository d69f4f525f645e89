"""One verb in a process of its own, to be killed in the middle of it.

python -m tests.harness.verb_process KIND WHERE VERB ORDER.json
"""

import asyncio
import sys
from pathlib import Path

from activities.platforms.registry import Platforms
from home.paths import Home
from models.release import Order, PromoteOrder, RestoreOrder, RetireOrder, ShiftOrder, StageOrder

ORDERS: dict[str, type[Order]] = {
    "stage": StageOrder,
    "shift": ShiftOrder,
    "promote": PromoteOrder,
    "retire": RetireOrder,
    "restore": RestoreOrder,
}


async def main(kind: str, where: str, verb: str, order: str) -> None:
    platform = Platforms(Home(Path(where)))[kind]
    asked = ORDERS[verb].model_validate_json(order)
    sys.stdout.write("begin\n")
    sys.stdout.flush()
    await getattr(platform, verb)(asked)


if __name__ == "__main__":
    kind, where, verb, path = sys.argv[1:]
    asyncio.run(main(kind, where, verb, Path(path).read_text()))
