from pathlib import Path

from hypothesis import HealthCheck, given, settings

from convlens.analysis.verification import verify
from convlens.cli.runtime import open_session
from tests.analysis.random_graphs import RandomNetwork, random_networks

_ALL = 10**6


@settings(
    max_examples=120,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(network=random_networks())
def test_every_unit_of_a_random_network_sees_what_was_computed(
    tmp_path: Path, network: RandomNetwork
) -> None:
    verification = verify(network.save(tmp_path / "m.onnx"), open_session, units=_ALL)

    assert verification.differences == ()
    assert verification.not_compared == ()
