"""What the judge knows changes only with what was read: not with who reads it, how often, or how it travels."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from models.judges.broken import Broken
from models.judges.candidate import CandidateJudge, Observation, appraise
from models.judges.state import JudgeState, Reading, Settings
from models.judges.votes import Arm, Tally
from models.release import Counters
from models.spec import JudgeSpec
from models.verdict import Verdict

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BY = Settings(slice=timedelta(seconds=10), warm_up=timedelta(seconds=30))
SPEC = JudgeSpec()


def reading(second: float, candidate: tuple[int, int], stable: tuple[int, int], starts: int = 1) -> Reading:
    """Given as requests and errors; a tenth of the good answers is slow."""
    arms = {
        name: Counters(requests=n, errors=x, timed=n - x, within={"0.1": (n - x) * 9 // 10, "1": n - x})
        for name, (n, x) in (("candidate", candidate), ("stable", stable))
    }
    return Reading(at=NOW + timedelta(seconds=second), starts=starts, **arms)


def looks(seed: int, seconds: int, shares: tuple[float, float], rates: tuple[float, float]) -> Iterator[Reading]:
    """Reads of counters that grow by chance."""
    draw = random.Random(seed)  # noqa: S311  a fixed sequence
    counts = [0, 0, 0, 0]
    for second in range(seconds):
        for arm in (0, 1):
            answers = sum(draw.random() < rates[arm] / 10 for _ in range(10))
            counts[2 * arm] += answers
            counts[2 * arm + 1] += sum(draw.random() < shares[arm] for _ in range(answers))
        yield reading(second + 1, (counts[0], counts[1]), (counts[2], counts[3]))


def begun(**changes: object) -> JudgeState:
    return JudgeState().step(reading(0, (0, 0), (0, 0))).model_copy(update=changes)


def through_json(state: JudgeState) -> JudgeState:
    return JudgeState.model_validate_json(state.model_dump_json())


@pytest.mark.parametrize("shares", [(0.01, 0.01), (0.08, 0.01), (0.9, 0.01)], ids=["healthy", "worse", "broken"])
def test_a_restart_at_any_look_changes_nothing(shares: tuple[float, float]) -> None:
    judge = CandidateJudge(SPEC, 0)

    def verdict(state: JudgeState) -> Verdict:
        return judge.judge(Observation(state=state, probes=1)).verdict

    straight = carried = begun()
    for now in looks(5, 400, shares, (2, 8)):
        straight, carried = straight.read(now, BY), through_json(carried).read(now, BY)
        assert carried == straight
        assert verdict(carried) is verdict(straight)
    assert (verdict(straight) is Verdict.FAIL) is (shares[0] > 0.05)
    assert straight.seen.answers > 1000


def test_a_restart_makes_one_long_slice_and_is_told() -> None:
    all_of_them = list(looks(5, 120, (0.1, 0.01), (3, 27)))
    state = begun()
    for now in all_of_them[:33]:
        state = state.read(now, BY)
    state = through_json(state).go_on()
    for now in all_of_them[75:]:
        state = state.read(now, BY)
    assert state.interruptions.model_dump() == {"resets": 0, "gaps": 1, "clock_jumps": 0, "restarts": 1}
    # 10, 20, 30, then one to 76, and on from there.
    assert state.exposures[0].slices == 3 + 1 + 4
    assert state.seen.candidate.answers == all_of_them[115].candidate.requests


def test_a_counter_that_fell_drops_its_slice_and_is_told() -> None:
    state = begun().read(reading(5, (50, 5), (500, 5)), BY)
    state = state.read(reading(8, (3, 0), (520, 6)), BY)
    assert state.interruptions.resets == 1
    state = state.read(reading(19, (13, 1), (620, 7)), BY)
    assert state.seen == Tally(candidate=Arm(answers=10, events=1), stable=Arm(answers=100, events=1))


def test_a_clock_that_is_put_back_makes_the_slice_no_shorter_and_is_told() -> None:
    state = begun().read(reading(8, (10, 0), (90, 1)), BY).read(reading(-3600, (11, 0), (99, 1)), BY)
    assert state.interruptions.clock_jumps == 1
    assert state.errors.votes == 0
    state = state.read(reading(-3595, (20, 0), (180, 2)), BY)
    assert state.errors.votes == 1
    assert state.seen.stable == Arm(answers=180, events=2)


def test_a_slice_stays_open_until_both_have_answered() -> None:
    state = begun().read(reading(10, (0, 0), (90, 1)), BY).read(reading(25, (0, 0), (200, 2)), BY)
    assert state.exposures[0].slices == 0
    state = state.read(reading(26, (1, 1), (210, 2)), BY)
    assert state.exposures[0].slices == 1
    assert state.seen == Tally(candidate=Arm(answers=1, events=1), stable=Arm(answers=210, events=2))


def test_the_evidence_of_one_step_counts_in_the_next_and_a_move_closes_the_slice() -> None:
    state = begun().read(reading(10, (10, 1), (190, 0)), BY).read(reading(14, (14, 1), (260, 0)), BY)
    first = state.end(BY)
    assert first.exposures[0].slices == 2
    second = through_json(first).step(reading(15, (15, 1), (280, 0)))
    assert second.errors == first.errors
    assert second.broken == Broken(number=2, began=NOW + timedelta(seconds=15))
    assert second.read(reading(16, (25, 1), (290, 0)), BY).end(BY).exposures[1].candidate == 10


def test_a_watch_that_is_extended_goes_on_with_its_slice_and_its_quick_test() -> None:
    began = reading(0, (0, 0), (0, 0))
    state = JudgeState().step(began).read(reading(4, (10, 5), (190, 0)), BY)
    assert state.step(began.model_copy(update={"at": NOW + timedelta(seconds=60)})) == state


def test_the_first_half_minute_of_an_instance_says_nothing_of_its_times() -> None:
    def after(warm_up: timedelta | None, starts_again_at: int = 1000) -> int:
        state = begun()
        by = Settings(warm_up=warm_up)
        for second in range(1, 101):
            starts = 1 + (second >= starts_again_at)
            state = state.read(reading(second, (second, 0), (9 * second, 0), starts), by)
        return state.latency.votes

    assert after(timedelta(0)) == 9
    assert after(timedelta(seconds=30)) == 6
    assert after(timedelta(seconds=30), starts_again_at=50) == 2
    assert after(None) == 0


def observed(state: JudgeState, **changes: object) -> Observation:
    return Observation(
        state=state, probes=5, candidate=Counters(requests=100), stable=Counters(requests=900)
    ).model_copy(update=changes)


def state_of(*slices: tuple[tuple[int, int], tuple[int, int]], by: Settings = BY) -> JudgeState:
    state, totals = begun(), [0, 0, 0, 0]
    for number, (candidate, stable) in enumerate(slices, start=1):
        totals = [total + more for total, more in zip(totals, (*candidate, *stable), strict=True)]
        state = state.read(reading(10 * number, (totals[0], totals[1]), (totals[2], totals[3])), by)
    return state


GRAY_SLICES = [((50, 3), (450, 4))] * 7
GRAY = state_of(*GRAY_SLICES)


def fails(state: JudgeState, **judge: object) -> bool:
    found = CandidateJudge(JudgeSpec.model_validate(judge), 0).judge(observed(state))
    return found.verdict is Verdict.FAIL


def test_a_worse_candidate_is_convicted_with_its_counts_in_one_sentence() -> None:
    found = CandidateJudge(SPEC, 0).judge(observed(GRAY))
    assert found.verdict is Verdict.FAIL
    assert "21 of 350 answers of the candidate were errors (6.00%; stable 28 of 3150, 0.89%), E " in found.reason
    assert "of 7 votes" in found.reason and "needed 111" in found.reason


@pytest.mark.parametrize(
    "knob",
    [
        {"alpha": "0.01%"},
        {"worth": "6%"},
        {"max_error_share": "6%"},
        {"min_errors": 22},
        {"min_requests": 351},
    ],
    ids=lambda knob: next(iter(knob)),
)
def test_what_makes_it_more_lenient(knob: dict[str, object]) -> None:
    assert fails(GRAY)
    assert not fails(GRAY, **knob)


def test_without_times_the_errors_have_all_of_the_evidence() -> None:
    both, errors = (appraise(GRAY, JudgeSpec.model_validate({"latency": {"enabled": on}})) for on in (True, False))
    assert errors.e == pytest.approx(errors.e_errors)
    assert both.e == pytest.approx(0.9 * both.e_errors + 0.1 * (both.e_latency or 0))
    assert errors.e_latency is None


def test_the_length_of_a_slice_decides_how_many_votes_there_are() -> None:
    long = state_of(*GRAY_SLICES, by=BY.model_copy(update={"slice": timedelta(seconds=30)}))
    assert (GRAY.errors.votes, long.errors.votes) == (7, 2)


def test_what_is_tolerated_of_times_changes_their_evidence() -> None:
    def e(tolerated: float) -> float:
        state, by = begun(), Settings(warm_up=timedelta(0), tolerated=tolerated)
        for number in range(1, 20):
            slow = Counters(requests=20 * number, timed=20 * number, within={"0.3": 15 * number})
            usual = Counters(requests=80 * number, timed=80 * number, within={"0.3": 70 * number})
            state = state.read(Reading(at=NOW + timedelta(seconds=10 * number), candidate=slow, stable=usual), by)
        return state.latency.value

    assert e(1.0) > 2 * e(1.25) > 4 * e(1.5)


def test_slow_answers_alone_convict() -> None:
    state, by = begun(), Settings(warm_up=timedelta(0))
    for number in range(1, 40):
        slow = Counters(requests=20 * number, timed=20 * number, within={"0.1": 5 * number, "0.3": 12 * number})
        usual = Counters(requests=180 * number, timed=180 * number, within={"0.1": 90 * number, "0.3": 171 * number})
        state = state.read(Reading(at=NOW + timedelta(seconds=10 * number), candidate=slow, stable=usual), by)
    found = CandidateJudge(SPEC, 0).judge(observed(state))
    assert found.verdict is Verdict.FAIL
    assert "answers of the candidate took more than 0.3 s (40.0%; stable 5.0%)" in found.reason
    assert not fails(state, latency={"enabled": False})


def test_seven_slices_of_ten_a_hundred_times_worse_convict() -> None:
    bad, good = ((20, 10), (380, 2)), ((20, 0), (380, 2))
    assert fails(state_of(bad, bad, good, bad, bad, good, bad, bad, good, bad))
    assert not fails(state_of(*[good] * 10))


def test_an_incident_of_both_convicts_nobody() -> None:
    quiet, bad = ((100, 1), (100, 1)), ((100, 30), (100, 31))
    early = [((5, 0), (95, 1))] * 30
    assert not fails(state_of(*early, *[quiet] * 10, *[bad] * 24))
