"""SHHS-DIR: no header of an EDF file ends in anything but a reason; run in its folder."""

import sys
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from preprocess_shhs import read_night

data = Path(sys.argv[1]).read_bytes()
path = Path(tempfile.mkdtemp()) / "night.edf"
outcomes = set()


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(st.integers(0, 256 * 8 - 1), st.binary(min_size=1, max_size=16), st.integers(0, len(data)))
def test(at, new, cut):
    broken = bytearray(data)
    broken[at : at + len(new)] = new
    path.write_bytes(broken[: cut if cut % 4 == 0 else None])
    try:
        read_night(path, 8)
        outcomes.add("read")
    except ValueError as error:
        assert str(error)
        outcomes.add("refused")


test()
assert outcomes == {"read", "refused"}, outcomes
