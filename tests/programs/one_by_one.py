"""Runs scripts one after the other in one process: python one_by_one.py JSON, a list of lists of words."""

import json
import runpy
import sys

for words in json.loads(sys.argv[1]):
    print("$", *words, flush=True)
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
