"""Unusual right answers pass every check; answers that know one case only, or one value of an argument, do not."""

import copy

import pytest
import torch
from right_answers import RIGHT
from right_classes import RIGHT_CLASSES
from test_checks import CLASSES, NAMES, recorded

import lkm_kit.course as course
from lkm_kit.course.check import TRIED

UNUSED = {("check_way", 0), ("check_attention_cost", 0)}
"""Check and argument: the size of the map, on which these answers do not depend."""


def refused(check, fn):
    TRIED.clear()
    return not check(fn).ok


@pytest.mark.parametrize("check", [*RIGHT, *RIGHT_CLASSES])
def test_a_right_answer_may_look_unlike_the_chapter_s(check):
    for number, answer in enumerate((RIGHT | RIGHT_CLASSES)[check]):
        result = getattr(course, check)(answer)
        assert result.ok, f"number {number}: {result.message}"


def test_every_function_has_a_second_right_answer():
    assert set(RIGHT) == {name for _, name in NAMES} and set(RIGHT_CLASSES) == set(CLASSES)


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_no_answer_that_fits_one_case_or_ignores_an_argument_is_accepted(module, name):
    check, given = recorded(module, name)
    right, cases = given["expected"], given["cases"]
    assert len(cases) > 1
    accepted = []
    for number, case in enumerate(cases):
        if not refused(check, lambda *a, case=case: right(*copy.deepcopy(case))):
            accepted.append(f"what is right in case {number}")
        for place in range(len(case)):

            def deaf(*arguments, place=place, value=case[place]):
                return right(*arguments[:place], copy.deepcopy(value), *arguments[place + 1 :])

            if (name, place) not in UNUSED and not refused(check, deaf):
                accepted.append(f"argument {place} as in case {number}")
    assert accepted == []


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_whole_numbers_are_whole_and_masks_are_boolean(module, name):
    check, given = recorded(module, name)

    def as_floats(value):
        if isinstance(value, (tuple, list)):
            return [as_floats(part) for part in value]
        return (
            value.astype(float)
            if hasattr(value, "astype")
            else value.double()
            if torch.is_tensor(value)
            else float(value)
        )

    kinds = set()

    def right(*arguments):
        value = given["expected"](*arguments)
        first = value[0] if isinstance(value, (tuple, list)) and value else value
        kinds.add(
            "whole" if isinstance(first, int) and not isinstance(first, bool) else str(getattr(first, "dtype", ""))
        )
        return value if isinstance(first, (bool, str)) else as_floats(value)

    TRIED.clear()
    result = check(right)
    asked = kinds & {"whole", "int64", "torch.int64", "torch.bool"}
    assert result.ok != bool(asked), result.message
    if asked:
        assert "are asked, and yours are" in result.message or "is asked, and yours is" in result.message
