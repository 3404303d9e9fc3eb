"""The signs of a captive portal: somebody between us and the service answers a plain HTTP request in its place.

Only what a page of the service's own does not show counts as a sign. Behind HTTPS nobody can answer in the
service's name, so there are none: a portal that tries shows itself by its certificate (tls_name, tls_untrusted).
"""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

from agent.options import is_address

LOG_IN_FIRST = 511  # Network Authentication Required: made for portals, and for nothing else (RFC 6585, 6)
NO_CONTENT = 204
"""The answer of pages made for finding portals: one that shows a page instead is a portal's."""
REDIRECTS = (301, 302, 303, 307, 308)
ELSEWHERE = re.compile(
    rb"""<meta[^>]{0,200}http-equiv=["']?refresh[^>]{0,200}url\s*=\s*["']?([^"'>\s]{1,500})"""
    rb"""|<form[^>]{0,500}action\s*=\s*["']?([^"'>\s]{1,500})"""
    rb"""|location(?:\.href)?\s*=\s*["']([^"']{1,500})""",
    re.IGNORECASE,
)
"""Where a page sends its reader: at once (refresh, script), or with a log-in (form)."""
ROAMING_MARK = b"WISPAccessGatewayParam"  # the XML that portals hide in their pages for phones (WISPr 1.0)


def redirected_away(url: str, status: int, location: str) -> str:
    """Give the other host that a redirect of a plain HTTP answer leads to; "" where it stays with the service."""
    return _other_host(url, location) if status in REDIRECTS else ""


def sent_away(url: str, page: bytes) -> str:
    """Give the other host that a page sends its reader to, or words for a portal's own mark; "" without a sign."""
    if ROAMING_MARK in page:
        return "a log-in for roaming guests"
    targets = (next(filter(None, match.groups())) for match in ELSEWHERE.finditer(page))
    hosts = (_other_host(url, target.decode(errors="replace")) for target in targets)
    return next(filter(None, hosts), "")


def _other_host(url: str, target: str) -> str:
    """Give the host of a link if it is a stranger to the host of the URL."""
    own = (urlsplit(url).hostname or "").rstrip(".")
    try:
        parts = urlsplit(urljoin(url, target.strip()))
        other = (parts.hostname or "").rstrip(".")
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not other.isascii() or not other.isprintable():
        return ""
    return "" if _related(own, other) else other[:100]


def _related(own: str, other: str) -> bool:
    """Tell whether two hosts may be one owner's: the same, one within the other, or side by side in one domain."""
    if own == other or is_address(own) or is_address(other):
        return own == other
    domain = own.partition(".")[2]
    side_by_side = "." in domain and other.endswith(f".{domain}")
    return side_by_side or other.endswith(f".{own}") or own.endswith(f".{other}")
