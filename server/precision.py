"""What a model's answers are computed in: its file's own precision counts, too."""

from pathlib import Path

from convlens.analysis import read_metadata
from convlens.analysis.card import ModelCard
from convlens.analysis.errors import AnalysisError
from convlens.analysis.model_file import read_model
from convlens.server.plan import Plan

_QUANTIZED = frozenset({"DequantizeLinear", "QLinearConv", "QLinearMatMul", "QuantizeLinear"})


def answering_precision(path: Path, plan: Plan) -> str:
    """What the weights are stored in, or the precision of the arithmetic where that is less.

    A file whose card does not tell is int8 where its graph quantises.

    Args:
        path: of the model.
        plan: by which it is run.
    """
    try:
        card = ModelCard.from_metadata(read_metadata(path))
        stored = card.precision
        if "precision" not in card.model:
            nodes = read_model(path).proto.graph.node
            stored = "int8" if any(node.op_type in _QUANTIZED for node in nodes) else "fp32"
    except AnalysisError:  # whoever loads it will say what is wrong with it
        return plan.precision
    return plan.precision if stored == "fp32" else stored
