"""Accounts of one's own, of others, and where nobody looks."""

import pytest

from sedd.cluster.command import SlurmUnreachableError
from sedd.preflight.checks import account as check
from sedd.preflight.finding import Status
from tests.preflight.slurm_facts import config, profile, slurm


def look(monkeypatch, make_context, *, asked, mine=("science",), enforced=(), keeps=True):
    monkeypatch.setattr(check, "query_accounts", lambda user, timeout_s: mine)
    known = slurm(site=config(enforced=enforced, has_accounting=keeps))
    facts = check.gather(make_context(profile=profile(account=asked), slurm=known))
    return check.judge(facts) if facts else None


@pytest.mark.parametrize(
    ("asked", "mine", "enforced", "status", "saw"),
    [
        ("science", ("science",), ("associations",), Status.OK, "one of yours"),
        ("Science", ("science",), ("limits",), Status.OK, "one of yours"),
        (
            "sience",
            ("science",),
            ("associations", "limits"),
            Status.FAIL,
            "sience is not yours: SLURM refuses",
        ),
        ("sience", ("science",), ("safe",), Status.FAIL, "SLURM refuses"),
        ("sience", ("science",), (), Status.WARN, "SLURM ignores that here"),
        ("sience", ("science",), ("wckeys",), Status.WARN, "SLURM ignores that here"),
        (None, (), ("associations",), Status.FAIL, "you have no account here"),
        (None, ("science",), ("associations",), Status.OK, "default account"),
    ],
)
def test_account(monkeypatch, make_context, asked, mine, enforced, status, saw):
    verdict = look(monkeypatch, make_context, asked=asked, mine=mine, enforced=enforced)
    assert verdict.status is status
    assert saw in verdict.saw
    assert verdict.hint or status is Status.OK


def test_a_site_without_accounting_ignores_the_account_and_it_is_said(monkeypatch, make_context):
    verdict = look(monkeypatch, make_context, asked="sience", keeps=False)
    assert verdict.status is Status.OK
    assert verdict.saw == "this SLURM keeps no accounts: sience is ignored"


def test_nobody_asks_where_neither_profile_nor_site_want_an_account(monkeypatch, make_context):
    assert look(monkeypatch, make_context, asked=None) is None


def test_a_silent_slurmdbd_is_no_refusal(monkeypatch, make_context):
    def silent(user, timeout_s):
        raise SlurmUnreachableError("sacctmgr did not answer within 3 s")

    monkeypatch.setattr(check, "query_accounts", silent)
    known = slurm(site=config(enforced=("associations",), has_accounting=True))
    with pytest.raises(SlurmUnreachableError):
        check.gather(make_context(profile=profile(account="a"), slurm=known))
