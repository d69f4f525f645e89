"""The model against the conformance suite: what every platform promises, the explorer's target does.

Left out are the scenarios in which a user's request hangs, a process dies or a directory changes: the model has none.
"""

# ruff: noqa: F401  these are the tests

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.explore import target as model
from tests.explore.ground import ModelConformanceTarget, ModelGround
from tests.integration.platforms.test_crashes import test_stable_dies_while_it_is_restored
from tests.integration.platforms.test_fences import (
    test_a_fence_outlives_what_it_guarded,
    test_a_stage_that_was_overtaken_ends_without_traffic,
    test_late_effects_of_an_older_deployment_change_nothing,
)
from tests.integration.platforms.test_retiring import (
    test_a_candidate_that_failed_is_not_kept_in_the_place_of_the_former_release,
    test_forgotten_is_gone_for_good,
    test_one_that_ignores_being_asked_is_ended,
    test_only_so_many_former_revisions_are_kept,
    test_stable_and_what_has_traffic_are_not_retired,
    test_the_healthy_instances_are_those_that_stay,
)
from tests.integration.platforms.test_staging import (
    test_a_dead_instance_is_started_again_and_counted,
    test_a_first_deployment_that_fails_leaves_nothing_behind,
    test_one_that_starts_slowly_is_waited_for,
)
from tests.integration.platforms.test_traffic import (
    test_a_dead_instance_costs_its_users_nothing_new,
    test_a_revision_without_a_healthy_instance_gets_no_traffic,
    test_no_request_is_lost_in_a_whole_deployment_and_its_rollback,
    test_no_request_is_lost_instance_by_instance,
    test_no_request_is_lost_when_restored_from,
    test_only_what_has_all_the_traffic_becomes_stable,
    test_what_was_never_staged_gets_no_traffic,
)
from tests.integration.platforms.test_verbs import (
    test_a_target_that_nobody_knows_has_an_empty_snapshot,
    test_an_instance_knows_who_it_is,
    test_capabilities_say_what_is_exact,
    test_inspecting_leaves_no_instance_out,
    test_promoting_changes_who_is_stable_and_nothing_else,
    test_restored_is_what_it_was,
    test_retired_is_gone_and_can_be_brought_back,
    test_shifting_twice_is_shifting_once,
    test_staged_is_up_and_asked_but_gets_no_user,
    test_staging_more_instances_leaves_those_that_run,
    test_staging_twice_starts_nothing_twice,
    test_the_split_counts_what_each_revision_answered,
    test_weights_are_those_that_users_see,
)


@pytest.fixture
async def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ModelConformanceTarget]:
    for name, seconds in {"QUICK": 0.001, "ROUTER": 0.01, "START": 0.1, "QUIET": 0.02, "RESTART": 0.5}.items():
        monkeypatch.setattr(model, name, seconds)  # here a wait is one
    found = ModelConformanceTarget(ModelGround(), tmp_path)
    try:
        yield found
    finally:
        await found.wipe()
