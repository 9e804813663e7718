"""What a run finds out about its robot moves its ranges when the stage that asked for it begins, and never halts it."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline import campaign as campaign_module
from pipeline.campaign import Campaign
from pipeline.config import ConfigError, load_experiment
from pipeline.fitting import FitService, Job
from pipeline.range_book import RangeBook
from pipeline.robot_link import RoundReport
from pipeline.schedulers.adr import ADRScheduler
from pipeline.schedulers.adr_rule import AdrRule
from pipeline.telling import tell
from pipeline.tracking_metrics import finding_metrics
from robot.interface import RobotError
from robot.logs import Log
from tests.pipeline.carried import carried

MASS, GAIN, DELAY = "cart.mass_kg", "action.gain", "action.delay_ms"
IDENTIFY = {"recordings": 2, "seconds": 10.0, "fixed": {"pole.mass_kg": 0.2}}


def stages(**changes: Any) -> list[dict[str, Any]]:
    first = {"name": "wide", "sim_ratio": 1.0, "dr_strength": 0.5, "updates": 100, "evaluate_episodes": 0}
    second = {**first, "name": "known", "dr_strength": 1.0, "adr": True, "identify": {**IDENTIFY, **changes}}
    return [first, second]


def content(mass: float = 1.5, half: float = 0.2, **more: Any) -> dict[str, Any]:
    entry = {"value": mass, "low": mass - half, "high": mass + half, "unit": "kg", "known": "told"}
    gain = {"value": 0.9, "low": 0.8, "high": 1.0, "unit": "1", "known": "told"}
    covariance = [[half**2 / 4, 0.0], [0.0, 0.0025]]
    return {"format": 2, "task": "cartpole", "values": {MASS: entry, GAIN: gain}, "order": [MASS, GAIN]} | {
        "mean": [mass, 0.9],
        "covariance": covariance,
        **more,
    }


def log(seconds: float, name: str = "recording") -> Log:
    steps = int(seconds * 50)
    moved = np.sin(np.arange(steps) / 9.0)[:, None] * np.ones((1, 2))
    return Log(np.arange(steps) / 50, moved, moved, moved[:, :1], source=name, piece=np.zeros(steps, np.int64))


class Evaluations:
    """Nothing is ever measured in simulation."""

    request = lambda self, request: None  # noqa: E731
    outstanding = lambda self, prefix="": 0  # noqa: E731
    poll = lambda self: []  # noqa: E731


class Robot:
    """A link to a robot that answers what the test gives it."""

    exists, errors = True, 0

    def __init__(self) -> None:
        self.orders: list[Any] = []
        self.reports: list[Any] = []
        self.away_s, self.status = 0.0, {"state": "ok", "reason": "", "left_s": {}}

    @property
    def pending(self) -> int:
        return len(self.orders)

    def submit(self, order: Any) -> None:
        self.orders.append(order)

    def answer(self, episodes: list[dict[str, Any]], note: str = "") -> None:
        order = self.orders.pop(0)
        self.reports.append((order, RoundReport(order.round_id, episodes, True, note)))

    def record(self) -> None:
        """The motions that were asked for are made."""
        order = self.orders[0]
        assert order.purpose == "identification" and order.seconds == 10.0 and len(order.motions) == 2
        self.answer([{"meta": {"robot_s": 10.0}, "log": log(10.0)} for _ in order.motions])

    def poll(self) -> list[Any]:
        reports, self.reports = self.reports, []
        return reports

    wait = lambda self, patience_s: self.poll()  # noqa: E731


class Fits:
    """Stands where the fit does: what was asked, and what is answered by the number of recordings."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.answers: dict[int, Any] = {}
        monkeypatch.setattr("pipeline.actors.fitter.plan_motions", lambda task, robot, f, e, n, seed: [f"m{seed}"] * n)
        monkeypatch.setattr("pipeline.actors.fitter.fit_logs", self._fit)

    def _fit(self, task, logs, fixed, extra, seed, start) -> dict[str, Any]:
        self.asked.append((len(logs), fixed, start))
        answer = self.answers.get(len(logs), content(1.5 + 0.01 * len(logs)))
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def fits(monkeypatch) -> Fits:
    return Fits(monkeypatch)


