"""SHHS-DIR: prints the error with which the table in the folder it is given is refused; run in its folder."""

import sys

from datasets import read_splits

try:
    read_splits(sys.argv[1])
except ValueError as error:
    print(error)
