"""`sedd preflight`: will this spec run to its end here?"""

from pathlib import Path
from typing import Annotated

import typer

from sedd.cli.console import out, print_json
from sedd.cli.options import Cluster, Json, Overrides
from sedd.cluster.profile import load_profile
from sedd.preflight.finding import has_failures
from sedd.preflight.resolve_auto import resolve_auto
from sedd.preflight.run_checks import check_login, check_node
from sedd.preflight.show.render import conclusion, findings_table
from sedd.rundir.find import runs_root
from sedd.spec.load import load_request


def command(
    spec: Annotated[Path, typer.Argument(help="Experiment spec, such as jobs/quickstart.yaml.")],
    cluster: Cluster = None,
    node: Annotated[
        bool, typer.Option("--node/--login", help="Check this machine as a compute node, with torch.")
    ] = False,
    set_: Overrides = None,
    strict: Annotated[bool, typer.Option("--strict", help="A WARN counts as a failure.")] = False,
    json: Json = False,
) -> None:
    """Run the readiness checks alone; exit code 1 when the job would not run to its end.

    Of a sweep every kind of run is checked. --node looks at the first point.

    Example: sedd preflight jobs/uniref50_small.yaml --cluster slurm/v100.yaml
    """
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
        out().print(findings_table(findings))
        out().print(conclusion(findings, strict=strict))
    if not is_ready:
        raise typer.Exit(1)
