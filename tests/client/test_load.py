"""The load generator against real servers: what it sends, what it counts."""

from itertools import islice

import numpy as np
import pytest

from convlens.client import ClientError
from convlens.client.connection import Connection
from convlens.client.load import Arrivals, ClosedLoop, Job, OpenLoop, check, measure
from convlens.client.load_processes import measure_with
from convlens.client.load_target import Target, picture_target, tensor_target
from tests.support import DIGITS, RunningServer, grey_png

PICTURES = picture_target([path.read_bytes() for path in DIGITS], "", "")


def _job(
    server: RunningServer,
    loop: ClosedLoop | OpenLoop,
    target: Target = PICTURES,
    deadline_seconds: float = 30.0,
) -> Job:
    return Job(Connection(server.address), target, loop, 0.5, 0.1, deadline_seconds, connections=2)


def _handled(server: RunningServer, method: str, code: str = "OK") -> float:
    service = "convlens.v1.Classifier" if method == "Classify" else "inference.GRPCInferenceService"
    return server.metric(
        f'grpc_server_handled_total{{grpc_code="{code}",grpc_method="{method}",'
        f'grpc_service="{service}",grpc_type="unary_unary"}}'
    )


async def test_a_closed_loop_counts_answers_and_what_they_cost_it(
    lenet5_server: RunningServer,
) -> None:
    before = _handled(lenet5_server, "Classify")
    tally = await measure(_job(lenet5_server, ClosedLoop(4)))
    assert 0 < tally.answers.count <= _handled(lenet5_server, "Classify") - before
    assert tally.good == tally.requests == tally.answers.count
    assert not tally.errors
    assert tally.cpu_seconds > 0


async def test_an_open_loop_sends_at_its_rate_however_slow_the_server(
    slow_server: RunningServer,
) -> None:
    target = picture_target([grey_png(0)], "", "")
    loop = OpenLoop(rate=100, arrivals="constant")
    tally = await measure(_job(slow_server, loop, target))
    assert abs(tally.requests - 50) <= 1
    assert tally.errors["RESOURCE_EXHAUSTED"].count > 0
    assert tally.behind.count == tally.requests


async def test_answers_after_the_deadline_are_no_answers(slow_server: RunningServer) -> None:
    target = picture_target([grey_png(0)], "", "")
    tally = await measure(_job(slow_server, ClosedLoop(1), target, deadline_seconds=0.005))
    assert tally.good == 0
    assert "DEADLINE_EXCEEDED" in tally.errors


async def test_tensors_are_made_from_what_the_server_says_of_the_model(
    lenet5_server: RunningServer,
) -> None:
    target = await tensor_target(Connection(lenet5_server.address), "lenet5", "")
    await check(Connection(lenet5_server.address), target)
    tally = await measure(_job(lenet5_server, OpenLoop(rate=50), target))
    assert tally.answers.count > 0
    assert _handled(lenet5_server, "ModelInfer") > tally.answers.count


def test_several_processes_share_the_load(lenet5_server: RunningServer) -> None:
    loop = OpenLoop(rate=60, arrivals="constant")
    tally = measure_with(2, _job(lenet5_server, loop))
    assert abs(tally.requests - 30) <= 2
    shares = [ClosedLoop(7).share(index, 3).concurrency for index in range(3)]
    assert sorted(shares) == [2, 2, 3]


async def test_what_the_server_does_not_take_is_said_before_the_load_begins(
    lenet5_server: RunningServer,
) -> None:
    connection = Connection(lenet5_server.address)
    with pytest.raises(ClientError, match="nobody"):
        await check(connection, picture_target([b""], "nobody", ""))
    with pytest.raises(ClientError, match="nobody"):
        await tensor_target(connection, "nobody", "")


@pytest.mark.parametrize("arrivals", ["poisson", "constant"])
def test_processes_that_share_a_rate_do_not_send_at_the_same_moments(arrivals: Arrivals) -> None:
    shares = [OpenLoop(300, arrivals).share(index, 3) for index in range(3)]
    due = sorted(at for share in shares for at in islice(share.due_seconds(), 1, 1000))
    if arrivals == "constant":
        assert np.diff(due) == pytest.approx(1 / 300)
    else:
        assert len(set(due)) == len(due)
        # Of a Poisson process the distances deviate by as much as they are long.
        assert np.std(np.diff(due)) / np.mean(np.diff(due)) == pytest.approx(1, abs=0.1)
