"""What a user installs: the wheel has every package and every file, and nothing else."""

import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("analysis", "cli", "client", "export", "proto", "server")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of the committed and new files."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(target)]
    subprocess.run([*build, str(source)], check=True, capture_output=True)
    return zipfile.ZipFile(next(target.glob("*.whl")))


def test_the_wheel_contains_every_module_of_every_package(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for package in PACKAGES:
        assert f"convlens/{package}/py.typed" in names
        for module in (ROOT / package).rglob("*.py"):
            assert f"convlens/{module.relative_to(ROOT)}" in names


def test_the_wheel_contains_the_protocol_and_the_bundled_model(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for proto in (ROOT / "proto").glob("*.proto"):
        assert f"convlens/proto/{proto.name}" in names
    assert "convlens/server/bundled/models/lenet5.onnx" in names
    assert sum(name.startswith("convlens/server/bundled/digits/") for name in names) == 20


def test_the_wheel_puts_nothing_generic_into_site_packages(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"convlens"}


def test_the_base_install_needs_neither_torch_nor_a_runtime(wheel: zipfile.ZipFile) -> None:
    metadata_file = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
    metadata = Parser().parsestr(wheel.read(metadata_file).decode())
    base = {line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    names = {line.split(">")[0].split("=")[0].split("<")[0] for line in base}
    assert names == {"numpy", "onnx", "protobuf", "rich"}
    extras = set(metadata.get_all("Provides-Extra", []))
    assert {"serve", "serve-gpu", "openvino", "client", "export", "dev"} <= extras
