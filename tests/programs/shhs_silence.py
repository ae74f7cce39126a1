"""SHHS-DIR: download_shhs.py with the limit on silence, a minute, set to two seconds; run in its folder."""

import runpy
import sys

from imbalanced_regression import download

download.TIMEOUT = (600, 2)
sys.argv[0] = "download_shhs.py"
runpy.run_path("download_shhs.py", run_name="__main__")
