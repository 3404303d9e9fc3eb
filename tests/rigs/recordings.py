"""Recordings of real devices (the package snmpsim-data, BSD-2), served over UDP on loopback.

snmpsim itself indexes each file into a database first and wants a process a device; the recordings are
sorted text, so looking a question up in them takes no more than `bisect`.
"""

from __future__ import annotations

import bz2
from bisect import bisect_left, bisect_right
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pysnmp.proto.api import v2c

from tests.rigs.snmp_agent import Script, answer, asked

MAKERS: dict[str, Any] = {
    "2": lambda value: v2c.Integer32(int(value)),
    "4": lambda value: v2c.OctetString(value.encode("latin-1")),
    "4x": lambda value: v2c.OctetString(bytes.fromhex(value)),
    "5": lambda value: v2c.Null(""),
    "6": lambda value: v2c.ObjectIdentifier(value.strip(".")),
    "64": v2c.IpAddress,
    "64x": lambda value: v2c.IpAddress(bytes.fromhex(value)),
    "65": lambda value: v2c.Counter32(int(value)),
    "66": lambda value: v2c.Gauge32(int(value)),
    "67": lambda value: v2c.TimeTicks(int(value)),
    "68": lambda value: v2c.Opaque(value.encode("latin-1")),
    "68x": lambda value: v2c.Opaque(bytes.fromhex(value)),
    "70": lambda value: v2c.Counter64(int(value)),
}
"""The types of a .snmprec file: the ASN.1 tag, `x` for hexadecimal."""


MANY = 100_000
"""The large recordings are in order; looking would take longer than the test."""


def folder() -> Path:
    """Find the recordings, or skip by name."""
    found = find_spec("snmpsim_data")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs the Python package snmpsim-data")
    return Path(found.submodule_search_locations[0]) / "data"


def key(line: str) -> tuple[int, ...]:
    return tuple(map(int, line.partition("|")[0].strip(".").split(".")))


class Recording:
    """One recorded device: its objects in order; `changed` holds what a test sets otherwise."""

    def __init__(self, text: str) -> None:
        self._lines = [line for line in text.split("\n") if line.count("|") >= 2 and line[:1].isdigit()]
        few = len(self._lines) < MANY
        if few and any(key(a) > key(b) for a, b in zip(self._lines, self._lines[1:], strict=False)):
            self._lines.sort(key=key)
        self.changed: dict[str, Any] = {}

    def get(self, oid: str) -> Any:
        """Give the value of an object, or that there is none."""
        if oid in self.changed:
            return self.changed[oid]
        wanted = tuple(map(int, oid.split(".")))
        at = bisect_left(self._lines, wanted, key=key)
        if at < len(self._lines) and key(self._lines[at]) == wanted:
            return self._value(self._lines[at])
        return v2c.NoSuchInstance("")

    def after(self, oid: str, rows: int) -> dict[str, Any]:
        """Give up to `rows` objects that follow."""
        at = bisect_right(self._lines, tuple(map(int, oid.split("."))), key=key)
        lines = self._lines[at : at + rows]
        found = {key(line): self._value(line) for line in lines}
        end = key(self._lines[at + rows]) if at + rows < len(self._lines) else (3,)
        start = tuple(map(int, oid.split(".")))
        names = {tuple(map(int, name.split("."))): value for name, value in self.changed.items()}
        found |= {name: value for name, value in names.items() if start < name < end}
        return {".".join(map(str, name)): found[name] for name in sorted(found)[:rows]}

    @staticmethod
    def _value(line: str) -> Any:
        _, tag, value = line.split("|", 2)
        tag, _, variation = tag.partition(":")
        if variation:  # a value that snmpsim would make vary: take where it begins
            words = dict(word.partition("=")[::2] for word in value.split(","))
            value = words.get("initial") or words.get("value") or "0"
        return MAKERS[tag](value)

    def script(self, request: bytes) -> list[bytes]:
        """Answer a v2c request as the device did."""
        _, pdu, oids = asked(request)
        if not isinstance(pdu, v2c.GetBulkRequestPDU | v2c.GetNextRequestPDU):
            return [answer(request, {oid: self.get(oid) for oid in oids})]
        rows = int(v2c.apiBulkPDU.get_max_repetitions(pdu)) if isinstance(pdu, v2c.GetBulkRequestPDU) else 1
        columns = [list(self.after(oid, rows).items()) for oid in oids]
        found: dict[str, Any] = {}
        for i in range(rows):
            for oid, column in zip(oids, columns, strict=True):
                name, value = column[i] if i < len(column) else (column[-1][0] if column else oid, v2c.EndOfMibView(""))
                found.setdefault(name, value)
        return [answer(request, found)]


@lru_cache(maxsize=4)
def text_of(name: str) -> str:
    raw = (folder() / name).read_bytes()
    return (bz2.decompress(raw) if name.endswith(".bz2") else raw).decode("latin-1").replace("\r\n", "\n")


def recording(name: str) -> Recording:
    """Load a recording by its path in the package, such as `UPS/apc-8641.snmprec`."""
    return Recording(text_of(name))


_: Script = Recording("").script
