"""Since when a revision has had no users is what its drain counts from: also where a worker died before noting it."""

from datetime import UTC, datetime, timedelta

import pytest

from activities.platforms.kubernetes.state import KubernetesRevisionRecord, KubernetesTargetState
from models.platforms import KubernetesPlatformSpec
from models.release import Fence, Release, Revision

DRAIN = timedelta(seconds=30)
LONG_AGO = datetime.now(UTC) - timedelta(hours=1)


def fence(sequence: int) -> Fence:
    return Fence(epoch=1, sequence=sequence)


def kept(id: str, idle_since: datetime | None = None) -> KubernetesRevisionRecord:
    platform = KubernetesPlatformSpec.model_validate(
        {"kind": "kubernetes", "deployment": "shop", "image": "shop:{version}", "url": "http://127.0.0.1:8000"}
    )
    revision = Revision(id=id, release=Release(service="shop", version=id), platform=platform)
    return KubernetesRevisionRecord(revision=revision, deployment=id, service=id, selector={}, idle_since=idle_since)


@pytest.fixture
def state() -> KubernetesTargetState:
    """The old one has everything, as effect 1 has led users and noted."""
    revisions = {"old": kept("old"), "new": kept("new"), "older": kept("older", LONG_AGO)}
    return KubernetesTargetState(stable="old", weights={"old": 100}, bound="old", revisions=revisions, led=fence(1))


def quiet(state: KubernetesTargetState, id: str) -> datetime:
    found = state.quiet_at(id, DRAIN)
    assert found is not None
    return found


def test_who_loses_all_users_is_idle_from_then_on(state: KubernetesTargetState) -> None:
    state.lead({"old": 0, "new": 100}, found=fence(1), by=fence(2))
    assert (state.weights, state.bound, state.led) == ({"new": 100}, "new", fence(2))
    assert quiet(state, "old") > datetime.now(UTC) + DRAIN / 2
    assert state.quiet_at("new", DRAIN) is None
    assert quiet(state, "older") == LONG_AGO + DRAIN


def test_what_nobody_could_note_may_have_led_users_to_anybody(state: KubernetesTargetState) -> None:
    # Effect 2 gave users to the new one and died; effect 3 takes them back, and is the first to come to noting.
    state.lead({"old": 100, "new": 0}, found=fence(2), by=fence(3))
    assert quiet(state, "new") > datetime.now(UTC) + DRAIN / 2
    assert quiet(state, "older") > datetime.now(UTC) + DRAIN / 2
    assert state.quiet_at("old", DRAIN) is None


def test_an_attempt_that_died_before_noting_is_seen_by_the_next_one(state: KubernetesTargetState) -> None:
    assert state.unrecorded_route_write(fence(2))
    state.lead({"old": 100}, found=fence(2), by=fence(2))
    assert quiet(state, "new") > datetime.now(UTC) + DRAIN / 2
    assert not state.unrecorded_route_write(fence(2))


def test_without_a_route_nothing_is_missed(state: KubernetesTargetState) -> None:
    assert not state.unrecorded_route_write(None)
    state.lead({"old": 50, "new": 50}, found=None, by=fence(2))
    assert state.quiet_at("new", DRAIN) is None
    assert quiet(state, "older") == LONG_AGO + DRAIN


def test_a_state_of_before_this_was_noted_is_taken_for_missed(state: KubernetesTargetState) -> None:
    text = state.model_dump_json(exclude={"led"})
    assert KubernetesTargetState.model_validate_json(text).unrecorded_route_write(fence(1))
