"""Which waiting jobs may claim cards, by the lines that squeue printed."""

import datetime as dt

import pytest

from sedd.cluster.squeue import parse_waiting
from sedd.soonest.claims import claiming, first_due

# squeue --format='%S|%r' of SLURM 22.05.8, on the dev cluster.
CANNOT_START = """N/A|DependencyNeverSatisfied
N/A|PartitionNodeLimit
N/A|PartitionTimeLimit
2026-12-01T05:00:34|BeginTime
N/A|JobHeldUser
"""


def test_jobs_that_cannot_start_claim_no_cards() -> None:
    waiting = parse_waiting(CANNOT_START)
    assert len(waiting) == 5
    assert claiming(waiting) == []
    assert first_due(waiting) is None


@pytest.mark.parametrize(
    "reason", ["AssocGrpGRES", "QOSMaxJobsPerUserLimit", "MaxGRESPerAccount", "Licenses"]
)
def test_a_job_that_a_limit_stops_claims_cards_only_where_slurm_plans_its_start(reason: str) -> None:
    assert not claiming(parse_waiting(f"N/A|{reason}"))
    assert claiming(parse_waiting(f"2026-12-01T05:00:34|{reason}"))


@pytest.mark.parametrize(
    "reason",
    ["Priority", "Resources", "None", "PartitionDown", "ReqNodeNotAvail, UnavailableNodes:v100-1", "News"],
)
def test_any_other_job_may_claim_cards(reason: str) -> None:
    assert claiming(parse_waiting(f"N/A|{reason}"))


def test_the_first_due_is_the_first_of_those_that_may_claim_cards() -> None:
    planned = "2026-12-01T07:00:00|Resources\n2026-12-01T06:00:00|Priority\nN/A|Priority\n"
    due = first_due(parse_waiting(CANNOT_START + planned))
    assert due is not None
    assert due.astimezone().replace(tzinfo=None) == dt.datetime(2026, 12, 1, 6)
