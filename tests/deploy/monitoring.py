"""The dashboard's queries, and what a real Prometheus answers to them."""

import json
import math
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convlens.client import Client, InvalidArgumentError
from tests.support import DIGITS

ROOT = Path(__file__).parent.parent.parent
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "convlens.json"


@dataclass(frozen=True)
class Query:
    """One query of a panel, Grafana's variables filled in.

    Attributes:
        panel: its title.
        expression: PromQL.
        legend: Grafana's pattern, such as "{{model}} p95".
    """

    panel: str
    expression: str
    legend: str

    def flaw(self, series: Sequence[dict[str, Any]]) -> str:
        """What is wrong with Prometheus's answer; empty where nothing is."""
        if not any(math.isfinite(float(entry["value"][1])) for entry in series):
            return "no data"
        for label in re.findall(r"\{\{(\w+)\}\}", self.legend):
            if not all(entry["metric"].get(label) for entry in series):
                return f"the legend names {label}, which the series lack"
        return ""


def load_dashboard() -> dict[str, Any]:
    """The dashboard as Grafana is given it."""
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return dashboard


def dashboard_queries() -> tuple[Query, ...]:
    """Every query of the dashboard, as Grafana sends it when all models are chosen."""
    dashboard = load_dashboard()
    return tuple(
        Query(panel["title"], _fill_in(target["expr"]), target["legendFormat"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    )


def _fill_in(expression: str) -> str:
    for name, value in (("$__rate_interval", "30s"), ("$job", "convlens"), ("$model", ".*")):
        expression = expression.replace(name, value)
    assert "$" not in expression, f"a variable that nobody fills in: {expression}"
    return expression


def ask(prometheus_url: str, expression: str) -> list[dict[str, Any]]:
    """Run an instant query; each series has a `metric` (its labels) and a `value` (time, text)."""
    parameters = urllib.parse.urlencode({"query": expression})
    url = f"{prometheus_url}/api/v1/query?{parameters}"
    with urllib.request.urlopen(url, timeout=10) as response:
        series: list[dict[str, Any]] = json.load(response)["data"]["result"]
        return series


def wait_until(holds: Callable[[], object], seconds: float, what: str) -> None:
    """Ask again and again; fails with what was waited for."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"after {seconds:g} s still not so: {what}"
        time.sleep(0.5)


def wait_for_dashboard(prometheus_url: str, client: Client, seconds: float) -> int:
    """Keep a server busy until every query of the dashboard has an answer without a flaw.

    Some of the calls fail on purpose: else the panels of errors would be empty, and rightly so.

    Returns:
        How many queries that are.
    """
    queries = dashboard_queries()
    flaws: dict[str, str] = {}

    def all_answered() -> bool:
        client.classify(DIGITS[0])
        with suppress(InvalidArgumentError):
            client.classify(b"not a picture")
        answers = ((query, query.flaw(ask(prometheus_url, query.expression))) for query in queries)
        flaws.clear()
        flaws.update(
            {f"{query.panel}: {query.expression}": flaw for query, flaw in answers if flaw}
        )
        return not flaws

    try:
        wait_until(all_answered, seconds, "every query of the dashboard is answered")
    except AssertionError as error:
        lines = (f"{flaw}: {query}" for query, flaw in flaws.items())
        raise AssertionError("\n".join(lines)) from error
    return len(queries)
