"""Files of hidden values: a subset is enough, and nothing wrong gets through."""

from __future__ import annotations

import math

import pytest

from robot.interface import RobotError
from robot.twin.hidden import Hidden, load
from robot.twin.process import TwinProcess, check_hidden


def test_the_shipped_file_is_the_default_reality():
    assert load(None) == Hidden()
    assert load(None).angle_quantum_rad == 2 * math.pi / 2048


def test_a_file_overrides_what_it_names(tmp_path):
    path = tmp_path / "other.yaml"
    path.write_text("gravity_m_s2: 9\ngain: 1.1\n")
    assert load(path) == Hidden(gravity_m_s2=9.0, gain=1.1)
    path.write_text("")
    assert load(path) == Hidden()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gravitation: 3\n", ["unknown key 'gravitation'", "gravity_m_s2"]),
        ("gain: high\n", ["gain", "'high'", "number"]),
        ("gain: true\n", ["gain", "True", "number"]),
        ("gain: '1.0'\n", ["gain", "'1.0'", "number"]),
        ("cart_mass_kg: 0\n", ["cart_mass_kg", "0", "greater than 0"]),
        ("lag_ms: -1\n", ["lag_ms", "-1", "greater than or equal to 0"]),
        ("gain: .nan\n", ["gain", "nan"]),
        ("- 1\n", ["list", "mapping"]),
        ("a: [\n", ["not YAML"]),
    ],
)
def test_a_wrong_file_is_refused_with_a_sentence(tmp_path, text, words):
    path = tmp_path / "other.yaml"
    path.write_text(text)
    with pytest.raises(RobotError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    assert all(word in message for word in words), message


def test_a_missing_or_unreadable_file_is_named(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(RobotError, match="cannot be read"):
            check_hidden(path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RobotError, match="not text"):
        check_hidden(tmp_path / "binary.yaml")


def test_the_twin_says_the_same_sentence_and_leaves_nothing_behind(tmp_path):
    twin = TwinProcess(hidden=tmp_path / "none.yaml", directory=tmp_path / "twin")
    with pytest.raises(RobotError, match=r"none\.yaml cannot be read"):
        twin.start()
    assert not twin.alive() and not (tmp_path / "twin").exists()
