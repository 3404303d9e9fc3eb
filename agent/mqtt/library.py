"""Loads paho without dnspython, whose resolver it takes where it is installed, for SRV records; we ask for none.

dnspython is here for the dns check, which loads its messages at the first run. The resolver is 78 modules: 4 MB
in every service.
"""

from __future__ import annotations

import sys

RESOLVER = "dns.resolver"


def load_paho() -> None:
    """Import paho as if the resolver were not installed; where it is loaded already nothing is gained."""
    if RESOLVER in sys.modules:
        return
    sys.modules[RESOLVER] = None  # type: ignore[assignment]  # what makes its import fail (importlib's documentation)
    try:
        import paho.mqtt.client  # noqa: F401
    finally:
        del sys.modules[RESOLVER]


load_paho()
