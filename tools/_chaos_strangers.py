"""Other people's jobs on the clusters: planted to have the ids of our runs' jobs, and looked after to the end."""

import os
import subprocess
from dataclasses import dataclass, field

from sedd.errors import ClusterError

MOST = 60
"""Jobs that are planted at a time."""
_WATCHED = ("JobState", "Restarts", "SubmitTime", "EligibleTime", "TimeLimit", "Dependency", "ExcNodeList")


@dataclass(frozen=True, slots=True)
class Stranger:
    """A job that is none of ours; it waits in the queue, so that no fault of a node can touch it."""

    conf: str
    """SLURM_CONF of its cluster."""
    job_id: str
    record: str


@dataclass(slots=True)
class Strangers:
    """All that have been planted."""

    planted: int = 0
    touched: list[str] = field(default_factory=list)
    waiting: list[Stranger] = field(default_factory=list)

    def plant(self, conf: str, *, up_to: int) -> int:
        """Submit jobs until one has the id `up_to`; returns how many they are. Raises: ClusterError."""
        planted: list[str] = []
        while len(planted) < MOST and (not planted or number_of(planted[-1]) < up_to):
            planted.append(_ask(conf, "sbatch", "--parsable", "--begin=now+1day", "--wrap=sleep 600").strip())
        records = _records(conf)
        self.waiting += [Stranger(conf, job_id, records[job_id]) for job_id in planted]
        self.planted += len(planted)
        return len(planted)

    def look(self, conf: str) -> None:
        """Note which have been touched: gone, or changed in any way. Raises: ClusterError."""
        records = _records(conf)
        for stranger in [s for s in self.waiting if s.conf == conf]:
            seen = records.get(stranger.job_id, "nothing")
            if seen != stranger.record:
                self.touched.append(f"job {stranger.job_id}: {stranger.record} became {seen}")
                self.waiting.remove(stranger)

    def forget(self, conf: str) -> None:
        """Their cluster has lost its state."""
        self.waiting = [s for s in self.waiting if s.conf != conf]


def number_of(job_id: str) -> int:
    """17 for job 17, and for task 17_3."""
    return int(job_id.partition("_")[0])


def _records(conf: str) -> dict[str, str]:
    """What an action of ours would change of a waiting job, for all jobs by id."""
    found = {}
    for line in _ask(conf, "scontrol", "show", "job", "--oneliner").splitlines():
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if job_id := words.get("JobId"):
            found[job_id] = " ".join(f"{name}={words.get(name)}" for name in _WATCHED)
    return found


def _ask(conf: str, *command: str) -> str:
    environment = os.environ | {"SLURM_CONF": conf}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise ClusterError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