def make(**changes: Any) -> tuple[Campaign, Robot]:
    experiment = load_experiment().with_values({"stages": stages(), **changes})
    robot = Robot()
    links: tuple[Any, Any, Any] = Evaluations(), FitService("cartpole", False), robot
    made = Campaign(experiment, experiment.make_task(), *links, "run")
    return made, robot


def steps(campaign: Campaign, *updates: int) -> list[str]:
    decisions = []
    for at in updates:
        for _ in range(4):
            list(campaign.hear())
        decisions.append(campaign.steer(at, lambda: b"policy"))
    return decisions


def flat(result: dict[str, Any]) -> dict[str, Any]:
    """As Tune hands results to schedulers."""
    found: dict[str, Any] = {}
    for key, value in result.items():
        inner = flat(value) if isinstance(value, dict) and value else {"": value}
        found |= {f"{key}/{k}" if k else key: v for k, v in inner.items()}
    return found


def test_the_posterior_moves_the_ranges_when_its_stage_begins(fits):
    campaign, robot = make()
    before = campaign.randomization
    steps(campaign, 10, 20)
    assert robot.pending == 1  # asked for while the stage before trains
    robot.record()
    steps(campaign, 30)
    assert campaign.knowledge.findings and campaign.randomization == before  # these are the first stage's worlds
    assert fits.asked == [(2, {"pole.mass_kg": 0.2}, None)]
    assert campaign.schedule.spent_s["identification"] == 20.0
    campaign.book.heard(0, [(MASS, "low"), (DELAY, "low")], np.ones(2))
    assert steps(campaign, 100) == ["advance"]
    plain = load_experiment().ranges()
    intervals = campaign.ranges.to_dict()
    assert intervals[MASS] == pytest.approx([1.32, 1.72]) and intervals[GAIN] == [0.8, 1.0]
    assert intervals[DELAY] == plain.to_dict()[DELAY] and campaign.ranges.version == 1
    assert campaign.book.buffers == {MASS: {}, DELAY: {"low": [1.0]}}  # that bound is where it was
    sent = campaign.randomization
    assert sent.nominal[MASS] == 1.52 and sent.correlation is not None and sent.dr_strength == 1.0
    result = tell(campaign, 100)
    (finding,) = result["identification"]["findings"]
    assert (finding["why"], finding["recorded_s"], finding["flown_s"]) == (
        "before known",
        pytest.approx(20, abs=0.1),
        0,
    )
    assert finding_metrics(finding)[f"identified/{MASS}/width"] == pytest.approx(0.4)
    assert result["robot"]["identification_s"] == 20.0 and "known trains around" in result["identification"]["told"][0]


def test_the_stage_before_goes_on_until_the_posterior_is_there(fits):
    campaign, robot = make()
    assert steps(campaign, 10, 20, 100, 120) == ["stay"] * 4 and not campaign.waiting
    robot.record()
    assert steps(campaign, 130) == ["advance"] and campaign.ranges.version == 1


def test_it_goes_on_for_half_its_budget_at_most(fits):
    campaign, robot = make()
    assert steps(campaign, 10, 20, 149, 150) == ["stay"] * 3 + ["advance"]
    assert "takes the posterior when it comes" in campaign.knowledge.told[0] and campaign.ranges.version == 0
    robot.record()
    assert steps(campaign, 160) == ["stay"] and campaign.ranges.version == 1


def test_a_stage_may_say_that_the_learner_waits(fits):
    campaign, robot = make(stages=stages(wait=True))
    assert steps(campaign, 10, 20) == ["stay"] * 2 and not campaign.waiting
    steps(campaign, 100)
    assert campaign.waiting
    robot.record()
    assert steps(campaign, 100) == ["advance"] and not campaign.waiting
    first, robot = make(stages=stages(wait=True)[1:])
    assert first.waiting  # before the first update
    steps(first, 0, 0)
    robot.record()
    steps(first, 0)
    assert not first.waiting and first.ranges.version == 1


