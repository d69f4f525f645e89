"""Which platform does what a spec's `platform.kind` asks for. A new platform is added here.

Each is made when the first deployment asks for it: client libraries are heavy, and most workers need one of them.
"""

import threading
from collections.abc import Callable, Iterator, Mapping

from activities.platforms.base import Platform
from home.paths import Home


def _local(home: Home) -> Platform:
    from activities.platforms.local.platform import LocalPlatform

    return LocalPlatform(home)


def _compose(home: Home) -> Platform:
    from activities.platforms.compose.platform import ComposePlatform

    return ComposePlatform(home)


def _kubernetes(home: Home) -> Platform:
    from activities.platforms.kubernetes.platform import KubernetesPlatform

    return KubernetesPlatform(home)


_MAKERS: dict[str, Callable[[Home], Platform]] = {"local": _local, "compose": _compose, "kubernetes": _kubernetes}


class Platforms(Mapping[str, Platform]):
    """All platforms of a worker, by their kind."""

    def __init__(self, home: Home, makers: Mapping[str, Callable[[Home], Platform]] = _MAKERS) -> None:
        self._home = home
        self._makers = makers
        self._made: dict[str, Platform] = {}
        self._making = threading.Lock()

    def __getitem__(self, kind: str) -> Platform:
        if kind not in self._made:
            with self._making:
                if kind not in self._made:
                    self._made[kind] = self._makers[kind](self._home)
        return self._made[kind]

    def __contains__(self, kind: object) -> bool:
        return kind in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)
