"""What is no address of a Docker behind ssh is refused before anything is tried."""

import pytest

from activities.platforms.compose.ssh import Tunnel
from models.errors import PreconditionError


@pytest.mark.parametrize(
    "host", ["ssh://", "ssh://ann:sesame@host", "ssh://host:no", "ssh://host:0", "ssh://host?x=1", "ssh://host:99999"]
)
def test_what_is_no_host_is_refused_without_showing_a_password(host: str) -> None:
    with pytest.raises(PreconditionError, match=r"ssh://\[user@\]host") as refused:
        Tunnel(host)
    assert "sesame" not in str(refused.value)


def test_nothing_is_opened_before_it_is_needed() -> None:
    tunnel = Tunnel("ssh://ann@host:2222/run/user/1000/docker.sock")
    assert tunnel.last_words() == ""
    tunnel.close()
