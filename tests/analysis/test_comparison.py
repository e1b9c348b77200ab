import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest

from convlens.analysis import alignment, analyze, compare
from convlens.analysis.comparison import Comparison
from convlens.analysis.errors import ComparisonError
from convlens.analysis.render_comparison import comparison_text
from convlens.analysis.render_text import plain
from tests.analysis.graphs import Array, node, save_graph, weight


class _Builder:
    """Chains nodes and makes their weights."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Array] = {}

    def conv(
        self, before: str, name: str, channels: tuple[int, int], kernel: int, stride: int = 1
    ) -> str:
        self.weights[f"{name}.weight"] = weight(channels[1], channels[0], kernel, kernel)
        inputs, pads = f"{before} {name}.weight", [kernel // 2] * 4
        self.nodes.append(node("Conv", inputs, name, strides=[stride] * 2, pads=pads))
        return name

    def add(self, op_type: str, inputs: str, name: str, **attributes: object) -> str:
        self.nodes.append(node(op_type, inputs, name, **attributes))
        return name


def _resnet50(path: Path, *, stride_on_3x3: bool) -> Path:
    """ResNet-50 with an eighth of its channels: version 1.5 or, as first published, version 1."""
    built = _Builder()
    last = built.conv("x", "conv1", (3, 8), 7, 2)
    pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    last, channels = built.add("MaxPool", last, "pool", **pool), 8
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        width = 4 * 2**stage
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            strides = (1, stride) if stride_on_3x3 else (stride, 1)
            a = built.conv(last, f"{name}.conv1", (channels, width), 1, strides[0])
            b = built.conv(a, f"{name}.conv2", (width, width), 3, strides[1])
            c = built.conv(b, f"{name}.conv3", (width, 4 * width), 1)
            if block == 0:
                last = built.conv(last, f"{name}.down", (channels, 4 * width), 1, stride)
            last, channels = built.add("Add", f"{last} {c}", f"{name}.add"), 4 * width
    built.add("GlobalAveragePool", last, "avgpool")
    return save_graph(path, built.nodes, built.weights, (1, 3, 224, 224))


def _chain(path: Path, names: Sequence[str], kernel: int = 3) -> Path:
    """A chain of Convs and Relus; the names are the Convs'."""
    built, last = _Builder(), "x"
    for index, name in enumerate(names):
        conv = built.conv(last, name, (1 if index == 0 else 4, 4), kernel)
        last = built.add("Relu", conv, f"{name}.relu")
    return save_graph(path, built.nodes, built.weights)


def _compared(first: Path, second: Path) -> Comparison:
    return compare(analyze(first), analyze(second))


