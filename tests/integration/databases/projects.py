"""Small projects, each with one of the real migration tools: written into a folder, with more migrations on demand."""

import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VENV = Path(sys.executable).parent
ALEMBIC_ENV = """
    import os
    from alembic import context
    from sqlalchemy import create_engine
    url = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1)
    if context.is_offline_mode():
        context.configure(url=url, literal_binds=True)
        with context.begin_transaction():
            context.run_migrations()
    else:
        with create_engine(url).connect() as connection:
            context.configure(connection=connection)
            with context.begin_transaction():
                context.run_migrations()
"""
DJANGO_SETTINGS = """
    import os
    from psycopg.conninfo import conninfo_to_dict
    found = conninfo_to_dict(os.environ["DATABASE_URL"])
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql"}}
    DATABASES["default"] |= {names[name]: value for name, value in found.items() if name in names}
    INSTALLED_APPS = ["things"]
    DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
    SECRET_KEY = "x"
    USE_TZ = True
"""
PRISMA = """
    import os, pathlib, sys
    import psycopg
    assert sys.argv[1:] == ["migrate", "deploy"], sys.argv
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS _prisma_migrations (id varchar(36) PRIMARY KEY, checksum varchar(64) NOT NULL, "
            "finished_at timestamptz, migration_name varchar(255) NOT NULL, logs text, rolled_back_at timestamptz, "
            "started_at timestamptz NOT NULL DEFAULT now(), applied_steps_count integer NOT NULL DEFAULT 0)"
        )
        there = {row[0] for row in connection.execute("SELECT migration_name FROM _prisma_migrations")}
        for folder in sorted(pathlib.Path("prisma/migrations").iterdir()):
            if folder.name not in there:
                begin = "INSERT INTO _prisma_migrations (id, checksum, migration_name) VALUES (%s, 'x', %s)"
                connection.execute(begin, (folder.name[:36], folder.name))
                connection.execute((folder / "migration.sql").read_text())
                connection.execute("UPDATE _prisma_migrations SET finished_at = now() WHERE finished_at IS NULL")
"""
DJANGO_MANAGE = """
    import os, sys
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


@dataclass
class Project:
    """A project with a migration tool.

    Attributes:
        ids: of its migrations, in their order.
    """

    folder: Path
    programs: Path

    def __post_init__(self) -> None:
        self.ids: list[str] = []
        self.begin()

    def begin(self) -> None:
        raise AssertionError("each tool begins in its own way")

    def add(self, name: str, *statements: str) -> str:
        """One more migration of these statements; returns its id."""
        raise AssertionError("each tool keeps them in its own way")

    def spec(self) -> dict[str, Any]:
        """The part of a spec that says how the tool is called."""
        raise AssertionError("each tool is called in its own way")


class Dbmate(Project):
    def begin(self) -> None:
        (self.folder / "db" / "migrations").mkdir(parents=True)

    def add(self, name: str, *statements: str) -> str:
        self.ids.append(f"{len(self.ids) + 1:03d}_{name}")
        body = ";\n".join(statements)
        write(
            self.folder / "db" / "migrations" / f"{self.ids[-1]}.sql",
            f"-- migrate:up\n{body};\n\n-- migrate:down\nDROP TABLE nothing;\n",
        )
        return self.ids[-1]

    def spec(self) -> dict[str, Any]:
        return {"tool": "dbmate", "command": [str(VENV / "dbmate")]}


class Alembic(Project):
    def begin(self) -> None:
        write(self.folder / "alembic.ini", "[alembic]\nscript_location = %(here)s/alembic\npath_separator = os\n")
        write(self.folder / "alembic" / "env.py", ALEMBIC_ENV)
        (self.folder / "alembic" / "versions").mkdir()

    def add(self, name: str, *statements: str) -> str:
        before = repr(self.ids[-1]) if self.ids else "None"
        self.ids.append(f"{len(self.ids) + 1:03d}_{name}")
        lines = "\n".join(f"    op.execute({statement!r})" for statement in statements)
        write(
            self.folder / "alembic" / "versions" / f"{self.ids[-1]}.py",
            f"from alembic import op\nrevision = {self.ids[-1]!r}\ndown_revision = {before}\n"
            f"def upgrade():\n{lines}\ndef downgrade():\n    pass\n",
        )
        return self.ids[-1]

    def spec(self) -> dict[str, Any]:
        return {"tool": "alembic", "command": [sys.executable, "-m", "alembic"]}


class Django(Project):
    def begin(self) -> None:
        write(self.folder / "manage.py", DJANGO_MANAGE)
        write(self.folder / "settings.py", DJANGO_SETTINGS)
        for package in ("things", "things/migrations"):
            write(self.folder / package / "__init__.py", "")

    def add(self, name: str, *statements: str) -> str:
        return self.operations(name, *(f"migrations.RunSQL({statement!r})" for statement in statements))

    def operations(self, name: str, *operations: str) -> str:
        """A migration of Django's own operations."""
        before = f"[('things', {self.ids[-1].partition('.')[2]!r})]" if self.ids else "[]"
        module = f"{len(self.ids) + 1:04d}_{name}"
        self.ids.append(f"things.{module}")
        listed = ", ".join(operations)
        write(
            self.folder / "things" / "migrations" / f"{module}.py",
            "from django.db import migrations, models\nclass Migration(migrations.Migration):\n"
            f"    dependencies = {before}\n    operations = [{listed}]\n",
        )
        return self.ids[-1]

    def spec(self) -> dict[str, Any]:
        return {"tool": "django", "command": [sys.executable, "manage.py"]}


