"""Blocks from process to process: all of them, in order, whatever their size; and each end sees the other's."""

import multiprocessing
from multiprocessing.connection import Connection

import pytest

from sedd.data.shared_memory import Receiver, Sender

SIZES = [1, 0, 1 << 20, (1 << 20) + 1, 5, 3 << 20, *range(1, 40)]


def _echo(receiver: Receiver, answer: Connection) -> None:
    with receiver.blocks() as blocks:
        for block in blocks:
            answer.send((len(block), block[:1]))


def _take_one(receiver: Receiver, answer: Connection) -> None:
    with receiver.blocks() as blocks:
        next(blocks)
    answer.send("taken")


def test_blocks_of_any_size_arrive_in_order():
    sender = Sender()
    answers, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_echo, args=(sender.receiver, theirs))
    process.start()
    sender.receiver.pipe.close()
    for number, size in enumerate(SIZES):
        sender.send(bytes([number]) * size)
    sender.end()
    expected = [(size, bytes([number])[:size]) for number, size in enumerate(SIZES)]
    assert [answers.recv() for _ in SIZES] == expected
    process.join(60)
    assert process.exitcode == 0
    sender.close()


def _send_many(sender: Sender) -> None:
    for _ in range(100):
        sender.send(b"MKV")


def test_a_receiver_that_is_gone_is_noticed():
    sender = Sender()
    answers, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_take_one, args=(sender.receiver, theirs))
    process.start()
    sender.receiver.pipe.close()
    with pytest.raises(BrokenPipeError):
        _send_many(sender)
    assert answers.recv() == "taken"
    process.join(60)
    sender.close()
