"""The `tls` check, whether a service proves who it is, and for how long yet: RFC 8446, 5280 and 9525."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import ClassVar

from agent.check import TARGET_WORDS, Traffic
from agent.checks import Check, Context
from agent.model import Fact, Facts, Failed, Scalar
from agent.net.streams import TlsContexts, connect
from agent.options import Host, Number, Text, option


@dataclass(frozen=True, kw_only=True)
class Tls(Check):
    """Opens one TLS connection to a port and closes it: whose certificate it is, and how long it is valid yet.

    For everything that speaks TLS from the first byte: LDAPS, MQTT, DICOM over TLS, databases. A web page
    is better asked by `http`. Nothing is sent but the handshake, so no log-in can leak to a wrong server.

    It passes when TLS 1.2 or later comes about, the chain leads to a certificate that this machine (or
    `ca_file`) trusts, the name fits, and today lies within the dates. Warn of the end in time with
    `degraded: {certificate_left_s: 2592000}` (30 days).

    The ways to fail tell faults apart. `tls_expired` and `tls_not_yet_valid`: a certificate of the chain,
    not always the server's own (not judged while this machine's own clock is unset). `tls_untrusted`: a
    chain that ends nowhere we trust: a private CA (give `ca_file`), a missing intermediate certificate, or
    somebody in between. `tls_name`: a certificate for another name, such as after a wrong DNS answer.
    `tls_handshake`: TLS did not come about: something else answers there, the server closed, or it knows
    only old versions; `detail` says what it was. Before that `refused timeout unreachable prohibited reset`
    and `dns_…` as for `tcp`; a `timeout` with `connect_s` is a server that accepted and then said nothing,
    or said it too slowly.

    A server that wants a certificate of ours may still pass: with TLS 1.3 it says so only afterwards.
    """

    type: ClassVar[str] = "tls"
    main_field: ClassVar[str] = "handshake_s"
    facts: ClassVar[Mapping[str, Fact]] = {
        "connect_s": Fact(float, "Seconds that the TCP connection took."),
        "handshake_s": Fact(float, "Seconds that the TLS handshake took."),
        "certificate_left_s": Fact(float, "Seconds until the certificate ends; left out while our clock is unset."),
        "protocol": Fact(str, "TLS version agreed on, such as TLSv1.3."),
        "cipher": Fact(str, "Cipher suite agreed on, by OpenSSL's name."),
    }
    sample: ClassVar[Mapping[str, Scalar]] = {
        "connect_s": 0.0117,
        "handshake_s": 0.0263,
        "certificate_left_s": 6825600.5,
        "protocol": "TLSv1.3",
        "cipher": "TLS_AES_256_GCM_SHA384",
    }

    target: str = option(Host(TARGET_WORDS), "Host to connect to.", example="ldap.example.org")
    port: int = option(Number(1, 65535, whole=True), "TCP port to connect to.", example="636")
    server_name: str = option(
        Host(), "Name that the certificate must prove; without it `target`.", default="", example="ldap.example.org"
    )
    ca_file: str = option(
        Text(), "CA certificates (PEM) in place of the system's.", default="", example="/etc/siteprobe/ca.pem"
    )

    def sends(self) -> tuple[Traffic, ...]:
        """Declare the one connection."""
        return (Traffic(self.target, "tcp", self.port, 1),)

    async def run(self, ctx: Context) -> Facts:
        """Connect, shake hands, close; see the class for the failures."""
        context = ctx.tools.get(TlsContexts).get(self.ca_file, ctx.judge_certificate_dates)
        address = await ctx.resolve(self.target)
        fields: dict[str, Scalar] = {}
        try:
            permit = await ctx.permit(address, self.port, "tcp")
            async with aclosing(await connect(permit, ctx.deadline)) as stream:
                fields["connect_s"] = stream.connect_s
                ctx.say(f"connected to {address} port {self.port} in {stream.connect_s:.4f} s")
                tls = await stream.start_tls(context, self._name(address), ctx.deadline)
        except Failed as failed:
            return Facts({**fields, **failed.fields}, address, failed.failure, failed.detail)
        ctx.say(f"{tls.protocol} with {tls.cipher} in {tls.handshake_s:.4f} s")
        fields |= {
            "handshake_s": tls.handshake_s,
            "certificate_left_s": tls.certificate_left_s,
            "protocol": tls.protocol,
            "cipher": tls.cipher,
        }
        return Facts(fields, address)

    def _name(self, address: str) -> str:
        """Give the name to be proven: for `gateway` and `resolver` it is their address."""
        return self.server_name or (address if self.target in TARGET_WORDS else self.target)
