from pathlib import Path

import pytest
import torch

from sedd.data.alphabet import decode
from sedd.data.build import build_store
from sedd.data.store import TokenStore
from sedd.errors import DataError
from sedd.spec.build import BuildOptions


def _entry(sequence: str) -> dict[str, object]:
    return {"protein_seq": sequence, "prot_tokens": torch.tensor([0, 1, 2]), "length": len(sequence)}


def test_an_older_list_is_read_through_its_strings(tmp_path: Path):
    torch.save([_entry("MKV"), _entry("mjl*"), _entry("MKV")], tmp_path / "old.pt")
    result = build_store([tmp_path / "old.pt"], tmp_path / "store", BuildOptions(validation_fraction=0))
    train = TokenStore.open(result.path).split("train")
    assert [decode(train.tokens(i)) for i in range(train.sequences)] == ["MKV", "MXL"]
    told = {name: count for name, count in result.manifest.tally.items() if count}
    assert told == {"records": 3, "duplicates": 1, "letters_to_x": 1, "stops_stripped": 1}


NOT_A_LIST = {
    "a number": (7, "holds no list"),
    "an empty list": ([], "holds no list"),
    "other entries": ([{"sequence": "MKV"}], "entry 0 has no string 'protein_seq'"),
    "code": ([Path("x")], "is not a list of sequences"),
}


@pytest.mark.parametrize("name", NOT_A_LIST)
def test_what_is_no_such_list_is_refused(name: str, tmp_path: Path):
    content, message = NOT_A_LIST[name]
    torch.save(content, tmp_path / "old.pt")
    with pytest.raises(DataError, match=message):
        build_store([tmp_path / "old.pt"], tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_cut_file_is_refused(tmp_path: Path):
    torch.save([_entry("MKV")] * 100, tmp_path / "old.pt")
    data = (tmp_path / "old.pt").read_bytes()
    (tmp_path / "old.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="damaged"):
        build_store([tmp_path / "old.pt"], tmp_path / "store")