@pytest.fixture(scope="module")
def resnets(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("resnets")
    return _compared(
        _resnet50(folder / "v1.onnx", stride_on_3x3=False),
        _resnet50(folder / "v1.5.onnx", stride_on_3x3=True),
    )


def test_a_stride_moved_from_the_1x1_to_the_3x3_is_found(resnets: Comparison) -> None:
    changed = [d for d in resnets.differences if d.kind == "changed"]

    assert [d.first.name for d in changed if d.first] == [
        f"layer{stage}.0.conv{conv}" for stage in (2, 3, 4) for conv in (1, 2)
    ]
    assert changed[0].changes["strides"] == ([2, 2], [1, 1])
    assert changed[1].changes["strides"] == ([1, 1], [2, 2])
    assert resnets.counts["removed"] == resnets.counts["added"] == 0


def test_its_price_in_macs_and_receptive_field_is_told(resnets: Comparison) -> None:
    before, after = resnets.totals["macs"]

    assert resnets.totals["receptive_field"] == ([483, 483], [427, 427])
    # The stem, whose input keeps its three channels, weighs more here: at full width it is 1.06.
    assert after / before == pytest.approx(1.05, abs=0.005)
    text = plain(comparison_text(resnets))
    assert "stride 2 -> 1 in 3 Conv 1x1; stride 1 -> 2 in 3 Conv 3x3" in text
    assert [line.split()[-2:] for line in text.splitlines() if "receptive field  " in line] == [
        ["483", "427"]
    ]


def test_a_network_differs_from_itself_in_nothing(tmp_path: Path) -> None:
    path = _chain(tmp_path / "m.onnx", ["a", "b", "c"])
    comparison = _compared(path, path)

    assert comparison.counts == {"same": 6}
    assert "layers: 6 the same\n" in plain(comparison_text(comparison))


def test_renamed_layers_are_the_same(tmp_path: Path) -> None:
    first = _chain(tmp_path / "first.onnx", ["a", "b", "c"])
    second = _chain(tmp_path / "second.onnx", ["p", "q", "r"])

    assert _compared(first, second).counts == {"same": 6}


def test_an_inserted_layer_is_added_and_what_follows_a_consequence(tmp_path: Path) -> None:
    first = _chain(tmp_path / "first.onnx", ["a", "b", "c"])
    second = _chain(tmp_path / "second.onnx", ["a", "b", "new", "c"])
    comparison = _compared(first, second)
    added = [d.second.name for d in comparison.differences if d.kind == "added" and d.second]

    assert added == ["new", "new.relu"]
    assert comparison.counts == {"same": 4, "added": 2, "consequence": 2}
    reverse = _compared(second, first)
    assert reverse.counts == {"same": 4, "removed": 2, "consequence": 2}


def test_an_insertion_among_renamed_layers_is_found(tmp_path: Path) -> None:
    first = _chain(tmp_path / "first.onnx", ["a", "b"])
    second = _chain(tmp_path / "second.onnx", ["p", "q", "r"])
    comparison = _compared(first, second)

    assert comparison.counts["added"] == 2
    assert comparison.counts["changed"] == comparison.counts["removed"] == 0


def test_an_attribute_at_its_default_is_no_change(tmp_path: Path) -> None:
    weights = {"w": weight(1, 1, 3, 3)}
    silent = save_graph(tmp_path / "silent.onnx", [node("Conv", "x w", "y")], weights)
    stated = node("Conv", "x w", "y", strides=[1, 1], pads=[0] * 4, group=1, kernel_shape=[3, 3])
    explicit = save_graph(tmp_path / "explicit.onnx", [stated], weights)

    assert _compared(silent, explicit).counts == {"same": 1}


def test_other_operators_are_never_paired(tmp_path: Path) -> None:
    first = save_graph(tmp_path / "first.onnx", [node("Relu", "x", "y")], {})
    second = save_graph(tmp_path / "second.onnx", [node("Sigmoid", "x", "y")], {})

    assert _compared(first, second).counts == {"removed": 1, "added": 1}


def test_the_json_holds_every_layer_and_the_totals(resnets: Comparison) -> None:
    value = json.loads(json.dumps(resnets.to_json()))

    assert value["schema"] == "convlens.comparison/1"
    assert len(value["layers"]) == len(resnets.first.layers)
    assert set(value["layers"][0]) == {"kind", "first", "second", "changes"}
    assert value["totals"]["receptive_field"] == [[483, 483], [427, 427]]


def test_an_empty_side_is_compared_too(tmp_path: Path) -> None:
    first = _chain(tmp_path / "first.onnx", ["a"])
    second = save_graph(tmp_path / "second.onnx", [node("Sigmoid", "x", "y")], {})
    text = plain(comparison_text(_compared(first, second)))

    assert "layers: 2 removed, 1 added" in text


def test_layers_that_only_pass_on_what_they_get_are_counted_and_not_listed(tmp_path: Path) -> None:
    built = _Builder()
    last = built.add("Identity", built.conv("x", "conv", (1, 4), 3), "same")
    built.add("Cast", built.add("Dropout", last, "drop"), "float", to=onnx.TensorProto.FLOAT)
    half = built.add("Cast", "float", "half", to=onnx.TensorProto.FLOAT16)
    built.add("Cast", half, "back", to=onnx.TensorProto.FLOAT)
    idle = save_graph(tmp_path / "idle.onnx", built.nodes, built.weights, (1, 1, 8, 8))
    comparison = compare(analyze(idle), analyze(_chain(tmp_path / "plain.onnx", ["conv"])))

    text = plain(comparison_text(comparison))
    assert "3 without counterpart that only pass on what they get" in text
    assert [d.first.name for d in comparison.differences if d.first and d.is_idle] == [
        "same", "drop", "float",
    ]  # fmt: skip
    assert "Identity" not in text
    assert "half" in text


def test_long_networks_are_compared_in_little_memory(tmp_path: Path) -> None:
    reports = []
    for name, ends in (("first", "Tanh"), ("second", "Sigmoid")):
        built, last = _Builder(), "x"
        for index in range(2000):
            op_type = ends if index in {0, 1999} else "Relu"
            last = built.add(op_type, last, f"{name}{index}")
        path = save_graph(tmp_path / f"{name}.onnx", built.nodes, built.weights, (1, 3, 8, 8))
        reports.append(analyze(path))
    tracemalloc.start()
    counts = compare(*reports).counts
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert counts == {"same": 1998, "removed": 2, "added": 2}
    assert peak < 50e6


def test_networks_that_are_too_long_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alignment, "MAX_CELLS", 5)
    first, second = (_chain(tmp_path / f"{name}.onnx", name) for name in ("abc", "de"))
    with pytest.raises(ComparisonError, match="6 and 4 layers are too many to be compared"):
        compare(analyze(first), analyze(second))
