"""Modules: which layers of the report belong together, by the names that the file gives them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from convlens.analysis.layer import Layer

# A module with more layers than a reader takes in at a glance is shown by its children.
MAX_LAYERS_A_GROUP = 20

Path = tuple[str, ...]


@dataclass(frozen=True)
class Module:
    """A run of layers, one after the other in the order of execution, that are of one module.

    Attributes:
        path: the module's names from the outermost; empty for layers of no module.
        layers: at least one.
        is_headed: whether naming the module tells a reader something: it holds several layers, and
            not all there are.
    """

    path: Path
    layers: tuple[Layer, ...]
    is_headed: bool

    @property
    def name(self) -> str:
        """As PyTorch writes it, "layer1.0"."""
        return ".".join(self.path)


def module_path(layer: Layer) -> Path:
    """The modules that the layer is in, outermost first, the one that is the layer itself last.

    "layer1.0.conv1" is read from the scope, or from the name that an exporter made of it:
    "layer1.0.conv1", "/layer1/layer1.0/conv1/Conv" (PyTorch's older one), "block1/conv1/Conv2D".
    """
    if layer.scope:
        return tuple(layer.scope.split("."))
    if "/" not in layer.name:
        return tuple(layer.name.split("."))
    modules: list[str] = []
    for part in layer.name.strip("/").split("/")[:-1]:
        # The older exporter names the members of a Sequential after it: "layer1/layer1.0".
        if modules and part.startswith(f"{modules[-1]}."):
            modules[-1] = part
        else:
            modules.append(part)
    return tuple(".".join(modules).split(".")) if modules else (layer.name.strip("/"),)


def group_by_module(layers: Sequence[Layer], depth: int | None = None) -> tuple[Module, ...]:
    """Group the layers without changing their order.

    Args:
        layers: in the order of execution.
        depth: how many levels of modules are told apart at most; None chooses for each module the
            fewest that leave it with a readable number of layers.
    """
    paths = [module_path(layer) for layer in layers]
    keys = _readable(paths) if depth is None else [path[:depth] for path in paths]
    groups = []
    for key, members in groupby(zip(keys, layers, strict=True), key=lambda pair: pair[0]):
        group = tuple(layer for _, layer in members)
        groups.append(Module(key, group, 1 < len(group) < len(layers) and key != ()))
    return tuple(groups)


def _readable(paths: Sequence[Path]) -> list[Path]:
    """For each path the shortest prefix that is a module of few layers, or of leaves alone."""
    parents = {path[:length] for path in paths for length in range(1, len(path))}
    # An operator that a module computes itself is one of its leaves.
    leaves = [(*path, "") if path in parents else path for path in paths]
    sizes = Counter(path[:length] for path in leaves for length in range(1, len(path)))
    nested = {parent[:-1] for parent in parents}

    def key(leaf: Path) -> Path:
        prefixes = (leaf[:length] for length in range(1, len(leaf)))
        readable = (
            prefix
            for prefix in prefixes
            if sizes[prefix] <= MAX_LAYERS_A_GROUP or prefix not in nested
        )
        return next(readable, leaf[:-1])

    return [key(leaf) for leaf in leaves]
