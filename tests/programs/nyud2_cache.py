"""NYUD2-DIR: pairs kept resized are the pairs, whatever is drawn, for any rows of the csv; run in its folder."""

import pickle
import sys
from pathlib import Path

import torch
from loaddata import DepthDataset, ResizedPairs, read_pairs
from utils import bucket_weights

from imbalanced_regression.images import BadImage

data, folder = sys.argv[1:]
pairs = read_pairs(data, "nyu2_train.csv")
kept = ResizedPairs(pairs, 32, 44, folder, workers=2)
some = pairs.only([5, 2, 7])
for augment in (False, True):
    plain, cached = (
        DepthDataset(some, 32, 44, table=bucket_weights("inverse", True), half=True, augment=augment, seed=4, kept=one)
        for one in (None, kept)
    )
    for data_set in (plain, cached, pickle.loads(pickle.dumps(cached))):
        data_set.set_epoch(2)
        for i in (0, 1, 2, 4):  # the last is another view
            assert all(torch.equal(x, y) for x, y in zip(plain[i], data_set[i])), (augment, i)
assert len(pickle.dumps(kept)) < Path(kept.path).stat().st_size / 2

# the files are not read again, other rows are, and a csv with other shapes is refused
seen = ResizedPairs(pairs, 32, 44, folder)
assert seen.path == kept.path
test = read_pairs(data, "nyu2_test.csv")
assert seen.get(test, 0) is None
from PIL import Image  # noqa: E402

for path in (pairs.images[3], pairs.depths[3]):
    image = Image.open(path)
    image.crop((0, 0, image.width // 2, image.height)).save(path)
try:
    ResizedPairs(pairs, 32, 44, folder)
except BadImage as error:
    said = str(error)
assert said.startswith("--cache: ") and "row 4" in said and "so go without" in said, said
assert len(list(Path(folder).glob("*.npy"))) == 1 and not list(Path(folder).glob("*.part"))
