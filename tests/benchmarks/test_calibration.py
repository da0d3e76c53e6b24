"""Which rounds count on a machine whose speed changes."""

from benchmarks.harness.calibration import EQUAL, machine_speed, steadiest


def test_rounds_in_which_the_machine_changed_do_not_count():
    rounds = [(1.5, "a"), (1.02, "b"), (EQUAL, "c"), (EQUAL + 0.01, "d"), (1.0, "e")]
    assert steadiest(rounds, 1) == ["e", "b", "c"]
    # Too few are steady: the steadiest of the others as well.
    assert steadiest(rounds, 4) == ["e", "b", "c", "d"]
    assert steadiest(rounds[:1], 3) == ["a"]


def test_the_speed_of_the_machine_is_a_number_of_its_own():
    assert 0.01 < machine_speed() < 1e5
