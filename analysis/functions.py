"""Local functions: each call replaced by the operators of the function's body.

What lies inside a call is named by the way to it: the operator "conv" of the function that the
call "first" of the call "stage1" runs is "stage1/first/conv", and so are its tensors.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convlens.analysis.errors import GraphError
from convlens.analysis.graph_reader import ONNX_DOMAINS, text
from convlens.analysis.onnx_parts import AttributeProto, ModelProto, NodeProto

if TYPE_CHECKING:
    from onnx import FunctionProto, GraphProto

# Functions that call functions grow exponentially in hostile files; real networks stay far below.
_MAX_NODES = 200_000
_MAX_DEPTH = 100

# Domain, name and overload.
_Key = tuple[str, str, str]


def inline_functions(proto: ModelProto) -> ModelProto:
    """The model without local functions.

    A function that is written for another version of ONNX's operators than the model is left: what
    its operators mean would change.

    Raises:
        GraphError: a function calls itself, or there are too many operators.
    """
    if not proto.functions:
        return proto
    opsets = {text(entry.domain): entry.version for entry in proto.opset_import}
    functions = {
        (text(function.domain), text(function.name), text(function.overload)): function
        for function in proto.functions
        if _same_opsets(function, opsets)
    }
    inlined = ModelProto()
    inlined.CopyFrom(proto)
    del inlined.functions[:]
    if _inlined_nodes(proto.graph.node, functions) > _MAX_NODES:
        raise GraphError(f"with its local functions it has more than {_MAX_NODES:,} operators")
    for function in functions.values():
        known = {text(entry.domain) for entry in inlined.opset_import}
        inlined.opset_import.extend(
            entry for entry in function.opset_import if text(entry.domain) not in known
        )
    tensors = dict.fromkeys(_tensor_names(proto.graph), 1)
    _Inliner(functions, tensors).replace_calls(inlined.graph, _Call())
    return inlined


def _inlined_nodes(nodes: Sequence[NodeProto], functions: Mapping[_Key, "FunctionProto"]) -> int:
    """How many operators there are when all calls are replaced."""
    sizes: dict[_Key, int] = {}
    running: list[_Key] = []

    def size(node: NodeProto) -> int:
        key = _key(node)
        if key not in functions:
            return 1 + sum(size(inner) for body in _bodies(node) for inner in body.node)
        if key in running:
            raise GraphError(f"the local function {key[1]!r} calls itself")
        if len(running) > _MAX_DEPTH:
            raise GraphError(f"local functions call each other {_MAX_DEPTH} deep")
        if key not in sizes:
            running.append(key)
            sizes[key] = sum(map(size, functions[key].node))
            running.pop()
        return sizes[key]

    return sum(map(size, nodes))


def _key(node: NodeProto) -> _Key:
    return text(node.domain), text(node.op_type), text(node.overload)


def _bodies(node: NodeProto) -> Iterator["GraphProto"]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _same_opsets(function: "FunctionProto", opsets: Mapping[str, int]) -> bool:
    return all(
        entry.version == opsets.get(text(entry.domain), entry.version)
        for entry in function.opset_import
        if entry.domain in ONNX_DOMAINS
    )


def _tensor_names(graph: "GraphProto") -> set[str]:
    """The names of the graph's own tensors."""
    names = {text(value.name) for value in (*graph.input, *graph.output)}
    names.update(text(tensor.name) for tensor in graph.initializer)
    for node in graph.node:
        names.update(map(text, (*node.input, *node.output)))
    return names


@dataclass(frozen=True)
class _Call:
    """One call of a function, or the graph itself.

    Attributes:
        path: the way to it; empty for the graph.
        tensors: the names of the function's tensors outside; an optional input that is left out
            has an empty one.
        attributes: what the function's operators refer to, by name.
    """

    path: str = ""
    tensors: dict[str, str] = field(default_factory=dict)
    attributes: Mapping[str, AttributeProto] = field(default_factory=dict)


