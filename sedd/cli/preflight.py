"""`sedd preflight`: will this spec run to its end here?"""

from pathlib import Path
from typing import Annotated

import typer

from sedd.cli.console import out, print_json
from sedd.cli.options import Cluster, Json, Overrides
from sedd.cluster.profile import load_profile
from sedd.errors import UsageError
from sedd.preflight.finding import has_failures
from sedd.preflight.resolve_auto import resolve_auto
from sedd.preflight.run_checks import check_login, check_node
from sedd.preflight.show.render import conclusion, failures_again, findings_table
from sedd.rundir.find import runs_root
from sedd.spec.experiment import Experiment
from sedd.spec.load import load_request
from sedd.spec.plan import is_plan


def command(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="Experiment spec, or a plan (jobs/*.yaml).")],
    cluster: Cluster = None,
    node: Annotated[
        bool, typer.Option("--node/--login", help="Check this machine as a compute node, with torch.")
    ] = False,
    set_: Overrides = None,
    strict: Annotated[bool, typer.Option("--strict", help="A WARN counts as a failure.")] = False,
    json: Json = False,
) -> None:
    """Run the readiness checks alone; exit code 1 when the job would not run to its end.

    Of a sweep every kind of run is checked; --node looks at the first point. Of a plan every stage that is still to be
    made: what looks at files of an earlier stage is LATER.

    Example: sedd preflight jobs/uniref50_small.yaml --cluster slurm/v100.yaml
    """
    if is_plan(spec):
        if node or set_:
            raise UsageError(
                f"{spec} is a plan: it is checked by itself, without --set and --node",
                hint="write `set:` into its stages; --node takes the spec of one stage",
            )
        from sedd.cli.preflight_plan import preflight_plan

        preflight_plan(spec, cluster, strict=strict, as_json=json)
        return
    profile = load_profile(cluster, spec=spec)
    request = resolve_auto(load_request(spec, set_ or ()), profile)
    if node:
        findings = check_node(request.experiments[0], profile, None, ranks_size=1, rank=0, local_rank=0)
    else:
        findings = check_login(request, profile, runs=runs_root())
    is_ready = not has_failures(findings, strict=strict)
    if json:
        side = "node" if node else "login"
        print_json({"ready": is_ready, "side": side, "findings": [finding.as_json() for finding in findings]})
    else:
        table, console = findings_table(findings), out()
        console.print(table)
        printed = len(console.render_lines(table))
        again = failures_again(
            [("", finding) for finding in findings], printed=printed, height=console.height, strict=strict
        )
        if again:
            console.print("\nwhat failed, once more:")
            console.print(again)
        trains = any(isinstance(one, Experiment) for one in request.experiments)
        out().print(conclusion(findings, strict=strict, trains=trains))
    if not is_ready:
        raise typer.Exit(1)
