"""A plain subscriber on this machine, for `siteprobe demo`: hands on every message as it was published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

OnMessage = Callable[[str, bool, bytes], None]


class Listener:
    """Subscribes to everything of siteprobe on one broker; messages come on a thread of its own."""

    def __init__(self, address: str, port: int, protocol: str, topic: str, on_message: OnMessage) -> None:
        """Prepare; `on_message(topic, retain, payload)` is called for each message."""
        five = protocol == "5"
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, "siteprobe-demo-reader", protocol=paho.MQTTv5 if five else paho.MQTTv311
        )
        self._address, self._port, self._topic, self._five = address, port, topic, five
        self._client.on_connect = self._subscribe
        self._client.on_message = lambda _c, _d, m: on_message(m.topic, m.retain, bytes(m.payload))

    def start(self) -> None:
        """Connect and subscribe; raises OSError if nobody listens."""
        self._client.connect(self._address, self._port)
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnect and end the thread."""
        self._client.disconnect()
        self._client.loop_stop()

    def _subscribe(self, client: paho.Client, *_: Any) -> None:
        if self._five:
            client.subscribe(self._topic, options=SubscribeOptions(qos=1, retainAsPublished=True))
        else:
            client.subscribe(self._topic, qos=1)
