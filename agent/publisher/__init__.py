"""Delivers records and retained cards over MQTT: lanes, window, answers, back-off. `agent.mqtt` is its wire."""

from agent.publisher.core import Publisher
from agent.publisher.wire import (
    Acked,
    Card,
    Closed,
    Delivery,
    Event,
    Limits,
    Message,
    NotConnected,
    Papers,
    Received,
    Subscribed,
    Wire,
    WireFactory,
)

__all__ = [
    "Acked",
    "Card",
    "Closed",
    "Delivery",
    "Event",
    "Limits",
    "Message",
    "NotConnected",
    "Papers",
    "Publisher",
    "Received",
    "Subscribed",
    "Wire",
    "WireFactory",
]
