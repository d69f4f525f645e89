"""A late effect is told who overtook it: a newer deployment, or a later effect of its own."""

import pytest

from models.errors import FencedOutByItselfError, FencedOutError
from models.release import Fence

NINE = 1_790_000_000 * 1_000_000
BEFORE = Fence(epoch=NINE, sequence=4)


def test_an_equal_fence_is_a_retry_and_a_higher_one_is_news() -> None:
    for mine in (BEFORE, Fence(epoch=NINE, sequence=5), Fence(epoch=NINE + 1, sequence=0)):
        mine.check_not_overtaken(BEFORE, "shop/staging")


def test_a_newer_deployment_is_named_by_the_time_it_began() -> None:
    newer = Fence(epoch=NINE + 90_000_000, sequence=1)
    with pytest.raises(FencedOutError) as caught:
        BEFORE.check_not_overtaken(newer, "shop/staging")
    assert type(caught.value) is FencedOutError
    assert str(caught.value) == (
        "a newer effect has been on shop/staging: the deployment that began at 2026-09-21 14:14:50 UTC controls it "
        "now; the one that began at 2026-09-21 14:13:20 UTC changes nothing there any more"
    )


def test_a_deployment_that_overtakes_itself_says_that_this_is_a_defect() -> None:
    with pytest.raises(FencedOutByItselfError, match=r"effect 9 .* overtaken its own effect 4.* defect"):
        BEFORE.check_not_overtaken(Fence(epoch=NINE, sequence=9), "shop/staging")
