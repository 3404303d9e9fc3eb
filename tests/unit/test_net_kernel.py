"""What the kernel knows of our own connection, read out of recorded netlink dumps and files."""

from __future__ import annotations

import base64
import errno
import struct
import zlib
from pathlib import Path

import pytest

from agent.net import kernel, netlink
from agent.net.netlink import LinkAddress, Route


def recorded(text: str) -> bytes:
    """Give the bytes of a dump: taken on Linux 6.18 (little endian), zlib, base 85."""
    return zlib.decompress(base64.b85decode(text))


# A namespace with lo, eth0 (veth, 02:00:00:00:00:01) and down0 (a bridge, off); see the tests for the rest.
LINKS = recorded(
    "c-rlkyKWOf6o&tq^{y{5$;Ma&Oo$Um0wEDB5K)*A3<(cFM-d4GHWw+xfG`vYX-kR}JV1&(0yUzdqM)FlprCMxD5xmtmbsiY%h<8wU;{xulKr"
    "3EJu^F(GvCa<wgDF$48XG)@rRft{RFhdVPUl*ulL}y1=uQD>acolV+lGwCjObw)9QW#XGjl{j**@x%~QE!2m+}yRK7rZfwV|^4&Q^g&;^RWM"
    "D>iTdTdNkeMjj2Nm5U#gJsgo)b687Q>qlm=XL)bM)1E_Nz7ueEsa?*rh5F6VwBe^mHX27tQ^+G{pXQ!hMLh|e~74Qti`it=8CD6x!SCrO`Z}"
    "tp=-;E7Ry}96&%!V=`!D_4@D|rwlfg6IizEy?-!EruQ15hUFC8uHTLiNm#y0>>oD8Rj5edi`1oJXwtTKE7QRcr&y1UA7N*g+PHaKs_)b?<wn"
    "<5wh&zeFw&i13^kcZ_*BaQ(RQ4{pjMkxr@}oPR=HO3$I|jc&{QhJ^@q3y0tvS0jzj>GV%?*BY;x{9Hvo`$Zl>Cz4L7-QZ<adYwC*(UN{v6+Z"
    "{I;kcvJbszf0W-YG9q^v9*gABb2LSBr6bac?+>cwYPl<X@6@)#cfnyl<ol@L`^(ivzRP@X#dpQm-{d=M((b>>_i)&1MvT>F%pF5NvVUuhm}}"
    "j%T8Hg!#dqfq@qH!U$amRK?uO@83#H1FH4oc6pLfdlPS59ByMI1^RlK)2_Oy}j{qy<G_`bn17!c!n<Kf-X?J}^=xOnbHVuvGsCgSg{`;xIbp"
    "E%yCYYXq=I?ueS-YfKciq+!F`Ha(blIj|ex5-b{eMek{=M|j?gQP>04_Pq(4V62gG#|;M1Wr->KFYfh(*1P*0O@gx&#9iPb>K=JrSr!jT1T^"
    "_bE=-SSSO`=yYqNa4*hX#+zkB*eDFg5aD6XHi`<`2hdh`hog$s?$+uH4_SWdPliXWZuJ!lUzU{7Wr>r_NME6$U2d~%2TL"
)
ADDRESSES = recorded(
    "c-oE7F%H5o3_#JJAgZLS9T+;WvN1C;GUgIU9Do%m>dAT;j?or73bbmegr&%`9lyZ=sIVBx&m-7<lnR`5N`rM$Y4&WmJ?<yc%n{RG!I0y1F3="
    "a|-eKbT?0L+;-gV}cmo|BobUJO0;eYL`-O6z3G;5Asa~c_jg%i7v)5otd^kAk=Ek>Ok{kCN%7tlQ<kDkUGnLtTd"
)
ROUTES = recorded(
    "c-pO!u};G<5QcwWFmWOzDuhtS4qcEsp^glU4CF0%1lCF&cr0G6cJCZ2C+=AU$v5O;Ip6*F-(?SA4T9l(cm}@#Llcj1xW^E)MQ_kK+{F8Lh4B"
    "-{bKauE3gg``-)3j`v7nB_EnYZ3;Q>AT5!0}8Klb#xu-0eNHy3uVvZpKdhmzh-*K2d;yHR>u^S6}OH_{X5Rx%ZRZ3=8BOe@(G*_AdEW{2yUX"
    "u5$sUD%L%rX@WGIyDL#ma&R%^f~wYm9hPs%xdoUk&ol_QplcQ(r&l7!(U;!68@o?{ke5D3;+7gh_=nOO%=_f>;<#ED6^&L6P0`xG$;OokNzr"
    "Zx~OS$&47CQlxH*1lsE&nUR1~"
)


def test_links() -> None:
    lo, eth0, down0 = netlink.links(LINKS)
    assert (lo.name, lo.index, lo.loopback, lo.admin_up, lo.ethernet) == ("lo", 1, True, False, False)
    assert (eth0.name, eth0.kind, eth0.loopback, eth0.ethernet) == ("eth0", "veth", False, True)
    assert (eth0.admin_up, eth0.carrier, eth0.mac, eth0.mtu) == (True, True, "02:00:00:00:00:01", 1500)
    assert (eth0.rx_errors, eth0.tx_errors) == (0, 0)
    assert (down0.name, down0.kind, down0.admin_up) == ("down0", "bridge", False)


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(kind: int, body: bytes, flags: int = 0) -> bytes:
    return netlink.HEADER.pack(16 + len(body), kind, flags, 1, 0) + body


