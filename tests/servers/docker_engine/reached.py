"""Ways to a Docker of the tests that need a key: TLS with an authority of its own, and an ssh server on loopback."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedded import ports
from tests.servers import cache
from tests.servers.docker_engine import Engine
from tests.servers.docker_engine.daemon import Daemon
from tests.support.free_ports import free_port

# What a daemon is started with; `certify` makes the files.
TLS = (
    "--tlsverify",
    "--tlscacert={folder}/tls/ca.pem",
    "--tlscert={folder}/tls/cert.pem",
    "--tlskey={folder}/tls/key.pem",
)


def certify(daemon: Daemon) -> None:
    """A certificate authority, and with it the certificate of the host, which its clients use as well."""
    folder = Path(daemon.folder, "tls")
    folder.mkdir()
    extensions = folder / "extensions"
    extensions.write_text(f"subjectAltName=IP:{daemon.address}\nextendedKeyUsage=serverAuth,clientAuth\n")

    def openssl(*arguments: str) -> None:
        cache.run(["openssl", *arguments], timeout=60, cwd=folder)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca-key.pem", "-out", "ca.pem", "-days", "2", "-subj", "/CN=tests")
    openssl("req", *key, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=docker")
    signed = ("-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-days", "2", "-extfile", extensions.name)
    openssl("x509", "-req", "-in", "request.pem", "-out", "cert.pem", *signed)


@contextmanager
def ssh_server(engine: Engine, folder: Path) -> Iterator[tuple[str, Path]]:
    """An ssh server on loopback that leads to this Docker; gives `DOCKER_HOST` and a folder with the `ssh` to use."""
    cache.debian("openssh-server", "openssh-client")
    port, programs = free_port(), folder / "programs"
    programs.mkdir()
    for name in ("host", "user"):
        cache.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], timeout=30)
    (folder / "sshd.conf").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        f"StrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin prohibit-password\nMaxStartups 100\n"
        f"MaxSessions 100\nSetEnv DOCKER_HOST={engine.host}\n"
    )
    known = f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}"
    (folder / "known").write_text(known)
    options = f"-o IdentityFile={folder}/user -o IdentitiesOnly=yes -o UserKnownHostsFile={folder}/known"
    (programs / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F /dev/null -o BatchMode=yes {options} "$@"\n')
    (programs / "ssh").chmod(0o755)
    # The server wants this folder; Debian's own service would make it.
    Path("/run/sshd").mkdir(exist_ok=True)
    with (folder / "sshd.log").open("wb") as log:
        server = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd.conf")], stderr=log)
        try:
            deadline = time.monotonic() + 10
            while ports.is_free(port):
                assert server.poll() is None and time.monotonic() < deadline, (folder / "sshd.log").read_text()
                time.sleep(0.05)
            yield f"ssh://root@127.0.0.1:{port}", programs
        finally:
            server.terminate()
            server.wait(10)
