"""The packet child: DHCP, the switch at our own port, and the passive listener, in a process of their own.

scapy is large (some 40 MB) and under the GPL, so the service never imports it: a child process that is
started on demand does, and ends when it is idle. The two talk in lines of JSON over pipes (`lines`).
There are two at the most: one that listens (no scapy, 25 MB), and one for DHCP that is gone a minute later.
`child` and `questions` are the service's side; `inside` is the child's, which holds the sockets.

The child sends nothing by itself: its one sending question, a DHCP DISCOVER, takes the `Permit` of the gate.
"""

from agent.packets.child import PacketChild, codec_child
from agent.packets.questions import Neighbour, Offer, Offers, discover, listened, neighbours

__all__ = ["Neighbour", "Offer", "Offers", "PacketChild", "codec_child", "discover", "listened", "neighbours"]
