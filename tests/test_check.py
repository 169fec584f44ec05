"""The machinery of the exercise checks: every way to be wrong gets its own message, and none of them raises."""

import contextlib
import sys

import numpy as np
import pytest
import torch

import lkm_kit.course as course
from lkm_kit.course import check_function, check_value, limits
from lkm_kit.course.check import TRIED
from lkm_kit.course.check_class import check_class

CASES = [(torch.tensor([1.0, 2.0]),), (torch.arange(6.0).reshape(2, 3),)]


def doubled(x):
    return 2 * x


NUDGE, FORMULA = "what happens to 3?", "two times"


@pytest.fixture(autouse=True)
def first_try():
    TRIED.clear()


def check(fn, **options):
    return check_function(fn, doubled, CASES, name="double", hints=(NUDGE, FORMULA), **options)


def test_solved():
    result = check(lambda x: x + x)
    assert result.ok and bool(result) and "all 2 cases" in result.message and repr(result) == result.message


@pytest.mark.parametrize("unsolved", [None, ..., lambda x: None, lambda x: ...])
def test_not_solved_yet(unsolved):
    result = check(unsolved)
    assert not result and result.message == "… double: not yet."


def test_hints_come_in_stages_and_running_a_cell_again_is_no_new_try():
    cell = "def twice(x):\n    return x + 1"

    def run(source):
        space = {}
        exec(compile(source, f"<cell {len(source)}>", "exec"), space)
        return check_function(space["twice"], doubled, CASES, hints=(NUDGE, FORMULA))

    said = [run(source).message for source in (cell, cell, cell.replace("1", "3"), cell, cell.replace("1", "4"))]
    assert all(message.startswith("✗ twice: ") for message in said)
    assert [NUDGE in message for message in said] == [True, True, False, False, False]
    assert [FORMULA in message for message in said] == [False, False, True, True, True]
    assert run(cell.replace("+ 1", "* 2")).message == "✓ twice: all 2 cases agree."
    assert NUDGE in run(cell).message  # solved once, it starts anew
    assert not any(hint in check(lambda x: None).message for hint in (NUDGE, FORMULA))


def test_the_learner_s_own_name_is_said():
    def twice(x):
        return x

    assert check_function(twice, doubled, CASES).message.startswith("✗ twice: ")
    assert check_function(lambda x: x, doubled, CASES).message.startswith("✗ your answer: ")
    assert check_function(None, doubled, CASES).message == "… your answer: not yet."


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda x: torch.zeros(3), r"shape is not right yet \(case 1 of 2\): yours \(3,\), expected \(2,\)"),
        (lambda x: x.flatten()[:2] * 2 if x.ndim == 2 else 2 * x, r"case 2 of 2\): yours \(2,\), expected \(2, 3\)"),
        (lambda x: 2 * x + (x == 5), r"1 of 6 differ, most at \[1, 2\]: yours 11, expected 10"),
        (lambda x: x * torch.nan, "2 of 2 values are nan"),
        (lambda x: "twelve", "expected numbers, yours is a str"),
        (lambda x: "inf", "expected numbers, yours is a str"),
        (lambda x: ["2", "4"], "expected numbers, yours is a list"),
        (lambda x: (x, x), "shape is not right yet"),
        (lambda x, y: x, "TypeError"),
    ],
)
def test_wrong(wrong, said):
    result = check(wrong)
    assert not result.ok
    assert torch.is_tensor(CASES[0][0])
    import re

    assert re.search(said, result.message), result.message
    assert f"Hint 1 of 2: {NUDGE}" in result.message


def test_error_names_the_learners_line():
    def broken(x):
        return x + undefined_name  # noqa: F821

    message = check(broken).message
    assert "NameError" in message and "return x + undefined_name" in message and "Hint 1" in message


def test_a_known_mistake_gets_its_own_hint():
    result = check(lambda x: x**2, mistakes=[(lambda x: x + 1, "no sum"), (lambda x: x * x, "that is the square")])
    assert "Hint: that is the square" in result.message and NUDGE not in result.message


def test_result_itself_instead_of_the_function():
    assert "give the function itself" in check(torch.tensor([2.0, 4.0])).message


def test_inputs_and_random_state_are_left_alone():
    def greedy(x):
        x.mul_(2)
        torch.rand(1), np.random.rand()
        return x

    torch.manual_seed(3)
    np.random.seed(3)
    before, state = CASES[0][0].clone(), torch.get_rng_state()
    assert not check(greedy).ok
    assert torch.equal(CASES[0][0], before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("argument", "change"),
    [
        (torch.tensor([1.0, torch.nan]), lambda x: x.mul_(2)),
        (np.array([1, 2]), lambda x: x.sort() or x.__setitem__(0, 7)),
        (np.array(["a", "b"]), lambda x: x.__setitem__(0, "b")),
        ([3, 1], lambda x: x.sort()),
        ({"liver": np.zeros(2)}, lambda x: x["liver"].fill(1)),
        ({"liver": 6}, lambda x: x.pop("liver")),
    ],
)
def test_a_right_result_is_not_enough_where_the_function_overwrites_what_it_is_given(argument, change):
    def careless(first, x):
        change(x)
        return first

    message = check_function(careless, lambda first, x: first, [(1, argument)]).message
    assert message == ("✗ careless: the result is right, but what is given is overwritten (x): work on a copy.")
    unnamed = check_function(lambda *given: careless(*given), lambda first, x: first, [(1, argument)]).message
    assert "overwritten (argument 2)" in unnamed
    assert check_function(lambda first, x: first, lambda first, x: first, [(1, argument)]).ok
    network = torch.nn.Linear(1, 1)  # no data: a test of a layer may change its weights
    assert check_function(lambda n: n.weight.data.zero_().sum(), lambda n: 0.0, [(network,)]).ok


