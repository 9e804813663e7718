"""Configuration: what reaches which key, what is refused and how, and that nothing is lost on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from pipeline.config import (
    ConfigError,
    Experiment,
    default_config,
    load_experiment,
    save_experiment,
    shipped_configs,
)
from pipeline.config_schema import keys
from pipeline.overrides import assign


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return load_experiment()


def refusal(*overrides: str, path: Path | str | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_experiment(path, overrides)
    text = str(caught.value)
    assert text and "\n" not in text
    return text


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_every_shipped_configuration_loads(name):
    assert load_experiment(name).name == name


def test_the_default_configuration_is_cartpole():
    assert default_config().name == "cartpole.yaml"
    assert load_experiment() == load_experiment(default_config())


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_a_saved_configuration_gives_the_same_experiment_back(name, tmp_path):
    parameter = load_experiment(name).make_task().parameters[0]
    interval = [parameter.nominal, parameter.bounds[1]]
    experiment = load_experiment(name, [f"randomization.ranges.{parameter.name}={interval}"], seed=7)
    save_experiment(experiment, tmp_path / "config.yaml")
    assert load_experiment(tmp_path / "config.yaml") == experiment
    assert Experiment.model_validate(experiment.to_dict()) == experiment


def test_every_key_has_a_description(experiment):
    assert [key.path for key in keys(Experiment) if not key.description] == []


def test_every_plain_key_can_be_overridden(experiment):
    """Setting any key to the value it has changes nothing; leaving one out of reach raises."""
    for key in keys(Experiment):
        if "<" in key.path or key.path.startswith("sweep"):
            continue
        value = experiment.to_dict()
        for part in key.path.split("."):
            value = value[part]
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
        assert load_experiment(None, [f"{key.path}={text}"]) == experiment, key.path


def test_overrides_are_applied_in_order_and_seed_last():
    assert load_experiment(None, ["learner.batch_size=64", "learner.batch_size=128"]).learner.batch_size == 128
    assert load_experiment(None, ["seed=1"], seed=5).seed == 5


def test_a_key_with_dots_is_one_key_of_a_mapping():
    whole = load_experiment(None, ["randomization.ranges.cart.mass_kg=[0.7, 1.8]"])
    assert whole.randomization.ranges == {"cart.mass_kg": (0.7, 1.8)}
    one_end = load_experiment(
        None, ["randomization.ranges.cart.mass_kg=[0.7, 1.8]", "randomization.ranges.cart.mass_kg.1=1.2"]
    )
    assert one_end.randomization.ranges == {"cart.mass_kg": (0.7, 1.2)}
    assert one_end.ranges().to_dict()["cart.mass_kg"] == [0.7, 1.2]


def test_an_override_of_one_stage_resolves_the_preset_first(experiment):
    changed = load_experiment(None, ["stages.1.updates=123", "stages.1.min_updates=5"])
    assert changed.stages[1].updates == 123
    assert [s.name for s in changed.stages] == [s.name for s in experiment.stages]
    assert changed.stages[0] == experiment.stages[0]
    assert changed.stages[1].model_copy(update={"updates": 9000}).exit == experiment.stages[1].exit
    gate = load_experiment(None, ["stages.0.exit.sim_success=0.9"]).stages[0].exit
    assert gate.sim_success == 0.9


def test_stages_by_preset_by_name_and_after_each_other():
    assert [s.name for s in load_experiment(None, ["stages=nominal"]).stages] == ["nominal"]
    assert [s.name for s in load_experiment(None, ["stages=[sim_only, mixed]"]).stages] == [
        "sim_only",
        "mixed",
    ]
    both = load_experiment(None, ["stages.0.updates=9999", "stages=nominal", "stages.0.updates=77"])
    assert [(s.name, s.updates) for s in both.stages] == [("nominal", 77)]


def test_a_section_that_is_off_is_made_when_a_key_inside_it_is_set(tmp_path):
    hidden = tmp_path / "hidden.yaml"
    hidden.write_text("gain: 0.8\n")
    experiment = load_experiment(None, ["robot.twin=null", f"robot.twin.hidden={hidden}"])
    assert experiment.robot.twin is not None and experiment.robot.twin.hidden == hidden
    swept = load_experiment(None, ["sweep.parameters.learner.tau.grid=[0.01, 0.02]"])
    assert swept.sweep is not None and swept.sweep.parameters["learner.tau"].grid == (0.01, 0.02)


def test_file_names_come_out_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "h.yaml").write_text("")
    experiment = load_experiment(None, ["robot.twin.hidden=h.yaml", "run_dir=out", "robot.port=dev/tty"])
    assert experiment.robot.twin is not None and experiment.robot.twin.hidden == tmp_path / "h.yaml"
    assert experiment.run_dir == str(tmp_path / "out")
    assert experiment.robot.port == str(tmp_path / "dev/tty")
    assert load_experiment().run_dir == str(tmp_path / "runs")
    swept = load_experiment(None, ["sweep.parameters.robot.twin.hidden.grid=[h.yaml]"])
    assert swept.sweep is not None
    assert swept.sweep.parameters["robot.twin.hidden"].grid == (str(tmp_path / "h.yaml"),)


def test_an_experiment_is_frozen(experiment):
    with pytest.raises(ValidationError):
        experiment.seed = 1
    with pytest.raises(ValidationError):
        experiment.learner.tau = 1.0


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("learner.batchsize=3", ["learner.batchsize", "3", "did you mean learner.batch_size"]),
        ("batch_size=3", ["batch_size", "did you mean learner.batch_size"]),
        ("robot.twin.hiden=x", ["robot.twin.hiden", "did you mean robot.twin.hidden"]),
        ("stages.0.updatez=1", ["stages.0.updatez", "did you mean stages.0.updates"]),
        ("nonsense.key=1", ["nonsense.key", "accepted there are name, task, seed"]),
        ("seed.x=1", ["seed.x", "there is no such key"]),
        ("learner.batch_size=many", ["learner.batch_size", "'many'", "integer"]),
        ("learner.batch_size=-1", ["learner.batch_size", "-1", "greater than or equal to 2"]),
        ("learner.hidden=[64, x]", ["learner.hidden.1", "'x'", "integer"]),
        ("learner.hidden=64", ["learner.hidden", "64", "list"]),
        ("learner.actor_lr=.inf", ["learner.actor_lr", ".inf", "finite"]),
        ("evaluation=3", ["evaluation", "3", "episodes"]),
        ("deterministic=maybe", ["deterministic", "'maybe'", "boolean"]),
        ("name=a b", ["name", "'a b'", "match"]),
        ("task=cartpol", ["task", "'cartpol'", "cartpole", "module:Class"]),
        ("stages=nomnal", ["stages", "'nomnal'", "default or nominal"]),
        ("stages.9.updates=1", ["stages.9.updates", "an index from 0 to 3"]),
        ("stages=[{name: own}]", ["stages.0", "missing"]),
        ("randomization.ranges.cart.mas_kg=[1, 2]", ["randomization.ranges.cart.mas_kg", "cart.mass_kg"]),
        ("randomization.ranges.cart.mass_kg=[1, 200]", ["cart.mass_kg", "[1.0, 200.0]", "[0.3, 4.0]"]),
        ("randomization.ranges.cart.mass_kg=[2, 1]", ["randomization.ranges.cart.mass_kg", "reversed"]),
        ("randomization.ranges.cart.mass_kg=[1]", ["randomization.ranges.cart.mass_kg", "2 items"]),
        ("robot.twin.hidden=/none.yaml", ["robot.twin.hidden", "/none.yaml", "accepted is a YAML file"]),
        ("robot.limits={}", ["robot.limits", "without limits is refused"]),
        ("robot.limits=null", ["robot.limits", "without limits is refused"]),
        ("robot.limits.slider.velocity=fast", ["robot.limits.slider.velocity", "'fast'", "number"]),
        ("robot.mode=fast", ["robot.mode", "'fast'", "'lockstep' or 'realtime'"]),
        ("sweep={}", ["sweep.parameters", "missing"]),
        ("sweep.parameters.seed.grid=[0, x]", ["seed", "'x'", "integer"]),
        ("sweep.parameters.lerner.tau.grid=[1]", ["lerner.tau", "did you mean learner.tau"]),
        ("sweep.parameters.seed.grd=[0]", ["sweep.parameters.seed.grd", "grid, choice, uniform, loguniform"]),
        ("sweep.parameters.seed.uniform=[2, 1]", ["sweep.parameters.seed.uniform", "low < high"]),
        ("seed", ["seed", "key.path=value"]),
        ("seed=[1", ["seed", "'[1'", "YAML"]),
        ("=3", ["key.path=value"]),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(override, words):
    text = refusal(override)
    assert [word for word in words if word not in text] == [], text


def test_limits_are_mandatory_for_every_actuated_joint():
    limits = "{position: [-1, 1], velocity: 1, effort: 1, effort_rate: 1}"
    assert "robot.limits: none for slider" in refusal(f"robot.limits={{hinge: {limits}}}")
    assert "robot.limits.wheel: cartpole has no such joint" in refusal(f"robot.limits.wheel={limits}")


def test_a_configuration_without_a_robot_section_is_refused_for_its_limits(tmp_path):
    (tmp_path / "own.yaml").write_text("seed: 1\n")
    assert "robot.limits: none given" in refusal(path=tmp_path / "own.yaml")


def test_the_deterministic_mode_needs_a_robot_in_lockstep():
    text = refusal("deterministic=true", "robot.mode=realtime")
    assert "robot.mode" in text and "lockstep" in text


def test_a_password_does_not_come_back_in_the_sentence():
    assert "hunter2" not in refusal("tracking.uri=https://me:hunter2@example.org")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- 1\n", ["holds a list"]),
        ("a: [1\n", ["not YAML", "line"]),
        ("1: 2\n", ["1", "there is no such key"]),
        ("lerner: {tau: 0.1}\n", ["lerner", "there is no such key"]),
        ("", ["robot.limits"]),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_sentence(text, words, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    told = refusal(path=path)
    assert [word for word in words if word not in told] == [], told


def test_a_file_that_is_not_there_is_refused(tmp_path):
    assert "does not exist" in refusal(path=tmp_path / "none.yaml")
    assert "is a folder" in refusal(path=tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "it is not text" in refusal(path=tmp_path / "binary.yaml")


def test_a_trial_takes_its_swept_values():
    sweep = load_experiment("cartpole_dr_sweep")
    trial = sweep.with_values({"randomization.strength": 0.25, "learner.tau": 0.05})
    assert trial.sweep is None
    assert (trial.randomization.strength, trial.learner.tau) == (0.25, 0.05)
    assert trial.with_values({}) == trial
    with pytest.raises(ConfigError, match="learner.tau"):
        sweep.with_values({"learner.tau": 5})


def test_a_sweep_is_a_parameter_space_of_tune():
    sweep = load_experiment(
        "cartpole_dr_sweep",
        ["sweep.parameters.learner.tau.loguniform=[0.001, 0.1]", "sweep.parameters.seed.choice=[0, 1]"],
    ).sweep
    assert sweep is not None
    space = sweep.param_space()
    assert space["randomization.strength"] == {"grid_search": [0.0, 0.25, 0.5, 0.75, 1.0]}
    assert 0.001 <= space["learner.tau"].sample() <= 0.1
    assert space["seed"].sample() in (0, 1)


def test_assign_leaves_other_keys_alone():
    data = {"learner": {"tau": 0.5}, "seed": 3}
    assign(Experiment, data, "learner.gamma", 0.9)
    assert data == {"learner": {"tau": 0.5, "gamma": 0.9}, "seed": 3}
