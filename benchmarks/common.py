"""What every benchmark needs: one thread a process, a description of the machine, and memory of a process tree."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.report import PACKAGES, installed_versions

ROOT = Path(__file__).resolve().parents[1]
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
MB = 1024 * 1024
WIDTH_IN_FILES = 170


def parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """With `--json`, which every benchmark has."""
    made = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    made.add_argument("--json", action="store_true", help="print only JSON")
    return made


def child_environment(**more: str) -> dict[str, str]:
    """For a subprocess: this project importable from anywhere, and one thread for each numerical library."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, **ONE_THREAD, "PYTHONPATH": path, **more}


def tables() -> Console:
    """Where results go."""
    return Console(width=None if sys.stdout.isatty() else WIDTH_IN_FILES, highlight=False)


def tell(text: str) -> None:
    """A line of progress, on stderr so that stdout holds only results."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """Tells every few seconds how far `count` equal pieces of work have come, and how long the rest will take."""

    def __init__(self, count: int, every_s: float = 5.0) -> None:
        self._count, self._every_s, self._done = count, every_s, 0
        self._began = self._told = time.monotonic()

    def step(self, what: str) -> None:
        """One more is done."""
        self._done += 1
        now = time.monotonic()
        if now - self._told >= self._every_s or self._done == self._count:
            self._told = now
            left_s = (now - self._began) / self._done * (self._count - self._done)
            tell(f"{what}: {self._done} of {self._count} in {now - self._began:.0f} s, about {left_s:.0f} s to go")


def print_json(value: Mapping[str, Any]) -> None:
    print(json.dumps(value, indent=2))


def number(value: float | None, form: str = ",.0f", none: str = "–") -> str:
    return none if value is None else format(value, form)


def middle(values: Sequence[float | None]) -> float | None:
    """The median; None (not reached, not measured) counts as larger than any number."""
    ordered = sorted(float("inf") if value is None else value for value in values)
    if not ordered:
        return None
    median = statistics.median(ordered)
    return None if median in (float("inf"), None) or median != median else median


def machine() -> dict[str, Any]:
    """Where and when this was measured. `load` is the load average of the last minute before it began."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    extra = ("stable_baselines3",)
    versions = installed_versions()
    versions |= {name: importlib.metadata.version(name) for name in extra if _is_installed(name)}
    return {
        "cpu": _cpu_model(),
        "cores": len(usable),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3, 1),
        "system": platform.platform(),
        "load": round(os.getloadavg()[0], 2),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: versions[name] for name in ("python", *PACKAGES, *extra) if name in versions},
    }


def machine_line(described: Mapping[str, Any]) -> str:
    return (
        f"{described['cpu']}, {described['cores']} cores, {described['memory_gb']:g} GB, load "
        f"{described['load']:g} at the start, {described['date']}"
    )


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


# -- memory -----------------------------------------------------------------------------------------------------------


@cache
def psutil() -> Any:
    """The psutil that comes inside Ray, without importing Ray: a contender without it is to stay so."""
    spec = importlib.util.find_spec("ray")
    folder = Path(spec.origin).parent / "thirdparty_files" if spec and spec.origin else None
    if folder and folder.is_dir() and str(folder) not in sys.path:
        sys.path.append(str(folder))
    return importlib.import_module("psutil")


def tree(pid: int, without: int | None = None) -> list[Any]:
    """The process and its descendants, leaving out the process `without` and what it started."""
    ps = psutil()
    try:
        found = [ps.Process(pid)]
        found += found[0].children(recursive=True)
        skipped = set()
        if without is not None:
            skipped = {without, *(child.pid for child in ps.Process(without).children(recursive=True))}
    except ps.NoSuchProcess:
        return []
    return [process for process in found if process.pid not in skipped]


def resident_mb(processes: Sequence[Any]) -> tuple[str, float]:
    """Memory of the processes now, and how it was counted: shared pages once (PSS) where the system can tell."""
    ps, total, kind = psutil(), 0, "PSS"
    for process in processes:
        try:
            info = process.memory_full_info()
            kind = "PSS" if hasattr(info, "pss") else "USS"
            total += getattr(info, "pss", info.uss)
        except ps.Error:
            continue
    return kind, total / MB


def peak_rss_mb(processes: Sequence[Any]) -> float:
    """The sum of what each process ever had resident; pages that they share are counted for each."""
    total = 0.0
    for process in processes:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            total += next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
        except (OSError, StopIteration):
            continue
    return total


class MemoryWatch:
    """Samples the memory of a process tree from a thread until closed.

    Every `EVERY_S` the resident sizes are added up (`peak_rss_mb`, shared pages counted for each process). Counting
    shared pages once (`peak_mb`, by `kind`) takes the system much longer, so that is done when the first has risen to
    a new height, and every `SLOWLY_S` in any case.
    """

    EVERY_S, SLOWLY_S, RISE = 0.2, 2.0, 1.01

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.peak_mb, self.peak_rss_mb, self.kind, self.samples, self.processes = 0.0, 0.0, "PSS", 0, 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._thread.join()

    def summary(self) -> dict[str, Any]:
        return {
            "peak_mb": self.peak_mb,
            "kind": self.kind,
            "peak_rss_mb": self.peak_rss_mb,
            "processes": self.processes,
            "samples": self.samples,
        }

    def _run(self) -> None:
        counted_at, counted_rss = 0.0, 0.0
        while not self._closing.wait(self.EVERY_S):
            processes = tree(self._pid)
            rss = _rss_mb(processes)
            self.samples += 1
            self.peak_rss_mb = max(self.peak_rss_mb, rss)
            now = time.monotonic()
            if rss < self.RISE * counted_rss and now - counted_at < self.SLOWLY_S:
                continue
            counted_at, counted_rss = now, max(counted_rss, rss)
            kind, now_mb = resident_mb(processes)
            if now_mb > self.peak_mb:
                self.peak_mb, self.kind, self.processes = now_mb, kind, len(processes)


def _rss_mb(processes: Sequence[Any]) -> float:
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil().Error:
            continue
    return total / MB
