"""`$PORT` as an argument works without a shell; what nobody would fill in is refused before anything starts."""

import pytest

from models.arguments import fill_in, not_filled_in

VALUES = {"PORT": "4711", "HOST": "127.0.0.1", "VERSION": "1.0+a"}


@pytest.mark.parametrize(
    ("argument", "becomes"),
    [
        ("$PORT", "4711"),
        ("${PORT}", "4711"),
        ("--bind=$HOST:${PORT}", "--bind=127.0.0.1:4711"),
        ("${VERSION}.tar", "1.0+a.tar"),
        ("$PORTS", "$PORTS"),
        ("$PORT_2", "$PORT_2"),
        ("${PORT", "${PORT"),
        ("$$", "$$"),
        ("$1", "$1"),
        ("s/$/x/", "s/$/x/"),
        ("$OTHER", "$OTHER"),
        ("", ""),
    ],
)
def test_only_the_names_of_the_platform_are_filled_in(argument: str, becomes: str) -> None:
    assert fill_in([argument], VALUES) == (becomes,)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["node", "app.js", "$PORT"], []),
        (["node", "app.js", "$DATABASE_URL"], [(2, "DATABASE_URL")]),
        (["node", "--db=${DATABASE_URL}"], [(1, "DATABASE_URL")]),
        (["node", "--listen", "0.0.0.0:$APP_PORT"], [(2, "APP_PORT")]),
        (["sh", "-c", "exec node app.js $DATABASE_URL"], []),
        (["/bin/bash", "-c", "$START"], []),
        (["awk", "$1", "s/$/x/", "cost: $5"], []),
        (["perl", "-e", "print $x"], []),
    ],
)
def test_a_variable_that_no_shell_and_nobody_fills_in_is_found(
    arguments: list[str], found: list[tuple[int, str]]
) -> None:
    assert list(not_filled_in(arguments, tuple(VALUES))) == found
