"""The compose file and the Dockerfile agree with the code, and give no more rights than needed."""

import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import yaml

from convlens.server.settings import Settings
from tests.deploy.monitoring import ROOT


def _services() -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())[
        "services"
    ]
    return services


SERVICES = tuple(_services())


def test_the_ports_of_the_server_are_those_that_it_listens_on_by_default() -> None:
    defaults = Settings()
    inside = {int(port.rsplit(":", 1)[1]) for port in _services()["server"]["ports"]}
    assert inside == {defaults.port, defaults.metrics_port}


def _health_check() -> str:
    """The program of the image's health check, as Docker reads it from the Dockerfile."""
    dockerfile = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    match = re.search(r"^HEALTHCHECK .*?CMD (\[.*\])$", dockerfile, re.MULTILINE)
    assert match is not None
    python, option, program = json.loads(match[1])
    assert (python, option) == ("python", "-c")
    return str(program)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_asks_readyz_at_the_port_that_is_set(status: int, code: int) -> None:
    asked = []

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

    with HTTPServer(("127.0.0.1", 0), Ready) as server:
        server.timeout = 30  # seconds to wait for the one request
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        environment = {**os.environ, "CONVLENS_METRICS_PORT": str(server.server_port)}
        check = subprocess.run(
            [sys.executable, "-c", _health_check()], env=environment, timeout=30, check=False
        )
        thread.join()
    assert asked == ["/readyz"]
    assert check.returncode == code


def test_the_health_check_asks_the_default_port_where_none_is_set() -> None:
    assert f"'CONVLENS_METRICS_PORT', {Settings().metrics_port})" in _health_check()


def test_prometheus_scrapes_the_server_of_the_compose_file() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"server:{Settings().metrics_port}"]}]


def test_grafana_asks_the_prometheus_of_the_compose_file() -> None:
    path = ROOT / "deploy" / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
    (source,) = yaml.safe_load(path.read_text())["datasources"]
    (port,) = _services()["prometheus"]["ports"]
    assert source["url"] == f"http://prometheus:{port.rsplit(':', 1)[1]}"


def test_grafana_reads_the_dashboards_from_where_they_are_mounted() -> None:
    path = ROOT / "deploy" / "grafana" / "provisioning" / "dashboards" / "convlens.yml"
    (provider,) = yaml.safe_load(path.read_text())["providers"]
    grafana = _services()["grafana"]
    folder = provider["options"]["path"]
    assert f"./deploy/grafana/dashboards:{folder}:ro" in grafana["volumes"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folder}/convlens.json"


def test_docker_waits_longer_for_the_server_than_the_server_for_its_requests() -> None:
    grace = _services()["server"]["stop_grace_period"]
    assert float(grace.removesuffix("s")) > Settings().grace_seconds


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_published_on_loopback_alone(service: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in _services()[service]["ports"])


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_cannot_write_to_its_image_or_gain_rights(service: str) -> None:
    settings = _services()[service]
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_runs_what_is_built_here_or_a_pinned_version(service: str) -> None:
    settings = _services()[service]
    assert "build" in settings or re.search(r":v?\d+\.\d+\.\d+$", settings["image"])


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_service_mounts_from_the_checkout_is_there(service: str) -> None:
    for volume in _services()[service]["volumes"]:
        source = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", volume).split(":")[0]
        if source.startswith("."):
            assert (ROOT / source).is_dir(), source


def test_the_image_prepares_the_folders_of_all_packages() -> None:
    packaging = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    prepared = re.search(r"RUN mkdir -p ((?:[\w/]+ )+)&&", (ROOT / "Dockerfile").read_text())
    assert prepared
    for package in packaging["packages"]:
        top, *below = package.removeprefix("convlens.").split(".")
        folder = "/".join((packaging["package-dir"][f"convlens.{top}"], *below))
        assert any(f"{path}/".startswith(f"{folder}/") for path in prepared[1].split()), package


def test_what_the_image_is_built_from_is_sent_to_the_engine() -> None:
    packaging = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    sent = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    }
    folders = {folder.split("/")[0] for folder in packaging["package-dir"].values()}
    assert sent == folders | {"LICENSE", "README.md", "pyproject.toml"}