def test_a_robot_that_stays_away_is_not_waited_for(fits, monkeypatch):
    campaign, robot = make()
    steps(campaign, 10, 20, 100)
    monkeypatch.setattr(campaign_module, "ROBOT_PATIENCE_S", 1.0)
    robot.away_s, robot.status = 2.0, {"state": "stopped", "reason": "it hit the rail"}
    assert steps(campaign, 120) == ["advance"] and campaign.ranges.version == 0
    assert "stage known trains in the ranges as they are" in campaign.knowledge.told[0]
    robot.away_s = 0.0
    robot.record()  # somebody recovered it
    steps(campaign, 130)
    assert campaign.ranges.version == 1 and campaign.ranges.to_dict()[MASS] == pytest.approx([1.32, 1.72])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (RobotError("recording 1: 12 rows have no finite velocity"), "no finite velocity"),
        (np.linalg.LinAlgError("Singular matrix"), "it failed: LinAlgError: Singular matrix"),
        (content(7.0), "leaves the hard bounds"),
    ],
)
def test_a_fit_that_fails_leaves_the_ranges_and_says_so(fits, answer, words):
    campaign, robot = make()
    fits.answers[2] = answer
    steps(campaign, 10, 20)
    robot.record()
    assert steps(campaign, 30, 100) == ["stay", "advance"]
    assert campaign.ranges.version == 0 and campaign.ranges.to_dict() == load_experiment().ranges().to_dict()
    (sentence,) = tell(campaign, 100)["identification"]["told"]
    assert words in sentence and "\n" not in sentence


def test_each_round_refines_what_is_known_from_all_that_was_recorded(fits):
    collect = [{**stage, "collect_episodes": 6} for stage in stages()]
    campaign, robot = make(**{"stages": collect, "randomization.refine_limit_s": 25.0})
    steps(campaign, 10, 20)
    assert [order.logs for order in robot.orders] == [True, True]
    robot.orders.reverse()
    robot.record()
    steps(campaign, 30, 100)
    columns = {name: np.zeros((1, 1), np.float32) for name in ("obs", "new_obs", "actions", "rewards", "terminateds")}
    moved = campaign.book.set(2, {**campaign.ranges.to_dict(), MASS: [1.22, 1.72]}, [])  # ADR widened it by 0.1
    assert moved == 2
    flown = [{"meta": {"robot_s": 10.0}, "columns": columns, "log": log(s, "episode")} for s in (9.0, 0.4, 12.0)]
    robot.answer(flown)
    steps(campaign, 110)
    assert [asked[0] for asked in fits.asked] == [2, 4]  # the one that ended at once is left out
    count, fixed, start = fits.asked[-1]
    assert fixed == {"pole.mass_kg": 0.2} and start[campaign.ranges.space.index(MASS)] == 1.52  # where it had ended
    assert campaign.ranges.to_dict()[MASS] == pytest.approx([1.54 - 0.2 - 0.1, 1.54 + 0.2])  # ADR's share stays on top
    assert campaign.ranges.version == 3 and campaign.ranges.space.nominal[1] == 1.54
    assert campaign.knowledge.findings[-1].flown_s == pytest.approx(21, abs=0.1)
    fits.answers[4] = RobotError("nothing can be told")
    robot.answer([{"meta": {"robot_s": 10.0}, "log": log(9.0, "episode")}])
    steps(campaign, 120)
    assert campaign.ranges.version == 3 and "the ranges stay as they are" in campaign.knowledge.told[-1]
    assert fits.asked[-1][0] == 4  # the newest 25 s of episodes, and both recordings


