"""Reads Alembic's migrations as source: whether the SQL that `--sql` prints is the SQL that an upgrade runs.

A migration is a program, and may ask whether it is only printed, read from the database, or call anything else. Only
one that does nothing but call Alembic's own operations with what stands in it does the same both times. What cannot be
seen to be such a program is not taken for one.
"""

import ast
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from activities.migrations.classify import classify
from activities.system.safe_open import open_regular
from models.preflight.migrations import Effect

LARGEST = 2 << 20
MOST_FILES = 20_000
_PASSED_OVER = {"node_modules", "site-packages", "__pycache__"}
# What alembic.op offers and prints as it runs it.
_OPERATIONS = {
    *("add_column", "alter_column", "batch_alter_table", "bulk_insert", "create_check_constraint", "f"),
    *("create_exclude_constraint", "create_foreign_key", "create_index", "create_primary_key", "create_table"),
    *("create_table_comment", "create_unique_constraint", "drop_column", "drop_constraint", "drop_index"),
    *("drop_table", "drop_table_comment", "execute", "inline_literal", "rename_table"),
}
_MODULES = {"alembic", "sqlalchemy", "typing", "collections", "__future__", "textwrap", "string", "enum", "decimal"}
# Ways to the database, to the mode, and to code that runs at other times.
_WAYS_OUT = {
    *("get_bind", "bind", "get_context", "is_offline_mode", "as_sql", "impl", "invoke", "run_async", "inspect"),
    *("event", "events", "listen", "listens_for", "ext", "orm", "engine", "create_engine", "create_async_engine"),
    *("create_mock_engine", "engine_from_config", "async_engine_from_config", "connect", "connection", "reflect"),
    *("autoload_with", "dialect", "context", "migration", "command", "script", "runtime", "operations", "config"),
}
_BUILT_IN = {
    *("str", "int", "float", "bool", "bytes", "list", "tuple", "dict", "set", "frozenset", "range", "len", "zip"),
    *("enumerate", "sorted", "reversed", "min", "max", "sum", "map", "filter", "any", "all", "repr", "isinstance"),
    *("True", "False", "None", "Exception", "ValueError", "RuntimeError", "NotImplementedError", "print", "object"),
}
# Calls by which an env.py runs SQL of its own.
_RUNS = {"execute", "exec_driver_sql", "executemany", "scalar", "scalars", "listen", "listens_for", "run_async"}


@dataclass(frozen=True)
class Source:
    """What is known of a migration's source.

    Attributes:
        digest: sha256 over it and over the env.py that runs it.
        opaque: why what is printed may differ from what runs; empty where it cannot.
    """

    digest: str
    opaque: str = ""


class Sources:
    """The migrations that lie below a folder."""

    def __init__(self, folder: Path) -> None:
        self._found: dict[str, list[Path]] = {}
        self._folder = folder
        for path in _python_files(folder):
            if (tree := _parsed(path)) is not None and (revision := _revision(tree)) is not None:
                self._found.setdefault(revision, []).append(path)

    def of(self, revision: str) -> Source:
        """What is known of a revision."""
        paths = self._found.get(revision, [])
        contents = {_content(path) for path in paths}
        if len(contents) != 1:
            said = "lies more than once, each time another one," if paths else "was not found"
            return Source("", f"its file {said} below {self._folder.name}: whether --sql prints what runs is not known")
        environment = self._environment(paths[0])
        if environment is None:
            return Source("", "its env.py was not found: whether --sql prints what runs is not known")
        digest = hashlib.sha256(b"".join(contents) + b"\0" + _content(environment)).hexdigest()
        why = _of_migration(paths[0]) or _of_environment(environment)
        return Source(digest, f"{why}: what --sql prints may differ from what runs" if why else "")

    def all(self) -> str:
        """sha256 over every migration and env.py that was found."""
        files = sorted({path for paths in self._found.values() for path in paths})
        environments = sorted({each for path in files if (each := self._environment(path)) is not None})
        found = hashlib.sha256()
        for path in [*files, *environments]:
            found.update(hashlib.sha256(_content(path)).digest())
        return found.hexdigest()

    def _environment(self, path: Path) -> Path | None:
        for folder in path.parents:
            if (folder / "env.py").is_file():
                return folder / "env.py"
            if folder == self._folder:
                return None
        return None


def _python_files(folder: Path) -> Iterator[Path]:
    count = 0
    for place, folders, names in os.walk(folder):
        folders[:] = [
            each
            for each in sorted(folders)
            if not each.startswith(".")
            and each not in _PASSED_OVER
            and not os.path.exists(os.path.join(place, each, "pyvenv.cfg"))
        ]
        for name in sorted(names):
            if name.endswith(".py"):
                count += 1
                if count > MOST_FILES:
                    return
                yield Path(place) / name


