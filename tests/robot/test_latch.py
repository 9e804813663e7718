"""Stops, bookings and questions that outlive the program."""

from __future__ import annotations

import json
import threading
import time

import pytest

from robot import confirm
from robot.confirm import Confirmer
from robot.interface import RobotError
from robot.latch import Latch
from robot.ledger import Ledger


def test_a_stop_outlives_the_program_and_needs_a_name(tmp_path):
    latch = Latch(tmp_path)
    assert latch.reason == ""
    latch.stop("cable on fire")
    latch.stop("and smoke")
    assert latch.reason == "cable on fire"  # the first cause
    again = Latch(tmp_path)
    assert (again.reason, again.kind) == ("cable on fire", "unsafe")
    for nobody in ("", "  "):
        with pytest.raises(RobotError, match="operator"):
            again.recover(nobody)
    assert Latch(tmp_path).reason
    again.recover("Ada")
    assert again.reason == "" and Latch(tmp_path).reason == ""
    log = [json.loads(line) for line in (tmp_path / "safety.jsonl").read_text().splitlines()]
    assert [entry["event"] for entry in log] == ["stop", "stop", "recover"]
    assert log[-1]["operator"] == "Ada" and log[-1]["was"] == "cable on fire"


def test_a_session_that_was_not_closed_leaves_a_stop(tmp_path):
    first = Latch(tmp_path)
    first.open("robot0")
    with pytest.raises(RobotError, match="in use by another session"):
        Latch(tmp_path).open("robot0")
    assert first._lock is not None
    first._lock.close()  # which is what the system does when a process dies
    second = Latch(tmp_path)
    second.open("robot0")
    assert "without closing" in second.reason and second.kind == "unclosed"
    second.recover("Ada")
    second.close()
    third = Latch(tmp_path)
    third.open("robot0")
    assert third.reason == ""


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "link"}'])
def test_a_stop_file_nobody_can_read_is_a_stop(tmp_path, text):
    (tmp_path / "stop.json").write_text(text)
    assert Latch(tmp_path).reason and Latch(tmp_path).kind == "unsafe"


def test_the_ledger_adds_up_across_restarts_and_cut_lines(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path, cost_per_hour_usd=90.0)
    assert ledger.totals() == {"collection": 0.0, "evaluation": 0.0}
    ledger.book("collection", 10.0, "a")
    ledger.book("evaluation", 20.0, "b")
    with open(path, "a") as file:
        file.write('{"purpose": "coll')  # a crash in mid-line
    ledger = Ledger(path, cost_per_hour_usd=90.0)
    ledger.book("collection", 6.0, "c")
    for view in (ledger, Ledger(path, cost_per_hour_usd=90.0)):
        assert view.totals() == {"collection": 16.0, "evaluation": 20.0}
        assert view.cost_usd() == pytest.approx(0.9)


def test_a_person_decides_and_silence_means_no(tmp_path):
    def reply(yes: bool) -> None:
        while not confirm.pending(tmp_path):
            time.sleep(0.005)
        assert confirm.pending(tmp_path) == "move?"
        confirm.answer(tmp_path, yes, "Ada")

    asker = Confirmer(tmp_path, timeout_s=10)
    for yes in (True, False):
        person = threading.Thread(target=reply, args=(yes,))
        person.start()
        if yes:
            assert asker.ask("move?") == "Ada"
        else:
            with pytest.raises(RobotError, match="Ada said no"):
                asker.ask("move?")
        person.join()
    with pytest.raises(RobotError, match="nobody answered"):
        Confirmer(tmp_path, timeout_s=0.05).ask("move?")
    with pytest.raises(RobotError, match="no question"):
        confirm.answer(tmp_path, True, "Ada")


def test_many_may_stop_at_once_and_each_is_in_the_log(tmp_path):
    latch = Latch(tmp_path)
    threads = [threading.Thread(target=latch.stop, args=(f"reason {i}",)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert latch.reason in {f"reason {i}" for i in range(16)} and Latch(tmp_path).reason == latch.reason
    assert len((tmp_path / "safety.jsonl").read_text().splitlines()) == 16
