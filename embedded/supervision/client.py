"""Speaks to supervisord: its XML-RPC interface over a unix socket, with a timeout.

A fault is told from another by its code. Each call opens a connection of its own, so that threads do not meet.
"""

import http.client
import socket
import xmlrpc.client
from enum import IntEnum
from pathlib import Path
from typing import Any

from models.errors import StackError, UnavailableError


class FaultCode(IntEnum):
    """The codes of supervisord's faults that decide what we do (supervisor.xmlrpc.Faults)."""

    SHUTDOWN_STATE = 6
    BAD_NAME = 10
    NOT_RUNNING = 70
    ALREADY_STARTED = 60
    SPAWN_ERROR = 50
    ALREADY_ADDED = 90
    STILL_RUNNING = 91


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.close()
            raise


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__()
        self._path = path
        self._timeout = timeout

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _UnixConnection(self._path, self._timeout)
        self._connection = host, connection  # so that closing the transport closes it
        return connection


class Client:
    """Calls methods of supervisord's own namespace."""

    def __init__(self, path: Path, timeout: float = 10.0) -> None:
        self._path = path
        self._timeout = timeout

    def call(self, method: str, *arguments: Any, but: tuple[FaultCode, ...] = ()) -> Any:
        """Calls one method; a fault that is named in `but` is answered with None.

        Raises:
            UnavailableError: supervisord does not answer, or is on its way down.
            StackError: it refused; the text has the fault's code.
        """
        transport = _UnixTransport(self._path, self._timeout)
        with xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=transport) as proxy:
            try:
                return getattr(proxy.supervisor, method)(*arguments)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode in but:
                    return None
                if fault.faultCode == FaultCode.SHUTDOWN_STATE:
                    raise UnavailableError("The supervisor is shutting down.") from fault
                raise StackError(
                    f"The supervisor refused {method}: {fault.faultString} (fault {fault.faultCode})."
                ) from fault
            except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
                raise UnavailableError(f"The supervisor does not answer at {self._path}.") from error
