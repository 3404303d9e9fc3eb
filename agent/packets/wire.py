"""Raw sockets of the child: one interface, a filter in the kernel, never promiscuous; packet(7).

A socket hears nothing before it is bound, and it is bound only after its filter is in place.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import socket
import struct
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple, Self

ETH_P_ALL = 0x0003  # linux/if_ether.h
SO_ATTACH_FILTER = 26  # asm-generic/socket.h
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_STATISTICS = 263, 1, 6  # linux/if_packet.h
PACKET_MR_MULTICAST = 0
MEMBERSHIP = struct.Struct("=iHH8s")  # struct packet_mreq: index, type, length, address
STATISTICS = struct.Struct("=II")  # struct tpacket_stats: packets (dropped ones included), drops

# Classic BPF, linux/filter.h and bpf_common.h: what is loaded goes to A, the link header begins at 0.
LOAD_BYTE, LOAD_HALF, LOAD_WORD, LOAD_BYTE_AT_X, LOAD_HALF_AT_X = 0x30, 0x28, 0x20, 0x50, 0x48
HEADER_LENGTH_TO_X = 0xB1  # X = 4 * (byte & 15), the length of an IPv4 header
AND, IF_EQUAL, IF_ANY_BIT, RETURN = 0x54, 0x15, 0x45, 0x06
PACKET_TYPE_AT = 0xFFFFF000 + 4  # SKF_AD_OFF + SKF_AD_PKTTYPE: the kernel's word on the frame's direction
TO_US, BROADCAST, OTHER_HOST, OUTGOING = 0, 1, 3, 4  # values of it
KEEP, DROP = "keep", "drop"


class Step(NamedTuple):
    """One instruction; a jump names the label of its target (`""` is the next one), a target carries it."""

    code: int
    value: int = 0
    yes: str = ""
    no: str = ""
    label: str = ""


class Filter(NamedTuple):
    """Instructions that end in `keep` or `drop`, and how many bytes of a frame are kept."""

    steps: tuple[Step, ...]
    kept_bytes: int

    def assembled(self) -> bytes:
        """Write it as an array of struct sock_filter."""
        steps = (*self.steps, Step(RETURN, self.kept_bytes, label=KEEP), Step(RETURN, 0, label=DROP))
        places = {step.label: place for place, step in enumerate(steps) if step.label}

        def jump(label: str, place: int) -> int:
            return places[label] - place - 1 if label else 0

        return b"".join(
            struct.pack("=HBBI", step.code, jump(step.yes, place), jump(step.no, place), step.value)
            for place, step in enumerate(steps)
        )


def open_wire(interface: str, what: Filter, *, groups: Sequence[str] = (), buffer_bytes: int = 262144) -> socket.socket:
    """Hear what the filter lets through at an interface; `groups` are multicast addresses to be heard too.

    Raises OSError: PermissionError without CAP_NET_RAW, ENODEV where there is no such interface.
    """
    with ExitStack() as unless_done:
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
        unless_done.callback(wire.close)
        program = what.assembled()
        code = ctypes.create_string_buffer(program, len(program))
        wire.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
        )
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        index = index_of(interface)
        for group in groups:
            address = bytes.fromhex(group.replace(":", ""))
            request = MEMBERSHIP.pack(index, PACKET_MR_MULTICAST, len(address), address.ljust(8, b"\0"))
            wire.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)
        wire.bind((interface, ETH_P_ALL))
        unless_done.pop_all()
    return wire


def index_of(interface: str) -> int:
    """Give the kernel's number of an interface; raises OSError (ENODEV) where there is none."""
    try:
        return socket.if_nametoindex(interface)
    except OSError:  # it comes without an errno
        raise OSError(errno.ENODEV, f"there is no interface {interface}") from None


class Ear:
    """Gives the frames of a socket one by one: `with Ear(open_wire(…), 2048) as ear: frame = await ear.hear(until)`.

    What arrives in the very moment in which the wait ends is not lost, but given at the next call: a DHCP server
    that pings an address for 3 s answers after 3 s to the millisecond.
    """

    def __init__(self, wire: socket.socket, most_bytes: int) -> None:
        """Take over the socket; frames are cut to `most_bytes`."""
        self.wire, self._most_bytes = wire, most_bytes
        self._ready = asyncio.Event()

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self.wire, self._ready.set)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self.wire)
        self.wire.close()

    async def hear(self, until: float) -> bytes | None:
        """Give the next frame, None if none came until then (seconds of the loop clock).

        Raises OSError, as when the link goes.
        """
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)  # a flood must not hold up the other questions
        while loop.time() < until:
            self._ready.clear()
            try:
                return self.wire.recv(self._most_bytes)
            except BlockingIOError:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(until):
                        await self._ready.wait()
        return None


def statistics(wire: socket.socket) -> tuple[int, int]:
    """Give the frames that passed the filter since the last call, and those of them that found no room."""
    packets, drops = STATISTICS.unpack(wire.getsockopt(SOL_PACKET, PACKET_STATISTICS, STATISTICS.size))
    return packets, drops
