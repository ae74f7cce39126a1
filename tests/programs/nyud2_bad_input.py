"""NYUD2-DIR: each case it is given, (name, folder, words), is refused with those words; run in its folder."""

import ast
import re
import sys

from loaddata import DepthDataset, check_test, read_mask, read_pairs
from utils import BINS

for name, folder, words in ast.literal_eval(sys.argv[1]):
    try:
        pairs = read_pairs(folder, "nyu2_test.csv")
        data = DepthDataset(pairs, 32, 44, "16-bit", mask=read_mask(folder, len(pairs), 32, 44))
        check_test(data, BINS)
        data[1]
        raise SystemExit(f"{name}: no error")
    except (ValueError, OSError) as error:
        assert re.search(words, str(error)), (name, str(error))
        assert "\n" not in str(error)
