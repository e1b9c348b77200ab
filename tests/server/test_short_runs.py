"""Which runs go on the event loop."""

from convlens.server.short_runs import INLINE_SECONDS, ShortRuns

SMALL, LARGE = ((1, 32, 32),), ((1, 512, 512),)
SHORT, LONG = INLINE_SECONDS / 10, INLINE_SECONDS * 10


def test_a_run_goes_on_the_loop_once_one_of_its_shapes_was_short() -> None:
    runs = ShortRuns()
    assert not runs.admits(SMALL, 1)
    runs.learn(SMALL, 1, SHORT, on_the_loop=False)
    assert runs.admits(SMALL, 9)
    assert not runs.admits(SMALL, 11)
    assert not runs.admits(LARGE, 1)
    runs.forget()
    assert not runs.admits(SMALL, 1)


def test_long_runs_of_other_shapes_stay_in_their_threads() -> None:
    runs = ShortRuns()
    runs.learn(SMALL, 1, SHORT, on_the_loop=False)
    for _ in range(100):
        runs.learn(LARGE, 1, LONG, on_the_loop=False)
        assert not runs.admits(LARGE, 1)


def test_a_run_that_only_waited_in_its_thread_still_counts_as_short() -> None:
    runs = ShortRuns()
    for seconds in (SHORT, LONG, LONG):
        runs.learn(SMALL, 1, seconds, on_the_loop=False)
        assert runs.admits(SMALL, 1)
    for _ in range(100):  # it has become slow indeed
        runs.learn(SMALL, 1, LONG, on_the_loop=False)
    assert not runs.admits(SMALL, 1)


def test_a_run_that_was_long_on_the_loop_leaves_it() -> None:
    runs = ShortRuns()
    runs.learn(SMALL, 1, SHORT, on_the_loop=False)
    runs.learn(SMALL, 1, LONG, on_the_loop=True)
    assert not runs.admits(SMALL, 1)
