"""docs/asyncapi.yaml: the topics as an AsyncAPI 3.0 document, its payloads in docs/schema/."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from agent import __version__, wording
from agent.describe.schemas import all_schemas
from agent.describe.words import MADE_BY
from agent.wording.topics import PARAMETERS, QOS

PLAIN_KEY = re.compile("[A-Za-z_$][A-Za-z0-9_$-]*")
MQTT_BINDING = "0.2.0"


def asyncapi() -> str:
    """Write the document as YAML."""
    return f"# {MADE_BY}\n" + "\n".join(_yaml(document(), "")) + "\n"


def document() -> dict[str, Any]:
    """Build the document: a channel for each topic, an operation for each channel."""
    schemas = all_schemas()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "siteprobe",
            "version": __version__,
            "description": "What a siteprobe agent publishes and obeys over MQTT, seen from the agent.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "collector": {"host": "collector.example.org:8883", "protocol": "secure-mqtt", "protocolVersion": "5"}
        },
        "channels": {name: _channel(name, topic, schemas) for name, topic in wording.TOPICS.items()},
        "operations": {name: _operation(name, topic) for name, topic in wording.TOPICS.items()},
        "components": {"messages": {camel(name): _message(name, schemas[name]) for name in schemas}},
    }


def camel(name: str) -> str:
    """Write a schema's name as a key of the document: record-snmp_port becomes recordSnmpPort."""
    first, *others = re.split("[-_]", name)
    return first + "".join(word.capitalize() for word in others)


def carried(name: str, topic: wording.Topic, schemas: dict[str, Any]) -> list[str]:
    """List the schemas of the messages that a topic may carry."""
    return [schema for schema in schemas if schema == topic.message or schema.startswith(f"{topic.message}-")]


def _channel(name: str, topic: wording.Topic, schemas: dict[str, Any]) -> dict[str, Any]:
    used = re.findall(r"{(\w+)}", topic.address)
    keys = [camel(schema) for schema in carried(name, topic, schemas)]
    return {
        "address": topic.address,
        "description": topic.sentence,
        "parameters": {parameter: {"description": PARAMETERS[parameter]} for parameter in used},
        "messages": {key: {"$ref": f"#/components/messages/{key}"} for key in keys},
    }


def _operation(name: str, topic: wording.Topic) -> dict[str, Any]:
    return {
        "action": "send" if topic.from_agent else "receive",
        "channel": {"$ref": f"#/channels/{name}"},
        "bindings": {"mqtt": {"qos": QOS, "retain": topic.retained, "bindingVersion": MQTT_BINDING}},
    }


def _message(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "title": schema["title"],
        "contentType": "application/json",
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-07",
            "schema": {"$ref": f"schema/{name}.json"},
        },
    }


def _yaml(value: Any, indent: str) -> Iterator[str]:
    """Write nested maps as YAML; everything else as JSON, which is YAML too."""
    for key, item in value.items():
        written = key if PLAIN_KEY.fullmatch(key) else json.dumps(key)
        if isinstance(item, dict) and item:
            yield f"{indent}{written}:"
            yield from _yaml(item, indent + "  ")
        else:
            yield f"{indent}{written}: {json.dumps(item, ensure_ascii=False)}"
