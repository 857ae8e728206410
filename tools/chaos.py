"""Hurt real training runs on a throw-away SLURM in every way SLURM knows, and see whether they end equal to the bit.

It brings up a dev cluster of its own (or takes the one that SLURM_CONF names), trains each layout once undisturbed,
then again and again under faults drawn by --seed. Root; two cores will do. Exit code 0: every run completed, equal
to the bit, trained by one attempt at a time, without a step lost by a graceful stop and without a process left over.

python tools/chaos.py --seed 1 --faults 25 --json > 1.json
python tools/chaos.py --show 1.json 2.json
"""

import argparse
import dataclasses
import datetime as dt
import json
import math
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _chaos_faults import FAULTS, possible
from _chaos_identity import give_time_back
from _chaos_runs import GPU_LAYOUTS, LAYOUTS, PARTITIONS, Watched, build_store, submit
from _chaos_scene import Scene
from _chaos_site import Site, jobs, leftovers, open_site, workers
from _chaos_table import render
from _chaos_verdict import Injury, Overlap, Verdict, judge
from rich.console import Console

from sedd.cluster.control import update_job
from sedd.cluster.identity import own_job
from sedd.cluster.jobs import JobFact
from sedd.cluster.stopping import is_held_after_launch
from sedd.errors import ClusterError, SeddError
from sedd.launch.requeue import requeue

