"""Accounts as sacctmgr 22.05.8 prints them."""

from sedd.cluster.accounts import parse_accounts, parse_qos_walltimes


def test_each_account_once() -> None:
    assert parse_accounts("ada|science\nada|root\nada|science\n\n", user="Ada") == ("science", "root")


def test_a_user_without_an_account_has_none() -> None:
    assert parse_accounts("", user="ada") == ()


def test_a_greeting_is_no_account() -> None:
    greeting = "*** Welcome to the cluster ***\nmaintenance|tonight\nscience\n"
    assert parse_accounts(f"{greeting}ada|science\n", user="ada") == ("science",)


def test_walltimes_of_qos() -> None:
    assert parse_qos_walltimes("normal|\nlong|4-04:00:00\nshort|01:00:00\n\n") == {
        "normal": None,
        "long": 360_000,
        "short": 3_600,
    }
