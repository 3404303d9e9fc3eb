"""Names, time and services asked of real servers, in network namespaces: dnsmasq, chronyd, nginx; dead name servers.

probe 10.0.0.2 — server 10.0.0.53, 10.0.0.54
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.rigs import need
from tests.rigs.ask import ask_inside
from tests.rigs.netns import ROOT, Net
from tests.rigs.servers import Certificates

SERVER, SECOND = "10.0.0.53", "10.0.0.54"
READY_S = 30.0
LONG_TEXT = ",".join("x" * 200 for _ in range(20))
DNSMASQ = (
    "--conf-file=/dev/null --keep-in-foreground --log-facility=- --user=root --no-resolv --no-hosts --no-daemon "
    "--bind-interfaces --except-interface=lo --pid-file= --local=/example.org/ "
    "--host-record=epr.example.org,198.51.100.20,2001:db8::20 --cname=www.example.org,epr.example.org "
    "--srv-host=_ldap._tcp.example.org,epr.example.org,389,0,100 --dns-rr=example.org,2,026e7300 "
    f"--txt-record=short.example.org,hello --txt-record=long.example.org,{LONG_TEXT}"
)


@dataclass(frozen=True)
class Place:
    """The two ends of the cable."""

    net: Net
    probe: str
    server: str


@pytest.fixture
def place() -> Iterator[Place]:
    with Net() as net:
        probe, server = net.add("probe"), net.add("server")
        net.wire(probe, "eth0", server, "eth0")
        net.address(probe, "eth0", "10.0.0.2/24")
        net.address(server, "eth0", f"{SERVER}/24", f"{SECOND}/24")
        yield Place(net, probe, server)


def started(place: Place, command: str) -> None:
    """Start a daemon that says its first line on either output."""
    place.net.start(place.server, "sh", "-c", f"exec {command} 2>&1")


def dns(place: Place, query: str, record: str = "A", more: str = "") -> dict[str, Any]:
    return ask_inside(place.probe, f'dns.Dns(name="a", server="{SERVER}", query="{query}", record="{record}"{more})')


def test_dnsmasq_is_asked_for_every_kind_of_record(place: Place) -> None:
    started(place, f"{need.tool('dnsmasq')} {DNSMASQ}")
    found = {
        record: dns(place, query, record)
        for query, record in [
            ("www.example.org", "A"),
            ("epr.example.org", "AAAA"),
            ("198.51.100.20", "PTR"),
            ("_ldap._tcp.example.org", "SRV"),
            ("long.example.org", "TXT"),
            ("example.org", "NS"),
        ]
    }
    assert {record: answer["failure"] for record, answer in found.items()} == dict.fromkeys(found)
    assert found["TXT"].pop("answers") == ("x" * 4000)[:1000], "it does not fit into a datagram: over TCP"
    assert {record: answer.get("answers") for record, answer in found.items()} == {
        "A": "198.51.100.20",
        "AAAA": "2001:db8::20",
        "PTR": "epr.example.org",
        "SRV": "0 100 389 epr.example.org",
        "TXT": None,
        "NS": "ns",
    }
    assert dns(place, "nobody.example.org")["failure"] == "dns_nxdomain"
    assert dns(place, "www.example.net")["failure"] == "dns_refused"
    wrong = dns(place, "epr.example.org", more=', expect=("198.51.100.21",)')
    assert (wrong["failure"], wrong["answers"]) == ("dns_mismatch", "198.51.100.20")


def until_answered(place: Place, check: str) -> dict[str, Any]:
    """Ask until the daemon listens."""
    end = time.monotonic() + READY_S
    while (found := ask_inside(place.probe, check))["failure"] in ("refused", "timeout") and time.monotonic() < end:
        pass
    return found


@pytest.mark.parametrize(("local", "failure"), [("local stratum 3", None), ("", "protocol")])
def test_chronyd_synchronised_and_not(place: Place, tmp_path: Path, local: str, failure: str | None) -> None:
    """-x: it serves time and never touches this machine's clock."""
    chronyd = need.tool("chronyd")
    config = tmp_path / "chrony.conf"
    config.write_text(f"allow\ncmdport 0\nbindcmdaddress /\npidfile {tmp_path}/pid\nuser root\n{local}\n")
    started(place, f"{chronyd} -x -d -f {config}")
    found = until_answered(place, f'ntp.Ntp(name="a", server="{SERVER}")')
    assert found["failure"] == failure, found
    if failure is None:
        assert (found["stratum"], found["leap"]) == (3, 0)
        assert abs(found["offset_s"]) < 0.05 + found["delay_s"], "the same clock at both ends"
    else:
        assert "not synchronised" in found["detail"]


