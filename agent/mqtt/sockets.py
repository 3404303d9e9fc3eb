"""The TCP connection to the broker: soon noticed when it is dead, and in segments that fit any path."""

from __future__ import annotations

import socket

CONNECT_S = 7.0
"""For TCP and again for TLS, so that the thread of an abandoned attempt ends by itself."""
SILENCE_S = 30
"""Unacknowledged data, or silence on an idle connection, for so long: a half-open connection (RFC 5482)."""
PROBE_EVERY_S, PROBES = 10, 3
SEGMENT_BYTES = 1220
"""With its headers 1,280 bytes, which every path must carry (RFC 8200, 5). Where larger packets vanish without a word
(path_mtu_black_hole) the results, and that verdict, still arrive."""


def connected(address: str, port: int) -> socket.socket:
    """Connect to a literal address; raises OSError."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        for level, option, value in (
            (socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES),  # before connecting: the other side is told too
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_S * 1000),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_S - PROBE_EVERY_S),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_EVERY_S),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES),
        ):
            sock.setsockopt(level, option, value)
        sock.settimeout(CONNECT_S)
        sock.connect(socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0][4])
    except OSError:
        sock.close()
        raise
    return sock
