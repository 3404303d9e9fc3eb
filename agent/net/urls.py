"""The parts of a URL as HTTP wants them on the wire (RFC 3986 and 9112)."""

from __future__ import annotations

from urllib.parse import SplitResult, quote

PORTS = {"http": 80, "https": 443}
KEPT_IN_URL = "/?:@!$&'()*+,;=%-._~[]"
"""Characters of a path and query that are sent as written (RFC 3986); others are percent-encoded."""


def host_and_port(url: SplitResult) -> tuple[str, int]:
    """Give the host (IPv6 without brackets) and the port, written or usual, of a URL."""
    return url.hostname or "", url.port or PORTS[url.scheme]


def authority(url: SplitResult, always_port: bool = False) -> str:
    """Write the host and port of a URL for a Host header, or with `always_port` for CONNECT."""
    host, port = host_and_port(url)
    shown = f"[{host.partition('%')[0]}]" if ":" in host else host
    return f"{shown}:{port}" if always_port or port != PORTS[url.scheme] else shown


def request_target(url: SplitResult, from_proxy: bool) -> str:
    """Write what to ask for: path and query; the whole URL where a proxy is asked (RFC 9112 3.2)."""
    query = "?" + quote(url.query, KEPT_IN_URL) if url.query else ""
    path = quote(url.path or "/", KEPT_IN_URL) + query
    return f"http://{authority(url)}{path}" if from_proxy and url.scheme == "http" else path
