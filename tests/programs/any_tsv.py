"""STS-B-DIR: any tsv is read or refused by its name; run in its folder."""

import tempfile
from pathlib import Path

import tasks
from hypothesis import given
from test_hostile_input import QUIET, document, st

names = "sentence1\tsentence2\tscore"
header = st.sampled_from([names, "index\t" + names, "score", "", "sentence1\tsentence1"])
path = Path(tempfile.mkdtemp()) / "any.tsv"


@QUIET
@given(content=document("\t", header))
def check(content):
    path.write_bytes(content)
    try:
        tasks.read_pairs(path, 40)
    except (ValueError, OSError) as error:
        assert str(error).startswith(str(path))


check()
print("checked")
