"""Builds the wheel of the checkout that it is started in, into a folder.

    python build_wheel.py OUT
"""

from __future__ import annotations

import sys

from setuptools import build_meta

build_meta.build_wheel(sys.argv[1])
