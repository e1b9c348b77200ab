"""Lint: what may be wrong with a network, each finding with its reason and who says so.

A rule is a function from a `Subject` to problems, with an id, a severity and a source; the rules
are in `lint_rules`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from convlens.analysis.layer import Layer
from convlens.analysis.report import Report

Severity = Literal["warning", "info"]


@dataclass(frozen=True)
class Finding:
    """One thing that may be wrong.

    Attributes:
        rule: the id of the rule that found it.
        severity: warning for what is likely a mistake, info for what is a choice with a price.
        layer: the name of the layer; None where it is about the whole model.
        scope: the PyTorch module that the layer came from; None where the file does not say.
        reason: what was found, with its numbers.
        source: who says that it matters.
    """

    rule: str
    severity: Severity
    layer: str | None
    scope: str | None
    reason: str
    source: str

    def to_json(self) -> dict[str, str | None]:
        """The finding as plain values."""
        return dict(vars(self))


@dataclass(frozen=True)
class Subject:
    """What the rules look at: the report, and who makes and reads each tensor.

    Attributes:
        report: of the model.
    """

    report: Report

    @cached_property
    def producers(self) -> Mapping[str, Layer]:
        """The layer that makes a tensor, by the tensor's name."""
        return {tensor.name: layer for layer in self.report.layers for tensor in layer.outputs}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Layer, ...]]:
        """The layers that read a tensor, by the tensor's name."""
        found: dict[str, list[Layer]] = {}
        for layer in self.report.layers:
            for name in dict.fromkeys(tensor.name for tensor in layer.inputs):
                found.setdefault(name, []).append(layer)
        return {name: tuple(layers) for name, layers in found.items()}

    def before(self, layer: Layer) -> tuple[Layer, ...]:
        """The layers whose outputs this one reads, those of a damaged file's cycles left out."""
        makers = (self.producers.get(tensor.name) for tensor in layer.inputs)
        return tuple(m for m in makers if m is not None and m.index < layer.index)


# A problem: the layer, or None for the whole model, and the reason.
Problem = tuple[Layer | None, str]
Check = Callable[[Subject], Iterable[Problem]]


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        id: by which it is known, as "stride-exceeds-kernel".
        severity: of its findings.
        source: who says that it matters.
        check: finds the problems.
    """

    id: str
    severity: Severity
    source: str
    check: Check


def lint(report: Report) -> tuple[Finding, ...]:
    """Apply every rule to a report, in the order of the rules and of the layers."""
    from convlens.analysis.lint_rules import RULES

    subject = Subject(report)
    return tuple(
        Finding(
            rule=rule.id,
            severity=rule.severity,
            layer=layer.name if layer else None,
            scope=layer.scope if layer else None,
            reason=reason,
            source=rule.source,
        )
        for rule in RULES
        for layer, reason in rule.check(subject)
    )
