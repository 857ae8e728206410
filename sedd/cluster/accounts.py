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
        "format=user,account",
    ]
    return parse_accounts(run(command, timeout_s=timeout_s), user=user)


def parse_accounts(text: str, *, user: str) -> tuple[str, ...]:
    """The accounts in lines `user|account`, each once: there is one association for every partition of an account."""
    pairs = (line.strip().partition("|") for line in text.splitlines())
    return tuple(dict.fromkeys(account for name, _, account in pairs if account and name == user.lower()))
