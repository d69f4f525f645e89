"""What instances print is read a piece at a time, and no line twice."""

import os
from pathlib import Path

from activities.platforms.printed import read_file, read_timed, seconds
from cli.commands.logs import log_lines
from models.release import Logs, Printed


def test_the_last_lines_of_a_file_and_then_what_was_added(tmp_path: Path) -> None:
    log = tmp_path / "one.log"
    log.write_text("a\nb\nc\n")
    first = read_file("one", log, 2, "")
    with log.open("a") as file:
        file.write("d\nhalf")
    second = read_file("one", log, 2, first.cursor)
    with log.open("a") as file:
        file.write(" a line\n")
    third = read_file("one", log, 2, second.cursor)

    assert [each.lines for each in (first, second, third)] == [("b", "c"), ("d",), ("half a line",)]
    assert read_file("one", log, 2, third.cursor).lines == ()


def test_a_file_that_was_emptied_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "one.log"
    log.write_text("a long line\n")
    cursor = read_file("one", log, 9, "").cursor
    os.truncate(log, 0)
    log.write_text("new\n")

    assert read_file("one", log, 9, cursor).lines == ("new",)


def test_a_program_that_never_printed_has_no_lines(tmp_path: Path) -> None:
    assert read_file("one", tmp_path / "none", 9, "") == Printed(instance="one")


def test_lines_with_a_time_are_told_once_although_they_are_sent_again() -> None:
    sent = "2026-05-04T09:30:00.5Z a\n2026-05-04T09:30:00.51Z b\n"
    first = read_timed("one", sent, "")
    more = read_timed("one", sent + "2026-05-04T09:30:00.510000001Z c d\nnonsense\n", first.cursor)

    assert (first.lines, more.lines) == (("a", "b"), ("c d",))
    assert more.cursor == "2026-05-04T09:30:00.510000001Z"
    assert read_timed("one", "", more.cursor).cursor == more.cursor


def test_a_time_is_asked_for_a_little_early() -> None:
    assert 0 < 1777887000.5 - seconds("2026-05-04T09:30:00.5Z") < 0.01


def test_lines_are_told_apart_by_what_differs_and_reach_no_terminal_as_commands() -> None:
    found = Logs(
        revision="1",
        printed=(
            Printed(instance="shop.staging.1.0-a.1", lines=("x\x1b[2J",)),
            Printed(instance="shop.staging.1.0-a.2", lines=("y",)),
        ),
    )

    assert log_lines(found) == ["[1] x [2J", "[2] y"]
    assert log_lines(found.model_copy(update={"printed": found.printed[1:]})) == ["y"]
