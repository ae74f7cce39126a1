"""Runs scripts one after the other in one process: python one_by_one.py JSON, a list of lists of words."""

import json
import runpy
import sys

sys.path[0] = ""  # scripts import from the folder they run in
for words in json.loads(sys.argv[1]):
    print("$", *words, flush=True)
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
