"""NYUD2-DIR: bins, counts, pixel weights and FDS against the formulas written out; run in its folder."""

import numpy as np
import torch
from fds import FDS
from utils import BINS, bucket_weights, get_lds_kernel_window, pixel_bins, pixel_weights, read_counts

# bins are the published product, to the bit: at and beside every edge, at every 8-bit and 16-bit depth, and anywhere
edges = BINS.edges.astype(np.float32)
depths = np.concatenate(
    [
        edges,
        np.nextafter(edges, np.float32(0)),
        np.nextafter(edges, np.float32(99)),
        np.arange(256, dtype=np.float32) / np.float32(255) * np.float32(10),
        np.arange(12000, dtype=np.float32) / np.float32(1000),
        np.random.default_rng(0).uniform(0, 11, 10**5).astype(np.float32),
    ]
)
published = np.array([min(int(np.float32(d) * np.float32(10)), 99) for d in depths])
assert (BINS.index(depths) == published).all()
assert (pixel_bins(torch.from_numpy(depths)).numpy() == published).all()

# counts: the published ones, beyond 32 bits
counts = read_counts()
assert counts.dtype == np.int64 and counts.sum() == 3_513_286_656 and not counts[:7].any() and counts[7] == 25848691

# weights against the formula written out
for reweight, base in {"inverse": counts[7:].astype(float), "sqrt_inv": np.sqrt(counts[7:])}.items():
    for lds in (False, True):
        g = base
        if lds:
            w, padded = get_lds_kernel_window("gaussian", 5, 2), np.concatenate([base[1::-1], base, base[:-3:-1]])
            g = np.array([sum(w[j] * padded[i + j] for j in range(5)) for i in range(93)])
        expected = np.concatenate([np.full(7, 1 / g[0]), 1 / g])
        expected *= counts.sum() / (expected * counts).sum()
        found = bucket_weights(reweight, lds, "gaussian", 5, 2)
        assert found.dtype == np.float32 and found.shape == (100,)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert abs((found.astype(float) * counts).sum() / counts.sum() - 1) < 1e-6
assert (bucket_weights("none", False) == 1).all()
holes = np.where(np.arange(100) % 3 == 0, counts, 0)  # bins without pixels take the nearest one's weight
assert np.isfinite(bucket_weights("inverse", False, counts=holes)).all()
for bad in (lambda: bucket_weights("none", True), lambda: bucket_weights("inverse", True, counts=counts[:5])):
    try:
        bad()
        raise SystemExit("no error")
    except ValueError:
        pass

# test_pixels_without_depth_weigh_nothing
table = torch.arange(1.0, 101)
depth = torch.tensor([[[0.0, 0.05], [0.75, 12.0]]])
assert pixel_weights(depth, table).tolist() == [[[0.0, 1.0], [8.0, 100.0]]]

# FDS: dense statistics leave out pixels without depth, and equal those of the known pixels alone
torch.manual_seed(0)
features, labels = torch.randn(2, 3, 5, 6), 0.2 + 9 * torch.rand(2, 1, 5, 6)
labels[0, 0, 0, :3] = 0
dense, flat = FDS(3), FDS(3)
dense.observe(features, labels)
dense.finish_epoch(0)
known = labels.reshape(-1) > 0
flat.observe(features.movedim(1, -1).reshape(-1, 3)[known], labels.reshape(-1)[known])
flat.finish_epoch(0)
assert torch.equal(dense.running_mean, flat.running_mean) and torch.equal(dense.running_var, flat.running_var)
assert dense.num_samples_tracked.sum() == known.sum() and dense.running_mean.shape == (93, 3) and dense.clip == (0.2, 5.0)
