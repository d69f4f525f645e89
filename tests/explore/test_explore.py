"""Programs that nobody thought of find nothing; each of some old faults, put back, is found, and told so that it can be
understood.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.explore.explorer import explore, programs, shrink, tell
from tests.explore.planted import PLANTED, planted
from tests.explore.program import make_program

SEED = "every time"
AT_ONCE, TIMES = 20, 8
# As many as each fault takes, and some: another seed may take longer.
WITHIN = {
    "a_watcher_is_left_behind": (60, {5, 8}),
    "undone_in_forward_order": (60, {4}),
    "a_watch_is_shortened_by_a_restart": (60, {8}),
    "an_approval_is_bound_to_no_plan": (150, {3}),
    "what_serves_is_retired": (60, {2}),
    "a_cancelled_task_begins_to_wait": (1200, {5}),
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What a workflow logs about its troubles is part of the story, and not of the test's."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(before)


@pytest.mark.parametrize("begin", range(0, AT_ONCE * TIMES, AT_ONCE))
def test_programs_of_people_and_systems_break_no_rule(begin: int) -> None:
    for program in programs(SEED, AT_ONCE, begin):
        result = explore(program)
        assert not result.findings, tell(result)


@pytest.mark.parametrize("fault", PLANTED)
def test_an_old_fault_that_is_put_back_is_found(fault: str) -> None:
    most, rules = WITHIN[fault]
    with planted(fault):
        found = next((each for each in map(explore, programs("planted", most)) if each.findings), None)
        assert found is not None, f"{most} programs did not find it"
        assert found.rules & rules, tell(found)


def test_what_is_found_is_made_smaller_and_told() -> None:
    with planted("what_serves_is_retired"):
        found = next(each for each in map(explore, programs("planted", 60)) if each.findings)
        small = shrink(found, most=80)
    assert small.program.size() <= found.program.size()
    story = tell(small)
    assert f"The program of the seed {found.program.seed}:" in story
    assert "canary, 2 instances; with a rehearsal" in story
    assert "rule 2: retire #1 asks to take down what serves" in story


def test_a_seed_does_the_same_again() -> None:
    program = next(each for each in programs(SEED, 50) if each.faults and each.steps)
    first, second = explore(program), explore(make_program(program.seed))
    assert first.story == second.story
    assert first.endings == second.endings


def test_a_part_that_is_left_out_changes_no_other() -> None:
    """Durations depend on what is done, and not on what was done before: smaller programs stay comparable."""
    program = next(each for each in programs(SEED, 50) if not each.faults and not each.steps)
    later = replace(program, faults=(("write_report", 1, ()),))
    assert explore(program).story == explore(later).story
