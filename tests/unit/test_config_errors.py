"""One bad file per rule (tests/unit/bad_config): its last lines say what must be printed, place and all."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import checks
from agent.config import ConfigError, Surroundings, load

FOLDER = Path(__file__).parent / "bad_config"
TYPES = checks.load()
NOWHERE = Surroundings("localhost")
EXPECT = "# expect: "


def errors(path: Path) -> list[str]:
    """Read a file and give its errors without the file name."""
    with pytest.raises(ConfigError) as refused:
        load(path, TYPES, NOWHERE)
    return [sentence.removeprefix(f"{path}:").strip() for sentence in refused.value.sentences()]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_bad_file_is_refused_with_every_error_and_its_place(path: Path) -> None:
    wanted = [line.removeprefix(EXPECT) for line in path.read_text().splitlines() if line.startswith(EXPECT)]
    assert wanted, "the fixture must say what it expects"
    assert errors(path) == wanted


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"version: 1\n\x00", "a character that YAML forbids"),
        (b"a: " + b"[" * 5000, "not YAML|nested too deeply"),
        (b"#" * (1024 * 1024 + 1), "larger than 1 MiB"),
    ],
)
def test_a_file_that_is_no_config_at_all(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        load(path, TYPES, NOWHERE)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"version: 1\n# caf\xe9\n", "2:6: is not UTF-8"),
        (b"\xef\xbb\xbfversion: \xff\n", "1:10: is not UTF-8"),
        ("version: 1\r\n# é\r\na: é\x01\r\n".encode(), "3:5: has a character that YAML forbids"),
        (b"\xef\xbb\xbfversoin: 1\r\n", "1:1: versoin: unknown key"),
    ],
)
def test_the_place_is_that_of_the_character(tmp_path: Path, content: bytes, place: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    assert any(error.startswith(place) for error in errors(path))


def test_a_device_without_an_end_is_read_no_further_than_a_config_is_long() -> None:
    assert errors(Path("/dev/zero")) == ["is larger than 1 MiB; this cannot be a config of siteprobe"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert errors(tmp_path / "none.yaml") == ["cannot be read: No such file or directory"]


def test_more_services_than_any_machine_can_ask(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    urls = ", ".join(f'"tcp://192.0.2.1:{port}"' for port in range(20_000, 31_000))
    head = "version: 1\nidentity: {org: o, site: s, node: n}\nmqtt: {url: mqtts://c.example.org}\nstandard: false\n"
    path.write_text(f"{head}services: [{urls}]\n")
    assert "5:11: services: expected 0 to 10000 items, not 11000" in errors(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"clock: {'x' * 900_000}\n", "expected one of auto, trusted"),
        (f"clock: {'a:' * 400_000}@h\n", "expected one of auto, trusted, not `…@h`"),
        (
            f"anchors: {{a: &l [{'a, ' * 3000}b], " + ", ".join(f"k{i}: *l" for i in range(100)) + "}\n",
            "more than 5000 checks",
        ),
        (
            "x:\n - &a0 [1]\n" + "".join(f" - &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)),
            "aliases that stand for more than",
        ),
    ],
)
def test_a_monstrous_file_is_refused_in_no_time(tmp_path: Path, text: str, reason: str) -> None:
    path, began = tmp_path / "x.yaml", time.monotonic()
    path.write_text(
        f"version: 1\nidentity: {{org: o, site: s, node: n}}\nmqtt: {{url: mqtts://c}}\nstandard: false\n{text}"
    )
    assert reason in " ".join(errors(path))
    assert time.monotonic() - began < 30.0


@given(st.text(max_size=200))
def test_any_text_is_refused_with_sentences_and_never_a_traceback(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(ConfigError) as refused:
            load(path, TYPES, NOWHERE)
        assert refused.value.sentences()
