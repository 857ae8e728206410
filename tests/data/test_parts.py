from pathlib import Path

import numpy as np

from sedd.data.files import NpyWriter, file_checksum
from sedd.data.parts import PartWriter, validation_limit


def test_a_full_shard_is_followed_by_another(tmp_path: Path):
    writer = PartWriter(tmp_path / "part", shard_residues=10)
    for lengths in ([1, 3], [1, 6], [1, 2], [1, 11], [1]):
        hashes = np.arange(len(lengths), dtype=np.uint64)
        writer.write([bytes([4] * sum(lengths))], np.array(lengths), hashes)
    split = writer.close()
    numbers = [(shard.first_sequence, shard.sequences, shard.residues) for shard in split.shards]
    assert numbers == [(0, 4, 11), (4, 4, 15), (8, 1, 1)]
    assert [len(np.load(tmp_path / "part" / shard.file)) for shard in split.shards] == [11, 15, 1]
    assert np.load(tmp_path / "part" / "lengths.npy").tolist() == [1, 3, 1, 6, 1, 2, 1, 11, 1]
    assert split.composition[4] == 27
    assert split.sequences == 9


def test_a_part_without_sequences_has_no_shards(tmp_path: Path):
    split = PartWriter(tmp_path / "part").close()
    assert (split.shards, split.sequences) == ((), 0)


def test_validation_limit_is_a_share_of_all_hashes():
    assert [validation_limit(f) for f in (0.0, 0.25, 1.0)] == [0, 2**62, 2**64 - 1]


def test_tokens_in_many_pieces_are_the_same_file_as_in_one(tmp_path: Path):
    pieces = [bytes([4 + i % 25]) * (i % 7) for i in range(3000)]
    for name, given in (("many", pieces), ("one", [b"".join(pieces)])):
        with NpyWriter(tmp_path / name, "|u1") as writer:
            writer.write_pieces(given)
        assert (writer.count, writer.checksum) == (
            sum(map(len, pieces)),
            file_checksum(tmp_path / name, skip=128),
        )
    assert (tmp_path / "many").read_bytes() == (tmp_path / "one").read_bytes()
