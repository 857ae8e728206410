"""What a user may charge jobs to, as slurmdbd knows it."""

from sedd.cluster.command import DEFAULT_TIMEOUT_S, run


def query_accounts(user: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> tuple[str, ...]:
    """The accounts that a user has at this site. Raises: SlurmUnreachableError, ClusterError as `command.run`."""
    command = [
        "sacctmgr",
        "--noheader",
        "--parsable2",
        "show",
        "associations",
        f"user={user}",
        "format=account",
    ]
    return parse_accounts(run(command, timeout_s=timeout_s))


def parse_accounts(text: str) -> tuple[str, ...]:
    """The accounts, one a line, each once: a user has one association for every partition of an account."""
    return tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
