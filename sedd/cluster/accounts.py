"""What a user may charge jobs to, and under which QOS, as slurmdbd knows it."""

from sedd.cluster.assoc_state import CHOICE_FIELDS, QosChoice, parse_qos_choices
from sedd.cluster.command import DEFAULT_TIMEOUT_S, run
from sedd.cluster.jobs import parse_limit_s

_SACCTMGR = ["sacctmgr", "--noheader", "--parsable2", "show"]


def query_accounts(user: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> tuple[str, ...]:
    """The accounts that a user has at this site. Raises: SlurmUnreachableError, ClusterError as `command.run`."""
    command = [*_SACCTMGR, "associations", f"user={user}", "format=user,account"]
    return parse_accounts(run(command, timeout_s=timeout_s), user=user)


def query_choices(user: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> list[QosChoice]:
    """A user's associations: account, partition, QOS. Raises: SlurmUnreachableError, ClusterError as `command.run`."""
    command = [*_SACCTMGR, "associations", f"user={user}", f"format={','.join(CHOICE_FIELDS)}"]
    return parse_qos_choices(run(command, timeout_s=timeout_s))


def query_qos_walltimes(*, timeout_s: float = DEFAULT_TIMEOUT_S) -> dict[str, int | None]:
    """The longest time limit of each QOS in seconds; None: it sets none. Raises: as `query_accounts`."""
    return parse_qos_walltimes(run([*_SACCTMGR, "qos", "format=name,maxwall"], timeout_s=timeout_s))


def parse_accounts(text: str, *, user: str) -> tuple[str, ...]:
    """The accounts in lines `user|account`, each once: there is one association for every partition of an account."""
    pairs = (line.strip().partition("|") for line in text.splitlines())
    return tuple(dict.fromkeys(account for name, _, account in pairs if account and name == user.lower()))


def parse_qos_walltimes(text: str) -> dict[str, int | None]:
    """Seconds in lines `qos|1-00:00:00`; None where the time is empty."""
    pairs = (line.strip().partition("|") for line in text.splitlines())
    return {name: parse_limit_s(limit) for name, _, limit in pairs if name}
