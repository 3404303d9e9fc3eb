"""The sections of the config file, each option described once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from agent.config.secret import SecretSource
from agent.options import (
    Choice,
    Duration,
    Flag,
    Host,
    Listen,
    ListOf,
    MapOf,
    Nullable,
    Number,
    Raw,
    Secret,
    Section,
    Size,
    Text,
    Url,
    WholeChoice,
    ident,
    option,
)
from agent.policy import Policy

FILE = Text(name="a file path")
COMMANDS = ("replay", "report", "check", "traceroute", "suppress")
DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883, "http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who this probe is: the MQTT topics are made of it."""

    org: str = option(ident(), "The organisation that runs the probes.", example="example-health-board")
    site: str = option(ident(), "The site that the probe stands on.", example="main-hospital")
    node: str = option(
        ident(),
        "This probe, unique in the fleet: MQTT client id and certificate CN; default: the host name.",
        default="",
        example="main-hospital-01",
    )
    title: str = option(Text(longest=120), "Name of the site as shown to people.", default="", example="Main Hospital")
    tags: tuple[tuple[str, str], ...] = option(
        MapOf(ident("a tag"), ident("a tag's value")),
        "What sites share, so that the centre can join look-alike faults.",
        default=(),
        example="{carrier: psba, pop: cardiff}",
    )


@dataclass(frozen=True, kw_only=True)
class Mqtt:
    """Where results are published."""

    url: str = option(
        Url(("mqtts", "mqtt")),
        "The central broker; plain mqtt:// only on loopback unless allow_plaintext.",
        example="mqtts://collector.example.org:8883",
    )
    protocol: str = option(WholeChoice(("5", "3.1.1")), "MQTT version; with 3.1.1 refusals are invisible.", default="5")
    ca_file: str = option(
        FILE, "CA certificates (PEM); default: the system's.", default="", example="/etc/siteprobe/ca.pem"
    )
    cert_file: str = option(FILE, "This probe's certificate (PEM).", default="", example="/etc/siteprobe/node.pem")
    key_file: str = option(FILE, "Its private key (PEM).", default="", example="/etc/siteprobe/node.key")
    username: str = option(Text(), "User name, where the broker asks for one.", default="", example="main-hospital-01")
    password: SecretSource | None = option(
        Secret(), "Password, by reference.", default=None, example="{credential: mqtt-password}"
    )
    keepalive_s: float = option(Duration(5, 600), "MQTT keep-alive.", default=30.0, key="keepalive", example="30s")
    late_rate: float = option(Number(0, 100_000), "Records a second of the backlog; 0 = unlimited.", default=20)
    spread_s: float = option(
        Duration(0, 3600), "Longest first wait of a reconnect.", default=15.0, key="spread", example="15s"
    )
    retry_max_s: float = option(
        Duration(1, 86400), "Longest wait of a reconnect.", default=300.0, key="retry_max", example="300s"
    )
    allow_plaintext: bool = option(Flag(), "true lets mqtt:// leave this machine unencrypted.", default=False)

    @property
    def host(self) -> str:
        """Host name or address of the broker."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """TCP port of the broker."""
        parts = urlsplit(self.url)
        return parts.port or DEFAULT_PORTS[parts.scheme]

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return urlsplit(self.url).scheme == "mqtts"


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """What is kept on disk through an outage."""

    directory: str = option(Text(name="a directory path"), "Where the store lies.", default="/var/lib/siteprobe")
    max_bytes: int = option(
        Size(2**20, 2**40), "Largest size of the store; the oldest goes first.", default=2**28, example="256MiB"
    )
    max_age_s: float = option(
        Duration(60, 3660 * 86400), "Longest time a record is kept.", default=90 * 86400.0, key="max_age", example="90d"
    )
    commit_s: float = option(
        Duration(0.05, 60), "Time between two writes to disk.", default=1.0, key="commit", example="1s"
    )


@dataclass(frozen=True, kw_only=True)
class Status:
    """The local page."""

    listen: tuple[str, int] | None = option(
        Nullable(Listen()), "Address of the local page; null switches it off.", default=None, example='"127.0.0.1:8080"'
    )


@dataclass(frozen=True, kw_only=True)
class Commands:
    """What the centre may ask of this probe over MQTT."""

    enabled: tuple[str, ...] = option(
        ListOf(Choice(COMMANDS)), "Commands that are obeyed; [] subscribes to nothing.", default=("replay", "report")
    )


@dataclass(frozen=True, kw_only=True)
class Traps:
    """SNMP notifications of the devices named in the file."""

    listen: tuple[str, int] | None = option(
        Nullable(Listen()), "Address to listen on; null = not at all.", default=None, example='"0.0.0.0:162"'
    )


@dataclass(frozen=True, kw_only=True)
class File:
    """The whole file, before the short forms are turned into checks."""

    version: str = option(WholeChoice(("1",)), "Version of the config format.", example="1")
    clock: str = option(
        Choice(("auto", "trusted")),
        "auto: the system's own word; trusted: kept right in a way the kernel cannot show (virtual machine).",
        default="auto",
    )
    identity: Identity = option(Section(Identity), "Who this probe is.")
    mqtt: Mqtt = option(Section(Mqtt), "Where results are published.")
    buffer: Buffer = option(Section(Buffer), "What is kept on disk through an outage.", default=Buffer)
    safety: Policy = option(Section(Policy), "What may be asked, and how fast.", default=Policy)
    standard: bool = option(
        Flag(),
        "Add what every site needs: link, own address, gateway, resolvers, system time source, own delivery path.",
        default=True,
    )
    anchors: tuple[tuple[str, tuple[str | None, ...]], ...] = option(
        MapOf(ident("lan, uplink, carrier, internet or the id of a data centre"), ListOf(Host(), single=True)),
        "Short for icmp checks: lan, uplink, carrier, internet, any other id = a data centre's group.",
        default=(),
        example="{internet: [203.0.113.10], dc-a: [198.51.100.10]}",
    )
    services: tuple[str | None, ...] = option(
        ListOf(Url(("https", "http", "tcp"))),
        "Short for http and tcp checks.",
        default=(),
        example='["https://epr.example.org/health", "tcp://198.51.100.20:104"]',
    )
    devices: tuple[tuple[str, str], ...] = option(
        MapOf(ident(), Host()),
        "Short for snmp checks: name and address.",
        default=(),
        example="{core-switch: 10.20.0.2}",
    )
    defaults: Any = option(
        Raw(),
        "Per type: options for whatever a check leaves out.",
        default=None,
        example="{snmp: {user: probe, auth_key: {credential: snmp-auth}}, icmp: {interval: 10s}}",
    )
    checks: Any = option(Raw(), "A check = one question asked again and again.", default=None)
    status: Status = option(Section(Status, off=True), "The local page.", default=Status)
    commands: Commands = option(Section(Commands), "What the centre may ask for.", default=Commands)
    traps: Traps = option(Section(Traps, off=True), "SNMP notifications.", default=Traps)
