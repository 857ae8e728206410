import pytest

from sedd.cluster.site import parse_config, parse_nodes, parse_partitions, parse_reserved_nodes
from sedd.errors import ClusterError
from tests.cluster.recorded import COMPOSED, RECORDED, sample


@pytest.mark.parametrize("version", RECORDED)
def test_recorded_configuration(version: str) -> None:
    config = parse_config(sample(version, "config"))
    assert config.version == version
    assert config.kill_wait_s == {"22.05.8": 15, "24.11.5": 30}[version]
    assert config.user_signal is (version == "22.05.8")
    assert (config.min_job_age_s, config.max_array_size) == (300, 1001)
    assert config.job_requeue
    assert config.has_accounting
    assert config.preempt_type == "preempt/partition_prio"


@pytest.mark.parametrize("version", COMPOSED)
def test_configuration_of_every_version(version: str) -> None:
    config = parse_config(sample(version, "config"))
    assert config.version == f"{version}.1"
    assert (config.kill_wait_s, config.min_job_age_s, config.max_array_size) == (60, 600, 20001)
    assert config.job_requeue is (version == "21.08")
    assert config.user_signal is (version != "20.11")
    assert config.has_accounting


def test_what_users_are_not_shown_of_each_other() -> None:
    text = sample(RECORDED[-1], "config")
    assert parse_config(text).private == ()
    config = parse_config(
        text.replace("PrivateData             = none", "PrivateData             = jobs,usage")
    )
    assert config.private == ("jobs", "usage")
    assert config.hides_jobs(owner_uid=1000, from_uid=1001)
    assert not config.hides_jobs(owner_uid=1000, from_uid=1000)
    assert not config.hides_jobs(owner_uid=1000, from_uid=0)
    assert not parse_config(text).hides_jobs(owner_uid=1000, from_uid=1001)


def test_text_that_is_no_configuration_is_an_error() -> None:
    with pytest.raises(ClusterError, match="SLURM_VERSION"):
        parse_config("slurm_load_ctl_conf error\n")


@pytest.mark.parametrize("version", RECORDED)
def test_recorded_partitions(version: str) -> None:
    partitions = {p.name: p for p in parse_partitions(sample(version, "partitions"))}
    assert list(partitions) == ["requeue", "nograce", "cancel", "urgent"]
    assert [partitions[name].grace_s for name in partitions] == [20, 0, 20, 0]
    assert [partitions[name].preempt_mode for name in partitions] == ["REQUEUE", "REQUEUE", "CANCEL", "OFF"]
    assert partitions["requeue"].is_default
    assert partitions["requeue"].max_time_s == 2 * 86400
    assert partitions["requeue"].default_time_s == 3600
    assert partitions["urgent"].priority_tier > partitions["requeue"].priority_tier


@pytest.mark.parametrize("version", COMPOSED)
def test_partitions_of_every_version(version: str) -> None:
    gpu, long = parse_partitions(sample(version, "partitions"))
    assert (gpu.name, gpu.grace_s, gpu.max_time_s, gpu.max_nodes) == ("gpu", 60, 86400, 8)
    assert gpu.allow_accounts == ("proteins", "physics")
    assert (gpu.nodes, gpu.total_nodes, gpu.state) == ("gpu[1-2]", 2, "UP")
    assert (long.max_time_s, long.max_nodes, long.nodes, long.state) == (None, None, None, "INACTIVE")
    assert long.allow_accounts is None
    assert long.allow_qos == ("long",)
    assert long.is_default


@pytest.mark.parametrize("version", RECORDED)
def test_recorded_nodes(version: str) -> None:
    nodes = {n.name: n for n in parse_nodes(sample(version, "nodes"))}
    assert nodes["v100-1"].gpus == {"v100": 4}
    assert (nodes["v100-1"].used_gpus, nodes["v100-2"].used_gpus) == (2, 4)
    assert nodes["v100-1"].partitions == ("requeue", "nograce", "cancel", "urgent")
    assert nodes["v100-1"].is_usable
    assert not nodes["v100-4"].is_usable
    assert nodes["v100-4"].reason is not None
    assert nodes["v100-4"].reason.startswith("ECC errors on GPU 2")


@pytest.mark.parametrize("version", COMPOSED)
def test_nodes_of_every_version(version: str) -> None:
    busy, broken = parse_nodes(sample(version, "nodes"))
    assert (busy.gpus, busy.used_gpus, busy.cpus, busy.memory_mib) == ({"v100": 4}, 3, 32, 192000)
    assert busy.features == ("v100-32g", "ib")
    assert busy.is_usable
    assert broken.gpus == {"v100": 2, "a100": 1}
    assert broken.state[:2] == ("DOWN", "DRAIN")
    assert not broken.is_usable
    assert broken.reason is not None
    assert "Xid=79" in broken.reason


def test_nodes_of_reservations() -> None:
    maintenance = """ReservationName=maint StartTime=2026-12-01T06:06:39 EndTime=2026-12-01T07:06:39 Duration=01:00:00
   Nodes=v100-[1-3] NodeCnt=3 CoreCnt=12 Features=(null) PartitionName=(null) Flags=MAINT,SPEC_NODES
   TRES=cpu=12
   Users=root Groups=(null) Accounts=(null) Licenses=(null) State=INACTIVE BurstBuffer=(null) Watts=n/a
   MaxStartDelay=(null)

"""
    only_licenses = maintenance.replace("v100-[1-3]", "(null)").replace("Name=maint", "Name=matlab")
    assert parse_reserved_nodes(maintenance + only_licenses) == ["v100-[1-3]"]
    assert parse_reserved_nodes("No reservations in the system\n") == []
