"""NYUD2-DIR: the draws of a data set in the folder it is given follow from seed, epoch and index; run in its folder."""

import sys

import torch
from loaddata import DepthDataset, held_out, read_pairs, scene
from utils import bucket_weights

pairs = read_pairs(sys.argv[1], "nyu2_train.csv")
def make():
    return DepthDataset(pairs, 32, 44, table=bucket_weights("inverse", True), half=True, augment=True, seed=4)
one, two = make(), make()
torch.manual_seed(1)
a = torch.rand(3)
torch.manual_seed(1)
one.set_epoch(3)
first = one[5]
b = torch.rand(3)
assert torch.equal(a, b)  # the global state is as it was
two.set_epoch(2)
other = two[5]
two[1]
two.set_epoch(3)
again = two[5]
assert all(torch.equal(x, y) for x, y in zip(first, again)) and not torch.equal(first[0], other[0])
image, depth, weights = first
assert image.shape == (3, 32, 44) and depth.shape == weights.shape == (1, 16, 22) and image.dtype == torch.float32
assert ((weights == 0) == (depth == 0)).all() and depth.max() <= 10
out = held_out(pairs, 0.05, 1)
names = [scene(path) for path in pairs.images]
assert 0 < out.sum() < len(out) and (held_out(pairs, 0.05, 1) == out).all()
assert not {n for n, o in zip(names, out) if o} & {n for n, o in zip(names, out) if not o}
assert scene("x/bookstore_0001d_out/1.jpg") == scene("x/bookstore_0001f_out/9.jpg") == "bookstore_0001"
