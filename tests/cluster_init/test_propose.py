"""What `sedd cluster init` proposes for sites of several kinds."""

import datetime as dt
from dataclasses import replace

import pytest

from sedd.cluster.assoc_state import QosChoice
from sedd.cluster.profile import SlurmProfile, read_profile
from sedd.cluster.site import Node, Partition, parse_config, parse_nodes, parse_partitions
from sedd.cluster_init.gpu_partitions import choose_partition, is_open, memory_named
from sedd.cluster_init.profile_text import profile_text
from sedd.cluster_init.propose import propose
from sedd.cluster_init.site_facts import SiteFacts, find_node_folders
from sedd.errors import ClusterError
from sedd.yaml import parse_document
from tests.cluster.recorded import COMPOSED, RECORDED, sample

NOW = dt.datetime(2026, 11, 29, tzinfo=dt.UTC)


def partition(name: str, **changes: object) -> Partition:
    plain: dict[str, object] = {
        "name": name,
        "state": "UP",
        "nodes": None,
        "total_nodes": 1,
        "max_time_s": None,
        "max_nodes": None,
        "default_time_s": None,
        "grace_s": 0,
        "preempt_mode": "OFF",
        "priority_tier": 1,
        "is_default": False,
        "allow_accounts": None,
        "allow_qos": None,
    }
    return Partition(**plain | changes)  # type: ignore[arg-type] # by name


def node(name: str, *partitions: str, gpus: dict[str, int] | None = None, **changes: object) -> Node:
    plain: dict[str, object] = {
        "state": ("IDLE",),
        "cpus": 40,
        "memory_mib": 180_000,
        "used_gpus": 0,
        "features": (),
        "reason": None,
    }
    return Node(name=name, partitions=partitions, gpus=gpus or {}, **plain | changes)  # type: ignore[arg-type] # by name


def site(*, partitions: list[Partition], nodes: list[Node], **changes: object) -> SiteFacts:
    facts = SiteFacts(
        config=parse_config(sample("22.05.8", "config")),
        partitions=tuple(partitions),
        nodes=tuple(nodes),
        user="ada",
        python="/home/ada/venv/bin/python",
    )
    return replace(facts, **changes)


def profile_of(facts: SiteFacts) -> SlurmProfile:
    text = profile_text(propose(facts), cluster=facts.config.cluster, now=NOW)
    profile = read_profile(parse_document(text, name="proposed"))
    assert isinstance(profile, SlurmProfile)
    return profile


def comments_of(facts: SiteFacts) -> str:
    """The file's comments as running text."""
    text = profile_text(propose(facts), cluster="c", now=NOW)
    assert all(len(line) <= 110 for line in text.splitlines())
    return " ".join(line[2:] for line in text.splitlines() if line.startswith("# "))


@pytest.mark.parametrize("version", [*RECORDED, *COMPOSED])
def test_a_profile_comes_of_every_slurm(version: str) -> None:
    facts = SiteFacts(
        config=parse_config(sample(version, "config")),
        partitions=tuple(parse_partitions(sample(version, "partitions"))),
        nodes=tuple(parse_nodes(sample(version, "nodes"))),
        user="ada",
        python="/usr/bin/python3",
    )
    profile = profile_of(facts)
    assert profile.partition == choose_partition(facts).name
    chosen = [n for n in facts.nodes if profile.partition in n.partitions]
    assert any(profile.gpu.type in n.gpus if profile.gpu.type else n.gpus for n in chosen)


@pytest.mark.parametrize(
    "name",
    [
        "3090",
        "012345",
        "1e3",
        "no",
        "null",
        "true",
        "1_0",
        "24:00",
        "~",
        "a, b",
        "a: b",
        "#1",
        "o'brien",
        "é",
    ],
)
def test_names_that_yaml_takes_for_something_else_are_quoted(name: str) -> None:
    """Of a partition, a type of cards, an account: the profile asks for what the site calls so."""
    facts = site(
        partitions=[partition(name), partition(f"{name}0")],
        nodes=[node("n1", name, gpus={name: 4}), node("n2", f"{name}0")],
        choices=(QosChoice(account=name, allowed=(name,), default=name, partition=""),),
    )
    profile = profile_of(facts)
    assert (profile.partition, profile.account, profile.gpu.type) == (name, name, name)
    assert profile.cpu is not None
    assert profile.cpu.partition == f"{name}0"


def test_plain_names_stay_plain() -> None:
    facts = site(
        partitions=[partition("gpu_v100-32g.q")], nodes=[node("n1", "gpu_v100-32g.q", gpus={"v100": 4})]
    )
    assert "partition: gpu_v100-32g.q" in [line.yaml for line in propose(facts)]


def test_v100s_come_before_newer_cards_and_before_the_default_partition() -> None:
    facts = site(
        partitions=[partition("a100", is_default=True), partition("old"), partition("few")],
        nodes=[
            node("a1", "a100", gpus={"a100": 8}),
            node("o1", "old", gpus={"v100": 4}),
            node("o2", "old", gpus={"v100": 4}),
            node("f1", "few", gpus={"tesla_v100": 2}),
        ],
    )
    assert profile_of(facts).partition == "old"
    assert "Also with GPUs: a100, few." in comments_of(facts)


