"""The users' address while its router is away.

A router that is started with a listening socket accepts from it before it has read its routes, and answers what has
queued up with 404. So nobody may reach a router's socket before it is ready. Two sockets share the address
(SO_REUSEPORT): the holding socket, where connections queue, and the router's own. A program of one instruction in the
kernel says which of them gets new connections (SO_ATTACH_REUSEPORT_CBPF, see socket(7); it needs no privileges). When
the router is ready, the address is turned over to it, and what has queued is passed on.

A router that is replaced while it serves keeps its socket until the next one, with a socket of its own, is ready.

Where the kernel cannot do that (it is Linux's), the router shares the one socket.
"""

import ctypes
import os
import socket
import struct
import sys
from pathlib import Path

Address = tuple[socket.AddressFamily, str, int]
BACKLOG = 4096
_ATTACH = 51  # SO_ATTACH_REUSEPORT_CBPF
_RETURN = 0x06  # BPF_RET | BPF_K
_LISTENS = "0A"
# The place of a third socket, beside the holding socket's and that of the router that serves.
_NEXT_AT = 2
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


class Listener:
    """Holds the address; says whether users queue in the holding socket or reach the router."""

    def __init__(self, where: Address, *, beside: bool = False) -> None:
        """Opens the address.

        Args:
            where: the address.
            beside: a router of ours has it already, and gets new connections until another one is ready.

        Raises:
            OSError: it cannot be had.
        """
        self._where = where
        if _DIRECTS and not beside:
            # Asked for alone first: a shared socket would also be had beside a stranger's shared one.
            listen_at(where).close()
        self.shared = _DIRECTS
        self.hall = listen_at(where, shared=_DIRECTS)
        self._left: list[socket.socket] = []
        self._router: socket.socket | None = None
        self._next: socket.socket | None = None
        # The places of the sockets in the kernel's group, which are those of their order of arrival.
        self._hall_at, self._router_at = (1, 0) if beside else (0, 1)
        self._direct(self._router_at if beside else self._hall_at)

    def withhold(self) -> None:
        """New connections queue from now on; those that the router had not accepted wait with them."""
        if self._router is None and not self._left:
            # One that was there before is gone with its socket: the holding socket has moved into its place.
            self._hall_at, self._router_at = 0, 1
        self._direct(self._hall_at)
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
        self._direct(self._router_at)
        return waiting

    def successor(self) -> socket.socket:
        """The socket of a router that is to follow the one that serves. It gets no connection before `turn_over`."""
        self._next = listen_at(self._where, shared=True)
        return self._next

    def without_successor(self) -> None:
        """The one that was to follow does not: everything stays as it is."""
        if self._next is not None:
            self._next.close()
            self._next = None

    def lead_to_successor(self) -> None:
        """New connections reach the router that is to follow from now on; the one before it has its socket still."""
        self._direct(_NEXT_AT)

    def queue(self) -> None:
        """New connections queue from now on: a socket is about to be closed, and others to change their places."""
        self._direct(self._hall_at)

    def let_go(self) -> list[socket.socket]:
        """Gives up the socket of the router that serves, but for its own hold on it. Returns those that wait there."""
        if self._router is None:
            return []
        waiting = accept_all(self._router)
        self._router.close()
        self._router = None
        return waiting

    def turn_over(self) -> None:
        """New connections reach the next router from now on; the socket of the one before it is closed by then."""
        self._router, self._next = self._next, None
        # The kernel has moved the last socket of the group into the place that became free.
        self._direct(self._router_at)

    def before(self) -> list[int]:
        """How many connections wait at each socket of the address that this program does not hold."""
        ours = {str(os.fstat(held.fileno()).st_ino) for held in (self.hall, self._router, self._next) if held}
        family, host, port = self._where
        raw = socket.inet_pton(family, host)
        words = (raw[at : at + 4] for at in range(0, len(raw), 4))
        where = "".join((word[::-1] if sys.byteorder == "little" else word).hex() for word in words).upper()
        table = Path("/proc/net/tcp6" if family == socket.AF_INET6 else "/proc/net/tcp").read_text()
        rows = (line.split() for line in table.splitlines()[1:])
        return [
            int(row[4].partition(":")[2], 16)
            for row in rows
            if row[1] == f"{where}:{port:04X}" and row[3] == _LISTENS and row[9] not in ours
        ]

    def close(self) -> None:
        """Nobody queues any more: users are refused as soon as the router has closed its socket too."""
        for held in (self.hall, self._router, self._next, *self._left):
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
