"""Keeps the kernel's receive stamps switched on.

Linux stamps what arrives only while some socket asks for it, and switches that on in a work queue
(net_enable_timestamp): on a busy machine the first packets after the first such socket bear no stamp. The switch
is one for all namespaces.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from agent.net.icmp_wire import SO_TIMESTAMPING, STAMPS

PATIENCE_S = 10.0


@contextmanager
def kernel_stamps() -> Iterator[None]:
    """Hold a socket that asks for stamps, and begin once it has received one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, dict(STAMPS)["kernel_rx"])
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(PATIENCE_S)
        end = time.monotonic() + PATIENCE_S
        while not stamped(sock):
            assert time.monotonic() < end, "this kernel stamps nothing that arrives"
            time.sleep(0.01)
        yield


def stamped(sock: socket.socket) -> bool:
    """Send a datagram to ourselves; tells whether it came with a stamp."""
    sock.sendto(b"", sock.getsockname())
    return any(kind == SO_TIMESTAMPING for _, kind, _ in sock.recvmsg(1, 256)[1])
