"""Encryption is a program in the pipe: `age` or `gpg`. Plaintext never touches the disk, and neither does the identity.

The identity of age goes through a pipe that the program opens by its number; gpg has its own keyring.
"""

import asyncio
import os
import shutil

from activities.database.pipeline import Pipeline, Running, quietly
from activities.secrets.resolver import resolve
from models.errors import PreconditionError
from models.preflight.backup import EncryptionSpec

LARGEST_IDENTITY = 16 << 10
_GPG = ("--batch", "--no-tty", "--quiet")


class Seal:
    """Encrypts to the recipients of a spec, and opens again where the worker can."""

    def __init__(self, spec: EncryptionSpec) -> None:
        self._spec = spec
        self.kind = "age" if spec.age is not None else "gpg"

    async def check(self) -> None:
        """Sees that it could be used.

        Raises:
            PreconditionError: the program, the recipients or the key are not there.
        """
        if shutil.which(self.kind) is None:
            raise PreconditionError(f"backups are to be encrypted, and {self.kind} is not on the worker's PATH")
        if self._spec.age is not None and not await asyncio.to_thread(os.path.isfile, self._spec.age):
            raise PreconditionError(f"there is no age recipients file at {self._spec.age}")
        if self._spec.gpg is not None and not await _knows("--list-keys", self._spec.gpg):
            raise PreconditionError(f"the worker's gpg has no key {self._spec.gpg}")

    async def can_open(self) -> bool:
        """Whether this worker can decrypt what it encrypts."""
        if self._spec.gpg is not None:
            return await _knows("--list-secret-keys", self._spec.gpg)
        return self._spec.identity is not None

    async def start_sealing(self, pipes: Pipeline, plain: int, sealed: int) -> Running:
        """Starts the program between the two descriptors."""
        if self._spec.age is not None:
            command = ["age", "--encrypt", "--recipients-file", self._spec.age]
        else:
            # The key was named by its fingerprint: there is nothing left that a web of trust could add.
            command = ["gpg", *_GPG, "--trust-model", "always", "--recipient", self._spec.gpg or "", "--encrypt"]
        return await pipes.run(command, _own(), stdin=plain, stdout=sealed)

    async def start_opening(self, pipes: Pipeline, sealed: int, plain: int) -> Running:
        """Starts the program the other way round.

        Raises:
            PreconditionError: this worker has no identity.
        """
        if self._spec.gpg is not None:
            return await pipes.run(["gpg", *_GPG, "--decrypt"], _own(), stdin=sealed, stdout=plain)
        if self._spec.identity is None:
            raise PreconditionError(
                "the backup is encrypted, and preflight.backup.encrypt.identity names no age identity"
            )
        identity = resolve(self._spec.identity.secret).encode() + b"\n"
        if len(identity) > LARGEST_IDENTITY:
            raise PreconditionError("the age identity is too large to be one")
        reading, writing = pipes.pipe()
        os.write(writing, identity)  # smaller than the pipe: this waits for no reader
        pipes.close(writing)
        command = ["age", "--decrypt", "--identity", f"/dev/fd/{reading}"]
        return await pipes.run(command, {}, stdin=sealed, stdout=plain, hands=[reading])


def _own() -> dict[str, str]:
    return {"GNUPGHOME": os.environ["GNUPGHOME"]} if "GNUPGHOME" in os.environ else {}


async def _knows(question: str, key: str) -> bool:
    return await quietly(["gpg", *_GPG, question, key], _own())
