"""Who gets a connection to the users' address, and when."""

import socket
from collections.abc import Iterator

import pytest

from embedded.ingress import listener as reception
from embedded.ingress.listener import Address, Listener, accept_all, listen_at
from tests.support.embedded_homes import until
from tests.support.free_ports import free_port


@pytest.fixture
def where() -> Address:
    return socket.AF_INET, "127.0.0.1", free_port()


@pytest.fixture
def clients() -> Iterator[list[socket.socket]]:
    opened: list[socket.socket] = []
    yield opened
    for each in opened:
        each.close()


def connect(where: Address, clients: list[socket.socket], count: int = 20) -> None:
    clients += [socket.create_connection(where[1:], timeout=5) for _ in range(count)]


def accepted(listener: socket.socket, clients: list[socket.socket]) -> int:
    found = accept_all(listener)
    clients += found
    return len(found)


# What is tested is a filter of Linux' own; elsewhere the front proxy does without it, as its other tests show.
@pytest.mark.skipif(not reception._DIRECTS, reason="only Linux can direct connections")
def test_nobody_reaches_a_router_that_is_not_ready(where: Address, clients: list[socket.socket]) -> None:
    held = Listener(where)
    router = held.listener()
    connect(where, clients)
    assert accepted(router, clients) == 0
    assert held.admit() == []
    connect(where, clients)
    assert accepted(router, clients) == 20
    assert accepted(held.hall, clients) == 20
    held.close()


# What is tested is a filter of Linux' own; elsewhere the front proxy does without it, as its other tests show.
@pytest.mark.skipif(not reception._DIRECTS, reason="only Linux can direct connections")
def test_who_waited_for_a_dead_router_is_handed_over_and_the_next_one_gets_the_rest(
    where: Address, clients: list[socket.socket]
) -> None:
    held = Listener(where)
    for _ in range(3):
        held.listener()
        held.admit()
        connect(where, clients)
        held.withhold()
        connect(where, clients, count=5)
        router = held.listener()
        connect(where, clients, count=5)
        waiting = held.admit()
        clients += waiting
        assert len(waiting) == 20
        assert accepted(held.hall, clients) == 10
        connect(where, clients)
        assert accepted(router, clients) == 20
    held.close()
    with pytest.raises(ConnectionRefusedError):
        connect(where, clients)


# What is tested is a filter of Linux' own; elsewhere the front proxy does without it, as its other tests show.
@pytest.mark.skipif(not reception._DIRECTS, reason="only Linux can direct connections")
@pytest.mark.parametrize("beside", [False, True])
def test_a_router_follows_another_one_whatever_the_places_of_their_sockets(
    where: Address, clients: list[socket.socket], beside: bool
) -> None:
    if beside:
        # Of a program that is gone; the router has it still.
        serving = listen_at(where, shared=True)
        held = Listener(where, beside=True)
        connect(where, clients)
        assert accepted(serving, clients) == 20
    else:
        held = Listener(where)
        serving = held.listener().dup()
        held.admit()
    for _ in range(3):
        following = held.successor().dup()
        connect(where, clients)
        assert accepted(serving, clients) == 20
        held.lead_to_successor()
        connect(where, clients)
        assert accepted(following, clients) == 20
        held.queue()
        connect(where, clients, count=5)
        clients += held.let_go()
        assert held.before() == [0]
        serving.close()
        assert held.before() == []
        held.turn_over()
        assert accepted(held.hall, clients) == 5
        connect(where, clients)
        assert accepted(following, clients) == 20
        serving = following
    # The last one dies, and the next one is started as ever.
    serving.close()
    held.withhold()
    router = held.listener()
    connect(where, clients, count=5)
    held.admit()
    assert accepted(held.hall, clients) == 5
    connect(where, clients)
    assert accepted(router, clients) == 20
    held.close()


# What is tested is a filter of Linux' own; elsewhere the front proxy does without it, as its other tests show.
@pytest.mark.skipif(not reception._DIRECTS, reason="only Linux can direct connections")
def test_a_router_that_does_not_come_up_changes_nothing(where: Address, clients: list[socket.socket]) -> None:
    held = Listener(where)
    router = held.listener()
    held.admit()
    held.successor()
    held.without_successor()
    connect(where, clients)
    assert accepted(router, clients) == 20
    held.close()


def test_where_the_kernel_cannot_direct_the_router_has_the_one_socket(
    where: Address, clients: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reception, "_DIRECTS", False)
    held = Listener(where)
    connect(where, clients)
    assert held.listener() is held.hall
    assert held.admit() == []
    held.withhold()
    assert held.listener() is held.hall
    assert accepted(held.hall, clients) == 20
    held.close()


def test_an_address_is_had_by_one_alone(where: Address) -> None:
    held = Listener(where)
    with pytest.raises(OSError, match="in use"):
        Listener(where)
    with pytest.raises(OSError, match="in use"):
        listen_at(where)
    held.close()
    until(lambda: _free(where))


def _free(where: Address) -> bool:
    try:
        Listener(where).close()
    except OSError:
        return False
    return True
