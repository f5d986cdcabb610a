"""Lock sampling: what the server said of a run, and what it did not say."""

import pytest

from internals.hop.lock_sampling import LockSampling


@pytest.mark.parametrize("said", [None, False, "nothing"])
def test_what_one_waited_for_before_says_nothing_of_the_last_question(said: object) -> None:
    sampling = LockSampling(8.0, often=True)
    sampling.ask(1.0)
    sampling.answer(True)
    assert sampling.heard(60.0)
    assert (sampling.blocked, sampling.waited) == (True, 1.0)
    sampling.ask(2.0)
    if said != "nothing":
        sampling.answer(None if said is None else False)
    assert sampling.heard(-1.0)
    assert (sampling.blocked, sampling.waited) == (False, 1.0)


def test_it_asks_so_often_until_the_limit_and_after_it() -> None:
    sampling = LockSampling(8.0, often=True)
    asked: list[float] = []
    for ran in (0.5, 1.0, 1.5, 4.5, 4.9, 5.0, 8.0, 9.0):
        if sampling.is_due(ran):
            asked.append(ran)
            sampling.ask(ran)
            assert not sampling.is_due(ran + 100)
            sampling.answer(False)
            assert sampling.heard(60.0)
    assert asked == [1.0, 4.5, 5.0, 8.0, 9.0]
