"""No two processes of tests are given the same port, also while nobody listens there yet."""

import subprocess
import sys
from pathlib import Path

from embedded import ports
from tests.support import free_ports

ROOT = Path(__file__).parents[2]


def test_a_port_is_one_process_s_own_until_it_ends() -> None:
    mine = free_ports.free_port()
    probe = "import sys; from tests.support import free_ports; print(free_ports._take(int(sys.argv[1])))"

    def asked(port: int) -> str:
        command = [sys.executable, "-c", probe, str(port)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout.strip()

    assert ports.is_free(mine)
    assert asked(mine) == "False"
    # The one before it is somebody's at most by chance; what a process that has ended had is free again.
    other = next(port for port in range(free_ports.LOWEST, free_ports.HIGHEST) if asked(port) == "True")
    assert asked(other) == "True"


def test_they_differ_and_are_not_those_that_the_product_chooses() -> None:
    found = [free_ports.free_port() for _ in range(50)]

    assert len(set(found)) == 50
    assert not set(found) & set(range(ports.LOWEST, ports.HIGHEST + 1))
