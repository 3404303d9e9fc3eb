"""The short forms (`anchors`, `services`, `devices`, `standard`) written out as checks.

They become YAML nodes that claim the place of the short form, and are read like written checks: so
defaults, rules and messages are the same for both.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from yaml import MappingNode, ScalarNode

from agent.config.nodes import Node, mapping, scalar
from agent.config.sections import DEFAULT_PORTS, File
from agent.model import Layer
from agent.options import is_address
from agent.policy import forbidden_address

ANCHOR_LAYERS = (Layer.LAN, Layer.UPLINK, Layer.CARRIER, Layer.INTERNET)
NAME_LENGTH = 40


@dataclass(frozen=True, slots=True)
class Made:
    """A check made by a short form: where it was written, its name, and the map that it stands for."""

    path: str
    name: str
    node: Node


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the machine itself knows and the short forms need: its name, its name servers and its time servers."""

    host_name: str
    name_servers: tuple[str, ...] = ()
    time_sources: tuple[str, ...] = ()


def made_checks(file: File, places: dict[str, Node], around: Surroundings, types: Collection[str]) -> Iterator[Made]:
    """Write out every short form of the file whose check type exists."""
    yield from _anchors(file, places)
    yield from _services(file, places)
    if "snmp" in types:
        for name, host in file.devices:
            path = f"devices.{name}"
            yield _made(path, places[path], name=name, type="snmp", target=host)
    if file.standard:
        root = places.get("standard") or places[""]
        for words in standard_checks(file, around):
            if words["type"] in types:
                yield _made("standard", root, **words)


def _made(path: str, like: Node, **words: str) -> Made:
    return Made(path, words["name"], mapping([(key, scalar(value, like)) for key, value in words.items()], like))


def _anchors(file: File, places: dict[str, Node]) -> Iterator[Made]:
    for key, hosts in file.anchors:
        for number, host in enumerate(hosts or (), 1):
            if host is None:
                continue  # wrong, and already said so
            path = f"anchors.{key}[{number - 1}]"
            like = places.get(path) or places[f"anchors.{key}"]
            words = {"name": f"{key[: NAME_LENGTH - 4].rstrip('-')}-{number}", "type": "icmp", "target": host}
            if key in ANCHOR_LAYERS:
                words["layer"] = key
            else:
                words |= {"layer": str(Layer.DATACENTRE), "group": key}
            if key == Layer.LAN:
                words["ttl"] = "1"  # a LAN peer's echo must not leave the subnet (field.md 3.2)
            yield _made(path, like, **words)


def _services(file: File, places: dict[str, Node]) -> Iterator[Made]:
    taken: set[str] = set()
    for index, url in enumerate(file.services):
        if url is None:
            continue
        path = f"services[{index}]"
        parts = urlsplit(url)
        name = service_name(url, taken)
        taken.add(name)
        if parts.scheme == "tcp":
            words = {"type": "tcp", "target": parts.hostname or "", "port": str(parts.port or "")}
        else:
            words = {"type": "http", "url": url}
        like = places.get(path) or places["services"]  # an item of a list that is too long has no place of its own
        yield _made(path, like, name=name, **{k: v for k, v in words.items() if v})


def service_name(url: str, taken: Collection[str]) -> str:
    """Write host and port of a URL as an id, such as `epr-example-org`; numbered where taken."""
    parts = urlsplit(url)
    text = parts.hostname or ""
    if parts.port and parts.port != DEFAULT_PORTS.get(parts.scheme):
        text += f"-{parts.port}"
    stem = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:NAME_LENGTH].rstrip("-")
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem[: NAME_LENGTH - 1 - len(str(number))].rstrip('-')}-{number}"
    return name


def standard_checks(file: File, around: Surroundings) -> Iterator[dict[str, str]]:
    """Name what every site needs, whether its type is built yet or not."""
    yield {"name": "link", "type": "link"}
    yield {"name": "own-address", "type": "arp", "target": "self", "layer": str(Layer.ADDRESS)}
    yield {"name": "gateway", "type": "icmp", "target": "gateway", "layer": str(Layer.GATEWAY)}
    for number in range(1, len(around.name_servers[:3]) + 1):
        server = "resolver" if number == 1 else f"resolver-{number}"
        yield {"name": f"resolver-{number}", "type": "dns", "server": server} | needed_name(file)
    yield from _time(file, around)
    yield {"name": "delivery", "type": "mqtt"}


def needed_name(file: File) -> dict[str, str]:
    """Choose what a resolver is asked: a name that this probe itself needs, else the root's servers."""
    urls = [file.mqtt.url, *(url for url in file.services if url)]
    names = [host for host in (urlsplit(url).hostname or "" for url in urls) if host and not is_address(host)]
    names = [name for name in names if name != "localhost"]
    return {"query": names[0]} if names else {"query": ".", "record": "NS"}


def _time(file: File, around: Surroundings) -> Iterator[dict[str, str]]:
    """Ask the first time source that may be asked, every 5 minutes (field.md 2.2), unless `defaults` says otherwise."""
    allowed = (s for s in around.time_sources if not (is_address(s) and forbidden_address(file.safety, s)))
    source = next(allowed, None)
    if source is not None:
        pace = {} if "interval" in _keys(_keys(file.defaults).get("ntp")) else {"interval": "5m"}
        yield {"name": "time", "type": "ntp", "server": source} | pace


def _keys(node: Node | None) -> dict[str, Node]:
    """Give the entries of a map as written; {} for anything else, which is refused elsewhere."""
    pairs = node.value if isinstance(node, MappingNode) else ()
    return {key.value: item for key, item in pairs if isinstance(key, ScalarNode)}
