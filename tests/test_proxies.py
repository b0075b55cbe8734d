from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from tests.proxies import Proxy, Way, open_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


async def _echo(stream: trio.SocketStream) -> None:
    try:
        async for piece in stream:
            await stream.send_all(piece)
    except trio.BrokenResourceError:
        pass


@pytest.fixture
async def proxy(nursery: trio.Nursery) -> AsyncIterator[Proxy]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, _echo, [listener])
    address = listener.socket.getsockname()
    async with open_proxy(address) as proxy:
        yield proxy


@asynccontextmanager
async def _dial(proxy: Proxy) -> AsyncIterator[trio.SocketStream]:
    with trio.fail_after(10):
        async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
            yield stream


async def _read(stream: trio.SocketStream, count: int) -> bytes:
    data = b""
    while len(data) < count and (piece := await stream.receive_some()):
        data += piece
    return data


async def test_bytes_and_their_end_pass_both_ways(proxy: Proxy) -> None:
    async with _dial(proxy) as stream:
        await stream.send_all(b"hello")
        assert await _read(stream, 5) == b"hello"
        await stream.send_eof()
        assert await stream.receive_some() == b""
        await proxy.wait_connected(0)
    assert proxy.accepted == 1


async def test_a_reset_reaches_the_program_as_a_reset(proxy: Proxy) -> None:
    async with _dial(proxy) as stream:
        await stream.send_all(b"hello")
        await _read(stream, 5)
        proxy.reset()
        with pytest.raises(trio.BrokenResourceError) as raised:
            await stream.receive_some()
        assert isinstance(raised.value.__cause__, ConnectionResetError)


async def test_a_finished_connection_ends_in_order(proxy: Proxy) -> None:
    async with _dial(proxy) as stream:
        await stream.send_all(b"hello")
        await _read(stream, 5)
        proxy.finish()
        assert await stream.receive_some() == b""


async def test_a_frozen_proxy_loses_nothing(proxy: Proxy) -> None:
    async with _dial(proxy) as stream:
        proxy.freeze()
        await stream.send_all(b"hello")
        with trio.move_on_after(0.05) as waited:
            await stream.receive_some()
        assert waited.cancelled_caught
        proxy.thaw()
        assert await _read(stream, 5) == b"hello"


async def test_a_black_hole_swallows_bytes_and_ends_of_connections_old_and_new(proxy: Proxy) -> None:
    async with _dial(proxy) as old:
        await proxy.wait_accepted(1)
        proxy.black_hole = True
        async with _dial(proxy) as new:
            for stream in (old, new):
                await stream.send_all(b"hello")
                await stream.send_eof()
                with trio.move_on_after(0.05) as waited:
                    await stream.receive_some()
                assert waited.cancelled_caught
    proxy.black_hole = False
    proxy.reset()
    async with _dial(proxy) as stream:
        await stream.send_all(b"hello")
        assert await _read(stream, 5) == b"hello"


async def test_after_so_many_bytes_the_connection_is_cut(proxy: Proxy) -> None:
    proxy.cut_after(3, Way.DOWN)
    async with _dial(proxy) as stream:
        await stream.send_all(b"hello")
        with pytest.raises(trio.BrokenResourceError):
            await _read(stream, 100)
        await proxy.wait_connected(0)


async def test_refusing_fails_new_connections_and_leaves_open_ones_alone(proxy: Proxy) -> None:
    async with _dial(proxy) as stream:
        await proxy.wait_accepted(1)
        await proxy.refuse()
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("127.0.0.1", proxy.port)
        await stream.send_all(b"hello")
        assert await _read(stream, 5) == b"hello"
    await proxy.listen()
    async with _dial(proxy) as stream:
        await stream.send_all(b"again")
        assert await _read(stream, 5) == b"again"


async def test_latency_holds_each_piece(proxy: Proxy) -> None:
    proxy.latency = 0.1
    async with _dial(proxy) as stream:
        started = trio.current_time()
        await stream.send_all(b"hello")
        assert await _read(stream, 5) == b"hello"
        assert trio.current_time() - started >= 0.2


@pytest.mark.parametrize("pieces", [(b"xxCOMMITxx",), (b"xxCO", b"MM", b"ITxx")])
async def test_a_trap_springs_before_its_bytes_are_passed_on(proxy: Proxy, pieces: tuple[bytes, ...]) -> None:
    sprung: list[str] = []
    trap = proxy.trap(b"COMMIT", Way.UP, lambda: sprung.append("now"), forward=False)
    async with _dial(proxy) as stream:
        for piece in pieces:
            await stream.send_all(piece)
            if piece is not pieces[-1]:
                await _read(stream, len(piece))
        await trap.sprung.wait()
        with pytest.raises(trio.BrokenResourceError):
            await _read(stream, 100)
    assert sprung == ["now"]


async def test_a_trap_may_skip_some_and_let_its_bytes_pass(proxy: Proxy) -> None:
    trap = proxy.trap(b"ack", Way.DOWN, lambda: None, skip=1)
    async with _dial(proxy) as stream:
        await stream.send_all(b"ack1")
        assert await _read(stream, 4) == b"ack1"
        assert not trap.sprung.is_set()
        await stream.send_all(b"ack2")
        assert await _read(stream, 4) == b"ack2"
        assert trap.sprung.is_set()


async def test_the_dependency_may_be_a_unix_socket(nursery: trio.Nursery, tmp_path: Path) -> None:
    path = tmp_path / "echo"
    server = trio.socket.socket(socket.AF_UNIX)
    await server.bind(str(path))
    server.listen()
    nursery.start_soon(trio.serve_listeners, _echo, [trio.SocketListener(server)])
    async with open_proxy(path) as proxy, _dial(proxy) as stream:
        await stream.send_all(b"hello")
        assert await _read(stream, 5) == b"hello"
