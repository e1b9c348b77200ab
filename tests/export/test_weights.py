import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from convlens.export import WeightsError, find_architecture
from convlens.export.lenet5 import LeNet5
from convlens.export.weights import WeightedNetwork, with_weights


def _load(path: Path) -> WeightedNetwork:
    return with_weights(find_architecture("lenet5"), str(path), 0, lambda _done, _total: None)


def _save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def test_a_state_dict_of_ones_own_is_loaded_and_called_by_its_name_and_digest(
    tmp_path: Path,
) -> None:
    own = LeNet5()
    path = _save(tmp_path / "mine.pth", own.state_dict())
    weighted = _load(path)
    assert torch.equal(weighted.network.state_dict()["f6.weight"], own.f6.weight)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert weighted.provenance == {"origin": "file", "source": "mine.pth", "sha256": digest}


def test_a_safetensors_file_is_loaded(tmp_path: Path) -> None:
    own = LeNet5()
    save_file(own.state_dict(), tmp_path / "mine.safetensors")
    weighted = _load(tmp_path / "mine.safetensors")
    assert torch.equal(weighted.network.state_dict()["f6.weight"], own.f6.weight)
    assert weighted.provenance["source"] == "mine.safetensors"


def test_a_broken_safetensors_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(WeightsError, match="is not a safetensors file"):
        _load(tmp_path / "broken.safetensors")


def test_missing_unexpected_and_misshapen_keys_are_listed_in_one_line(tmp_path: Path) -> None:
    state = LeNet5().state_dict()
    del state["c1.weight"]
    state["c9.weight"] = torch.zeros(1)
    state["f6.bias"] = torch.zeros(7)
    with pytest.raises(WeightsError) as caught:
        _load(_save(tmp_path / "other.pth", state))
    message = str(caught.value)
    assert "missing: c1.weight" in message
    assert "unexpected: c9.weight" in message
    assert "of another shape: f6.bias (7,) instead of (84,)" in message
    assert "\n" not in message


def test_a_long_list_of_keys_is_cut(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"missing: c1\.bias, .* and 5 more$"):
        _load(_save(tmp_path / "empty.pth", {}))


def test_a_missing_file_is_named_beside_the_names_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no file .*none\.pth, .* weights default, random$"):
        _load(tmp_path / "none.pth")
    with pytest.raises(WeightsError, match=r"resnet50 has .*, IMAGENET1K_V1, IMAGENET1K_V2$"):
        with_weights(find_architecture("resnet50"), "IMAGENET1K_V9", 0, lambda _done, _total: None)


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 truncated", b"plain text", b"root:x:0:0:root"]
)
def test_a_file_that_torch_did_not_write_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is not a file of weights"):
        _load(path)


def test_a_file_that_would_execute_code_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "network.pth", LeNet5())  # a whole network, pickled
    with pytest.raises(WeightsError, match=r"holds more than tensors.*state_dict\(\)"):
        _load(path)


def test_a_checkpoint_that_is_no_plain_state_dict_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "checkpoint.pth", {"epoch": 3, "state_dict": {}})
    with pytest.raises(WeightsError, match=r"holds no state dict.*it has epoch, state_dict"):
        _load(path)
