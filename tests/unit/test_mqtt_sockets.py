"""The TCP connection to the broker."""

from __future__ import annotations

import socket

import pytest

from agent.mqtt.sockets import SEGMENT_BYTES, SILENCE_S, connected

TIMESTAMPS_BYTES = 12
"""Of each segment, where both sides have them on (RFC 7323)."""


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_neither_side_sends_more_than_any_path_carries(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        socket.create_server((address, 0), family=family) as server,
        connected(address, server.getsockname()[1]) as ours,
        server.accept()[0] as theirs,
    ):
        for side in (ours, theirs):
            segment = side.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
            assert SEGMENT_BYTES - TIMESTAMPS_BYTES <= segment <= SEGMENT_BYTES
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == SILENCE_S * 1000
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_nobody_there_leaves_no_socket_behind() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        connected("127.0.0.1", port)
