"""Passes connections on that queued while no router was there, and asks a router whether it is ready."""

import asyncio
import json
import socket
from contextlib import suppress

from embedded.ingress.listener import Address

_PIECE = 64 * 1024
_LONGEST_ANSWER = 4 * 1024 * 1024
_ANSWERS_WITHIN = 1.0


async def pass_on(connection: socket.socket, where: Address) -> None:
    """Connects a waiting user with the router at `where`, until one of them ends the connection."""
    try:
        near_reader, near = await asyncio.open_connection(sock=connection)
    except OSError:  # it went away while it waited
        connection.close()
        return
    try:
        far_reader, far = await asyncio.open_connection(where[1], where[2], family=where[0])
    except OSError:
        near.transport.abort()
        return
    await asyncio.gather(_pump(near_reader, far), _pump(far_reader, near))
    near.close()
    far.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while piece := await source.read(_PIECE):
            sink.write(piece)
            await sink.drain()
        sink.write_eof()
    except OSError:
        # One side is gone in the middle: the other one must not wait for more.
        sink.transport.abort()


async def has_routes(api: tuple[str, int]) -> bool:
    """Whether the router with its API at this host and port has read the file with its routes."""
    with suppress(OSError, TimeoutError, ValueError, IndexError):
        async with asyncio.timeout(_ANSWERS_WITHIN):
            body = await _get(api, "/api/http/routers")
        return any(router.get("provider") == "file" for router in json.loads(body))
    return False


async def _get(api: tuple[str, int], path: str) -> bytes:
    reader, writer = await asyncio.open_connection(*api)
    try:
        # 1.0: the answer comes in one piece and ends with the connection.
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {api[0]}\r\n\r\n".encode())
        answer = b""
        while len(answer) <= _LONGEST_ANSWER and (piece := await reader.read(_PIECE)):
            answer += piece
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split()[1] != b"200":
        raise ValueError("no answer")
    return body
