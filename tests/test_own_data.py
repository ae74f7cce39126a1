"""Every Python block of tutorial/own_data.md runs on its own and prints the numbers that stand below it."""

from __future__ import annotations

import contextlib
import io
import re

import numpy as np
import pytest
from commands import ROOT, blocks

PAGE = ROOT / "tutorial" / "own_data.md"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


@pytest.mark.parametrize("block", [pytest.param(block, id=f"block{i}") for i, block in enumerate(blocks(PAGE, "python"))])
def test_every_block_runs_and_prints_what_stands_below_it(block):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block, PAGE.name, "exec"), {"__name__": "block"})  # noqa: S102  # the page's own code is what is tested
    expected = [NUMBER.findall(line) for line in re.findall(r"^# -> (.*)$", block, re.MULTILINE)]
    found = [NUMBER.findall(line) for line in printed.getvalue().splitlines()]
    assert expected, "a block without numbers tests nothing"
    assert [len(line) for line in found] == [len(line) for line in expected], printed.getvalue()
    for line, numbers in zip(found, expected):  # to the digits given; solvers differ between machines
        np.testing.assert_allclose([float(v) for v in line], [float(v) for v in numbers], rtol=0.02, atol=0.006)


def test_the_page_names_commands_that_exist():
    from imbalanced_regression.__main__ import COMMANDS

    named = re.findall(r"python -m imbalanced_regression (\w+)", PAGE.read_text())
    assert named
    assert set(named) <= set(COMMANDS)