@dataclass
class _Inliner:
    """Replaces calls, and keeps all names apart.

    Attributes:
        functions: by domain, name and overload.
        tensors: the names of tensors that are in use, with the last number that each was given.
        names: those of operators in functions, likewise.
    """

    functions: Mapping[_Key, "FunctionProto"]
    tensors: dict[str, int]
    names: dict[str, int] = field(default_factory=dict)

    def replace_calls(self, graph: "GraphProto", call: _Call) -> None:
        """Replace the calls in a graph or in the body of an operator."""
        nodes = list(self._expanded(graph.node, call))
        del graph.node[:]
        graph.node.extend(nodes)

    def _expanded(self, nodes: Sequence[NodeProto], call: _Call) -> Iterator[NodeProto]:
        for original in nodes:
            node = self._bound(original, call)
            key = _key(node)
            if key in self.functions:
                yield from self._body(node, self.functions[key])
                continue
            yield node

    def _body(self, node: NodeProto, function: "FunctionProto") -> Iterator[NodeProto]:
        """The operators that a call runs."""
        formal = [*map(text, function.input)]
        given = [*map(text, node.input)][: len(formal)]
        tensors = dict(zip(formal, [*given, *[""] * (len(formal) - len(given))], strict=True))
        outputs = zip(map(text, function.output), map(text, node.output), strict=False)
        results = {name: result for name, result in outputs if result}
        attributes = {text(default.name): default for default in function.attribute_proto}
        attributes |= {text(attribute.name): attribute for attribute in node.attribute}
        inside = _Call(
            _name(node),
            tensors | {name: result for name, result in results.items() if name not in tensors},
            attributes,
        )
        yield from self._expanded(function.node, inside)
        for name, result in results.items():
            if name in tensors:
                yield NodeProto(op_type="Identity", input=[tensors[name]], output=[result])

    def _bound(self, original: NodeProto, call: _Call) -> NodeProto:
        """A copy of an operator with the names and attributes that it has in this call."""
        node = NodeProto()
        node.CopyFrom(original)
        if call.path:
            node.name = _unused(f"{call.path}/{_name(node)}", self.names)
            node.input[:] = [self._tensor(text(name), call) for name in node.input]
            node.output[:] = [self._tensor(text(name), call) for name in node.output]
            _bind_attributes(node, call)
        for body in _bodies(node):
            self._bind_graph(body, call)
        return node

    def _bind_graph(self, graph: "GraphProto", call: _Call) -> None:
        """The same for a body; what it takes from around it has names already."""
        if call.path:
            for value in (*graph.input, *graph.output):
                value.name = self._tensor(text(value.name), call)
            for tensor in (*graph.initializer, *(s.values for s in graph.sparse_initializer)):
                tensor.name = self._tensor(text(tensor.name), call)
            del graph.value_info[:]
        self.replace_calls(graph, call)

    def _tensor(self, name: str, call: _Call) -> str:
        """The name outside; an input that the caller leaves out has none there either."""
        if name and name not in call.tensors:
            call.tensors[name] = _unused(f"{call.path}/{name}", self.tensors)
        return call.tensors[name] if name else ""


def _name(node: NodeProto) -> str:
    """The name of an operator, or that of its first output."""
    return text(node.name) or next(iter(map(text, node.output)), text(node.op_type))


def _unused(name: str, taken: dict[str, int]) -> str:
    """The name, with a number where it is taken; it is from then on."""
    unused, number = name, taken.get(name, 0)
    while unused in taken:
        number += 1
        unused = f"{name}_{number}"
    taken[name], taken[unused] = number or 1, 1
    return unused


def _bind_attributes(node: NodeProto, call: _Call) -> None:
    """Put the values of the call in the place of references; one without a value is not there."""
    bound = []
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            bound.append(attribute)
        elif text(attribute.ref_attr_name) in call.attributes:
            value = AttributeProto()
            value.CopyFrom(call.attributes[text(attribute.ref_attr_name)])
            value.name = attribute.name
            bound.append(value)
    kept = [AttributeProto.FromString(attribute.SerializeToString()) for attribute in bound]
    del node.attribute[:]
    node.attribute.extend(kept)
