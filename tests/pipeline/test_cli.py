"""The command line as its user meets it: exit codes, sentences, help, and nothing half-written."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import typer

from envs.tasks.cartpole import PARAMETERS
from pipeline import cli, run
from pipeline.config import load_experiment, save_experiment
from robot.confirm import Confirmer, pending
from robot.interface import RobotError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every command runs in an empty folder; what it leaves there is what it wrote."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("COLUMNS", raising=False)  # the width is that of files
    return tmp_path


def refused(capsys, *arguments: str) -> str:
    """Run a command that must fail as its user's mistake: code 2 and one line on stderr, nothing else."""
    assert cli.main(list(arguments)) == cli.EXIT_USER
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n") and err.count("\n") == 1 and "Traceback" not in err
    return err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "learner.bach_size=3"], ["learner.bach_size", "did you mean learner.batch_size"]),
        (["train", "learner.batch_size=many"], ["learner.batch_size", "'many'", "integer"]),
        (["train", "task=cartpol"], ["task", "'cartpol'", "cartpole"]),
        (["train", "robot.twin.hidden=none.yaml"], ["robot.twin.hidden", "none.yaml"]),
        (["train", "robot.limits={}"], ["robot.limits", "without limits is refused"]),
        (["train", "stages=nomnal"], ["stages", "'nomnal'"]),
        (["train", "nowhere.yaml"], ["nowhere.yaml", "does not exist", "cartpole_nominal"]),
        (["train", "cartpole", "seed"], ["seed", "key.path=value"]),
        (["train", "--seed", "x"], ["--seed", "integer"]),
        (["train", "--sed", "1"], ["--sed"]),
        (["config", "tau=1"], ["tau", "did you mean learner.tau"]),
        (["params", "nope"], ["'nope'", "cartpole"]),
        (["traim"], ["traim"]),
        (["evaluate"], ["RUN"]),
        (["evaluate", "--episodes", "0", "x"], ["--episodes", "1"]),
        (["robot", "serve", "twin", "--hidden", "none.yaml"], ["robot.twin.hidden", "none.yaml"]),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(arguments, words, capsys, elsewhere):
    text = refused(capsys, *arguments)
    assert [word for word in words if word not in text] == [], text
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("command", ["evaluate", "resume", "export"])
def test_a_run_folder_that_is_none_is_refused(command, capsys, elsewhere):
    assert "missing" in refused(capsys, command, "missing")
    (elsewhere / "empty").mkdir()
    assert "is no run folder" in refused(capsys, command, "empty")
    assert list((elsewhere / "empty").iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        run.RunError("RUN: no good; accepted is another"),
        RobotError("robot.port: /dev/none cannot be opened; accepted is a serial device"),
    ],
)
def test_errors_of_a_run_that_the_user_can_mend_are_sentences(error, capsys, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(run, "train", fail)
    assert refused(capsys, "train") == f"{error}\n"


def test_the_sentence_is_found_inside_the_error_of_a_ray_worker(capsys, monkeypatch):
    class RemoteRobotError(RobotError):
        """As Ray makes them: the type of the cause, a traceback for a text, the cause beside it."""

        def __init__(self, cause: Exception) -> None:
            super().__init__("Traceback (most recent call last):\n  File ...")
            self.cause = cause

    def fail(*_):
        raise RuntimeError("a trial failed") from RemoteRobotError(RobotError("robot.port: is taken"))

    monkeypatch.setattr(run, "train", fail)
    assert refused(capsys, "train") == "robot.port: is taken\n"


def test_an_unforeseen_error_is_not_hidden(monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(run, "train", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["train"])


def test_ctrl_c_says_how_to_go_on(capsys, monkeypatch):
    def interrupt(*_):
        raise run.RunInterrupted(Path("runs/mine"))

    monkeypatch.setattr(run, "train", interrupt)
    assert cli.main(["train"]) == cli.EXIT_INTERRUPTED
    assert "sim2real resume runs/mine" in capsys.readouterr().err

    monkeypatch.setattr(run, "train", lambda *_: signal.raise_signal(signal.SIGINT))
    assert cli.main(["train"]) == cli.EXIT_INTERRUPTED


def test_train_hands_over_the_experiment_that_was_asked_for(monkeypatch):
    seen = []
    monkeypatch.setattr(run, "train", lambda experiment, console: seen.append(experiment) or {})
    assert cli.main(["train", "cartpole_nominal", "learner.tau=0.5", "--seed", "3"]) == 0
    assert cli.main(["train", "seed=4"]) == 0
    assert [e.name for e in seen] == ["cartpole_nominal", "cartpole"]
    assert [e.seed for e in seen] == [3, 4] and seen[0].learner.tau == 0.5


BLOCKS = {
    "real": {"success": 0.9, "n": 10, "low": 0.6, "high": 0.98, "mean_return": 450.0},
    "sim": {"success": 1.0, "n": 10, "low": 0.72, "high": 1.0, "mean_return": 480.0},
    "gap": {"success": 0.1, "low": -0.1, "high": 0.4, "verdict": "not settled"},
}


def test_evaluate_prints_json_and_nothing_else(capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(run, "evaluate", lambda *arguments: asked.append(arguments[:3]) or BLOCKS)
    assert cli.main(["evaluate", "runs/mine", "--json", "--episodes", "10", "robot.name=r1"]) == 0
    assert json.loads(capsys.readouterr().out) == BLOCKS
    assert asked == [(Path("runs/mine"), 10, ["robot.name=r1"])]
    assert cli.main(["evaluate", "runs/mine"]) == 0
    out = capsys.readouterr().out
    assert asked[1][1] == 100 and "0.90 [0.60, 0.98]" in out and "not settled" in out


def test_a_sweep_ends_with_a_table_over_its_trials(capsys, monkeypatch):
    trial = {"robot_s": {"collection": 100.0, "evaluation": 23.4}, "final": BLOCKS}
    trials = [{**trial, "run": f"t{i}", "parameters": {"randomization.strength": i / 2}} for i in range(2)]
    monkeypatch.setattr(run, "train", lambda *_: {"trials": trials})
    assert cli.main(["train", "cartpole_dr_sweep"]) == 0
    out = capsys.readouterr().out
    assert "randomization.strength" in out and "t1" in out and "0.5" in out and "123" in out


def test_an_operator_answers_a_run_that_asks(capsys, elsewhere):
    save_experiment(load_experiment(), elsewhere / "config.yaml")
    assert "no question is waiting" in refused(capsys, "robot", "confirm", ".", "--operator", "Ada")

    def asks() -> None:
        answers.append(Confirmer(elsewhere / "robot", timeout_s=20).ask("episode 3"))

    answers: list[str] = []
    (elsewhere / "robot").mkdir()
    robot = threading.Thread(target=asks)
    robot.start()
    while not pending(elsewhere / "robot"):
        time.sleep(0.01)
    assert cli.main(["robot", "confirm", ".", "--operator", "Ada"]) == 0
    robot.join(timeout=20)
    assert answers == ["Ada"] and "episode 3: yes" in capsys.readouterr().out


def test_config_as_yaml_is_the_resolved_configuration(capsys, elsewhere):
    assert cli.main(["config", "cartpole_nominal", "seed=9", "--yaml"]) == 0
    (elsewhere / "resolved.yaml").write_text(capsys.readouterr().out)
    assert load_experiment("resolved.yaml") == load_experiment("cartpole_nominal", ["seed=9"])


def test_config_lists_every_key(capsys):
    assert cli.main(["config"]) == 0
    out = capsys.readouterr().out
    assert "learner.batch_size" in out and "transitions in a minibatch" in out
    assert "[low, high]" in out  # not taken for markup


def test_params_lists_every_parameter(capsys):
    assert cli.main(["params", "cartpole"]) == 0
    out = capsys.readouterr().out
    assert [p.name for p in PARAMETERS if p.name not in out] == []


def test_every_option_of_every_command_is_described():
    def undescribed(command, path: str) -> list[str]:
        missing = [f"{path} {p.name}" for p in command.params if not getattr(p, "help", None)]
        for name, child in getattr(command, "commands", {}).items():
            missing += undescribed(child, f"{path} {name}")
        return missing + ([] if command.help else [path])

    assert undescribed(typer.main.get_command(cli.app), "sim2real") == []


def python(code: str, cwd: Path) -> subprocess.CompletedProcess:
    setup = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    return subprocess.run([sys.executable, "-c", setup + code], cwd=cwd, capture_output=True, text=True, timeout=60)


def test_help_imports_nothing_heavy(elsewhere):
    code = """
from pipeline.cli import main
main(["--help"]); main(["train", "--help"])
heavy = {"ray", "torch", "mlflow", "pybullet", "mujoco", "onnxruntime", "numpy", "pydantic_settings"}
print("HEAVY", sorted(heavy & set(sys.modules)))
"""
    done = python(code, elsewhere)
    assert "HEAVY []" in done.stdout, done.stdout + done.stderr


def test_the_program_itself_refuses_without_a_traceback(elsewhere):
    """The real process: code 2, one line, no folder; a task of one's own is found in the present folder."""
    (elsewhere / "mine.py").write_text(
        "from envs.tasks.cartpole import Cartpole\nclass Mine(Cartpole):\n    name = 'mine'\n"
    )
    code = "sys.path.remove(''); from pipeline.cli import main; sys.exit(main(%r))"
    done = python(code % ["train", "task=mine:Mine", "learner.tau=7"], elsewhere)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "learner.tau: 7 is not accepted; it should be less than or equal to 1\n"
    assert sorted(p.name for p in elsewhere.iterdir() if p.name != "__pycache__") == ["mine.py"]


@pytest.mark.parametrize("what", [("twin", "--directory", "twin"), ("rosbridge", "--task", "pendulum", "--port")])
def test_a_served_twin_says_where_it_is_and_ends_with_ctrl_c(elsewhere, what):
    if what[-1] == "--port":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            what = (*what, str(probe.getsockname()[1]))
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pipeline.cli import main; sys.exit(main())"
    command = [
        sys.executable,
        "-u",
        "-c",
        code,
        "robot",
        "serve",
        *what,
        "--lockstep",
    ]
    with subprocess.Popen(command, cwd=elsewhere, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        while not lines or not lines[-1].startswith("Ctrl-C"):
            lines.append(process.stdout.readline())
            assert lines[-1], "the twin ended before it was ready"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
    where = dict(line.split() for line in lines[:3])
    assert where["mode"] == "lockstep" and f"robot.port={where['port']}" in "".join(lines)
