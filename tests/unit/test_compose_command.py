"""What a program prints in a container comes back whole, or not at all."""

import pytest

from activities.platforms.compose.cli import _streams
from models.errors import UnavailableError


def frame(stream: int, text: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text


def test_output_and_errors_are_told_apart_in_the_order_of_each() -> None:
    said = frame(1, b"one ") + frame(2, b"oh") + frame(1, b"") + frame(1, b"two" * 40_000)
    assert _streams(said) == (b"one " + b"two" * 40_000, b"oh")
    assert _streams(b"") == (b"", b"")


@pytest.mark.parametrize("said", [frame(1, b"whole")[:-1], frame(1, b"whole")[:5], frame(66, b"x"), b"\x01"])
def test_an_answer_that_lost_a_part_is_none(said: bytes) -> None:
    with pytest.raises(UnavailableError, match="in the middle"):
        _streams(said)
