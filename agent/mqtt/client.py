"""paho's client, tamed: it connects where it is told, once, and only reports.

The private methods overridden here are those of paho 2.2 (pinned below 3 in pyproject.toml; the tests against
the scripted broker notice a change): connecting to an address while TLS checks the name, refusing giant
packets, reason codes that the standard does not know, and a thread whose end is always told.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.config.sections import Mqtt
from agent.model import Failure
from agent.mqtt import tls
from agent.mqtt.sockets import CONNECT_S, connected
from agent.net.errors import failed_from_os_error
from agent.publisher import Acked, Closed, Event, Limits, Message, NotConnected, Received, Subscribed

LARGEST_INCOMING_BYTES = 64 * 1024
"""Announced as our Maximum Packet Size, and enforced: paho would buffer 256 MB."""
LONGEST_PING_S = 25
"""Between pings, whatever keep-alive was agreed: paho notices after two of them, and 60 s are allowed (rule 6)."""

NOT_NOW = frozenset({0x80, 0x88, 0x89, 0x97, 0x9C, 0x9D, 0x9F})
"""CONNACK codes that pass by themselves: unspecified, unavailable, busy, quota, other server, rate."""
NO_RETAIN, NO_QOS_1 = 0x9A, 0x9B
TAKEN_OVER, KEEP_ALIVE = 0x8E, 0x8D
SERVER_ENDS = frozenset({0x89, 0x8B, 0x8D, 0x97, 0x9C, 0x9D, 0x9F, 0xA0})
SERVER_REFUSES = frozenset({0x87, 0x98})
"""DISCONNECT codes of the broker (MQTT 5.0, 3.14.2.1), by what they mean for the next attempt."""


class PahoClient(paho.Client):
    """paho's client with its thread supervised and its choices taken away."""

    def __init__(
        self,
        mqtt: Mqtt,
        client_id: str,
        address: str,
        will: Message,
        judge_dates: bool,
        tell: Callable[[Event | Limits | NotConnected], None],
    ) -> None:
        """Prepare one connection; `tell` is called from paho's thread."""
        five = mqtt.protocol == "5"
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if five else True,
            protocol=paho.MQTTv5 if five else paho.MQTTv311,
            reconnect_on_failure=False,
        )
        self._settings, self._address, self._judge_dates, self._tell = mqtt, address, judge_dates, tell
        self._unwanted = False
        self._context: ssl.SSLContext | None = None
        self._handshaking: ssl.SSLSocket | None = None
        self._failure: NotConnected | None = None
        self._closed: Closed | None = None
        self._filters: tuple[str, ...] = ()
        self._last_error: OSError | None = None
        self._puback_code = 0
        self.connect_timeout = CONNECT_S
        self.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        self.on_connect = self._connected
        self.on_disconnect = self._disconnected
        self.on_publish = self._acknowledged
        self.on_message = self._received
        self.on_subscribe = self._granted
        self.connect_async(
            mqtt.host,
            mqtt.port,
            round(mqtt.keepalive_s),
            clean_start=True if five else paho.MQTT_CLEAN_START_FIRST_ONLY,
            properties=_announced() if five else None,
        )

    def ask_for(self, filters: Sequence[str]) -> MQTTErrorCode:
        """Subscribe; retained messages come too, and with MQTT 5 every message keeps its retain flag."""
        self._filters = tuple(filters)
        if self._settings.protocol != "5":
            return self.subscribe([(topic, 1) for topic in filters])[0]
        options = SubscribeOptions(qos=1, retainAsPublished=True)
        return self.subscribe([(topic, options) for topic in filters])[0]

    def drop(self) -> None:
        """End the TCP connection under the thread's feet; safe from any thread, at any time."""
        self._unwanted = True
        sock = self.socket() or self._handshaking
        if isinstance(sock, socket.socket):
            with contextlib.suppress(OSError):
                # Not SSLSocket.shutdown, which takes the TLS state away from a thread that is reading.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def release(self) -> None:
        """Give back the descriptors; the thread has ended."""
        self._reset_sockets()

    def _thread_main(self) -> None:
        """Connect and serve until the end, whatever it is; it is always told, exactly once."""
        try:
            self._prepare()
            self.reconnect()
            if not self._unwanted:
                self.loop_forever()
        except NotConnected as failure:
            self._failure = failure
        except (OSError, ValueError) as error:
            self._failure = self._not_connected(error)
        finally:
            self._thread = None
            closed = self._closed or Closed(self._lost_sentence())
            self._tell(self._failure or NotConnected(self._unanswered(closed), self._lost_kind()))
            self._tell(closed)

    def _prepare(self) -> None:
        """Read secrets and certificates now: they may have changed, and their disk may be slow."""
        mqtt = self._settings
        try:
            if mqtt.username or mqtt.password:
                self.username_pw_set(mqtt.username or None, mqtt.password.reveal() if mqtt.password else None)
        except UnicodeEncodeError:  # it quotes a part of the secret
            raise NotConnected("mqtt.username or mqtt.password is not UTF-8 text", "certificate") from None
        except ValueError as error:
            raise NotConnected(f"mqtt.password: {error}", "certificate") from None
        if mqtt.tls:
            self._context = tls.make_context(mqtt, self._judge_dates)
            self.tls_set_context(self._context)

    def _create_socket_connection(self) -> socket.socket:
        """Connect to the judged address, whatever name TLS will check."""
        return connected(self._address, self._port)

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        """Shake hands, the configured name checked; paho would leave the socket of a failed handshake open."""
        assert self._context is not None, "TLS only after _prepare"
        sock = self._context.wrap_socket(tcp_sock, server_hostname=self._host, do_handshake_on_connect=False)
        self._handshaking = sock
        try:
            sock.do_handshake()
        except OSError:
            sock.close()
            raise
        return sock

    def _sock_recv(self, bufsize: int) -> bytes:
        """Read; paho asks for all that is left of a packet, and would buffer it before anyone could look."""
        if bufsize > LARGEST_INCOMING_BYTES:
            self._closed = Closed("the broker sent a packet larger than it was told it may", "protocol")
            raise ConnectionAbortedError
        try:
            return super()._sock_recv(bufsize)
        except BlockingIOError:
            raise
        except OSError as error:
            self._last_error = error
            raise

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        """Keep the reason code as sent: paho ends the connection over one that the standard does not list."""
        packet = self._in_packet["packet"]
        self._puback_code = packet[2] if len(packet) > 2 else 0
        if self._puback_code >= 0x80:
            packet[2] = 0x80
        return super()._handle_pubackcomp(cmd)

    def _connected(
        self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.value == NO_QOS_1 or getattr(properties, "MaximumQoS", 2) == 0:
            self._failure = NotConnected("the broker takes QoS 0 only and siteprobe needs QoS 1", "refused")
            self.disconnect()
        elif reason.is_failure:
            kind = "busy" if reason.value in NOT_NOW else "retain" if reason.value == NO_RETAIN else "refused"
            self._failure = NotConnected(f"the broker refused the connection: {str(reason).lower()}", kind)
        else:
            # The server's keep-alive, already taken over by paho, may be none at all (0) or hours.
            self._keepalive = min(self._keepalive or LONGEST_PING_S, LONGEST_PING_S)
            self._tell(_limits(properties))

    def _disconnected(self, _client: Any, _data: Any, flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if self._closed is not None:
            return
        if flags.is_disconnect_packet_from_server:
            kinds = {TAKEN_OVER: "taken_over"} | dict.fromkeys(SERVER_ENDS, "server")
            kind = (kinds | dict.fromkeys(SERVER_REFUSES, "refused")).get(reason.value, "protocol")
            self._closed = Closed(f"the broker ended the connection: {str(reason).lower()}", kind)
        elif reason.value == KEEP_ALIVE:
            self._closed = Closed("the broker did not answer a ping within the keep-alive", "stalled")

    def _granted(self, _client: Any, _data: Any, _mid: int, reasons: Sequence[ReasonCode], _properties: Any) -> None:
        refused = [topic for topic, reason in zip(self._filters, reasons, strict=False) if reason.is_failure]
        words = f"the broker refused our subscription to {', '.join(refused)}: no command comes from there"
        self._tell(Subscribed(words if refused else ""))

    def _acknowledged(self, _client: Any, _data: Any, mid: int, _reason: Any, _properties: Any) -> None:
        self._tell(Acked(mid, self._puback_code))

    def _received(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        try:
            self._tell(Received(Message(message.topic, bytes(message.payload), message.retain)))
        except UnicodeDecodeError:
            self._closed = Closed("the broker sent a topic that is not UTF-8", "protocol")
            self.drop()

    def _not_connected(self, error: OSError | ValueError) -> NotConnected:
        mqtt, where = self._settings, f"{self._settings.host} ({self._address}) port {self._settings.port}"
        if isinstance(error, ssl.SSLError):
            return NotConnected(tls.sentence(error, mqtt), "tls")
        if isinstance(error, TimeoutError):
            return NotConnected(f"{where} does not answer (waited {CONNECT_S:g} s)")
        if isinstance(error, ConnectionRefusedError):
            return NotConnected(f"nobody listens at {where}; is the broker running?", failure=Failure.REFUSED)
        known = isinstance(error, OSError) and error.errno is not None
        words = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        failure = failed_from_os_error(error).failure if isinstance(error, OSError) and known else None
        return NotConnected(f"no connection to {where}: {words}", failure=failure)

    def _lost_sentence(self) -> str:
        if isinstance(self._last_error, ssl.SSLError):
            return tls.sentence(self._last_error, self._settings)
        words = os.strerror(self._last_error.errno) if self._last_error and self._last_error.errno else ""
        return f"the connection was lost: {words.lower()}" if words else "the broker closed the connection"

    def _lost_kind(self) -> str:
        return "tls" if isinstance(self._last_error, ssl.SSLError) else "network"

    def _unanswered(self, closed: Closed) -> str:
        if self._lost_kind() == "tls":
            return closed.reason
        if self._settings.tls:
            # A broker that dislikes a certificate says so only after the handshake of TLS 1.3, or just hangs up.
            return f"{closed.reason} before it accepted us; it may want a certificate it knows: see mqtt.cert_file"
        other = "3.1.1" if self._settings.protocol == "5" else "5"
        return f"{closed.reason} before it accepted us; if it always does, try mqtt.protocol: {other}"


def _announced() -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it untyped
    properties.MaximumPacketSize = LARGEST_INCOMING_BYTES
    return properties


def _limits(properties: Properties | None) -> Limits:
    """Read what the broker allows from its CONNACK (MQTT 5.0, 3.2.2.3)."""
    none = Limits()
    return Limits(
        receive_maximum=getattr(properties, "ReceiveMaximum", none.receive_maximum),
        packet_bytes=getattr(properties, "MaximumPacketSize", none.packet_bytes),
        retain=bool(getattr(properties, "RetainAvailable", none.retain)),
    )
