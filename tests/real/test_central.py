"""What config/central/ gives to a central team does what it says: the broker's rights."""

from __future__ import annotations

import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import trustme
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.rigs.agent import RunningAgent, config_text
from tests.rigs.mosquitto import Mosquitto

CENTRAL = Path(__file__).parents[2] / "config" / "central"
A, B = "siteprobe/v1/o/site-a/node-a", "siteprobe/v1/o/site-b/node-b"
NOT_AUTHORISED = 0x87
WAIT_S = 10.0


def acl(*arguments: str) -> str:
    command = [sys.executable, "-m", "agent", "acl", "mosquitto", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def settings(folder: Path) -> list[str]:
    """Give the lines of the example with the paths of this test, but for the listener."""
    text = (CENTRAL / "mosquitto.conf").read_text()
    assert "listener 8883\n" in text
    text = text.replace("listener 8883\n", "").replace("/etc/mosquitto/certs/", f"{folder}/")
    text = text.replace("/etc/mosquitto/", f"{folder}/").replace("/var/lib/mosquitto/", f"{folder}/")
    assert "/etc" not in text
    assert "/var" not in text
    return text.splitlines()


class Central(Mosquitto):
    """The example's broker, its CA, and clients with certificates of it."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.folder = folder
        self._ca.cert_pem.write_to_path(str(folder / "ca.pem"))
        broker = self._ca.issue_cert("localhost", "127.0.0.1")
        broker.private_key_pem.write_to_path(str(folder / "broker.key"))
        broker.cert_chain_pems[0].write_to_path(str(folder / "broker.pem"))
        rights = [acl("--org", "o", "--site", f"site-{x}", "--node", f"node-{x}") for x in "ab"]
        rights += [acl("--org", "o", "--reader", "collector"), acl("--org", "o", "--reader", "desk", "--commands")]
        (folder / "siteprobe.acl").write_text("\n".join(rights))
        super().__init__(folder, settings(folder))
        # The rig's own settings would open the broker again.
        lines = self._config.read_text().splitlines()
        kept = [line for line in lines if line not in ("allow_anonymous true", "persistence false")]
        self._config.write_text("\n".join(kept) + "\n")

    def certificate(self, name: str, ca: trustme.CA | None = None) -> tuple[str, str]:
        """Issue a certificate with this CN; gives its file and the key's."""
        issued = (ca or self._ca).issue_cert(f"{name}.example.org", common_name=name)
        files = (str(self.folder / f"{name}.pem"), str(self.folder / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(files[0])
        issued.private_key_pem.write_to_path(files[1])
        return files


class Client:
    """An MQTT 5 client that waits for each answer and gives it."""

    def __init__(self, broker: Central, name: str, files: tuple[str, str] | None, client_id: str = "") -> None:
        context = ssl.create_default_context(cafile=str(broker.folder / "ca.pem"))
        if files:
            context.load_cert_chain(*files)
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id or name, protocol=paho.MQTTv5)
        self._client.tls_set_context(context)
        self.messages: list[str] = []
        self._answers: dict[str, Any] = {}
        self._answered = threading.Condition()
        self.over = threading.Event()
        self._client.on_connect = lambda *found: self._note("connect", found[3])
        self._client.on_publish = lambda _c, _d, mid, code, _p: self._note(f"publish {mid}", code)
        self._client.on_subscribe = lambda _c, _d, mid, codes, _p: self._note(f"subscribe {mid}", codes[0])
        self._client.on_message = lambda _c, _d, message: self.messages.append(message.topic)
        self._client.on_disconnect = lambda *_: self._end()
        self._client.connect("localhost", broker.port)
        self._client.loop_start()
        try:
            assert self._answer("connect").value == 0
        except AssertionError:
            self.close()
            raise

    def _end(self) -> None:
        self.over.set()
        with self._answered:
            self._answered.notify_all()

    def _note(self, what: str, code: Any) -> None:
        with self._answered:
            self._answers[what] = code
            self._answered.notify_all()

    def _answer(self, what: str) -> Any:
        with self._answered:
            self._answered.wait_for(lambda: what in self._answers or self.over.is_set(), WAIT_S)
            assert what in self._answers, f"no answer to {what}"
            return self._answers[what]

    def publish(self, topic: str) -> int:
        """Publish, and give the PUBACK's reason."""
        code: int = self._answer(f"publish {self._client.publish(topic, b'x', qos=1).mid}").value
        return code

    def subscribe(self, topic: str) -> int:
        """Subscribe, and give the SUBACK's reason."""
        _, mid = self._client.subscribe(topic, options=SubscribeOptions(qos=1))
        code: int = self._answer(f"subscribe {mid}").value
        return code

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Central]:
    with Central(tmp_path_factory.mktemp("central")) as started:
        yield started


@pytest.fixture
def clients(broker: Central) -> Iterator[dict[str, Client]]:
    names = ("node-a", "node-b", "collector", "desk", "stranger")
    made = {name: Client(broker, name, broker.certificate(name)) for name in names}
    yield made
    for client in made.values():
        client.close()


@pytest.mark.parametrize(
    ("name", "topic", "allowed"),
    [
        ("node-a", f"{A}/status", True),
        ("node-a", f"{A}/live/icmp/gateway", True),
        ("node-a", f"{A}/late/icmp", True),
        ("node-a", f"{B}/status", False),
        ("node-a", f"{B}/command/replay", False),
        ("node-a", "siteprobe/v1/o/site-b/node-a/status", False),
        ("node-a", "siteprobe/v1/other/site-a/node-a/status", False),
        ("node-a", "siteprobe/v1/o/fleet/pace", False),
        ("collector", f"{A}/command/replay", False),
        ("collector", f"{A}/status", False),
        ("desk", f"{A}/command/replay", True),
        ("desk", "siteprobe/v1/o/fleet/pace", True),
        ("desk", f"{A}/status", False),
        ("stranger", f"{A}/status", False),
    ],
)
def test_who_may_write_where(clients: dict[str, Client], name: str, topic: str, allowed: bool) -> None:
    code = clients[name].publish(topic)
    assert code != NOT_AUTHORISED if allowed else code == NOT_AUTHORISED


def test_who_may_read_what(clients: dict[str, Client]) -> None:
    for client in clients.values():
        client.subscribe("siteprobe/v1/#" if client is not clients["collector"] else "siteprobe/v1/o/+/#")
    clients["node-a"].publish(f"{A}/live/icmp/gateway")
    clients["desk"].publish(f"{A}/command/replay")
    clients["desk"].publish("siteprobe/v1/o/fleet/pace")
    wait_for(lambda: len(clients["collector"].messages) == 3)
    assert sorted(clients["node-a"].messages) == ["siteprobe/v1/o/fleet/pace", f"{A}/command/replay"]
    assert clients["node-b"].messages == ["siteprobe/v1/o/fleet/pace"]
    assert clients["stranger"].messages == []


def wait_for(condition: Any) -> None:
    """Wait until it holds, and a moment for what should not come."""
    pause = threading.Event()
    for _ in range(200):
        if condition():
            break
        pause.wait(0.05)
    assert condition()
    pause.wait(0.2)


def test_nobody_without_a_certificate_of_this_ca_gets_in(broker: Central) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        Client(broker, "node-a", None)
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        Client(broker, "node-a", broker.certificate("node-a", trustme.CA()))


def test_a_node_cannot_throw_another_one_out_by_its_client_id(broker: Central, clients: dict[str, Client]) -> None:
    thief = Client(broker, "collector-2", broker.certificate("collector-2"), client_id="node-a")
    assert not clients["node-a"].over.wait(0.5)
    assert clients["node-a"].publish(f"{A}/status") != NOT_AUTHORISED
    thief.close()


def test_the_agent_delivers_through_it(broker: Central) -> None:
    collector = Client(broker, "collector", broker.certificate("collector"))
    collector.subscribe("siteprobe/v1/o/+/#")
    cert, key = broker.certificate("node-a")
    tls = f', ca_file: "{broker.folder / "ca.pem"}", cert_file: "{cert}", key_file: "{key}"'
    check = "{name: echo, type: tcp, target: 127.0.0.1, port: 9, interval: 1s}"
    text = config_text(broker.folder, broker.port, [check], site="site-a", node="node-a", mqtt=tls)
    text = text.replace("mqtt://127.0.0.1", "mqtts://localhost")
    with RunningAgent(broker.folder, text) as agent:
        wait_for(lambda: f"{A}/live/tcp/echo" in collector.messages)
        agent.stop()
    assert {f"{A}/status", f"{A}/about", f"{A}/heartbeat", f"{A}/verdict"} <= set(collector.messages)
    collector.close()


def test_the_acl_refuses_wildcards_and_half_a_name() -> None:
    for arguments in (("--org", "#", "--reader", "c"), ("--org", "o", "--site", "+", "--node", "n"), ("--org", "o")):
        done = subprocess.run(
            [sys.executable, "-m", "agent", "acl", "mosquitto", *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 2
        assert "Error:" in done.stderr
