"""Which interface is our own way into the network: the one whose cable, DHCP server and switch are meant."""

from __future__ import annotations

from agent.model import Failed, Failure
from agent.net import kernel
from agent.net.errors import failed_from_os_error
from agent.net.kernel import Interface


def own_port(name: str = "") -> Interface:
    """Give the Ethernet interface of that name, else that of the default route, else the first one that is up.

    Raises `Failed`: local_link where there is none, it is down, or it is no Ethernet.
    """
    try:
        found, gateways = kernel.interfaces(), kernel.default_gateways()
    except OSError as error:
        raise failed_from_os_error(error) from error
    wanted = name or next((gateway.interface for gateway in gateways), "")
    fits = [i for i in found if (i.name == wanted if wanted else i.ethernet and not i.loopback and i.carrier)]
    if not fits:
        what = f"there is no interface {wanted}" if wanted else "there is no Ethernet interface with a carrier"
        raise Failed(Failure.LOCAL_LINK, f"{what}; look at `ip link`")
    port = fits[0]
    if not (port.admin_up and port.carrier):
        raise Failed(Failure.LOCAL_LINK, f"{port.name} is down; look at the cable, the switch port and `ip link`")
    if not port.ethernet or port.loopback:
        raise Failed(Failure.LOCAL_LINK, f"{port.name} is no Ethernet interface; name one with `interface`")
    return port
