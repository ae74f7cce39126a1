"""The first release's FDS against its slow twin, epoch by epoch, and what a run of it must keep.

B batch, D features, K rows of statistics.
"""

from __future__ import annotations

import copy

import pytest
import torch
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from slow import fds_released as slow

from imbalanced_regression import FDS, Bins, Regressor
from imbalanced_regression.methods.fds_released import ReleasedFDS
from imbalanced_regression.methods.windows import get_lds_kernel_window
from imbalanced_regression.training import checkpoint

D = 3
BINS = Bins.uniform(0, 5, 12)
VARIANTS = {
    "ages": {"bucket_num": 14, "bucket_start": 2},
    "sts-b": {"bins": BINS, "clip": (0.5, 2.0), "fill_empty": True},
    "nyud2": {"bins": BINS, "clip": (0.2, 5.0), "bucket_start": 2, "share": False},
}


def pair(variant: str, *, ks: int = 5, **how):
    """The library's and the twin's FDS of a benchmark, 12 or 10 rows."""
    options = VARIANTS[variant]
    fds = FDS(D, kind="released", ks=ks, **options, **how)
    window = get_lds_kernel_window("gaussian", ks, 2)
    first, last = fds.bucket_start, fds.bucket_num - 1

    def rows_of(labels, row):
        if fds.bins is None:
            return slow.member(labels, row, first, last)
        return [i for i, at in enumerate(BINS.index(labels)) if max(int(at) - first, 0) == row]

    twin = slow.FDS(
        D, last - first + 1, rows_of, list(window / window.sum()), clip=options.get("clip", (0.1, 10.0)),
        share=options.get("share", True), fill_empty=options.get("fill_empty", False), any_sign=fds.bins is None, **how,
    )
    return fds, twin


def draw(variant: str, n: int, seed: int):
    """Features (n, D) that follow the labels (n,): whole and broken ages 0..16 with gaps, or scores 0..5 in few bins."""
    generator = torch.Generator().manual_seed(seed)
    if variant == "ages":
        labels = torch.randint(0, 17, (n,), generator=generator).float()
        labels += 0.5 * (torch.rand(n, generator=generator) < 0.1)
        labels[labels == 5 + seed % 3] = 9.0
        if seed % 2:
            labels[labels == 2] = 3.0  # nobody in the first bin, so those below it are left out
            labels[labels == 13] = 12.0
    else:
        labels = 5 * torch.rand(n, generator=generator) ** (1 + seed % 3)
        labels[(labels > 2) & (labels < 3.4)] = 1.9
        if seed % 2:
            labels[labels < 0.9] = 1.0
    return labels[:, None] + (0.5 + 0.1 * labels[:, None]) * torch.randn(n, D, generator=generator), labels


def same(fds, twin) -> None:
    for name, theirs in (
        ("running_mean", twin.mean), ("running_var", twin.var),
        ("running_mean_last_epoch", twin.last_mean), ("running_var_last_epoch", twin.last_var),
        ("smoothed_mean_last_epoch", twin.smoothed_mean), ("smoothed_var_last_epoch", twin.smoothed_var),
        ("num_samples_tracked", twin.tracked), ("epoch", [twin.epoch]),
    ):
        theirs = torch.tensor(theirs, dtype=torch.float32)
        torch.testing.assert_close(getattr(fds, name), theirs, rtol=2e-5, atol=2e-5, msg=name)


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=8, deadline=None)
@given(st.sampled_from([0.9, 0.5, None]), st.integers(0, 2), st.integers(8, 40), st.integers(0, 10**6))
def test_states_and_smoothed_batches_equal_the_twins_in_every_epoch(variant, momentum, start, n, seed):
    fds, twin = pair(variant, momentum=momentum, start_update=start, start_smooth=start + 1)
    for epoch in range(5):
        z, y = draw(variant, n, seed + epoch)
        moved = fds.smooth(z, y, epoch)
        theirs = torch.tensor(twin.smooth(z.tolist(), y.tolist(), epoch), dtype=torch.float32)
        torch.testing.assert_close(moved, theirs, rtol=2e-4, atol=2e-4)
        fds.update_last_epoch_stats(epoch)
        twin.update_last_epoch_stats(epoch)
        if epoch < start:
            continue
        fds.update_running_stats(theirs, y, epoch)
        twin.update_running_stats(theirs.tolist(), y.tolist(), epoch)
        same(fds, twin)