NGINX = """
daemon off; master_process off; pid {here}/pid; error_log stderr; worker_processes 1;
events {{}}
http {{
  access_log off;
  client_body_temp_path {here}/1; proxy_temp_path {here}/2; fastcgi_temp_path {here}/3;
  uwsgi_temp_path {here}/4; scgi_temp_path {here}/5;
  ssl_certificate {here}/cert.pem; ssl_certificate_key {here}/cert.pem; ssl_session_cache off;
  ssl_protocols TLSv1.2 TLSv1.3;
  server {{
    listen 80; listen 443 ssl;
    location /health {{ return 200 "status: up"; }}
    location /away {{ return 302 http://login.hotspot.test/; }}
    location /full {{ return 503; }}
  }}
  server {{ listen 8443 ssl; ssl_protocols TLSv1.2; }}
  server {{ listen 9443 ssl; ssl_verify_client on; ssl_client_certificate {here}/ca.pem; }}
}}
"""


def test_nginx_over_http_and_tls(place: Place, tmp_path: Path) -> None:
    nginx = need.tool("nginx")
    certificates = Certificates(tmp_path)
    ca_file = certificates.ca_file
    certificates.write(tmp_path / "cert.pem", SERVER, "epr.example.org")
    (tmp_path / "nginx.conf").write_text(NGINX.format(here=tmp_path))
    started(place, f"sh -c 'echo starting; exec {nginx} -e stderr -p {tmp_path} -c {tmp_path}/nginx.conf'")
    plain = until_answered(place, f'http.Http(name="a", url="http://{SERVER}/health", expect_text="status: up")')
    assert (plain["failure"], plain["status"], plain["body_bytes"]) == (None, 200, 10)
    for url, failure in {
        f"http://{SERVER}/away": "captive_portal",
        f"https://{SERVER}/away": "http_status",
        f"https://{SERVER}/full": "http_status",
        f"https://{SERVER}/health": None,
    }.items():
        found = ask_inside(place.probe, f'http.Http(name="a", url="{url}", ca_file="{ca_file}")')
        assert found["failure"] == failure, (url, found)
    for port, name, failure, protocol in [
        (443, "epr.example.org", None, "TLSv1.3"),
        (8443, "", None, "TLSv1.2"),
        (9443, "", None, "TLSv1.3"),
        (443, "evil.example.org", "tls_name", None),
        (80, "", "tls_handshake", None),
    ]:
        check = f'tls.Tls(name="a", target="{SERVER}", port={port}, server_name="{name}", ca_file="{ca_file}")'
        found = ask_inside(place.probe, check)
        assert (found["failure"], found.get("protocol")) == (failure, protocol), found


def test_dead_name_servers_stop_nothing_else(place: Place, tmp_path: Path) -> None:
    """Row 17: getaddrinfo hangs for 20 s; probes go on, the last good address is used, DNS is its own cause."""
    started(place, f"{need.tool('dnsmasq')} {DNSMASQ} --host-record=far.example.org,{SECOND}")
    place.net.name_servers(place.probe, SERVER, SECOND)
    place.net.start(place.server, sys.executable, str(ROOT / "tests/rigs/stand_in.py"), "port", SECOND, "104")
    go = tmp_path / "go"
    words = (str(go), SERVER, SECOND, SECOND, "far.example.org", "104")
    program = place.net.start(place.probe, sys.executable, "-m", "tests.rigs.dead_names", *words)
    place.net.nft(place.server, "input", "udp dport 53 drop")
    began = time.monotonic()
    go.touch()
    assert program.stdout is not None
    after = json.loads(program.stdout.readline())
    program.wait(30)
    took_s = time.monotonic() - began
    assert (after["before"]["failure"], after["before"]["address"]) == (None, SECOND), after
    for run in ("by_name", "again"):
        assert (after[run]["failure"], after[run]["address"]) == (None, SECOND), after
    assert after["unknown"]["failure"] == "dns_timeout"
    assert [answer["failure"] for answer in after["dns"]] == ["dns_timeout", "dns_timeout"]
    assert set(after["probes"]) == {None} and len(after["probes"]) >= 20, after["probes"]
    assert after["lag_s"] < 4.0
    assert took_s < 19.0, "the end waited for the C library"


def test_a_connection_to_oneself_is_no_service(place: Place) -> None:
    """A closed port of our own that the kernel gives us as our end too: TCP then connects it with itself."""
    place.net.sysctl(place.probe, "net.ipv4.ip_local_port_range=40000 40001")
    for port in (40000, 40001):
        found = ask_inside(place.probe, f'tcp.Tcp(name="a", target="127.0.0.1", port={port})')
        assert found["failure"] == "refused", found