class Psql(Project):
    """Versioned scripts that psql runs, as Flyway and Liquibase do it: three commands, and their exit codes."""

    def begin(self) -> None:
        psql = f"{self.programs}/psql -X -q -v ON_ERROR_STOP=1"
        table = "CREATE TABLE IF NOT EXISTS versions (name text PRIMARY KEY)"
        is_in = f'{psql} -At -c "TABLE versions" 2>/dev/null | grep -qx "$f"'
        write(
            self.folder / "status.sh",
            f"""
            for f in *.sql; do {is_in} || exit 10; done
            exit 0
            """,
        )
        write(self.folder / "plan.sh", f"for f in *.sql; do {is_in} || cat $f; done\n")
        write(
            self.folder / "run.sh",
            f"""
            {psql} -c "SET client_min_messages = error; {table}" || exit 1
            for f in *.sql; do
              {is_in} && continue
              {psql} -1 -f $f -c "COPY versions FROM PROGRAM 'echo $f'" || exit 1
            done
            """,
        )

    def add(self, name: str, *statements: str) -> str:
        self.ids.append(f"{len(self.ids) + 1:03d}_{name}")
        write(self.folder / f"{self.ids[-1]}.sql", ";\n".join(statements) + ";\n")
        return self.ids[-1]

    def spec(self) -> dict[str, Any]:
        return {
            "tool": "command",
            "status": ["sh", "status.sh"],
            "exit_codes": {"pending": 10},
            "plan": ["sh", "plan.sh"],
            "run": ["sh", "run.sh"],
        }


PROJECTS: dict[str, type[Project]] = {"dbmate": Dbmate, "alembic": Alembic, "django": Django, "psql": Psql}


class Knex(Project):
    """Real knex, which the test has installed with npm beside the folder."""

    def begin(self) -> None:
        write(
            self.folder / "knexfile.js",
            'module.exports = {client: "pg", connection: process.env.DATABASE_URL, '
            'migrations: {directory: "migrations"}}\n',
        )
        (self.folder / "migrations").mkdir()

    def add(self, name: str, *statements: str) -> str:
        self.ids.append(f"{len(self.ids) + 1:03d}_{name}.js")
        body = " ".join(f"await knex.raw({statement!r});" for statement in statements)
        write(
            self.folder / "migrations" / self.ids[-1],
            f"exports.up = async (knex) => {{ {body} }};\nexports.down = async () => {{}};\n",
        )
        return self.ids[-1]

    def spec(self) -> dict[str, Any]:
        return {"tool": "knex", "command": ["node_modules/.bin/knex"]}


class Prisma(Project):
    """Prisma's folders and its table, with a stand-in for its program: that one loads engines from the network.

    The table is that of Prisma's own migration engine; the stand-in notes a migration before it runs it, and that it is
    finished afterwards, as that one does.
    """

    def begin(self) -> None:
        (self.folder / "prisma" / "migrations").mkdir(parents=True)
        write(self.folder / "prisma.py", PRISMA)

    def add(self, name: str, *statements: str) -> str:
        self.ids.append(f"2026010{len(self.ids) + 1}000000_{name}")
        write(self.folder / "prisma" / "migrations" / self.ids[-1] / "migration.sql", ";\n".join(statements) + ";\n")
        return self.ids[-1]

    def spec(self) -> dict[str, Any]:
        return {"tool": "prisma", "command": [sys.executable, "prisma.py"]}