def test_golden_values_of_shared_storage():
    """One feature, two bins, window [1/4, 1/2, 1/4]; epoch by epoch by hand."""
    fds = FDS(1, 2, kind="released", kernel="triang", ks=3, momentum=0.5)
    y = torch.tensor([0.0, 0.0, 1.0, 1.0])
    z = torch.tensor([[0.0], [2.0], [10.0], [14.0]])  # means 1 and 12, variances 2 and 8
    for epoch in (0, 1):
        assert torch.equal(fds.smooth(z, y, epoch), z)  # nothing moves in the first two epochs
        fds.finish_epoch(epoch) if fds.observe(z, y) is None else None
    assert fds.running_mean_last_epoch.tolist() == [[1.0], [12.0]]
    assert fds.smoothed_mean_last_epoch.tolist() == [[6.5], [6.5]]
    assert fds.smoothed_var_last_epoch.tolist() == [[5.0], [5.0]]
    moved = fds.smooth(z, y, 2)
    low, high = 2.5**0.5, 2 * (5 / 8) ** 0.5
    torch.testing.assert_close(moved[:, 0], 6.5 + torch.tensor([-low, low, -high, high]))
    fds.observe(moved, y)
    fds.finish_epoch(2)
    assert fds.running_mean[0].item() == pytest.approx(0.5 * 1 + 0.5 * 6.5)
    assert torch.equal(fds.running_mean, fds.running_mean_last_epoch)  # already of this epoch
    assert fds.smoothed_mean_last_epoch.tolist() == [[6.5], [6.5]]  # still of the epoch before


def test_a_copy_whitens_with_the_epoch_before():
    fds = FDS(1, 4, kind="released", ks=3, share=False)
    for epoch in range(3):
        before = fds.running_mean.clone()
        fds.observe(torch.randn(20, 1), torch.arange(20) % 4)
        fds.finish_epoch(epoch)
    assert torch.equal(fds.running_mean_last_epoch, before)


@pytest.mark.parametrize("row", range(5))
def test_bins_without_samples_are_filled_in_ascending_order(row):
    from imbalanced_regression.methods.fds_released import _filled

    old = torch.tensor([1.0, 5.0, 2.0, 8.0, 3.0]).double()
    for pattern in range(1, 32):
        seen = torch.tensor([bool(pattern >> k & 1) for k in range(5)])
        expected = old.tolist()
        for k in range(5):
            if not seen[k]:
                expected[k] = expected[1] if k == 0 else expected[3] if k == 4 else (expected[k - 1] + expected[k + 1]) / 2
        assert _filled(old[:, None], seen)[row, 0].item() == pytest.approx(expected[row], abs=1e-12)


def test_labels_beyond_the_ends_move_only_with_one_in_the_end_bin():
    fds, _ = pair("ages")
    for epoch in range(2):
        fds.observe(*draw("ages", 200, 2 * epoch))
        fds.finish_epoch(epoch)
    z = torch.ones(3, D)
    alone = fds.smooth(z, torch.tensor([0.0, 7.0, 60.0]), 2)
    assert torch.equal(alone[0], z[0])
    assert torch.equal(alone[2], z[2])
    with_edge = fds.smooth(z, torch.tensor([0.0, 2.0, 13.0]), 2)
    assert torch.equal(with_edge[0], with_edge[1])
    assert not torch.equal(with_edge[0], z[0])
    assert torch.equal(fds.smooth(z, torch.tensor([7.5, 7.5, 7.5]), 2), z)