TICK_S = 0.2
WAKES_S = 2.0
"""In which a process that goes on after a SIGSTOP sees that another attempt has begun, and ends."""
LOST_AFTER_S = 30.0
"""A run that has not completed and whose job SLURM has ended, or forgotten, for so long goes on no more by itself."""
LOG = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def main() -> int:
    """Run a campaign, or show earlier ones; returns the exit code."""
    arguments = _parse()
    for number in (signal.SIGINT, signal.SIGTERM):  # also where we were started with them ignored
        signal.signal(number, lambda *_: sys.exit(1))
    if arguments.show:
        try:
            campaigns = [json.loads(path.read_text()) for path in arguments.show]
        except (OSError, ValueError) as e:
            print(f"error: not the JSON of a campaign that has ended: {e}", file=sys.stderr)
            return 2
    else:
        try:
            with_other = "two clusters" in arguments.only
            with open_site(os.environ.get("SLURM_CONF"), with_other=with_other) as site:
                campaigns = [_campaign(site, arguments)]
        except SeddError as e:
            print(f"error: {e.message}", *([f"hint: {e.hint}"] if e.hint else []), sep="\n", file=sys.stderr)
            return e.exit_code
    if arguments.json:
        print(json.dumps(campaigns[0] if len(campaigns) == 1 else campaigns, indent=1))
    else:
        Console(width=80).print(render(campaigns))
    return 0 if all(campaign["good"] for campaign in campaigns) else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="decides what is hurt, how and when")
    parser.add_argument("--faults", type=int, default=10)
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS), help="kinds of faults")
    parser.add_argument(
        "--layouts",
        nargs="+",
        choices=[*LAYOUTS, *GPU_LAYOUTS],
        default=list(LAYOUTS),
        help=f"default: all but {' and '.join(GPU_LAYOUTS)}, which train on real GPUs",
    )
    parser.add_argument("--steps", type=int, default=800, help="of each run; about 10 ms each")
    parser.add_argument("--every", type=float, default=4.0, metavar="S", help="seconds between faults")
    parser.add_argument(
        "--patience",
        type=float,
        default=400.0,
        metavar="S",
        help="after the last fault; also for the undisturbed runs",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--show", nargs="+", type=Path, metavar="JSON", help="tables of earlier campaigns")
    return parser.parse_args()


def _campaign(site: Site, arguments: argparse.Namespace) -> dict[str, Any]:
    began = time.monotonic()
    store = build_store(site)
    references = Campaign(site, arguments, store)
    # What a hostile shell submits is single.
    for layout in dict.fromkeys(
        [*arguments.layouts, *(["single"] if "hostile shell" in arguments.only else [])]
    ):
        references.submit(layout, "requeue")
    references.finish()
    if lost := [watched for watched in references.runs if not watched.is_completed]:
        _show(site, lost[0])
        raise ClusterError(
            f"an undisturbed run did not complete in {time.monotonic() - began:.0f} s: {lost[0].run.path}",
            hint="its events and logs are above; if it was still training, give it longer: --patience",
        )
    by_layout = {watched.layout: watched for watched in references.runs}
    LOG.print(f"references trained in {time.monotonic() - began:.0f} s")
    campaign = Campaign(site, arguments, store)
    campaign.hurt()
    campaign.finish()
    orphans = campaign.find_orphans()
    judged = [watched for watched in campaign.runs if not watched.is_deleted]
    verdicts = [judge(w, by_layout[w.layout], campaign.injuries, campaign.overlaps) for w in judged]
    _explain(site, verdicts, judged, orphans)
    scene = campaign.scene
    is_well_behaved = not (orphans or scene.violations or scene.strangers.touched)
    return {
        "seed": arguments.seed,
        "arguments": sys.argv[1:],
        "machine": f"{os.cpu_count()} cores",
        "seconds": round(time.monotonic() - began),
        "good": all(verdict.is_good for verdict in verdicts) and is_well_behaved,
        "orphans": orphans,
        "strangers": {"planted": scene.strangers.planted, "touched": scene.strangers.touched},
        "violations": scene.violations,
        "deleted": sum(watched.is_deleted for watched in campaign.runs),
        "by_hand": campaign.by_hand,
        "faults": [dataclasses.asdict(injury) | {"t": injury.t.isoformat()} for injury in campaign.injuries],
        "runs": [verdict.to_json() for verdict in verdicts],
    }


class Campaign:
    """Runs that are kept under way, hurt, and watched to their ends."""

    def __init__(self, site: Site, arguments: argparse.Namespace, store: Path) -> None:
        self.site = site
        self.runs: list[Watched] = []
        self.injuries: list[Injury] = []
        self.overlaps: list[Overlap] = []
        self.by_hand = {"held": 0, "ended": 0}
        """How often it took a user's `sedd requeue`: jobs that SLURM held after a node failed to launch them, and jobs
        that SLURM ended though it had accepted their requeue."""
        self._arguments = arguments
        self._store = store
        self._rng = random.Random(arguments.seed)
        self.scene = Scene(site, self._rng, self.submit)
        self._seen_alive: dict[str, float] = {}
        self._stopped: dict[int, float] = {}
        """When a process was last seen stopped."""
        self._next_look = 0.0

    def submit(self, layout: str, partition: str, **shell: str) -> list[Watched]:
        """Start one more job or array of this layout, from a shell with these variables."""
        made = submit(self.site, layout, partition, self._store, steps=self._arguments.steps, shell=shell)
        self.runs += made
        return made

    def hurt(self) -> None:
        """Inject the faults, keeping one job of each layout under way."""
        kinds: list[str] = []
        allowed = possible(self.site, self._arguments.only)
        if not allowed:
            raise ClusterError("none of these faults is possible here: no file system may be mounted")
        due = time.monotonic()
        while len(self.injuries) < self._arguments.faults:
            self._resubmit()
            self._tick()
            if time.monotonic() < due:
                continue
            if not kinds:  # a shuffled deck: every kind comes as often as the others
                kinds = self._rng.sample(allowed, len(allowed))
            if self._injure(kinds[-1]):
                kinds.pop()
                due = time.monotonic() + self._rng.uniform(0.2, 2 * self._arguments.every)
            else:
                self._rng.shuffle(kinds)
                due = time.monotonic() + 0.5

    def finish(self) -> None:
        """Repair what is broken and wait until every run has completed or is lost."""
        deadline = time.monotonic() + self._arguments.patience
        while (self._under_way() or self.scene.repairs) and time.monotonic() < deadline:
            self._tick()
        for conf in {stranger.conf for stranger in self.scene.strangers.waiting}:
            self.scene.strangers.look(conf)

    def find_orphans(self) -> list[str]:
        """Processes that are left although every run has ended."""
        deadline = time.monotonic() + 60
        while (left := leftovers(self.site.runs)) and time.monotonic() < deadline:
            time.sleep(1)
        return left

    def _injure(self, kind: str) -> bool:
        self.scene.runs = [watched for watched in self._under_way() if not watched.is_away]
        try:
            harm = FAULTS[kind](self.scene)
        except ClusterError as e:
            LOG.print(f"  ({kind}: {e.message})")
            return False
        if harm is None:
            return False
        now = dt.datetime.now(dt.UTC)
        victims = tuple(str(watched.run.path) for watched in harm.victims)
        self.injuries.append(Injury(fault=kind, t=now, victims=victims, detail=harm.detail))
        names = " ".join(f"{watched.layout}:{watched.run.id}" for watched in harm.victims)
        LOG.print(f"{now:%H:%M:%S} {len(self.injuries)} {kind} {harm.detail} → {names}")
        return True

    def _resubmit(self) -> None:
        busy = {watched.layout.partition("/")[0] for watched in self._under_way()}
        if self.scene.is_hurt("slurmctld") or self.scene.is_hurt("disk"):
            return  # a user's submission may fail now, and says so; this is about runs that exist
        for layout in self._arguments.layouts:
            if layout not in busy:
                self.submit(layout, self._rng.choice(PARTITIONS))

    def _tick(self) -> None:
        time.sleep(TICK_S)
        self._repair()
        self._look_for_overlaps()
        if time.monotonic() > self._next_look:
            self._next_look = time.monotonic() + 1.0
            self._watch_queue()

    def _repair(self) -> None:
        for repair in [r for r in self.scene.repairs if r.is_due()]:
            self.scene.repairs.remove(repair)
            try:
                repair.act()
            except ClusterError as e:
                LOG.print(f"  (repair of {repair.what}: {e.message})")
                self.scene.later(1.0, repair.act, repair.what)

    def _look_for_overlaps(self) -> None:
        """One that we hold by SIGSTOP trains nothing, and has a moment to notice, once it goes on, that it is late."""
        alive: dict[str, set[int]] = {}
        now = time.monotonic()
        for worker in workers(self.site.runs):
            if worker.is_stopped:
                self._stopped[worker.pid] = now
            if now - self._stopped.get(worker.pid, -math.inf) > WAKES_S:
                alive.setdefault(str(worker.run), set()).add(worker.attempt)
        for run, attempts in alive.items():
            overlap = Overlap(run=run, attempts=tuple(sorted(attempts)))
            if len(attempts) > 1 and overlap not in self.overlaps:
                self.overlaps.append(overlap)
                LOG.print(f"  attempts {overlap.attempts} of {run} train at once")

    def _watch_queue(self) -> None:
        """Note which runs have ended, and waive the waits that SLURM imposes after a requeue."""
        known = jobs()
        now = time.monotonic()
        for watched in self._under_way():
            if watched.is_away:
                continue
            job = watched.own(known)
            if watched.is_completed:
                watched.ended = now
            elif not known or (job is not None and not job.state.is_final):
                self._seen_alive[str(watched.run.path)] = now
            elif now - self._seen_alive.setdefault(str(watched.run.path), now) > LOST_AFTER_S:
                self._revive(watched, f"job {watched.job_id} {job.state if job else 'forgotten'}")
                self._seen_alive[str(watched.run.path)] = now
            if job is not None and job.state.is_waiting:
                self._speed_up(watched, job)

    def _speed_up(self, watched: Watched, job: JobFact) -> None:
        """Waive the wait after a requeue; release, as a user does, what a failed launch left held."""
        try:
            if job.time_limit_s and job.time_limit_s < 3600:
                give_time_back(job.job_id)
            soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=8)
            if job.reason == "BeginTime" and job.starts_at and job.starts_at > soon:
                update_job(own_job(job.job_id), start_soon=True, timeout_s=5)
            elif is_held_after_launch(job):
                requeue([watched.run], now=dt.datetime.now(dt.UTC))
                self.by_hand["held"] += 1
                LOG.print(f"  held after a failed launch, released: {watched.run.path}")
        except SeddError:
            return  # it has begun, or the controller is away

    def _revive(self, watched: Watched, what: str) -> None:
        """Do what a user does about a job that SLURM has dropped; a run that has given up itself is lost."""
        LOG.print(f"  ended: {watched.run.path}, {what}\n{self.site.controller_says(watched.job_id)}")
        if watched.said()[-1].event == "gave_up":
            LOG.print(f"  lost: {watched.run.path}: it has given up")
            watched.ended = time.monotonic()
            return
        try:
            requeue([watched.run], now=dt.datetime.now(dt.UTC))
            self.by_hand["ended"] += 1
        except SeddError as e:  # also for a full disk, or a folder that is away at the moment
            LOG.print(f"  (not yet: {e.message})")

    def _under_way(self) -> list[Watched]:
        return [watched for watched in self.runs if watched.ended is None]


def _explain(
    site: Site, verdicts: Sequence[Verdict], runs: Sequence[Watched], orphans: Sequence[str]
) -> None:
    """All that is known of the runs that did not end well, while their folders are still there."""
    for verdict, watched in zip(verdicts, runs, strict=True):
        if verdict.is_good:
            continue
        LOG.rule(f"{verdict.layout} {verdict.run}")
        LOG.print(f"completed: {verdict.completed}, different: {' '.join(verdict.differences[:9])}")
        _show(site, watched)
    for orphan in orphans:
        LOG.print(f"orphan {orphan}")


def _show(site: Site, watched: Watched) -> None:
    """A run's events, what slurmctld says of its job, and the ends of its logs."""
    LOG.print(watched.run.events.read_text())
    LOG.print(site.controller_says(watched.job_id))
    for log in sorted([*watched.run.logs.iterdir(), *watched.run.submitit.glob("*.out")]):
        LOG.rule(log.name)
        LOG.print("\n".join(log.read_text(errors="replace").splitlines()[-30:]))


if __name__ == "__main__":
    sys.exit(main())