def _content(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(LARGEST)
    except OSError:
        return b""


def _parsed(path: Path) -> ast.Module | None:
    content = _content(path)
    if b"revision" not in content and path.name != "env.py":
        return None
    try:
        return ast.parse(content)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _revision(tree: ast.Module) -> str | None:
    """The id of a migration: a module that assigns both `revision` and `down_revision`."""
    found: dict[str, ast.expr | None] = {}
    for each in tree.body:
        if isinstance(each, ast.Assign):
            found |= {target.id: each.value for target in each.targets if isinstance(target, ast.Name)}
        elif isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            found[each.target.id] = each.value
    revision = found.get("revision")
    if "down_revision" in found and isinstance(revision, ast.Constant) and isinstance(revision.value, str):
        return revision.value
    return None


def _of_migration(path: Path) -> str:
    """Why a migration may do something else than it prints; empty where it cannot."""
    tree = _parsed(path)
    if tree is None:
        return f"{path.name} cannot be read"
    tree.body = [each for each in tree.body if not (isinstance(each, ast.FunctionDef) and each.name == "downgrade")]
    names = _Names()
    names.visit(tree)
    return f"{path.name} {names.wrong}" if names.wrong else names.unknown(path.name)


class _Names(ast.NodeVisitor):
    """Sees that a module uses nothing but what is known to do the same whether it is printed or run."""

    def __init__(self) -> None:
        self.wrong = ""
        self._operations: set[str] = set()
        self._bound: set[str] = set()
        self._used: dict[str, None] = {}

    def unknown(self, name: str) -> str:
        """Names that come from nowhere that is known."""
        strange = [each for each in self._used if each not in self._bound | _BUILT_IN]
        return f"{name} uses {strange[0]}" if strange else ""

    def _say(self, what: str) -> None:
        self.wrong = self.wrong or what

    def visit_Import(self, node: ast.Import) -> None:
        for each in node.names:
            self._import(each.name, each.asname or each.name.partition(".")[0], each.name)
            if each.name == "alembic" or each.name.startswith("alembic."):
                self._say(f"imports {each.name} whole")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for each in node.names:
            module = "." * node.level + (node.module or "")
            self._import(module, each.asname or each.name, each.name)
            if module == "alembic" and each.name == "op":
                self._operations.add(each.asname or each.name)
            elif module.partition(".")[0] == "alembic" and each.name != "context":
                self._say(f"imports {each.name} of {module}")
            if each.name in _WAYS_OUT and each.name != "context":
                self._say(f"imports {each.name}")
            if module == "alembic" and each.name == "context":
                # Generated files import it; whoever uses it asks for the mode.
                self._bound.discard(each.asname or each.name)

    def _import(self, module: str, bound: str, name: str) -> None:
        if module.partition(".")[0] not in _MODULES or any(part in _WAYS_OUT for part in module.split(".")[1:]):
            self._say(f"imports {name} of {module}" if name != module else f"imports {module}")
        self._bound.add(bound)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            if node.id in self._operations:
                self._say("hands Alembic's operations on")
            elif node.id not in self._bound and node.id in ("context",):
                self._say("asks for Alembic's context")
            self._used[node.id] = None
        else:
            self._bound.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name) and node.value.id in self._operations:
            if node.attr not in _OPERATIONS:
                self._say(f"calls op.{node.attr}()")
            return
        self.generic_visit(node)
        if node.attr in _WAYS_OUT:
            self._say(f"uses {ast.unparse(node)}")
        elif node.attr.startswith("__"):
            self._say(f"uses {node.attr}")

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._bound.add(node.name)
        self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._bound.add(node.name)
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        self._bound.add(node.arg)
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg in ("autoload_with", "recreate", "bind", "copy_from"):
            self._say(f"uses {node.arg}=")
        self.generic_visit(node)

    def visit_Try(self, node: ast.Try) -> None:
        # What fails when it runs may not fail when it is printed.
        self._say("goes on after an error")
        self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self._bound.add(node.name)
        self.generic_visit(node)


def _of_environment(path: Path) -> str:
    """Why env.py may run more than the migrations; empty where nothing of that kind is in it."""
    tree = _parsed(path)
    if tree is None:
        return "env.py cannot be read"
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.AsyncFor | ast.While) and any(_calls(each) for each in ast.walk(node)):
            return "env.py runs the migrations more than once"
        if isinstance(node, ast.keyword) and node.arg == "on_version_apply":
            return "env.py is called back by every migration"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if name in _RUNS and not _harmless(node):
                return "env.py runs SQL of its own"
    return ""


def _calls(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "run_migrations"


def _harmless(call: ast.Call) -> bool:
    """Whether it runs one constant statement that changes nothing, like SET lock_timeout."""
    if len(call.args) != 1:
        return False
    argument = call.args[0]
    if isinstance(argument, ast.Call) and len(argument.args) == 1 and not argument.keywords:
        argument = argument.args[0]
    if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
        return False
    judged = classify(argument.value)
    return judged.effect is Effect.ADDITIVE and not judged.locks
