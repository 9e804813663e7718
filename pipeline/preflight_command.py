"""The command `sim2real preflight`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

MOST_EPISODES = 12  # of a run that are looked at


def preflight(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of runs; all their policies are ranked.")],
    posterior: Annotated[
        Path | None,
        typer.Option("--posterior", metavar="FILE", help="identified.yaml of the robot (default: a run's own ranges)."),
    ] = None,
    logs: Annotated[
        list[Path] | None,
        typer.Option("--log", metavar="FILE", help="Recordings of the robot (default: the runs' own episodes)."),
    ] = None,
    robots: Annotated[int, typer.Option("--robots", metavar="N", min=4, help="How many the robot may be.")] = 64,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Everything random follows from it.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the ranking as JSON and nothing else.")] = False,
) -> None:
    """Rank the policies of runs for the robot, without moving it; best first.

    Each flies once on every robot that may be, behind the safety filter. Ranked by success less the share of flights
    that would be stopped, then by the mean return on the worst quarter of these robots, then by how rarely a limit is
    met. Likelihood: how well the worlds a run trains on explain recordings of the robot, in nats a row.
    """
    from pipeline import run
    from pipeline.gap import wilson
    from pipeline.identify import identified
    from pipeline.identify.task_command import showing
    from pipeline.preflight import Flight, distinct, fly, policies_of, training_likelihood
    from pipeline.preflight import robots as draw_robots
    from robot.log_files import read_log

    flights: list[Flight] = []
    with showing("preflight") as tell:
        for number, folder in enumerate(runs):
            experiment = run.read_run(folder)
            known = identified.load(posterior, experiment.make_task()) if posterior else None
            them = draw_robots(experiment, known, robots, seed)
            recordings = logs or sorted((folder / run.ROBOT_DIR / "episodes").glob("*.parquet"))[:MOST_EPISODES]
            likelihood = (
                training_likelihood(experiment, [read_log(f) for f in recordings], seed) if recordings else None
            )
            files = distinct(policies_of(folder))
            for k, file in enumerate(files):
                done = (number + k / len(files)) / len(runs)
                share = 1 / len(files) / len(runs)
                words = f"{folder.name}, policy {k + 1} of {len(files)}"
                flights.append(
                    fly(
                        experiment,
                        file.read_bytes(),
                        str(file),
                        them,
                        seed,
                        likelihood,
                        lambda s, d=done, w=share, words=words: tell(d + w * s, words),
                    )
                )
    flights.sort(key=lambda flight: flight.merit, reverse=True)
    if as_json:
        typer.echo(json.dumps([asdict(flight) for flight in flights]))
        return
    head = ("place", 5), ("success", 16), ("worst return", 12), ("stops", 6), ("limits", 7), ("likelihood", 11)
    typer.echo(" ".join(f"{word:>{width}}" for word, width in (*head, ("updates", 8))) + "  policy")
    for place, flight in enumerate(flights, 1):
        low, high = wilson(round(flight.success * robots), robots)
        likely = "–" if flight.likelihood is None else f"{flight.likelihood:.2f}"
        typer.echo(
            f"{place:5} {flight.success:.2f} [{low:.2f},{high:.2f}] {flight.worst_return:12.1f} {flight.stops:6.2f} "
            f"{flight.limit_hits:7.3f} {likely:>11} {flight.updates:8,}  {_short(flight.policy, run.TUNE_DIR)}"
        )


def _short(policy: str, tune_dir: str) -> str:
    """The run and the checkpoint; where it lies in full is in --json."""

    path = Path(policy)
    tune = next((parent for parent in path.parents if parent.name == tune_dir), None)
    return f"{tune.parent.name}/{path.parent.name}" if tune else f"{path.parent.name}/{path.name}"
