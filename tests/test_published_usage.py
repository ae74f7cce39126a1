"""The calls the paper's README shows users, on this library: they must keep working, and give what they gave."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import slow
import torch
from scipy.ndimage import convolve1d
from torch import nn

from imbalanced_regression import FDS, get_lds_kernel_window, lds_weights, weighted_mse_loss
from imbalanced_regression.bins import Bins


def test_lds_as_users_write_it():
    """Bin index per label, counts, window, convolution, one over the density as a list, weighted loss."""
    labels = np.random.default_rng(0).integers(0, 40, size=200)
    bin_index_per_label = [int(label) for label in labels]
    count = max(bin_index_per_label) + 1
    counts = dict(Counter(bin_index_per_label))
    empirical = [counts.get(b, 0) for b in range(count)]
    window = get_lds_kernel_window(kernel="gaussian", ks=5, sigma=2)
    effective = convolve1d(np.array(empirical, dtype=np.float64), weights=window, mode="constant")
    effective_per_sample = [effective[b] for b in bin_index_per_label]
    weights = [np.float32(1 / x) for x in effective_per_sample]

    preds = torch.randn(200, 1, requires_grad=True)
    targets = torch.tensor(labels, dtype=torch.float32)[:, None]
    loss = weighted_mse_loss(preds, targets, weights=weights)
    loss.backward()
    errors = (preds - targets).detach()[:, 0].tolist()
    expected = sum(w * e**2 for w, e in zip(weights, errors)) / 200
    torch.testing.assert_close(loss.item(), float(expected), rtol=1e-5, atol=0)
    assert preds.grad.shape == (200, 1)

    ours = lds_weights(labels, Bins(np.arange(count + 1)), reweight="inverse", boundary="zeros")
    np.testing.assert_allclose(ours, np.array(weights) / np.mean(weights), rtol=1e-5)


class Network(nn.Module):
    """An encoder with FDS before its regressor, put together as the README shows."""

    def __init__(self, **config):
        super().__init__()
        self.start_smooth = config["start_smooth"]
        self.encoder = nn.Sequential(nn.Linear(6, config["feature_dim"]), nn.ReLU())
        self.FDS = FDS(**config)
        self.regressor = nn.Linear(config["feature_dim"], 1)

    def forward(self, inputs, labels, epoch):
        features = self.encoder(inputs)
        smoothed = features
        if self.training and epoch >= self.start_smooth:
            smoothed = self.FDS.smooth(smoothed, labels, epoch)
        return {"preds": self.regressor(smoothed), "features": features, "smoothed": smoothed}


CONFIG = {
    "feature_dim": 4,
    "bucket_num": 12,
    "bucket_start": 2,
    "start_update": 0,
    "start_smooth": 1,
    "kernel": "gaussian",
    "ks": 5,
    "sigma": 2,
    "momentum": 0.9,
}


@pytest.mark.parametrize("column", [True, False])
def test_fds_as_users_write_it(column):
    """Train with smoothing, then collect all features and update both statistics, epoch after epoch."""
    torch.manual_seed(0)
    model = Network(**CONFIG)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x = torch.randn(60, 6)
    y = torch.randint(0, 12, (60,)).float()
    y = y[:, None] if column else y
    rows = [max(int(label) - 2, 0) for label in y.reshape(-1)]
    twin = slow.FDS(4, 10)
    for epoch in range(4):
        model.train()
        for i in range(0, 60, 20):
            out = model(x[i : i + 20], y[i : i + 20], epoch)
            expected = twin.smooth(out["features"].tolist(), rows[i : i + 20], epoch)
            torch.testing.assert_close(out["smoothed"], torch.tensor(expected), rtol=1e-4, atol=1e-5)
            loss = weighted_mse_loss(out["preds"], y[i : i + 20].reshape(-1, 1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        encodings, labels = [], []
        with torch.no_grad():
            for i in range(0, 60, 20):
                out = model(x[i : i + 20], y[i : i + 20], epoch)
                encodings.extend(out["features"].data.cpu().numpy())
                labels.extend(y[i : i + 20].data.squeeze().cpu().numpy())
        encodings, labels = torch.from_numpy(np.vstack(encodings)), torch.from_numpy(np.hstack(labels))
        model.FDS.update_last_epoch_stats(epoch)
        model.FDS.update_running_stats(encodings, labels, epoch)
        twin.finish_epoch(encodings.tolist(), rows, epoch)
        torch.testing.assert_close(model.FDS.running_mean, torch.tensor(twin.mean), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(model.FDS.running_var, torch.tensor(twin.var), rtol=1e-5, atol=1e-6)
    model.eval()
    out = model(x, y, 4)
    assert torch.equal(out["smoothed"], out["features"])


def test_published_checkpoints_load():
    """Keys as `FDS.running_mean`, shapes (bucket_num - bucket_start, D), everything float32."""
    rows, D = 10, 4
    published = {
        "epoch": torch.zeros(1),
        "running_mean": torch.randn(rows, D),
        "running_var": torch.rand(rows, D) + 0.1,
        "running_mean_last_epoch": torch.randn(rows, D),
        "running_var_last_epoch": torch.rand(rows, D) + 0.1,
        "smoothed_mean_last_epoch": torch.randn(rows, D),
        "smoothed_var_last_epoch": torch.rand(rows, D) + 0.1,
        "num_samples_tracked": torch.full((rows,), 3.0),
    }
    model = Network(**CONFIG)
    state = model.state_dict()
    assert {key for key in state if key.startswith("FDS.")} == {f"FDS.{name}" for name in published}
    model.load_state_dict({**state, **{f"FDS.{name}": value for name, value in published.items()}}, strict=True)
    model.train()
    z, label = torch.randn(1, D), torch.tensor([5.0])
    expected = slow.calibrate(
        z[0].tolist(),
        *(
            published[name][3].tolist()
            for name in (
                "running_mean_last_epoch",
                "running_var_last_epoch",
                "smoothed_mean_last_epoch",
                "smoothed_var_last_epoch",
            )
        ),
        (0.1, 10),
    )
    torch.testing.assert_close(model.FDS.smooth(z, label, 1)[0], torch.tensor(expected), rtol=1e-4, atol=1e-5)
