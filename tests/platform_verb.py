"""One verb in a process of its own, to be killed in the middle of it.

python -m tests.platform_verb KIND WHERE VERB ORDER.json
"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from activities.platforms.base import Platform
from activities.platforms.kubernetes import KubernetesPlatform
from activities.platforms.local import LocalPlatform
from models.release import Order, PromoteOrder, RestoreOrder, RetireOrder, ShiftOrder, StageOrder

ORDERS: dict[str, type[Order]] = {
    "stage": StageOrder,
    "shift": ShiftOrder,
    "promote": PromoteOrder,
    "retire": RetireOrder,
    "restore": RestoreOrder,
}


def _local(home: str) -> Platform:
    from embedded.paths import Home

    return LocalPlatform(Home(Path(home)))


def _kubernetes(_: str) -> Platform:

    return KubernetesPlatform()


PLATFORMS: dict[str, Callable[[str], Platform]] = {"local": _local, "kubernetes": _kubernetes}


async def main(kind: str, where: str, verb: str, order: str) -> None:
    platform = PLATFORMS[kind](where)
    asked = ORDERS[verb].model_validate_json(order)
    sys.stdout.write("begin\n")
    sys.stdout.flush()
    await getattr(platform, verb)(asked)


if __name__ == "__main__":
    kind, where, verb, path = sys.argv[1:]
    asyncio.run(main(kind, where, verb, Path(path).read_text()))
