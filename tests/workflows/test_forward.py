"""Where everything goes well, and how long it takes."""

import time
from datetime import timedelta

from models.outcome import Outcome
from models.verdict import Stage, Verdict
from tests.workflows.conftest import Bench, bench_for, make_spec
from tests.workflows.simulated import SimulatedTarget

HOME = {"name": "home", "request": {"path": "/"}}


async def test_the_default_canary_takes_its_thirty_minutes_and_no_second_of_ours(bench: Bench) -> None:
    began = time.monotonic()

    report = await bench.run(make_spec(strategy={"kind": "canary"}))

    assert time.monotonic() - began < 5
    assert report.outcome is Outcome.DEPLOYED
    assert bench.target.weights_seen == [5, 25, 50, 75, 100, 100]  # the last one is the redeploy of the rehearsal
    deploy = next(stage for stage in report.stages if stage.stage is Stage.DEPLOY)
    assert timedelta(minutes=30) <= timedelta(seconds=deploy.seconds) < timedelta(minutes=31)


async def test_all_six_stages_pass_and_the_new_version_is_stable(bench: Bench) -> None:
    report = await bench.run(make_spec())

    assert [stage.stage for stage in report.stages] == list(Stage)
    assert {stage.verdict for stage in report.stages} == {Verdict.PASS}
    assert report.version == "1.1.0"
    assert report.previous_version == "1.0.0"
    assert bench.target.stable is not None
    assert bench.target.stable.release.version == "1.1.0"
    assert list(bench.target.running) == [bench.target.stable.id]
    assert bench.target.weights[bench.target.stable.id] == 100
    assert bench.target.reports[-1].outcome is Outcome.DEPLOYED


async def test_the_first_deployment_has_no_canary_and_nothing_to_rehearse() -> None:
    target = SimulatedTarget()
    async with bench_for(target) as bench:
        report = await bench.run(make_spec())

    assert report.outcome is Outcome.DEPLOYED
    assert target.weights_seen == [100]
    assert next(stage for stage in report.stages if stage.stage is Stage.REHEARSE).verdict is Verdict.SKIPPED


async def test_rolling_keeps_an_old_instance_warm_until_the_bake_is_over(bench: Bench) -> None:
    kept: list[int] = []

    async def see(name: str, _: int) -> None:
        stable = bench.target.stable
        if name == "watch" and stable is not None and stable.release.version == "1.0.0":
            kept.append(bench.target.running[stable.id][1])

    bench.target.hook = see

    report = await bench.run(make_spec(strategy={"kind": "rolling", "watch": "10s"}, rehearse={"enabled": False}))

    assert report.outcome is Outcome.DEPLOYED
    assert bench.target.weights_seen == [50, 100]
    assert kept == [2, 1]


async def test_blue_green_is_smoke_tested_on_its_preview_before_the_switch(bench: Bench) -> None:
    smoke = {"smoke": [{"name": "home", "request": {"path": "/"}}]}

    report = await bench.run(make_spec(strategy={"kind": "blue-green"}, verify=smoke))

    assert report.outcome is Outcome.DEPLOYED
    assert bench.target.calls.index("smoke_home") < bench.target.calls.index("shift")


async def test_a_step_keeps_its_time_also_when_its_watch_returns_early(bench: Bench) -> None:
    report = await bench.run(make_spec(rehearse={"enabled": False}))

    deadlines = [order.deadline for order in bench.target.watch_orders]
    assert deadlines[1] - deadlines[0] >= timedelta(minutes=5)
    assert report.ended is not None
    assert report.ended >= deadlines[-1]


async def test_every_effect_carries_a_higher_fence_than_the_one_before(bench: Bench) -> None:
    report = await bench.run(make_spec())

    assert report.outcome is Outcome.DEPLOYED
    sequences = [order.fence.sequence for order in bench.target.watch_orders]
    assert sequences == sorted(set(sequences))
    assert {order.fence.epoch for order in bench.target.watch_orders} == {bench.target.fence[0]}


async def test_whoever_asks_is_told_the_same_rule_of_health(bench: Bench) -> None:
    verify = {"host": "shop.example.com", "health": {"status": 204, "body": None, "within": "3s"}, "smoke": [HOME]}

    report = await bench.run(make_spec(verify=verify))

    assert report.outcome is Outcome.DEPLOYED
    rule = make_spec(verify=verify).verify.rule
    assert (rule.status, rule.words, rule.seconds, rule.host) == (204, None, 3, "shop.example.com")
    new = [question.health for question in bench.target.endpoint_questions if question.version == "1.1.0"]
    assert len(new) >= 5
    assert set(new) == {rule, rule.beside()}
    assert {order.health for order in bench.target.watch_orders} == {rule}
    assert {order.candidate.health for order in bench.target.watch_orders} == {rule}
    assert {question.host for question in bench.target.smoke_questions} == {"shop.example.com"}


async def test_each_watch_knows_which_share_was_asked_for(bench: Bench) -> None:
    await bench.run(make_spec())

    weights = [step.weight for step in bench.target.reports[-1].plan.steps] if bench.target.reports[-1].plan else []
    assert [order.weight for order in bench.target.watch_orders] == [*weights, 100]
