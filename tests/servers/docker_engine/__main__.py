"""Docker by hand: `python -m tests.servers.docker_engine up|env|down`.

`up` starts a daemon with Compose and the tests' images, or finds the one that runs; `env` says how to use it in a
shell (`eval "$(python -m tests.servers.docker_engine env)"`); `down` ends every daemon that `up` started.
"""

import sys
from pathlib import Path

from tests.servers.docker_engine import daemon as daemons
from tests.servers.docker_engine import images, install_compose


def up() -> None:
    running = [daemon for daemon in daemons.recorded() if daemon.answers()]
    daemon = running[0] if running else daemons.start(by_hand=True)
    client = daemon.client()
    try:
        images.provide(client)
    finally:
        client.close()
    install_compose(Path(daemon.folder, "config"))
    env()


def env() -> None:
    for daemon in daemons.recorded()[:1]:
        sys.stdout.write(f"export DOCKER_HOST={daemon.host} DOCKER_CONFIG={daemon.folder}/config\n")


def down() -> None:
    daemons.sweep()
    for daemon in daemons.recorded():
        daemon.remove()


if __name__ == "__main__":
    commands = {"up": up, "env": env, "down": down}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]]()
