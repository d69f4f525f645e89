"""Who signed an image: asked of `cosign`, where the spec wants to know.

The password of a registry reaches it in a file that only the worker's user can read and that is gone afterwards, never
on its command line.
"""

import asyncio
import base64
import json
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

from activities.preflight.measured import UnreadableError, WrongError
from activities.preflight.registry import Registry
from activities.system.program_runner import CannotRunError, run_program
from models.preflight.artifacts import CosignSpec
from models.units import format_duration

PROGRAM = "cosign"
WITHIN = timedelta(seconds=30)
# Its own list, cmd/cosign/errors/exit_codes.go: no signature, no such tag, no matching one, no certificate on it.
_NOT_SIGNED = frozenset({10, 11, 12, 13})


async def verify_signature(spec: CosignSpec, registry: Registry, digest: str) -> str:
    """Sees that the digest is signed with the key.

    Returns:
        A sentence.

    Raises:
        WrongError: it is not.
        UnreadableError: it could not be found out.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise UnreadableError(f"who signed it is asked for, and there is no {PROGRAM} on the worker's PATH")
    if not await asyncio.to_thread(Path(spec.key).is_file):
        raise UnreadableError(f"the public key {spec.key} is not there")
    command = [program, "verify", "--key", spec.key, "--timeout", format_duration(WITHIN)]
    command += ["--insecure-ignore-tlog=true"] if spec.ignore_log else []
    command += ["--allow-http-registry"] if registry.plain else []
    command.append(f"{registry.image.host}/{registry.image.repository}@{digest}")
    with tempfile.TemporaryDirectory(prefix="cosign-") as folder:
        await asyncio.to_thread(_write_login, registry, Path(folder))
        try:
            ended = await run_program(command, folder, WITHIN, {"HOME": folder, "DOCKER_CONFIG": folder})
        except CannotRunError as error:
            raise UnreadableError(f"{PROGRAM} could not be run: {error}") from None
    if ended.code == 0:
        return f"signed with {Path(spec.key).name}"
    if ended.code in _NOT_SIGNED:
        raise WrongError(f"{digest} is not signed with {spec.key}{ended.said}")
    how = "did not end in time" if ended.code is None else f"ended with exit code {ended.code}"
    raise UnreadableError(f"{PROGRAM} {how}{ended.said}")


def _write_login(registry: Registry, folder: Path) -> None:
    if registry.login is None:
        return
    encoded = base64.b64encode(":".join(registry.login).encode()).decode()
    file = folder / "config.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps({"auths": {registry.image.host: {"auth": encoded}}}))