def test_an_endless_loop_ends_in_a_hint_with_its_line(monkeypatch):
    monkeypatch.setattr(limits, "SECONDS", 0.05)

    def endless(x):
        while True:
            with contextlib.suppress(Exception):
                x = x + 1

    message = check(endless).message
    assert "does not come to an end (case 1 of 2)" in message and "what makes its loops stop?" in message
    assert "In its line" in message and "limits.py" not in message and "raise TooLong" not in message
    assert check(lambda x: x + x).ok, "the next answer has all its time"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux only")
@pytest.mark.parametrize("huge", [np.zeros, torch.zeros, bytearray])
def test_an_array_without_bounds_ends_in_a_hint_with_its_line(huge):
    def careless(x):
        return huge(1 << 36)

    message = check(careless).message
    assert "asks for too much memory (case 1 of 2)" in message and "return huge(1 << 36)" in message
    assert "how large should it be?" in message


def test_the_line_is_the_learner_s_also_inside_a_helper_or_a_module_and_never_the_kit_s():
    class Broken(torch.nn.Module):
        def forward(self, x):
            return x @ x

    def inner(x):
        return [x][9]

    def outer(x):
        return inner(x)

    assert "return x @ x" in check(lambda x: Broken()(x[None])).message
    assert "return [x][9]" in check(outer).message
    assert "In its line" not in check(lambda x, y: x).message


def test_an_answer_that_keeps_something_between_calls_is_refused():
    def remembers(x, seen=[]):  # noqa: B006
        seen.append(x)
        return 2 * x * len(seen)

    message = check_function(remembers, doubled, CASES[:1]).message
    assert "asked the same again, it gives another result" in message

    class Counts(torch.nn.Linear):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x) * self.calls

    stateful = check_class(Counts, torch.nn.Linear, [((2, 3), torch.ones(1, 2))], hints=())
    assert "answers otherwise: what does it keep in self?" in stateful.message


@pytest.mark.parametrize(
    ("right", "given", "said"),
    [
        (4, 4.0, "a whole number is asked, and yours is a float"),
        ((1, 2), (1, 2.0), "a whole number is asked, and yours is a float"),
        ([1, 2], np.array([1.0, 2.0]), "a whole number is asked, and yours is a float"),
        (np.arange(3), torch.arange(3.0), "whole numbers are asked, and yours are floats"),
        (np.ones(2, bool), [1, 1], "True and False are asked, and yours are numbers"),
    ],
)
def test_right_values_of_another_kind_are_refused_by_name(right, given, said):
    assert said in check_function(lambda: given, lambda: right, [()]).message


@pytest.mark.parametrize(
    ("right", "given"),
    [(4, np.int32(4)), (4, torch.tensor(4)), (4.0, 4), (True, np.True_), (np.arange(2), np.arange(2, dtype=np.uint8))],
)
def test_right_values_of_a_kind_that_serves_as_well_pass(right, given):
    assert check_function(lambda: given, lambda: right, [()]).ok


def test_several_results():
    def fn(x):
        return x, x + 1

    assert check_function(fn, fn, CASES, name="pair").ok
    assert "part 2 of 2" in check_function(lambda x: (x, x), fn, CASES, name="pair").message
    assert "return 2 things" in check_function(lambda x: x, fn, CASES, name="pair").message


def test_values():
    assert check_value("contiguous", "contiguous", name="partition").ok
    assert "yours 'dilated'" in check_value("dilated", "contiguous", name="partition").message
    assert "not yet" in check_value(None, 3, name="n").message
    assert check_value(True, True, name="b").ok and not check_value(False, True, name="b").ok


def test_drawing_beside_the_target(capsys):
    result = check(lambda x: x, draw=True)
    assert len(result.figure.axes) == 1  # the first case is one-dimensional: one pair of lines
    two = check_function(lambda x: x, doubled, CASES[1:], name="double", draw=True)
    assert [axes.get_title() for axes in two.figure.axes] == ["yours", "target"]
    two._ipython_display_()
    assert "double" in capsys.readouterr().out
    assert check(lambda x: torch.zeros(2, 2, 2), draw=True).ok is False  # cannot be drawn, still gets a message


def test_every_listed_check_is_there():
    listed = [name for names in course.CHECKS.values() for name in names]
    assert len(listed) == len(set(listed))
    for name in listed:
        assert name.startswith("check_") and callable(getattr(course, name))
        assert not getattr(course, name)(None).ok
    assert set(listed) <= set(dir(course))
    with pytest.raises(AttributeError, match="no check 'check_nothing'"):
        course.check_nothing  # noqa: B018


def test_the_checks_are_imported_when_asked_for():
    import subprocess

    code = "import sys, lkm_kit.course; print([m for m in sys.modules if 'checks_' in m or m == 'matplotlib'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
