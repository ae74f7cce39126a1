"""NYUD2-DIR: any list of pairs and any mask is read or refused by its name; run in its folder."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given
from loaddata import MASK, TRAIN, read_mask, read_pairs
from test_hostile_input import QUIET, document, st

folder = Path(tempfile.mkdtemp()) / "data"
folder.mkdir()
(folder / "a.jpg").touch()
(folder.parent / "outside.jpg").touch()


@QUIET
@given(content=document(",", st.sampled_from(["data/a.jpg,data/a.jpg", "data/../outside.jpg,data/a.jpg", ""])))
def any_csv(content):
    (folder / TRAIN).write_bytes(content)
    try:
        pairs = read_pairs(folder, TRAIN)
        assert set(pairs.images + pairs.depths) == {str(folder / "a.jpg")}
    except (ValueError, OSError) as error:
        assert str(error).startswith(str(folder / TRAIN))


shapes = st.sampled_from([(2, 4, 6), (2, 1, 4, 6), (2, 6, 4), (48,), (), (0, 4, 6)])
kinds = st.sampled_from(["u1", "i8", "f4", "f8", "?", "c8", "U3", "O", "M8[s]"])


@QUIET
@given(shape=shapes, kind=kinds, value=st.sampled_from([0, 1, 2, -1]), cut=st.integers(0, 400), noise=st.binary(max_size=9))
def any_mask(shape, kind, value, cut, noise):
    np.save(folder / MASK, np.full(shape, value).astype(kind), allow_pickle=True)
    data = (folder / MASK).read_bytes()
    if noise:
        (folder / MASK).write_bytes(data[:cut] + noise + data[cut + len(noise) :] if cut % 2 else data[:cut])
    try:
        mask = read_mask(folder, 2, 4, 6)
        assert mask.shape == (2, 4, 6) and np.isin(mask, (0, 1)).all()
    except (ValueError, OSError) as error:
        assert str(folder / MASK) in str(error), error


any_csv()
any_mask()
print("checked")
