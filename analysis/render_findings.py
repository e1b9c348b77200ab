"""The findings of the lint as text, those of one rule together."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.text import Text

from convlens.analysis.linter import Finding
from convlens.analysis.text_layout import printable

_STYLES = {"warning": "bold yellow", "info": "bold cyan"}


def findings_text(findings: Sequence[Finding]) -> RenderableType:
    """The findings for a reader: each rule with its source, under it the layers and reasons."""
    if not findings:
        return Text("nothing found", "green")
    warnings = sum(finding.severity == "warning" for finding in findings)
    lines: list[Text] = []
    for _, group in groupby(findings, key=lambda finding: finding.rule):
        lines += _rule(list(group))
    summary = f"{warnings} warnings, {len(findings) - warnings} infos"
    return Group(*lines, Text(summary, "bold"))


def _rule(findings: Sequence[Finding]) -> Iterable[Text]:
    first = findings[0]
    yield Text.assemble((first.severity, _STYLES[first.severity]), "  ", (first.rule, "bold"))
    yield Text(f"  {first.source}", "dim")
    for finding in findings:
        name = finding.scope or finding.layer
        subject = f"{name}: " if name else ""
        yield Text(f"  {printable(subject + finding.reason)}")
    yield Text()
