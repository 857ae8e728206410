"""SLURM's commands as scripts: a queue in a file, with the limits that a test sets."""

from pathlib import Path

_SBATCH = """#!/bin/bash
cd '{folder}'
script=$1
if [ "$1" = --test-only ]; then script=asked; cat > asked; fi
refused() {{ echo "sbatch: error: Batch job submission failed: $1" >&2; exit 1; }}
[ -e refuse ] && refused "$(cat refuse)"
comment=$(sed -n 's/^#SBATCH --comment=.\\(.*\\).$/\\1/p' "$script")
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
tasks=$((${{last:-0}} + 1))
waiting=$(wc -l < queue)
if [ -e limit ] && [ $((waiting + tasks)) -gt $(cat limit) ]; then
    echo "sbatch: error: AssocMaxSubmitJobLimit" >&2
    refused "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
fi
[ "$1" = --test-only ] && exit 0
number=$(cat number); echo $((number + 1)) > number
echo "$tasks" >> arrays
[ -e then ] && . ./then
for task in $(seq 0 $((tasks - 1))); do
    if [ -z "$last" ]; then echo "$number|$comment"; else echo "${{number}}_$task|$comment"; fi
done >> queue
[ -e after ] && . ./after
echo "Submitted batch job $number"
"""
_SQUEUE = """#!/bin/bash
[ -e '{folder}/down' ] && echo 'slurm_load_jobs error: Socket timed out' >&2 && exit 1
cat '{folder}/queue'
"""
_SCANCEL = "#!/bin/bash\necho \"$@\" >> '{folder}/cancelled'\n"
_SCONTROL = "#!/bin/bash\necho 'SLURM_VERSION = 22.05.8'; echo 'MaxArraySize = '$(cat '{folder}/largest')\n"


def install(folder: Path) -> Path:
    """Write the commands into a folder, which is to be first on PATH.

    Files beside them steer them: `limit`, jobs that the queue takes; `largest`, MaxArraySize; `refuse`, why sbatch
    refuses everything; `then` and `after`, what its shell does before and after it has the job; `down`, no squeue.
    What scancel was asked for is in `cancelled`.
    """
    folder.mkdir()
    for name, text in (
        ("sbatch", _SBATCH),
        ("squeue", _SQUEUE),
        ("scontrol", _SCONTROL),
        ("scancel", _SCANCEL),
    ):
        (folder / name).write_text(text.format(folder=folder))
        (folder / name).chmod(0o755)
    (folder / "queue").touch()
    (folder / "number").write_text("7\n")
    (folder / "largest").write_text("100\n")
    return folder


def arrays(folder: Path) -> list[int]:
    """How many tasks each submission had."""
    path = folder / "arrays"
    return [int(line) for line in path.read_text().split()] if path.exists() else []