def test_smoothing_is_pure_and_gradient_flows_through_the_features_only():
    fds, _ = pair("sts-b")
    for epoch in range(3):
        fds.observe(*draw("sts-b", 100, epoch))
        fds.finish_epoch(epoch)
    z, y = draw("sts-b", 20, 9)
    kept = z.clone().requires_grad_()
    fds.smooth(kept, y, 3).sum().backward()
    assert torch.equal(kept.detach(), z)
    scale = (fds.smoothed_var_last_epoch / fds.running_var_last_epoch).clamp(0.5, 2).sqrt()
    torch.testing.assert_close(kept.grad, scale[torch.tensor(BINS.index(y.numpy()))])
    fds.eval()
    assert torch.equal(fds.smooth(z, y, 3), z)


def test_the_state_has_the_published_names_only_and_carries_the_shared_storage():
    fds, _ = pair("ages")
    own = FDS(D, 14, 2)
    assert fds.state_dict().keys() == own.state_dict().keys()
    for epoch in range(3):
        fds.observe(*draw("ages", 200, 2 * epoch))
        fds.finish_epoch(epoch)
        loaded, _ = pair("ages")
        loaded.load_state_dict(copy.deepcopy(fds.state_dict()))
        assert loaded._shared == fds._shared == (epoch > 0)
    for other in (fds, loaded):
        other.observe(*draw("ages", 200, 8))
        other.finish_epoch(3)
    for name, value in fds.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    assert type(loaded).__name__ == "ReleasedFDS"


def test_one_name_makes_both_kinds_and_subclasses_stay_themselves():
    class Own(FDS):
        def __init__(self, feature_dim, kind="own"):
            super().__init__(feature_dim, 20, kind=kind)

    assert type(FDS(3, 20)) is FDS
    assert type(FDS(3, 20, kind="released")) is ReleasedFDS
    assert isinstance(Own(3, kind="released"), Own)
    assert isinstance(Own(3, kind="released"), ReleasedFDS)
    assert type(Own(3)) is Own
    assert copy.deepcopy(Own(3, kind="released")).running_mean.shape == (20, 3)
    with pytest.raises(ValueError, match="kind: expected one of own, released, found 'best'"):
        FDS(3, 20, kind="best")


# -- runs --------------------------------------------------------------------------------------------------------------


def make_model(seed: int = 0) -> Regressor:
    model = toy.make_model(fds=False, seed=seed)
    model.fds = FDS(6, bins=toy.BINS, ks=3, kind="released", fill_empty=True)
    return model


def test_the_second_pass_observes_smoothed_features(tmp_path):
    """So the movement of a bin's mean is fed back, and the whitening mean is pulled towards the smoothed one."""
    model = make_model()
    model.train()
    features = []
    z, y = torch.randn(50, 4), torch.rand(50, 1) * 5
    for epoch in range(3):
        features = model(z, y, epoch)[1]
        model.fds.observe(features, y)
        model.fds.finish_epoch(epoch)
    raw = model.eval()(z, y, 3)[1]
    assert torch.equal(raw, model.encoder(z))
    assert not torch.equal(model.train()(z, y, 3)[1], model.encoder(z))
    assert features.shape == raw.shape


@pytest.mark.parametrize("steps", [None, 4], ids=["epochs", "steps"])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, steps):
    changes = {"steps": steps, "epochs": 6}
    whole, model = toy.run(tmp_path / "whole", model=make_model(), **changes)
    for epochs in (2, 4):
        toy.run(tmp_path / "parts", model=make_model(), **{**changes, "epochs": epochs}, resume="" if epochs > 2 else None)
    parts, resumed = toy.run(tmp_path / "parts", model=make_model(9), **changes, resume="")
    assert whole["test"]["overall"] == parts["test"]["overall"]
    last = [checkpoint.load(tmp_path / name / checkpoint.LAST)["state_dict"] for name in ("whole", "parts")]
    assert all(torch.equal(value, last[1][name]) for name, value in last[0].items())
    with pytest.raises(ValueError, match="takes its statistics from a second pass, found 'streaming'"):
        toy.run(tmp_path / "streaming", model=make_model(), fds_stats="streaming")
    own, _ = toy.run(tmp_path / "own", **changes)
    assert own["test"]["overall"] != whole["test"]["overall"]
