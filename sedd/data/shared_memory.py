"""Pass blocks between processes through shared memory; a pipe would copy each block four times."""

import contextlib
import struct
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from multiprocessing.shared_memory import SharedMemory

_SLOT_BYTES = 1 << 20
_SLOTS = 4
_LENGTH = struct.Struct("<q")
_TAKEN = b"."


@dataclass(frozen=True)
class Receiver:
    """The end that takes blocks, in the order in which they were sent; travels to a process when that is started."""

    pipe: Connection
    memory: str

    def blocks(self) -> "contextlib.closing[_Blocks]":
        """The blocks to come; closing them early tells who sends."""
        return contextlib.closing(_Blocks(self.pipe, SharedMemory(self.memory)))


class Sender:
    """The end that gives blocks. Waits while the receiver has some that it has not taken."""

    def __init__(self) -> None:
        self._memory = SharedMemory(create=True, size=_SLOTS * _SLOT_BYTES)
        self._pipe, theirs = Pipe()
        self.receiver = Receiver(theirs, self._memory.name)
        self._sent = self._taken = 0

    def send(self, *pieces: bytes | memoryview) -> None:
        """Hand over a block, which may lie in pieces. Raises: BrokenPipeError when the receiver is gone."""
        length = sum(map(len, pieces))
        if length > _SLOT_BYTES:  # of one enormous record
            self._put(_LENGTH.pack(-length))
            self._put(b"".join(pieces))
            return
        while self._sent - self._taken == _SLOTS:
            self._await_taken()
        start = self._sent % _SLOTS * _SLOT_BYTES
        buffer = self._memory.buf
        assert buffer is not None  # until it is closed
        for piece in pieces:
            buffer[start : start + len(piece)] = piece
            start += len(piece)
        self._put(_LENGTH.pack(length))
        self._sent += 1

    def end(self) -> None:
        """Say that no more will come."""
        self._put(b"")

    def close(self) -> None:
        """Give the memory back; the receiver keeps what it has of it."""
        self._pipe.close()
        self._memory.close()
        with contextlib.suppress(FileNotFoundError):
            self._memory.unlink()

    def _put(self, message: bytes) -> None:
        try:
            self._pipe.send_bytes(message)
        except ConnectionResetError as e:  # as it is told when there was something left to read
            raise BrokenPipeError("the receiver is gone") from e

    def _await_taken(self) -> None:
        try:
            self._pipe.recv_bytes()
        except (EOFError, ConnectionResetError) as e:
            raise BrokenPipeError("the receiver is gone") from e
        self._taken += 1


class _Blocks:
    """An iterator over the blocks of a pipe and its memory."""

    def __init__(self, pipe: Connection, memory: SharedMemory) -> None:
        self._pipe, self._memory = pipe, memory
        self._received = 0

    def __iter__(self) -> "_Blocks":
        return self

    def __next__(self) -> bytes:
        if not (message := self._pipe.recv_bytes()):
            raise StopIteration
        (length,) = _LENGTH.unpack(message)
        if length < 0:
            return self._pipe.recv_bytes()
        start = self._received % _SLOTS * _SLOT_BYTES
        buffer = self._memory.buf
        assert buffer is not None  # until it is closed
        block = bytes(buffer[start : start + length])
        self._received += 1
        with contextlib.suppress(ConnectionError):  # the sender has ended, and left its last blocks
            self._pipe.send_bytes(_TAKEN)
        return block

    def close(self) -> None:
        self._pipe.close()
        self._memory.close()
