"""Accounts as sacctmgr 22.05.8 prints them."""

from sedd.cluster.accounts import parse_accounts


def test_each_account_once() -> None:
    assert parse_accounts("science\nroot\nscience\n\n") == ("science", "root")


def test_a_user_without_an_account_has_none() -> None:
    assert parse_accounts("") == ()
