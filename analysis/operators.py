"""What kinds of operators ONNX has, as far as costs and receptive fields depend on it."""

# One operation an element of the output, whatever function it is.
ELEMENTWISE = frozenset({
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift",
    "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil", "Celu", "Clip", "Cos", "Cosh",
    "DequantizeLinear", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater",
    "GreaterOrEqual", "HardSigmoid", "HardSwish", "IsInf", "IsNaN", "LeakyRelu", "Less",
    "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu",
    "Pow", "QuantizeLinear", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign",
    "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh",
    "ThresholdedRelu", "Where", "Xor",
})  # fmt: skip

# The output's values are the input's, one for one and in place.
COPIES = frozenset({"Cast", "CastLike", "Dropout", "Identity"})

# The output's values are the input's, in the same order under another shape.
RESHAPES = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})

# Values move, none is computed.
MOVES = frozenset({
    "Compress", "Concat", "DepthToSpace", "Expand", "Gather", "GatherElements", "GatherND", "Pad",
    "ScatterElements", "ScatterND", "Slice", "SpaceToDepth", "Split", "Tile", "Transpose",
})  # fmt: skip

# They read the shape of a tensor or make one of numbers; no pixel reaches their output.
SHAPE_ARITHMETIC = frozenset({"ConstantOfShape", "EyeLike", "Range", "Shape", "Size"})

GLOBAL_POOLINGS = frozenset({"GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"})

REDUCTIONS = frozenset({
    "ArgMax", "ArgMin", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
    "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
})  # fmt: skip

COMPARISONS = frozenset({
    "And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not",
    "Or", "Xor",
})  # fmt: skip

# Operators of onnxruntime's own domain, and of ONNX's for quantised networks, with the operator
# whose arithmetic they do.
QUANTISED_TWINS = {
    "ConvInteger": "Conv",
    "MatMulInteger": "MatMul",
    "QLinearConv": "Conv",
    "QLinearMatMul": "MatMul",
    "com.microsoft::DynamicQuantizeMatMul": "MatMul",
    "com.microsoft::FusedConv": "Conv",
    "com.microsoft::FusedGemm": "Gemm",
    "com.microsoft::FusedMatMul": "MatMul",
    "com.microsoft::MatMulIntegerToFloat": "MatMul",
    "com.microsoft::MatMulNBits": "MatMul",
    "com.microsoft::QGemm": "Gemm",
    "com.microsoft::QLinearAveragePool": "AveragePool",
    "com.microsoft::QLinearConv": "Conv",
    "com.microsoft::QLinearGlobalAveragePool": "GlobalAveragePool",
}

# Of onnxruntime's own domain: one operation an element of the output.
MICROSOFT_ELEMENTWISE = frozenset({
    "com.microsoft::BiasGelu", "com.microsoft::DequantizeLinear", "com.microsoft::FastGelu",
    "com.microsoft::Gelu", "com.microsoft::QLinearAdd", "com.microsoft::QLinearLeakyRelu",
    "com.microsoft::QLinearMul", "com.microsoft::QLinearSigmoid", "com.microsoft::QuantizeLinear",
    "com.microsoft::QuickGelu",
})  # fmt: skip

# The inputs of a quantised operator that are numbers of its float twin: operands and bias. The
# others are scales and zero points.
QUANTISED_OPERANDS = {
    "ConvInteger": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearConv": (0, 3, 8),
    "QLinearMatMul": (0, 3),
    "com.microsoft::DynamicQuantizeMatMul": (0, 1, 4),
    "com.microsoft::MatMulIntegerToFloat": (0, 1, 6),
    "com.microsoft::MatMulNBits": (0, 1),
    "com.microsoft::QGemm": (0, 3, 6),
    "com.microsoft::QLinearAdd": (0, 3),
    "com.microsoft::QLinearConv": (0, 3, 8),
    "com.microsoft::QLinearMul": (0, 3),
}
