"""The whole loop at tiny size, through the real command line: train, evaluate, export."""

import json
import sqlite3

import numpy as np

from robot.policy import ExportedPolicy
from tests.e2e.helpers import CONFIG, SEED, run, run_folder, write_config

ROW = {"name", "sim_ratio", "dr_strength", "ranges_version", "sim", "real", "gap"}
BLOCK = {"success", "n", "low", "high", "mean_return"}


def test_train_evaluate_export(trained, tmp_path):
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["seed"] == 3 and summary["updates"] == 1200 and summary["robot_episodes"] == 14
    assert [row["name"] for row in summary["stages"]] == ["first", "second"]
    for row in summary["stages"]:
        assert set(row) >= ROW and set(row["sim"]) == set(row["real"]) == BLOCK
    assert summary["final"]["real"]["n"] == summary["final"]["sim"]["n"] == 4
    assert 0 < summary["robot_s"]["collection"] <= 40 and summary["robot_s"]["evaluation"] > 0
    assert (trained / "report.png").read_bytes().startswith(b"\x89PNG")
    database = sqlite3.connect(trained.parent / "mlflow.db")
    keys = {key for (key,) in database.execute("select distinct key from metrics")}
    assert {"gap/success", "gap/low", "real/success", "adr/cart.mass_kg/low"} <= keys

    judged = run("evaluate", trained, "--episodes", "4", "--json")
    assert judged.returncode == 0, judged.stderr
    result = json.loads(judged.stdout)
    assert result["real"] == summary["final"]["real"], "the same policy, starts and reality in lockstep"
    assert result["sim"] == summary["final"]["sim"]

    target = tmp_path / "shipped.onnx"
    assert run("export", trained, "--output", target).returncode == 0
    policy = ExportedPolicy(target)
    assert policy.metadata["task"] == "cartpole"
    assert np.abs(policy.act(np.zeros((1, policy.metadata["policy_size"]), np.float32))).max() <= 1.0
    again = run("resume", trained)
    assert again.returncode == 0 and "finished" in again.stdout


def test_a_run_whose_robot_budget_is_spent_goes_on_in_simulation(tracking, tmp_path):
    robot = {**CONFIG["robot"], "budget_s": {"collection": 10.2, "evaluation": 25.0}}
    done = run("train", write_config(tmp_path, robot=robot, tracking=tracking), *SEED)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((run_folder(tmp_path) / "summary.json").read_text())
    ledger = summary["robot_ledger"]
    assert summary["updates"] == 1200 and 0 < ledger["collection_s"] <= 10.2 and 0 < ledger["evaluation_s"] <= 25.0
    assert summary["final"]["real"]["n"] == summary["final"]["sim"]["n"] == 2  # 4 were planned
    assert "robot.budget_s.collection" in summary["budgets_spent"]["collection"]
    assert "went on in simulation" in " ".join(done.stdout.split())
