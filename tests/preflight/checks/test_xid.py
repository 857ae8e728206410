"""Xid errors in the kernel's log: of our cards, of the card itself, and where the log is closed."""

import dataclasses

import pytest

from sedd.errors import ClusterError
from sedd.preflight.checks import gpus
from sedd.preflight.checks import xid as check
from sedd.preflight.context import Side
from sedd.preflight.finding import Status
from sedd.preflight.read import kernel_log
from sedd.preflight.read.cards import Driver
from sedd.preflight.read.kernel_log import parse_bus, parse_xids

# Lines as the driver's documentation (NVIDIA, XID Errors) shows them, with dmesg's times and journalctl's.
LOG = """\
[   12.345678] NVRM: loading NVIDIA UNIX x86_64 Kernel Module  570.124.06
[ 1000.500000] NVRM: Xid (PCI:0000:3b:00): 31, pid=1234, name=python, Ch 00000008, intr 00000000.
[ 2000.000000] NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
[ 2500.000000] node7 kernel: NVRM: Xid (0000:AF:00): 48, An uncorrectable double bit error (DBE) has been detected
[ 2600.000000] usb 1-1: new device
"""
CARD = gpus.CHECK.passing.cards[0]


def look(monkeypatch, make_context, log, *, bus=(0, 0x3B, 0)):
    card = dataclasses.replace(CARD, bus=bus)
    monkeypatch.setattr(check, "query_driver", lambda: Driver(version="1", cuda=(12, 8), cards=(card,)))
    monkeypatch.setattr(check, "uptime_s", lambda: 9200.0)

    def answer(command, *, timeout_s):
        if isinstance(log, str):
            return log
        raise ClusterError(f"{command[0]}: Operation not permitted")

    monkeypatch.setattr(kernel_log, "run", answer)
    facts = check.gather(make_context({"resources.gpus_per_node": 1}, side=Side.NODE))
    return check.judge(facts)


def test_lines_are_read_with_card_code_and_time():
    seen = [(xid.bus, xid.code, xid.at_s) for xid in parse_xids(LOG)]
    assert seen == [((0, 0x3B, 0), 31, 1000.5), ((0, 0x3B, 0), 79, 2000.0), ((0, 0xAF, 0), 48, 2500.0)]


@pytest.mark.parametrize("text", ["0000:3b:00", "00000000:3B:00.0"])
def test_address(text):
    assert parse_bus(text) == (0, 0x3B, 0)


def test_a_cards_own_fault_is_a_warning_with_its_age(monkeypatch, make_context):
    verdict = look(monkeypatch, make_context, LOG)
    assert verdict.status is Status.WARN
    assert verdict.saw.startswith("Xid 79 of the GPU at 0000:3b:00, 2h ago:")
    assert verdict.saw.endswith("GPU has fallen off the bus")


def test_faults_of_other_cards_and_of_programs_are_not_ours(monkeypatch, make_context):
    assert look(monkeypatch, make_context, LOG, bus=(0, 0x5E, 0)).status is Status.OK
    programs = "\n".join(line for line in LOG.splitlines() if ": 79," not in line)
    assert look(monkeypatch, make_context, programs).status is Status.OK


@pytest.mark.parametrize(("log", "words"), [(None, "Operation not permitted"), ("", "shows nothing")])
def test_a_closed_log_is_unknown_after_both_ways_were_tried(monkeypatch, make_context, log, words):
    verdict = look(monkeypatch, make_context, log)
    assert verdict.status is Status.UNKNOWN
    assert "dmesg" in verdict.saw
    assert "journalctl" in verdict.saw
    assert words in verdict.saw


def test_every_task_looks_at_the_card_that_it_alone_sees(monkeypatch, make_context):
    cards = tuple(dataclasses.replace(CARD, index=n, bus=(0, bus, 0)) for n, bus in enumerate((0x5E, 0x3B)))
    monkeypatch.setattr(check, "query_driver", lambda: Driver(version="1", cuda=(12, 8), cards=cards))
    monkeypatch.setattr(kernel_log, "run", lambda command, *, timeout_s: LOG)
    spec = {"resources.gpus_per_node": 2, "training.residues_per_step": 1024}

    def gathered(devices: str, local_rank: int):
        place = {"rank": local_rank, "local_rank": local_rank, "ranks_size": 2}
        return check.gather(
            make_context(spec, side=Side.NODE, environ={"CUDA_VISIBLE_DEVICES": devices}, **place)
        )

    assert check.judge(gathered("0", 0)).status is Status.OK
    assert check.judge(gathered("1", 1)).status is Status.WARN
    assert gathered("0,1", 1) is None, "the first looks at what all see"


def test_jobs_without_gpus_do_not_ask(make_context):
    assert check.gather(make_context(side=Side.NODE)) is None
