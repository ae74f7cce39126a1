"""`python -m imbalanced_regression`, with a server of forks that imports nothing, as the tests' train.py needs nothing."""

import sys

from imbalanced_regression.__main__ import PROGRAM, guard, main
from imbalanced_regression.tools import starting

if __name__ == "__main__":
    starting.HEAVY = ()
    sys.argv[0] = PROGRAM
    guard(main)
