"""Identification measured: do its intervals hold the truth, what does it find on the twin, and what is it worth?

--coverage N   N synthetic robots with drawn parameters: how often the 95 % intervals hold the truth
--twin         recordings of the twin, judged by its hidden file, which only this program reads
--arms N       N arms like the twin's with other hidden values: errors, and how often the intervals hold the truth
--train        trained from identified ranges, from wide ones, from neither, in stages: success on the twin, and cost
--preflight    does the ranking of `sim2real preflight` agree with the twin's, over policies that it trains for it
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from benchmarks.common import machine, machine_line, parser, print_json, tables
from benchmarks.identify import arm, coverage, preflight, train, twin


def main() -> int:
    options = _options()
    described, report = machine(), {}
    if options.coverage:
        tasks = options.tasks or ["cartpole", "pendulum"]
        report["coverage"] = coverage.measure(tasks, options.coverage, options.recordings, options.seconds)
    if options.twin:
        tasks = options.tasks or ["cartpole", "pendulum", "reach"]
        report["twin"] = twin.measure(tasks, options.recordings, options.seconds, options.seeds)
    if options.arms:
        report["arms"] = arm.measure_many("reach", options.arms, options.seconds, options.seeds[0])
    if options.train:
        report["train"] = train.measure(options.task, options.seeds, options.overrides, options.ways)
    if options.preflight is not None:
        report["preflight"] = preflight.measure(options.preflight, options.posterior)
    if not report:
        print(
            "nothing asked for; accepted are --coverage N, --twin, --arms N, --train and --preflight [RUNS]",
            file=sys.stderr,
        )
        return 2
    if options.json:
        print_json({"machine": described, **report})
    else:
        _show(report)
        tables().print(machine_line(described))
    return 0


def _options() -> argparse.Namespace:
    made = parser("benchmarks.identification", __doc__)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.add_argument("--coverage", type=int, default=0, metavar="N", help="synthetic robots (0: none)")
    made.add_argument("--twin", action="store_true")
    made.add_argument("--arms", type=int, default=0, metavar="N", help="arms with other hidden values (0: none)")
    made.add_argument("--train", action="store_true")
    made.add_argument(
        "--task", default=train.SOURCES, metavar="CONFIG", help=f"configuration of --train (default {train.SOURCES})"
    )
    made.add_argument("--ways", nargs="+", default=[], metavar="WAY", help="of --train, by name (default: all)")
    made.add_argument(
        "--preflight", nargs="?", const="", metavar="RUNS", help="a folder of cartpole runs (default: trains its own)"
    )
    made.add_argument("--posterior", metavar="FILE", help="of --preflight (default: identifies the robot itself)")
    made.add_argument("--tasks", nargs="+", help="default: cartpole pendulum, and for --twin reach")
    made.add_argument("--recordings", type=int, default=3, help="of each robot (default 3)")
    made.add_argument("--seconds", type=float, default=20.0, help="of each recording (default 20)")
    made.add_argument("--seeds", type=int, nargs="+", default=[0])
    made.add_argument(
        "--set", dest="overrides", nargs="+", default=[], metavar="KEY.PATH=VALUE", help="of each training"
    )
    options = made.parse_args()
    if wrong := sorted(set(options.ways) - set(train.ways_of(options.task))):
        made.error(f"--ways: {wrong[0]!r} given; accepted are {', '.join(map(repr, train.ways_of(options.task)))}")
    return options


def _show(report: dict[str, Any]) -> None:
    for name, show in (
        ("coverage", coverage.show),
        ("twin", twin.show),
        ("arms", arm.show),
        ("train", train.show),
        ("preflight", preflight.show),
    ):
        if name in report:
            show(report[name], tables())


if __name__ == "__main__":
    sys.exit(main())
