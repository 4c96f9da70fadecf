"""Forwarding of TCP connections over links: a listener, and the two directions of each connection.

It uses plain sockets with small receive buffers: data that a link has not carried yet stays with its sender, as with a
real network, where a program may look at how much of its data has been acknowledged.
"""

import asyncio
import contextlib
import logging
import select
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from maleo_processcluster.links import Link

log: Final = logging.getLogger("maleo.process-network")
_RECEIVE_BYTES: Final = 32 * 1024
_IN_FLIGHT: Final = 256  # chunks that a link with a delay carries at once
_CONNECT_S: Final = 2.0
_BACKLOG: Final = 128
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST
_IN_ORDER: Final = struct.pack("ii", 0, 0)  # SO_LINGER: close with FIN


@dataclass(frozen=True, slots=True)
class Route:
    """Way of a connection. source: address from which the target is reached, empty for any."""

    target: tuple[str, int]
    there: Link
    back: Link
    source: str = ""


Router = Callable[[str], list[Route]]
"""Function of a client's address that returns the routes to try, in order."""


class Listener:
    """Listening socket of which every connection is forwarded."""

    def __init__(self, address: str, port: int, router: Router) -> None:
        """Listen. Raise OSError if the address cannot be used."""
        self._router = router
        self._socket = socket.socket()
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)  # accepted sockets inherit it
            self._socket.setblocking(False)
            self._socket.bind((address, port))
            self._socket.listen(_BACKLOG)
        except OSError:
            self._socket.close()
            raise
        self._connections: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.create_task(self._accept(), name=f"listen on {address}:{port}")

    def close(self) -> None:
        """Stop listening. Open connections stay, as with a Service that is deleted."""
        self._accepting.cancel()
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket)  # the next socket may get its descriptor at once
            self._socket.close()

    async def abort(self) -> None:
        """Stop listening and end all connections."""
        self.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(self._accepting, *self._connections, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, peer = await loop.sock_accept(self._socket)
            except OSError as error:  # the client has gone already, or too many files are open
                log.warning("cannot accept a connection: %s", error)
                await asyncio.sleep(0.05)
                continue
            task = asyncio.create_task(_forward(client, self._router, peer[0]))
            self._connections.add(task)
            task.add_done_callback(partial(self._forget, client))

    def _forget(self, client: socket.socket, task: asyncio.Task[None]) -> None:
        """Forget a connection that has ended."""
        self._connections.discard(task)
        client.close()  # a task that was cancelled before it started has not done so
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("forwarding a connection failed", exc_info=error)


async def _forward(client: socket.socket, router: Router, address: str) -> None:
    """Forward a connection from `address` by the first route whose target accepts it; reset it if there is none."""
    with contextlib.closing(client):
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)  # until both directions have ended in order
        for route in router(address):
            if not await _await_links(client, route):
                return
            try:
                target = await _connect(route)
            except (OSError, TimeoutError):
                continue
            with contextlib.closing(target):
                await asyncio.sleep(route.there.delay_s + route.back.delay_s)  # the handshake
                try:
                    await _carry_both(client, target, route)
                except* OSError:
                    pass  # one end broke the connection: both sockets are reset
            return


async def _await_links(client: socket.socket, route: Route) -> bool:
    """Wait until both directions are connected; return False if the client ends the connection before.

    What such a client has sent is dropped: its request has been abandoned.
    """
    connected = route.there.connected, route.back.connected
    if all(each.is_set() for each in connected):
        return True
    links = asyncio.gather(*(each.wait() for each in connected))
    end = asyncio.create_task(_await_end(client))
    try:
        await asyncio.wait((links, end), return_when=asyncio.FIRST_COMPLETED)
        return not end.done()
    finally:
        links.cancel()
        end.cancel()
        await asyncio.gather(links, end, return_exceptions=True)


async def _await_end(client: socket.socket) -> None:
    """Wait until the client ends its direction or resets the connection, whatever it has sent before."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    with select.epoll() as poll:
        poll.register(client, select.EPOLLRDHUP)  # errors are always reported
        loop.add_reader(poll.fileno(), ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(poll.fileno())


async def _connect(route: Route) -> socket.socket:
    target = socket.socket()
    try:
        target.setblocking(False)
        target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        target.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        if route.source:
            target.bind((route.source, 0))
        async with asyncio.timeout(_CONNECT_S):
            await asyncio.get_running_loop().sock_connect(target, route.target)
    except BaseException:
        target.close()
        raise
    return target


async def _carry_both(client: socket.socket, target: socket.socket, route: Route) -> None:
    """Carry both directions to their ends. Raise an exception group of OSError if one end breaks the connection."""
    async with asyncio.TaskGroup() as group:
        for source, sink, link in ((client, target, route.there), (target, client, route.back)):
            arriving: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_IN_FLIGHT)
            group.create_task(_send(source, arriving, link))
            group.create_task(_deliver(arriving, sink))
    for end in (client, target):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _IN_ORDER)


async def _send(source: socket.socket, arriving: "asyncio.Queue[tuple[float, bytes]]", link: Link) -> None:
    """Send what the source writes over the link, with an empty piece at its end."""
    loop = asyncio.get_running_loop()
    chunk = b"more"
    while chunk:
        chunk = await loop.sock_recv(source, link.chunk)
        await link.connected.wait()
        sent_at = link.send(len(chunk), loop.time())
        await link.sleep_until(sent_at)
        await arriving.put((min(sent_at, loop.time()) + link.delay_s, chunk))


async def _deliver(arriving: "asyncio.Queue[tuple[float, bytes]]", sink: socket.socket) -> None:
    """Write what arrives, each piece at its time; an empty piece ends this direction, the other one may go on."""
    loop = asyncio.get_running_loop()
    while True:
        at, chunk = await arriving.get()
        await _sleep_until(at)
        if not chunk:
            sink.shutdown(socket.SHUT_WR)
            return
        await loop.sock_sendall(sink, chunk)


async def _sleep_until(at: float) -> None:
    """Sleep until a time of the event loop's clock."""
    if (pause_s := at - asyncio.get_running_loop().time()) > 0:
        await asyncio.sleep(pause_s)
