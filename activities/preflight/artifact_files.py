"""Files of a release: every one that a name or a glob means, measured, and compared with what was written down of it.

A name may lead to a pipe whose open never returns, a checksums file may come from another system or name files outside
of its directory: each has its sentence, and nothing is read that was not meant.
"""

import glob
import hashlib
import os
import posixpath
import re
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from activities.check_result import quote
from activities.preflight.measured import UnreadableError, WrongError
from activities.system.safe_open import NotRegularError, open_regular
from models.preflight.artifacts import Artifact
from models.units import format_duration

# Their digests travel with the plan through the workflow's history, whose payloads are bounded.
MOST_FILES = 500
LARGEST_CHECKSUMS = 4 << 20
CLOCKS_DIFFER = 300
_GNU = re.compile(r"(\\?)([0-9a-fA-F]{64}) [ *](.+)")
_BSD = re.compile(r"()SHA256 \((.+)\) = ([0-9a-fA-F]{64})")


def measure_files(artifact: Artifact, directory: str) -> tuple[dict[str, str], list[str], list[str]]:
    """Measures every file of one artifact.

    Returns:
        Path → sha256; what is wrong; what could not be read.
    """
    digests: dict[str, str] = {}
    wrong: list[str] = []
    unread: list[str] = []
    try:
        written = _read_checksums(artifact, directory)
        files = list(_files(artifact, directory))
    except WrongError as error:
        return {}, [str(error)], []
    except UnreadableError as error:
        return {}, [], [str(error)]
    for name, path in files:
        try:
            digests[name] = _measure(artifact, name, path)
            expected = artifact.sha256 if written is None else _expected(written, artifact, name, path, directory)
            if expected is not None and digests[name] != expected:
                raise WrongError(f"the artifact {name} has sha256 {digests[name]}, expected {expected}")
        except WrongError as error:
            wrong.append(str(error))
        except UnreadableError as error:
            unread.append(str(error))
    return digests, wrong, unread


def _files(artifact: Artifact, directory: str) -> Iterator[tuple[str, Path]]:
    assert artifact.path is not None  # noqa: S101  the model sees to it
    if not artifact.is_glob:
        yield artifact.path, Path(directory) / artifact.path
        return
    # Only * and ? are wild: a bracket in a directory's name means itself.
    pattern = re.sub(r"\[", "[[]", str(Path(directory) / artifact.path))
    found = sorted(path for path in glob.iglob(pattern) if not os.path.isdir(path))
    if not found:
        raise WrongError(f"no file fits the artifact {artifact.path}")
    if len(found) > MOST_FILES:
        raise WrongError(f"the artifact {artifact.path} fits {len(found):,} files, more than {MOST_FILES:,}")
    yield from ((path, Path(path)) for path in found)


def _measure(artifact: Artifact, name: str, path: Path) -> str:
    try:
        with open_regular(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            written = os.fstat(file.fileno()).st_mtime
    except NotRegularError:
        raise WrongError(f"the artifact {name} is no regular file") from None
    except (FileNotFoundError, NotADirectoryError):
        raise WrongError(f"the artifact {name} is not there") from None
    except OSError as error:
        raise UnreadableError(f"the artifact {name} cannot be read: {error.strerror}") from None
    if artifact.max_age is not None:
        check_age(name, time.time() - written, artifact.max_age)
    return digest


def check_age(name: str, seconds: float, max_age: timedelta) -> None:
    """Refuses what is too old.

    Raises:
        WrongError: it is, or its time lies in the future.
    """
    if seconds < -CLOCKS_DIFFER:
        raise WrongError(f"the artifact {name} is dated {-seconds:.0f} s in the future: its age is not known")
    if seconds > max_age.total_seconds():
        old = format_duration(timedelta(seconds=round(seconds)))
        raise WrongError(f"the artifact {name} is {old} old, max_age is {format_duration(max_age)}")


def _read_checksums(artifact: Artifact, directory: str) -> dict[str, str] | None:
    if artifact.checksums is None:
        return None
    name = artifact.checksums
    try:
        with open_regular(Path(directory) / name) as file:
            content = file.read(LARGEST_CHECKSUMS + 1)
    except NotRegularError:
        raise WrongError(f"the checksums file {name} is no regular file") from None
    except (FileNotFoundError, NotADirectoryError):
        raise WrongError(f"the checksums file {name} is not there") from None
    except OSError as error:
        raise UnreadableError(f"the checksums file {name} cannot be read: {error.strerror}") from None
    if len(content) > LARGEST_CHECKSUMS:
        raise WrongError(f"the checksums file {name} is larger than {LARGEST_CHECKSUMS >> 20} MiB")
    try:
        return parse_checksums(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise WrongError(f"the checksums file {name} is not UTF-8 text") from None
    except ValueError as error:
        raise WrongError(f"the checksums file {name}: {error}") from None


def parse_checksums(text: str) -> dict[str, str]:
    """Reads what `sha256sum` writes, with or without `*` before a name, and its BSD form; CRLF is a line end too.

    Returns:
        Name relative to the file's directory → sha256.

    Raises:
        ValueError: a line is none, or a name leads out of the directory.
    """
    found: dict[str, str] = {}
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.removesuffix("\r")
        if not line.strip() or line.startswith("#"):
            continue
        if match := _GNU.fullmatch(line):
            escaped, digest, name = match.groups()
        elif match := _BSD.fullmatch(line):
            escaped, name, digest = match.groups()
        else:
            raise ValueError(f"line {number} is not a sha256 and a name")
        name = _unescaped(name) if escaped else name
        plain = posixpath.normpath(name.replace("\\", "/") if not escaped else name)
        if posixpath.isabs(plain) or plain == ".." or plain.startswith("../"):
            raise ValueError(f"line {number}: {quote(name)} leads out of its directory")
        if found.setdefault(plain, digest.lower()) != digest.lower():
            raise ValueError(f"line {number}: {quote(name)} is there twice, with different sums")
    return found


def _unescaped(name: str) -> str:
    return re.sub(r"\\([\\nr])", lambda match: {"\\": "\\", "n": "\n", "r": "\r"}[match[1]], name)


def _expected(written: dict[str, str], artifact: Artifact, name: str, path: Path, directory: str) -> str:
    beside = os.path.abspath((Path(directory) / str(artifact.checksums)).parent)
    relative = os.path.relpath(os.path.abspath(path), beside)
    if relative not in written:
        raise WrongError(f"the artifact {name} is not named in {artifact.checksums}")
    return written[relative]
