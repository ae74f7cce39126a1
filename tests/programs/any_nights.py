"""SHHS-DIR: any table of nights is refused by its name where there are none; run in its folder."""

import tempfile
from pathlib import Path

from datasets import read_splits
from hypothesis import given
from test_hostile_input import QUIET, document, st

folder = Path(tempfile.mkdtemp())


@QUIET
@given(content=document(",", st.sampled_from(["nsrrid,gh,split", "nsrrid,gh", "", "split,gh,nsrrid"])))
def check(content):
    (folder / "shhs.csv").write_bytes(content)
    try:
        read_splits(folder)
        raise SystemExit("there are no nights")
    except (ValueError, OSError) as error:
        assert str(folder / "shhs.csv") in str(error), error


check()
print("checked")
