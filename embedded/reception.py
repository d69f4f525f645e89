"""The users' address while its router is away.

A router that is started with a listening socket accepts from it before it has read its routes, and answers what has
queued up with 404. So nobody may reach a router's socket before it is ready. Two sockets share the address
(SO_REUSEPORT): the hall, where connections queue, and the router's own. A program of one instruction in the kernel says
which of them gets new connections (SO_ATTACH_REUSEPORT_CBPF, see socket(7); it needs no privileges). When the router is
ready, the address is turned over to it, and what has queued is passed on.

Where the kernel cannot do that (it is Linux's), the router shares the one socket.
"""

import ctypes
import socket
import struct
import sys

Address = tuple[socket.AddressFamily, str, int]
BACKLOG = 4096
_ATTACH = 51  # SO_ATTACH_REUSEPORT_CBPF
_RETURN = 0x06  # BPF_RET | BPF_K
_DIRECTS = sys.platform == "linux"


def listen_at(where: Address, shared: bool = False) -> socket.socket:
    """Opens an address for users: from here on connections queue.

    Args:
        where: family, host and port.
        shared: further sockets of ours may be opened there.

    Raises:
        OSError: it cannot be had.
    """
    family, host, port = where
    users = socket.socket(family, socket.SOCK_STREAM)
    try:
        users.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            users.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            users.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        users.bind((host, port))
        users.listen(BACKLOG)
        users.setblocking(False)
    except BaseException:  # whatever it was goes on; only the address must not stay taken
        users.close()
        raise
    return users


class Reception:
    """Holds the address; says whether users queue in the hall or reach the router."""

    def __init__(self, where: Address) -> None:
        """Opens the address.

        Raises:
            OSError: it cannot be had.
        """
        self._where = where
        if _DIRECTS:
            # Asked for alone first: a shared socket would also be had beside a stranger's shared one.
            listen_at(where).close()
        self.shared = _DIRECTS
        self.hall = listen_at(where, shared=_DIRECTS)
        self._left: list[socket.socket] = []
        self._router: socket.socket | None = None
        self._direct(0)

    def withhold(self) -> None:
        """New connections queue from now on; those that the router had not accepted wait with them."""
        self._direct(0)
        if self._router is not None:
            self._left.append(self._router)
            self._router = None

    def listener(self) -> socket.socket:
        """The socket of the next router. It gets no connection before `admit`."""
        self.withhold()
        if not _DIRECTS:
            return self.hall
        self._router = listen_at(self._where, shared=True)
        return self._router

    def admit(self) -> list[socket.socket]:
        """The router gets new connections from now on. Returns those that waited for one before it."""
        waiting = []
        for left in self._left:
            waiting += accept_all(left)
            # The kernel moves the last socket of the group, the router's, into the place that becomes free.
            left.close()
        self._left.clear()
        self._direct(1)
        return waiting

    def close(self) -> None:
        """Nobody queues any more: users are refused as soon as the router has closed its socket too."""
        for held in (self.hall, self._router, *self._left):
            if held is not None:
                held.close()

    def _direct(self, place: int) -> None:
        if _DIRECTS:
            instruction = ctypes.create_string_buffer(struct.pack("HBBI", _RETURN, 0, 0, place))
            program = struct.pack("HL", 1, ctypes.addressof(instruction))
            self.hall.setsockopt(socket.SOL_SOCKET, _ATTACH, program)


def accept_all(listener: socket.socket) -> list[socket.socket]:
    """The connections that wait in the queue of a listening socket now."""
    found: list[socket.socket] = []
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return found
        except ConnectionError:  # it went away while it waited
            continue
        connection.setblocking(False)
        found.append(connection)
