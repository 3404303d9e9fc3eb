"""MQTT as a wire for the publisher: the only place that knows paho."""

from agent.mqtt import library as library  # first: it decides what paho brings along
from agent.mqtt.files import readable_by_others
from agent.mqtt.wire import wire_factory

__all__ = ["readable_by_others", "wire_factory"]
