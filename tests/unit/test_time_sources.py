"""Where this machine's clock takes its time from, read from files of every daemon."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.net.time_sources import time_sources

DEBIAN = "[Time]\n#NTP=\n#FallbackNTP=0.debian.pool.ntp.org 1.debian.pool.ntp.org\n#RootDistanceMaxSec=5\n"
TIMESYNCD = "etc/systemd/timesyncd.conf"
CHRONY = "etc/chrony/chrony.conf"


def machine(tmp_path: Path, files: dict[str, str], running: str = "", enabled: str = "") -> tuple[str, ...]:
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    if running:
        (tmp_path / running).mkdir(parents=True)
    if enabled:
        link = tmp_path / "etc/systemd/system" / enabled
        link.parent.mkdir(parents=True)
        link.symlink_to("/usr/lib/systemd/system/of-another-root.service")
    return time_sources(tmp_path)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({TIMESYNCD: DEBIAN}, ("0.debian.pool.ntp.org", "1.debian.pool.ntp.org")),
        ({"usr/lib/systemd/timesyncd.conf": DEBIAN}, ("0.debian.pool.ntp.org", "1.debian.pool.ntp.org")),
        ({TIMESYNCD: DEBIAN + "NTP=10.20.0.5 ntp.example.org\n"}, ("10.20.0.5", "ntp.example.org")),
        ({TIMESYNCD: DEBIAN + "FallbackNTP=ntp.example.org\n"}, ("ntp.example.org",)),
        ({TIMESYNCD: DEBIAN + "FallbackNTP=\n"}, ()),
        (
            {TIMESYNCD: DEBIAN + "NTP=a\n", f"{TIMESYNCD}.d/10.conf": "[Time]\nNTP=b\n"},
            ("a", "b"),
        ),
        (
            {TIMESYNCD: DEBIAN + "NTP=a\n", f"{TIMESYNCD}.d/10.conf": "[Time]\nNTP=\nNTP=b\n"},
            ("b",),
        ),
        (
            {TIMESYNCD: DEBIAN, "run/systemd/timesyncd.conf.d/01-dhclient.conf": "[Time]\nNTP=10.20.0.7\n"},
            ("10.20.0.7",),
        ),
        (
            {"run/systemd/timesyncd.conf.d/x.conf": "[Time]\nNTP=r\n", f"{TIMESYNCD}.d/x.conf": "[Time]\nNTP=e\n"},
            ("e",),
        ),
        (
            {TIMESYNCD: "[Time]\nNTP=ntp.example.org\n", "run/systemd/netif/links/2": "ADMIN_STATE=up\nNTP=10.1.1.1\n"},
            ("10.1.1.1", "ntp.example.org"),
        ),
        ({}, ()),
    ],
)
def test_timesyncd(tmp_path: Path, files: dict[str, str], found: tuple[str, ...]) -> None:
    assert machine(tmp_path, files, running="run/systemd/timesync") == found


def test_chrony_with_what_it_includes(tmp_path: Path) -> None:
    files = {
        CHRONY: "# pool old.example.org\nconfdir /etc/chrony/conf.d\npool 2.debian.pool.ntp.org iburst\n"
        "sourcedir /run/chrony-dhcp\nserver 10.20.0.5 prefer # ours\nmakestep 1 3\ninclude /etc/chrony/more/*.c\n",
        "etc/chrony/conf.d/site.conf": "Server ntp.example.org\n",
        "etc/chrony/conf.d/site.off": "server off.example.org\n",
        "run/chrony-dhcp/eth0.sources": "server 10.20.0.9 iburst\n",
        "etc/chrony/more/b.c": "peer 10.20.0.11\nserver 10.20.0.5\n",
    }
    found = ("ntp.example.org", "2.debian.pool.ntp.org", "10.20.0.9", "10.20.0.5", "10.20.0.11")
    assert machine(tmp_path, files, running="run/chrony") == found


def test_ntpd_without_its_clocks_on_a_cable(tmp_path: Path) -> None:
    text = "driftfile /var/lib/ntp\nserver 127.127.20.0 mode 17\nserver -4 ntp.example.org iburst\nrestrict default\n"
    assert machine(tmp_path, {"etc/ntp.conf": text}, running="run/ntpsec") == ("ntp.example.org",)


def test_the_daemon_that_runs_counts_then_the_one_to_be_started(tmp_path: Path) -> None:
    files = {CHRONY: "server c.example.org\n", TIMESYNCD: "[Time]\nNTP=t.example.org\n"}
    assert machine(tmp_path, files) == ()
    enabled = "multi-user.target.wants/chrony.service"
    assert machine(tmp_path, {}, enabled=enabled) == ("c.example.org",)
    assert machine(tmp_path, {}, running="run/systemd/timesync") == ("t.example.org",)


def test_files_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    files = {
        CHRONY: "include /etc/chrony/chrony.conf\nserver\nserver -6\npool http://x/ a\ninclude\nserver \x00\n"
        "confdir /nowhere /etc/chrony/chrony.conf\nserver good.example.org\ninclude /etc/[\n" + "#" * 200_000,
        TIMESYNCD: "NTP=" + "a" * 300 + "\n",
    }
    assert machine(tmp_path, files, running="run/chrony") == ("good.example.org",)
    (tmp_path / CHRONY).write_bytes(bytes(range(256)) * 9)
    assert machine(tmp_path, {}, running="run/systemd/timesync") == ()
    (tmp_path / CHRONY).unlink()
    (tmp_path / CHRONY).mkdir()
    assert time_sources(tmp_path) == ()


def test_a_folder_that_may_not_be_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(path)

    monkeypatch.setattr(Path, "exists", refuse)
    assert machine(tmp_path, {CHRONY: "server a\n"}) == ()
