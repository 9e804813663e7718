"""The operator's page: it does what the console does, and for nobody but its own page."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robot import confirm
from robot.interface import RobotError
from robot.latch import Latch
from robot.page import PAGE, OperatorPage
from tests.robot.test_operator import evaluate, events


@pytest.fixture
def page(tmp_path) -> Iterator[OperatorPage]:
    page = OperatorPage(tmp_path, "Ada")
    thread = threading.Thread(target=page.serve)
    thread.start()
    yield page
    page.close()
    thread.join()


def ask(page: OperatorPage, method: str, path: str | None = None, body: str | None = None, **headers: str):
    """(status, headers, content); without a path that of the page."""
    where = urlsplit(page.url)
    base = {"Host": where.netloc}
    if method == "POST":
        base |= {"Origin": f"http://{where.netloc}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", where.port or 0, timeout=20)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    wanted = {name: value for name, value in {**base, **given}.items() if value}
    connection.putrequest(method, path or where.path, skip_host=True)
    for name, value in wanted.items():
        connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body.encode())))
    connection.endheaders(body.encode() if body is not None else None)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), content


def act(page: OperatorPage, do: str, headers: dict[str, str] | None = None, **more: str) -> tuple[int, str]:
    path = urlsplit(page.url).path + "do"
    code, _, content = ask(page, "POST", path, json.dumps({"do": do, **more}), **(headers or {}))
    return code, json.loads(content)["said"] if content else ""


def state(page: OperatorPage) -> dict:
    code, _, content = ask(page, "GET", urlsplit(page.url).path + "state")
    assert code == 200
    return json.loads(content)


def test_only_the_page_itself_is_answered(page, tmp_path):
    token = urlsplit(page.url).path.strip("/")
    assert len(token) >= 43
    for path in (
        "/",
        "/state",
        f"/{token[:-1]}/state",
        f"/{'x' * len(token)}/state",
        f"/{token}/../state",
        f"/{token}x/",
    ):
        assert ask(page, "GET", path)[0] == 404, path
    for host in ("evil.example", "127.0.0.1", f"evil.example:{urlsplit(page.url).port}", ""):
        assert ask(page, "GET", Host=host)[0] == 404, host
        assert act(page, "hold", {"Host": host})[0] == 404, host
    for origin in ("https://evil.example", "null", f"https://{urlsplit(page.url).netloc}", "http://127.0.0.1:1", ""):
        assert act(page, "hold", {"Origin": origin})[0] == 404, origin
    assert ask(page, "POST", f"/{'x' * len(token)}/do", '{"do": "hold"}')[0] == 404
    assert ask(page, "GET", f"/{token}/do")[0] == 404  # nothing is done by a link
    assert Latch(tmp_path).reason == ""


def test_what_is_no_action_is_a_sentence(page, tmp_path):
    where = urlsplit(page.url).path + "do"
    for body in ("", "{", "[]", '{"do": "dance"}', '{"do": "confirm", "number": "x"}', '{"do": "confirm"}'):
        code, _, content = ask(page, "POST", where, body)
        assert code == 400 and json.loads(content)["said"], body
    assert ask(page, "POST", where, '{"do": "hold"}', Content_Type="text/plain")[0] == 400
    assert ask(page, "POST", where, "{" + " " * 5000)[0] == 400
    assert Latch(tmp_path).reason == ""


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner)
    )
)
def test_whatever_is_posted_it_goes_on_answering(page, said):
    code, _, content = ask(page, "POST", urlsplit(page.url).path + "do", json.dumps(said))
    assert code == 400 and "said" in json.loads(content)


def test_hold_latches_live_or_not_and_recover_asks_for_a_name(session, page, balancer):
    assert state(page)["state"] == "ok"
    code, said = act(page, "hold")
    assert code == 200 and "motors are off" in said
    assert session.status().reason == "Ada held the robot" and state(page)["state"] == "stopped"
    assert act(page, "recover", operator=" ")[0] == 400 and session.status().state == "stopped"
    assert act(page, "recover", operator="Bob") == (200, "recovered; it was stopped because Ada held the robot")
    assert [line["event"] for line in state(page)["log"]] == ["stop", "recover"]
    evaluate(session, balancer)
    seen = state(page)
    assert seen["last"]["steps"] > 0 and seen["ledger"]["evaluation_s"] > 0


def test_a_robot_that_is_not_live_is_held_by_its_latch(page, tmp_path):
    assert state(page)["state"] == "not live"
    assert act(page, "hold")[0] == 200 and Latch(tmp_path).reason == "Ada held the robot"
    assert state(page)["state"] == "stopped"


def test_confirm_lets_that_action_through_and_no_other(session, page, balancer):
    results = []
    thread = threading.Thread(target=lambda: results.append(evaluate(session, balancer, mode="confirm_each")))
    thread.start()

    def question() -> dict:
        end = time.monotonic() + 20
        while not (asked := state(page)["waiting"]):
            assert time.monotonic() < end
        return asked

    first = question()
    assert "slider" in first["question"] and 0 < first["left_s"] <= 120
    assert act(page, "confirm", number=first["number"] + "1")[0] == 400
    assert events(session, "goal") == []
    assert act(page, "confirm", number=first["number"]) == (200, "yes")
    while (second := question())["number"] == first["number"]:
        pass
    assert len(events(session, "goal")) == 1
    assert act(page, "confirm", number=first["number"])[0] == 400  # pressed twice, or too late
    assert act(page, "refuse", number=second["number"]) == (200, "no")
    thread.join()
    assert "Ada said no" in results[0].meta.stop and len(events(session, "goal")) == 1
    assert confirm.pending(session.state_dir) == ""


def test_the_page_loads_nothing_from_elsewhere_and_runs_only_its_own_script(page):
    code, headers, content = ask(page, "GET")
    html = content.decode()
    assert code == 200 and html == PAGE.read_text()
    assert not re.search(r"https?:|//[a-z]|\bsrc=|\bhref=|@import|innerHTML|\son[a-z]+=\"", html)
    rules = headers["Content-Security-Policy"]
    assert "default-src 'none'" in rules and rules.count("'sha256-") == 2 and "unsafe" not in rules
    assert headers["Referrer-Policy"] == "no-referrer" and headers["Cache-Control"] == "no-store"
    used = set(re.findall(r'at\("(\w+)"\)', html))
    assert used == set(re.findall(r'id="(\w+)"', html))


def test_a_port_in_use_and_no_name_are_refused(page, tmp_path):
    with pytest.raises(RobotError, match="cannot be used"):
        OperatorPage(tmp_path, "Ada", urlsplit(page.url).port or 0)
    with pytest.raises(RobotError, match="operator"):
        OperatorPage(tmp_path, " ")