def test_a_partition_that_is_down_or_closed_is_not_chosen() -> None:
    nodes = [node("n1", "down", "theirs", "byqos", "ours", gpus={"v100": 4})]
    closed = [
        partition("down", state="DOWN"),
        partition("theirs", allow_accounts=("physics",)),
        partition("byqos", allow_qos=("long",)),
    ]
    mine = (QosChoice(account="biology", partition="", default="", allowed=("normal",)),)
    facts = site(partitions=[*closed, partition("ours")], nodes=nodes, choices=mine)
    assert profile_of(facts).partition == "ours"
    assert "Closed to you, or down: down, theirs, byqos." in comments_of(facts)
    with pytest.raises(ClusterError, match="no GPUs for ada") as failed:
        propose(site(partitions=closed, nodes=nodes, choices=mine))
    assert "theirs" in str(failed.value.hint)
    assert is_open(closed[1], None)  # nobody said which accounts there are


def test_a_site_without_gpus_is_an_error() -> None:
    with pytest.raises(ClusterError, match="no node with GPUs"):
        propose(site(partitions=[partition("cpu")], nodes=[node("n1", "cpu")]))


@pytest.mark.parametrize(
    ("text", "memory"),
    [
        ("v100-32g", 32),
        ("gpu_v100_16GB", 16),
        ("v100-sxm2-32gb", 32),
        ("v100", None),
        ("a100-80g", 80),
        ("node132g", None),  # 132 is no card's memory
        ("v100s", None),
        ("mem320gb", None),
    ],
)
def test_memory_in_a_name(text: str, memory: int | None) -> None:
    assert memory_named(text) == memory


def test_cards_that_differ_in_memory_are_left_to_the_user_with_the_feature_that_tells_them_apart() -> None:
    small = [node(f"s{n}", "gpu", gpus={"v100": 4}, features=("v100-16g", "ib")) for n in range(3)]
    large = [node("l1", "gpu", gpus={"v100": 4}, features=("v100-32g", "ib"))]
    facts = site(partitions=[partition("gpu")], nodes=[*small, *large])
    profile = profile_of(facts)
    assert (profile.gpu.memory, profile.constraint) == (None, None)
    assert "3 nodes of 16 GiB, 1 node of 32 GiB" in comments_of(facts)
    assert "constraint: v100-32g" in comments_of(facts)
    assert profile_of(site(partitions=[partition("gpu")], nodes=large)).gpu.memory == 32 * 2**30


def test_cards_without_a_type_are_asked_for_without_one() -> None:
    facts = site(
        partitions=[partition("gpu")], nodes=[node("n1", "gpu", gpus={"": 4}, features=("v100-32g",))]
    )
    assert profile_of(facts).gpu.type is None
    assert profile_of(facts).gpu.memory == 32 * 2**30


@pytest.mark.parametrize(
    ("partition_s", "qos_s", "expected"),
    [(72_000, None, 72_000), (None, 3_600, 3_600), (72_000, 3_600, 3_600), (None, None, None)],
)
def test_the_walltime_is_the_least_of_the_limits(
    partition_s: int | None, qos_s: int | None, expected: int | None
) -> None:
    facts = site(
        partitions=[partition("gpu", max_time_s=partition_s, default_time_s=600)],
        nodes=[node("n1", "gpu", gpus={"v100": 4})],
        choices=(QosChoice(account="lab", partition="", default="short", allowed=("short",)),),
        qos_walltimes={"short": qos_s},
    )
    assert profile_of(facts).max_walltime == expected
    assert "A job that asks for no time limit gets 10m." in comments_of(facts)


def test_jobs_without_gpus_go_to_the_largest_open_partition_without_cards() -> None:
    facts = site(
        partitions=[
            partition("gpu"),
            partition("small"),
            partition("large"),
            partition("shut", state="DOWN"),
        ],
        nodes=[
            node("g1", "gpu", gpus={"v100": 4}),
            node("s1", "small"),
            *(node(f"l{n}", "large") for n in range(3)),
            *(node(f"x{n}", "shut") for n in range(9)),
        ],
    )
    cpu = profile_of(facts).cpu
    assert cpu is not None
    assert cpu.partition == "large"


def test_the_account_is_one_that_the_partition_takes() -> None:
    both = (
        QosChoice(account="physics", partition="", default="", allowed=()),
        QosChoice(account="biology", partition="", default="", allowed=()),
    )
    facts = site(
        partitions=[partition("gpu", allow_accounts=("biology",))],
        nodes=[node("n1", "gpu", gpus={"v100": 4})],
        choices=both,
    )
    assert profile_of(facts).account == "biology"
    assert "Your other accounts: physics." in comments_of(facts)
    assert profile_of(replace(facts, choices=None)).account is None


def test_nodes_that_are_down_do_not_count_unless_all_are() -> None:
    nodes = [
        node("n1", "gpu", gpus={"v100": 4}, state=("DOWN",)),
        node("n2", "gpu", gpus={"p100": 4}),
    ]
    assert profile_of(site(partitions=[partition("gpu")], nodes=nodes)).gpu.type == "p100"
    assert profile_of(site(partitions=[partition("gpu")], nodes=nodes[:1])).gpu.type == "v100"


def test_folders_of_a_node_by_variables_and_usual_names(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "localscratch").mkdir()
    assert find_node_folders({"JOBSCRATCH": "/j"}, tmp_path) == ("$JOBSCRATCH", "/localscratch/$USER")
    assert find_node_folders({}, tmp_path / "none") == ()
