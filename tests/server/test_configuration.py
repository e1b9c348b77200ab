"""Settings come from flags, the environment and a file, in this order, and a wrong one is named."""

from pathlib import Path

import pytest

from convlens.server.configuration import configure
from convlens.server.errors import ConfigurationError
from convlens.server.settings import Settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that sets three settings."""
    path = tmp_path / "convlens.toml"
    path.write_text('port = 1\nqueue_size = 1\nwatch = true\n[aliases]\nstable = "lenet5@1"\n')
    return path


def test_flags_go_before_the_environment_and_the_environment_before_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVLENS_PORT", "2")
    monkeypatch.setenv("CONVLENS_QUEUE_SIZE", "2")
    configuration = configure({"port": "3"}, file)
    settings = configuration.settings
    assert (settings.port, settings.queue_size, settings.watch) == (3, 2, True)
    assert settings.aliases == {"stable": "lenet5@1"}
    assert settings.max_batch_size == 16
    assert configuration.origins == {
        "port": "--port",
        "queue_size": "CONVLENS_QUEUE_SIZE",
        "watch": f"{file}: watch",
        "aliases": f"{file}: aliases",
    }


def test_the_effective_settings_are_shown_with_their_origin() -> None:
    lines = str(configure({"grace_seconds": "2.5"}, None)).splitlines()
    assert [line.split() for line in lines if line.startswith(("grace", "port"))] == [
        ["port", "50051", "default"],
        ["grace_seconds", "2.5", "--grace"],
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("prot = 1", "prot: there is no such setting; did you mean port?"),
        ("port = 70000", "port: input should be less than or equal to 65535, is 70000"),
        ("port = ", "not TOML"),
    ],
)
def test_a_wrong_setting_in_the_file_is_named(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "wrong {one}.toml"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=r"wrong {one}\.toml") as caught:
        configure({}, path)
    assert said in str(caught.value)


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVLENS_MAX_PIXELS", "many")
    with pytest.raises(ConfigurationError, match=r"^CONVLENS_MAX_PIXELS: .* is 'many'$"):
        configure({}, None)


def test_what_kubernetes_says_of_a_service_of_this_name_is_no_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CONVLENS_PORT", "tcp://10.0.171.239:50051")
    assert configure({}, None).settings.port == Settings().port
    assert configure({"port": 1234}, None).settings.port == 1234


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ALIASES", "abc", r"must be JSON, as \{\"ALIAS\": \"NAME\[@VERSION\]\"\}, is 'abc'"),
        ("CANDIDATES", "a@2", r"must be JSON, as \{\"NAME\": \"VERSION\"\}, is 'a@2'"),
        ("TOKENS", "", "is empty: give a value, or leave it out"),
    ],
)
def test_a_variable_of_the_wrong_form_is_told_the_right_one(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"CONVLENS_{name}", value)
    with pytest.raises(ConfigurationError, match=f"^CONVLENS_{name}: {said}$"):
        configure({}, None)


def test_pairs_may_stand_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVLENS_ALIASES", '{"stable": "lenet5@1"}')
    monkeypatch.setenv("CONVLENS_DEFAULT_MODEL", "")
    settings = configure({}, None).settings
    assert (settings.aliases, settings.default_model) == ({"stable": "lenet5@1"}, "")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nothing\.toml: No such file"):
        configure({}, tmp_path / "nothing.toml")
