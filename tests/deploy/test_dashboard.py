"""The dashboard shows what the server measures: no panel asks for a metric that is not there."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Metric

from convlens.client import Client
from convlens.server.metrics import Metrics
from convlens.server.repository_metrics import RepositoryMetrics
from convlens.server.settings import Settings
from convlens.server.supervisor import Supervisor
from tests.deploy.monitoring import (
    ROOT,
    ask,
    dashboard_queries,
    load_dashboard,
    wait_for_dashboard,
    wait_until,
)
from tests.support import RunningServer

PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"


def _exported_metrics() -> list[Metric]:
    """What a server exports that has workers, a memory budget and candidates."""
    registry = Metrics().registry
    RepositoryMetrics(registry)
    supervisor = Supervisor(Settings(), lambda _: None, port=())
    return [*registry.collect(), *supervisor.registry.collect()]


def _exported_series() -> set[str]:
    """The names of all the series that the server exports."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {
        metric.name + suffix
        for metric in _exported_metrics()
        for suffix in suffixes.get(metric.type, ())
    }


def _series_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:convlens|grpc_server|process|python)_\w+", expression))


def _panels() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = load_dashboard()["panels"]
    return panels


def test_every_query_of_the_dashboard_reads_series_that_the_server_exports() -> None:
    for query in dashboard_queries():
        unknown = _series_in(query.expression) - _exported_series()
        assert not unknown, f"{query.panel}: {unknown}"


def test_every_alert_reads_series_that_the_server_exports() -> None:
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    for rule in rules:
        unknown = _series_in(rule["expr"]) - _exported_series()
        assert not unknown, f"{rule['alert']}: {unknown}"


def test_every_metric_of_ours_is_on_the_dashboard() -> None:
    shown = "\n".join(query.expression for query in dashboard_queries())
    ours = [m.name for m in Metrics().registry.collect() if m.name.startswith("convlens_")]
    assert [name for name in ours if name not in shown] == []


def test_the_docs_tell_of_every_metric_of_ours_and_of_every_alert() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text()
    rules = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    alerts = [rule["alert"] for rule in rules]
    metrics = [
        metric.name + "_total" * (metric.type == "counter")
        for metric in _exported_metrics()
        if metric.name.startswith(("convlens_", "grpc_"))
    ]
    assert [name for name in alerts + metrics if f"`{name}`" not in page] == []


def test_every_panel_says_what_it_shows_and_in_which_unit() -> None:
    for panel in _panels():
        if panel["type"] == "row":
            continue
        assert panel["description"].endswith("."), panel["title"]
        if panel["type"] in ("stat", "timeseries"):
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


def test_no_two_panels_overlap_or_share_an_id() -> None:
    panels = _panels()
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations(panels, 2):
        a, b = one["gridPos"], other["gridPos"]
        apart_x = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        apart_y = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart_x or apart_y, f"{one['title']} and {other['title']}"
        assert a["x"] + a["w"] <= 24, one["title"]


def test_the_dashboard_asks_the_data_source_that_is_provisioned() -> None:
    path = PROVISIONING / "datasources" / "prometheus.yml"
    (source,) = yaml.safe_load(path.read_text())["datasources"]
    uids = re.findall(r'"datasource": \{[^}]*"uid": "([^"]*)"', json.dumps(load_dashboard()))
    assert set(uids) == {source["uid"]}


def test_grafana_is_told_the_real_scrape_interval() -> None:
    path = PROVISIONING / "datasources" / "prometheus.yml"
    (source,) = yaml.safe_load(path.read_text())["datasources"]
    prometheus = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]


@pytest.fixture(scope="module")
def prometheus_url(
    lenet5_server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A Prometheus that scrapes the server each second, else configured as it is deployed."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("there is no prometheus on this machine")
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
    config["rule_files"] = [str(ALERTS)]
    server = lenet5_server.metrics_url.removeprefix("http://").removesuffix("/metrics")
    config["scrape_configs"][0]["static_configs"] = [{"targets": [server]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = (
        *(program, f"--config.file={folder}/prometheus.yml"),
        *(f"--storage.tsdb.path={folder}/data", "--web.listen-address=127.0.0.1:0"),
    )
    log = folder / "prometheus.log"
    with log.open("w") as stderr, subprocess.Popen(command, stderr=stderr) as process:
        try:
            wait_until(partial(_listen_address, log), 30, f"it listens: see {log}")
            yield f"http://{_listen_address(log)}"
        finally:
            process.terminate()


def _listen_address(log: Path) -> str:
    """The free port that Prometheus took, which nothing but its log tells."""
    match = re.search(r'msg="Listening on" address=(\S+)', log.read_text())
    return match[1] if match else ""


def test_a_real_prometheus_answers_every_query_of_the_dashboard(
    lenet5_server: RunningServer, prometheus_url: str
) -> None:
    with Client(lenet5_server.address) as client:
        assert wait_for_dashboard(prometheus_url, client, seconds=60) == len(dashboard_queries())


def test_the_variables_of_the_dashboard_have_values(prometheus_url: str) -> None:
    for variable in load_dashboard()["templating"]["list"]:
        match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
        assert match, variable["name"]
        expression = match[1].replace("$job", "convlens")
        wait_until(partial(ask, prometheus_url, expression), 20, expression)
        assert all(match[2] in series["metric"] for series in ask(prometheus_url, expression))
