"""A plan of tiny stages, and its submission by the very functions of the command line."""

import datetime as dt
import gzip
from pathlib import Path

from sedd.cluster.profile import LocalProfile, Profile
from sedd.experiments.plan_graph import build_graph
from sedd.experiments.stages import Step
from sedd.experiments.submit_plan import PlanSubmission, Site, foresee, resolver_for, submit_plan
from sedd.rundir.plan_record import find_own_plan
from sedd.spec.plan import load_plan
from tests.tiny import PROTEINS

SMALL = "resources: {gpus_per_node: 0, cpus_per_process: 1, memory: 1GiB, walltime: 10m}"
LOCAL = LocalProfile(executor="local")
PLAN = f"""\
name: tiny-plan
stages:
  data:
    spec:
      task: data
      build: {{inputs: [p.fasta], store: p.store, validation_fraction: 0.2}}
      resources: {{cpus_per_process: 1, memory: 1GiB, walltime: 10m}}
  train:
    needs: [data]
    spec:
      data: {{store: "${{data.store}}", max_length: 64}}
      model: {{hidden: 16, cond: 8, blocks: 1, heads: 2}}
      training:
        steps: 4
        residues_per_step: 256
        residues_per_gpu: 256
        validation: {{every_steps: 4, residues: 256}}
        checkpoint: {{every_steps: 2}}
      {SMALL}
      tracking: {{wandb: disabled}}
      sweep: {{grid: {{seed: [0, 1]}}, parallel: 2}}
  evaluate:
    each: train
    spec:
      task: evaluate
      evaluate: {{network: "${{train.run}}", fasta: [p.fasta], draws: 2}}
      {SMALL}
  sample:
    needs: [train]
    spec:
      task: sample
      sample: {{network: "${{train.best}}", count: 2, length: 20, steps: 4, report: false}}
      {SMALL}
  rescue:
    needs: {{train: on_failure}}
    spec:
      task: evaluate
      evaluate: {{network: "${{train.best}}", fasta: [p.fasta], draws: 2}}
      {SMALL}
"""


def write_plan_file(folder: Path, text: str = PLAN) -> Path:
    """`plan.yaml`, beside the proteins that it names."""
    with gzip.open(PROTEINS, "rt") as proteins:
        lines = [next(proteins) for _ in range(300)]
    (folder / "p.fasta").write_text("".join(lines))
    (folder / "plan.yaml").write_text(text)
    return folder / "plan.yaml"


def site(folder: Path, profile: Profile = LOCAL) -> Site:
    return Site(
        profile=profile, runs=folder / "runs", settle=lambda request: request, count=lambda experiment: None
    )


def submitted(
    plan: Path, profile: Profile = LOCAL, *, any_code: bool = False, anew: bool = False
) -> PlanSubmission:
    return submit_plan(
        build_graph(load_plan(plan)),
        site(plan.parent, profile),
        source=plan.read_text(),
        now=dt.datetime.now(dt.UTC),
        any_code=any_code,
        anew=anew,
    )


def foreseen(plan: Path, profile: Profile = LOCAL, *, any_code: bool = False) -> dict[str, Step]:
    graph, where = build_graph(load_plan(plan)), site(plan.parent, profile)
    before = find_own_plan(graph.name, where.runs)
    resolver = resolver_for(graph, where, before=before, any_code=any_code)
    return {step.stage.name: step for step in foresee(resolver)}


def to_be_made(plan: Path, *, any_code: bool = False) -> dict[str, int]:
    """How many runs of each stage would be made; stages of which none would are left out."""
    steps = foreseen(plan, any_code=any_code)
    return {name: len(step.missing.numbers) for name, step in steps.items() if step.missing}