def test_adr_never_narrows_below_what_was_found(fits):
    campaign, robot = make()
    steps(campaign, 10, 20)
    robot.record()
    steps(campaign, 30, 100)
    trial = type("Trial", (), {"trial_id": "a", "config": None})()
    scheduler = ADRScheduler(AdrRule(load_experiment().ranges(), load_experiment().adr(), (0.5, 0.9)))
    for _ in range(60):
        for name in (MASS, DELAY):
            for side in ("low", "high"):
                campaign.book.heard(campaign.ranges.version, [(name, side)] * 10, np.zeros(10))
        decision = scheduler.decide(trial, flat(tell(campaign, 100)))
        assert decision is not None
        campaign.set_ranges(decision.ranges.version, decision.ranges.to_dict(), decision.cleared)
    intervals = campaign.ranges.to_dict()
    assert intervals[MASS] == pytest.approx([1.32, 1.72]) and np.ptp(intervals[DELAY]) == 0.0


def test_a_restored_campaign_goes_on_alike(fits):
    """From a checkpoint with the recording asked for, under way, fitted, and in force."""

    def course(restore_at: int | None) -> list[str]:
        campaign, robot = make(**{"randomization.refine": True})
        told = []
        for number, at in enumerate((10, 20, 30, 40, 100, 110)):
            if number == 3:
                robot.record()
            steps(campaign, at)
            result = tell(campaign, at)
            for finding in result["identification"]["findings"]:
                del finding["fit_s"]  # wall time
            told.append(repr((result, campaign.randomization)))
            if number == restore_at:
                saved = carried(campaign.get_state())
                (campaign, fresh) = make(**{"randomization.refine": True})
                fresh.orders, robot = robot.orders, fresh
                campaign.set_state(saved)
                again = carried(campaign.get_state())
                assert repr(again["knowledge"]) == repr(saved["knowledge"]) and repr(again["book"]) == repr(
                    saved["book"]
                )
        return told

    whole = course(None)
    assert "1.52" in whole[-1] and "'version': 1" in whole[-1]
    for at in range(5):
        assert course(at) == whole, at


def test_a_book_moved_twice_is_where_the_second_posterior_is():
    experiment = load_experiment()
    task = experiment.make_task()
    once, twice = RangeBook(experiment, task), RangeBook(experiment, task)
    twice.move_to(content(1.2))
    for book in (once, twice):
        book.move_to(content(1.5, 0.05))
    assert once.ranges.to_dict() == twice.ranges.to_dict() and (once.ranges.version, twice.ranges.version) == (1, 2)
    given = load_experiment(None, [f"randomization.ranges.{MASS}=[1.0, 2.0]"])
    book = RangeBook(given, task)
    book.move_to(content())
    assert book.ranges.to_dict()[MASS] == [1.0, 2.0] and book.ranges.to_dict()[GAIN] == [0.8, 1.0]


def test_what_cannot_be_identified_is_refused_beforehand(tmp_path):
    for overrides, words in (
        (["stages.1.identify={seconds: 1}"], "stages.1.identify.seconds"),
        (["stages.1.identify={fixed: {mass: 1}}"], "stages.1.identify.fixed: 'mass' cannot be told"),
        (["stages.1.identify={speed: 1}"], "accepted is recordings, seconds, fixed, extra or wait"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_experiment(None, overrides)
    (tmp_path / "found.yaml").write_text(yaml.safe_dump(content()))
    with pytest.raises(ConfigError, match="refine: true given with randomization.posterior"):
        load_experiment(None, [f"randomization.posterior={tmp_path / 'found.yaml'}", "randomization.refine=true"])


def test_a_killed_fit_is_begun_again(ray_session):
    service = FitService("pendulum", remote=True)
    robot = load_experiment("pendulum").robot.model_dump(mode="json")
    service.request(Job("plan", (robot, {"teapot": 1.0}, (), 1, 0)))
    answer, killed, deadline = None, False, time.monotonic() + 60
    while answer is None and time.monotonic() < deadline:
        answer = service.poll()
        if not killed and service.pids():
            os.kill(service.pids()[0], signal.SIGKILL)
            killed = True
        time.sleep(0.02)
    assert killed and answer is not None and "'teapot' cannot be told" in answer.why_not
    assert not service.busy and service.poll() is None
