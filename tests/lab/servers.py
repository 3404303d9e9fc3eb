"""The services of the lab's hospital, each a program for a namespace; what is wrong with one is written into a file.

servers.py names FOLDER ADDRESS         a name server (UDP)
servers.py web FOLDER ADDRESS           a web server with TLS on port 443
servers.py page FOLDER ADDRESS          a web server without TLS on port 80, that answers 204
servers.py time FOLDER ADDRESS          an NTP server
servers.py snmp FOLDER NAME ADDRESS     an SNMP agent (v2c, community public), values in FOLDER/NAME.json

`FOLDER/KIND.mode` (for snmp `NAME.json`) is read at each question, so a fault begins the moment it is written.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.rigs.stand_in import answer

SLOW_S = 2.5
UNTIL_GONE_S = 60.0
NAMES = {
    "epr.example.org": "198.51.100.20",
    "mqtt.example.org": "198.51.100.53",
    "ward.example.org": "10.20.0.20",
}
RCODES = {"servfail": 2, "nxdomain": 3, "refused": 5}
NTP_EPOCH_S = 2_208_988_800
MANY_BYTES = 20_000


def mode(folder: str, kind: str) -> str:
    """Read what is wrong now; "" for nothing."""
    try:
        return (Path(folder) / f"{kind}.mode").read_text().strip()
    except OSError:
        return ""


def names(folder: str, address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        print("ready", flush=True)
        while True:
            query, asker = server.recvfrom(512)
            if (reply := named(query, mode(folder, "names"))) is not None:
                server.sendto(reply, asker)


def named(query: bytes, wrong: str) -> bytes | None:
    """Answer a lookup, or as badly as it is wanted."""
    if wrong == "silent":
        return None
    if wrong in RCODES:
        return (
            query[:2] + struct.pack(">HHHHH", 0x8180 | RCODES[wrong], 1, 0, 0, 0) + query[12 : query.index(0, 12) + 5]
        )
    if wrong == "slow":
        time.sleep(0.3)
    known = dict.fromkeys(NAMES, "192.0.2.66") if wrong == "wrong" else NAMES
    return answer(query, known)


class Web(BaseHTTPRequestHandler):
    folder = ""

    def do_GET(self) -> None:
        wrong = mode(self.folder, "web")
        if wrong == "silent":
            time.sleep(UNTIL_GONE_S)
        if wrong == "slow":
            time.sleep(SLOW_S)
        body = b"all is well\n" + b"." * MANY_BYTES
        self.send_response(503 if wrong == "error" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing: nobody reads it."""


class Page(Web):
    def do_GET(self) -> None:
        portal = mode(self.folder, "page") == "portal"
        self.send_response(302 if portal else 204)
        if portal:
            self.send_header("Location", "http://portal.example.net/login")
            self.send_header("Content-Length", "0")
        self.end_headers()


class Quiet(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """A client that goes away in the middle is what the lab is about."""


def web(folder: str, address: str) -> None:
    Web.folder = folder
    contexts = {name: context(folder, name) for name in ("good", "expired")}
    server = Quiet((address, 443), Web)

    def get_request() -> Any:
        client, where = server.socket.accept()
        chosen = contexts["expired" if mode(folder, "web") == "expired" else "good"]
        client.settimeout(10)
        return chosen.wrap_socket(client, server_side=True, do_handshake_on_connect=False), where

    server.get_request = get_request  # type: ignore[method-assign]
    print("ready", flush=True)
    server.serve_forever()


def page(folder: str, address: str) -> None:
    Page.folder = folder
    server = Quiet((address, 80), Page)
    print("ready", flush=True)
    server.serve_forever()


def context(folder: str, name: str) -> ssl.SSLContext:
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(Path(folder) / f"{name}.pem")
    return found


def clock(folder: str, address: str) -> None:
    """Answer as a stratum 2 server (RFC 5905), `offset SECONDS` off, or `unsynchronised`, or `silent`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 123))
        print("ready", flush=True)
        while True:
            question, asker = server.recvfrom(512)
            wrong = mode(folder, "time").split()
            if len(question) < 48 or wrong == ["silent"]:
                continue
            off_s = float(wrong[1]) if wrong[:1] == ["offset"] else 0.0
            leap, stratum = (3, 16) if wrong == ["unsynchronised"] else (0, 2)
            stamp = struct.pack(">Q", int((time.time() + NTP_EPOCH_S + off_s) * 2**32))
            head = struct.pack(">BBbb", leap << 6 | 4 << 3 | 4, stratum, 6, -20) + struct.pack(">II", 66, 66)
            server.sendto(head + b"\xc0\x00\x02\x01" + stamp + question[40:48] + stamp + stamp, asker)


def snmp(folder: str, name: str, address: str) -> None:
    from tests.lab.snmp_values import replied

    file = Path(folder) / f"{name}.json"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 161))
        print("ready", flush=True)
        while True:
            request, asker = server.recvfrom(4096)
            values = json.loads(file.read_text())
            if values and (reply := replied(request, values)):
                server.sendto(reply, asker)


if __name__ == "__main__":
    threading.stack_size(256 * 1024)
    kinds: dict[str, Callable[..., None]] = {"names": names, "web": web, "page": page, "time": clock, "snmp": snmp}
    kinds[sys.argv[1]](*sys.argv[2:])