def test_link_errors_are_the_fifth_and_sixth_counter() -> None:
    statistics = struct.pack("=24Q", *range(100, 124))
    body = netlink.LINK.pack(0, 1, 7, 0, 0) + attribute(netlink.IFLA_STATS64, statistics)
    (link,) = netlink.links(message(netlink.RTM_NEWLINK, body))
    assert (link.index, link.rx_errors, link.tx_errors, link.carrier, link.mac) == (7, 104, 105, False, "")
    assert (link.rx_dropped, link.tx_dropped, link.carrier_changes) == (106, 107, 0)


def test_addresses() -> None:
    # fd01::9 was still under duplicate address detection; 10.9.0.1 has a peer, which is not ours.
    assert set(netlink.addresses(ADDRESSES)) == {
        LinkAddress(2, "10.1.0.2", 24, True),
        LinkAddress(2, "10.9.0.1", 32, True),
        LinkAddress(2, "fd01::2", 64, True),
        LinkAddress(2, "fd01::9", 64, False),
        LinkAddress(2, "fe80::ff:fe00:1", 64, True),
    }


def test_default_routes_are_those_of_the_main_table_best_first() -> None:
    # Beside these: one in table 77, one `unreachable`, one to 10.77.0.0/16.
    assert netlink.default_routes(ROUTES) == (
        Route(2, "10.1.0.7", 2, 0),
        Route(2, "10.1.0.8", 2, 0),
        Route(2, "fe80::5", 2, 50),
        Route(2, "10.1.0.1", 2, 100),
        Route(2, "", 2, 700),
        Route(10, "fe80::1", 2, 300),
    )


@pytest.mark.parametrize("dump", [LINKS, ADDRESSES, ROUTES])
def test_dumps_cut_anywhere_give_less_and_never_fail(dump: bytes) -> None:
    whole = len(list(netlink.messages(dump)))
    for length in range(0, len(dump), 7):
        cut = dump[:length]
        assert len(list(netlink.messages(cut))) <= whole
        assert len(netlink.links(cut)) <= 3
        assert len(netlink.addresses(cut)) <= 5
        assert len(netlink.default_routes(cut)) <= 6


def test_attributes_of_senseless_length_end_the_reading() -> None:
    assert netlink.attributes(struct.pack("=HH", 2, 1) + b"abcd") == {}
    assert netlink.attributes(attribute(3, b"ab") + struct.pack("=HH", 200, 4)) == {3: b"ab"}


def test_a_refusal_of_the_kernel_is_an_os_error() -> None:
    with pytest.raises(OSError, match="netlink") as caught:
        netlink.dump(9999, b"")
    assert caught.value.errno == errno.EOPNOTSUPP


def test_this_machine_has_a_loopback() -> None:
    lo = next(interface for interface in kernel.interfaces() if interface.loopback)
    assert lo.name == "lo" and "127.0.0.1/8" in lo.addresses and lo.usable == ()
    assert "127.0.0.1" in kernel.own_addresses()


def test_default_gateways_name_their_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netlink, "dump", lambda request, fixed: ROUTES)
    monkeypatch.setattr("socket.if_indextoname", lambda index: f"net{index}")
    found = kernel.default_gateways()
    assert [(g.gateway, g.interface, g.metric) for g in found[:2]] == [("10.1.0.7", "net2", 0), ("10.1.0.8", "net2", 0)]
    assert found[2].gateway == "fe80::5%net2"
    assert found[-1].gateway == "fe80::1%net2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nameserver 10.0.0.53\nnameserver fd00::53\n", ("10.0.0.53", "fd00::53")),
        ("# nameserver 1.2.3.4\nsearch example.org\noptions timeout:1\n nameserver\t10.0.0.1 # x\n", ("10.0.0.1",)),
        ("nameserver nonsense\nnameserver\nnameserver 10.0.0.1\nnameserver 10.0.0.1\n", ("10.0.0.1",)),
        ("", ()),
    ],
)
def test_name_servers_of_a_file(text: str, expected: tuple[str, ...]) -> None:
    assert kernel.parse_name_servers(text) == expected


def test_the_stub_of_systemd_stands_for_the_servers_behind_it(tmp_path: Path) -> None:
    etc, systemd = tmp_path / "resolv.conf", tmp_path / "systemd"
    assert kernel.name_servers(etc, systemd) == ()
    etc.write_text("nameserver 127.0.0.53\n")
    assert kernel.name_servers(etc, systemd) == ("127.0.0.53",)
    systemd.write_text("nameserver 10.0.0.53\n")
    assert kernel.name_servers(etc, systemd) == ("10.0.0.53",)
    etc.write_text("nameserver 10.0.0.1\n")
    assert kernel.name_servers(etc, systemd) == ("10.0.0.1",)


def test_speed_and_duplex() -> None:
    assert [kernel.parse_speed(text) for text in ("1000\n", "10\n", "-1\n", "", "0")] == [
        10**9,
        10**7,
        None,
        None,
        None,
    ]
    assert [kernel.parse_duplex(text) for text in ("full\n", "half\n", "unknown\n", "")] == ["full", "half", "", ""]


# /proc/net/wireless written after published output of Raspberry Pis (brcmfmac); then one that is not connected, one
# whose driver has a scale of its own, and one cut short. No machine of ours has Wi-Fi to record it from.
WIRELESS = """\
Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE
 face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22
 wlan0: 0000   54.  -56.  -256        0      0      0      0    102        0
 wlan1: 0000   0    -256  -256        0      0      0      0      0        0
  odd0: 0000   70    186     0        0      0      0      0      0        0
 short: 0000
"""


def test_the_signal_of_wireless_interfaces() -> None:
    assert kernel.parse_signals(WIRELESS) == {"wlan0": -56.0}
    assert kernel.parse_signals("") == {}
