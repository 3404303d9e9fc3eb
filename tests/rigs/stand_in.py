"""Small servers that stand in for a site's, for network namespaces; the standard library alone, so they start fast.

stand_in.py names ADDRESS NAME=ADDRESS…   a name server over UDP: A for these names, NS for the root, else NXDOMAIN
stand_in.py page ADDRESS PORT             a web server that answers each GET with one line
stand_in.py port ADDRESS PORT             accepts TCP connections and closes them
stand_in.py broker ADDRESS PORT           an MQTT 5 broker that takes clients in, answers pings and takes messages

Each prints one line once it is ready.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

A, NS, NXDOMAIN = 1, 2, 3  # RFC 1035, 3.2.2 and 4.1.1


def names(address: str, *entries: str) -> None:
    known = dict(entry.split("=") for entry in entries)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        print("ready", flush=True)
        while True:
            query, asker = server.recvfrom(512)
            server.sendto(answer(query, known), asker)


def answer(query: bytes, known: dict[str, str]) -> bytes:
    """Answer one query (RFC 1035, 4.1); a name that exists has no records but its A."""
    end = query.index(0, 12) + 5
    question, kind = query[12:end], int.from_bytes(query[end - 4 : end - 2])
    name = labels(question)
    data = b""
    if kind == A and name in known:
        data = socket.inet_aton(known[name])
    elif kind == NS and not name:
        data = b"\x02ns\x00"
    rcode = 0 if name in known or not name else NXDOMAIN
    head = query[:2] + struct.pack(">HHHHH", 0x8180 | rcode, 1, bool(data), 0, 0)
    record = b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(data)) + data if data else b""
    return head + question + record


def labels(question: bytes) -> str:
    """Read the name of a question, without its last dot, in lower case."""
    found, at = [], 0
    while question[at]:
        found.append(question[at + 1 : at + 1 + question[at]].decode().lower())
        at += 1 + question[at]
    return ".".join(found)


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"all is well\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing: nobody reads it."""


def page(address: str, port: str) -> None:
    server = ThreadingHTTPServer((address, int(port)), Page)
    print("ready", flush=True)
    server.serve_forever()


def port(address: str, number: str) -> None:
    with socket.create_server((address, int(number))) as server:
        print("ready", flush=True)
        while True:
            server.accept()[0].close()


class Broker(StreamRequestHandler):
    def handle(self) -> None:
        """Read packet after packet (MQTT 5.0, 2.1) until the client leaves."""
        while head := self.rfile.read(1):
            count = shift = 0
            while True:
                digit = self.rfile.read(1)[0]
                count |= (digit & 127) << shift
                shift += 7
                if digit < 128:
                    break
            self.answer(head[0], self.rfile.read(count))

    def answer(self, head: int, body: bytes) -> None:
        if head >> 4 == 1:
            self.wfile.write(b"\x20\x03\x00\x00\x00")
        elif head >> 4 == 12:
            self.wfile.write(b"\xd0\x00")
        elif head >> 4 == 3 and head & 6:
            at = 2 + int.from_bytes(body[:2])
            self.wfile.write(b"\x40\x02" + body[at : at + 2])
        elif head >> 4 == 8:
            self.wfile.write(b"\x90\x04" + body[:2] + b"\x00\x01")


def broker(address: str, port: str) -> None:
    ThreadingTCPServer.allow_reuse_address = True
    with ThreadingTCPServer((address, int(port)), Broker) as server:
        server.daemon_threads = True
        print("ready", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    servers: dict[str, Callable[..., None]] = {"names": names, "page": page, "port": port, "broker": broker}
    servers[sys.argv[1]](*sys.argv[2:])
