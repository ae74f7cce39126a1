"""FDS against the slow twin, each of its decisions against a fault of the first release, and where it must run.

B batch, D features, K rows of statistics, H W pixels.
"""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import slow
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalanced_regression.bins import Bins
from imbalanced_regression.methods import bin_statistics, calibration
from imbalanced_regression.methods.fds import FDS

PUBLISHED_BUFFERS = (
    "epoch",
    "running_mean",
    "running_var",
    "running_mean_last_epoch",
    "running_var_last_epoch",
    "smoothed_mean_last_epoch",
    "smoothed_var_last_epoch",
    "num_samples_tracked",
)


def draw(n, D=3, K=8, seed=0, dtype=torch.float32):
    """Features (n, D) whose mean and spread follow the label, and whole labels (n,) in 0..K-1."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, K, (n,), generator=generator).to(dtype)
    spread = 0.5 + 0.2 * labels[:, None]
    return labels[:, None] + spread * torch.randn(n, D, generator=generator, dtype=dtype), labels


def trained(epochs=1, n=60, D=3, K=8, dtype=torch.float32, **how):
    fds = FDS(D, K, **how)
    for epoch in range(epochs):
        fds.update_running_stats(*draw(n, D, K, seed=epoch, dtype=dtype), epoch)
    return fds


def exact(*arguments, **how):
    """FDS whose statistics are float64, as the twin's are: torch's default type decides, a cast later changes nothing."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return FDS(*arguments, **how)
    finally:
        torch.set_default_dtype(before)


def statistics(fds):
    return {name: buffer.clone() for name, buffer in fds.named_buffers() if "mean" in name or "var" in name}


def float64(values):
    return torch.tensor(values, dtype=torch.float64)


def close(found, expected, **how):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), **how)


# against the twin


@pytest.mark.parametrize("momentum", [0.9, 0.0, 0.5, None])
@pytest.mark.parametrize("start", [0, 2])
def test_epochs_of_statistics_and_calibration_equal_the_twins(momentum, start):
    """Five epochs in which bins come and go: the last row is never seen, one appears only from epoch 3 on."""
    D, K = 3, 9
    fds = exact(D, K, start_update=start, start_smooth=start + 1, momentum=momentum)
    twin = slow.FDS(D, K, start_update=start, start_smooth=start + 1, momentum=momentum)
    for epoch in range(5):
        z, y = draw(40, D, K - 1, seed=epoch, dtype=torch.float64)
        if epoch < 3:
            y[y == 5] = 4
        if epoch == 4:
            y[y == 2] = 1  # unseen in this epoch: its statistics stay
        rows = y.long().tolist()
        close(fds.smooth(z, y, epoch), twin.smooth(z.tolist(), rows, epoch), rtol=1e-9, atol=1e-9)
        fds.update_last_epoch_stats(epoch)
        fds.update_running_stats(z, y, epoch)
        twin.finish_epoch(z.tolist(), rows, epoch)
        close(fds.running_mean, twin.mean, rtol=1e-9, atol=1e-9)
        close(fds.running_var, twin.var, rtol=1e-9, atol=1e-9)
        assert fds.num_samples_tracked.tolist() == twin.seen
        if epoch >= start:
            seen = torch.tensor(twin.seen) > 0
            close(fds.smoothed_mean_last_epoch[seen], float64(twin.smoothed_mean)[seen], rtol=1e-9, atol=1e-9)
            close(fds.smoothed_var_last_epoch[seen], float64(twin.smoothed_var)[seen], rtol=1e-9, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([("gaussian", 5, 2), ("gaussian", 9, 1), ("triang", 3, 1), ("laplace", 7, 0.7), ("gaussian", 1, 2)]),
    st.sampled_from([(0.1, 10.0), (0.5, 2.0), (0.2, 5.0)]),
    st.integers(2, 30),
    st.integers(0, 10**6),
)
def test_any_window_and_clip_equal_the_twins(window, clip, n, seed):
    kernel, ks, sigma = window
    D, K = 2, 10
    z, y = draw(n, D, K, seed=seed, dtype=torch.float64)
    rows = y.long().tolist()
    fds = exact(D, K, kernel=kernel, ks=ks, sigma=sigma, clip=clip)
    twin = slow.FDS(D, K, window=slow.kernel_window(kernel, ks, sigma), clip=clip)
    fds.update_running_stats(z, y, 0)
    twin.finish_epoch(z.tolist(), rows, 0)
    close(fds.smooth(z, y, 1), twin.smooth(z.tolist(), rows, 1), rtol=1e-8, atol=1e-8)


def test_a_bin_of_one_sample_has_the_biased_variance_0_and_passes_unchanged():
    z = torch.tensor([[1.0, 2.0], [3.0, 5.0], [7.0, 7.0]])
    y = torch.tensor([0.0, 0.0, 3.0])
    fds = FDS(2, 6)
    fds.update_running_stats(z, y, 0)
    assert fds.running_var[0].tolist() == [2.0, 4.5]  # unbiased
    assert fds.running_var[3].tolist() == [0.0, 0.0]
    assert torch.equal(fds.smooth(z, y, 1)[2], z[2])


# where it is the identity


def test_it_is_the_identity_at_evaluation_before_start_smooth_and_before_any_statistics():
    z, y = draw(20)
    fresh = FDS(3, 8)
    assert torch.equal(fresh.smooth(z, y, 5), z)
    fds = trained(start_smooth=3)
    assert torch.equal(fds.smooth(z, y, 2), z)
    assert not torch.equal(fds.smooth(z, y, 3), z)
    fds.eval()
    assert torch.equal(fds.smooth(z, y, 3), z)


def test_before_start_update_nothing_is_learnt():
    fds = FDS(3, 8, start_update=2)
    before = statistics(fds)
    fds.update_running_stats(*draw(40), 0)
    fds.update_last_epoch_stats(1)
    fds.update_running_stats(*draw(40), 1)
    assert all(torch.equal(value, before[name]) for name, value in statistics(fds).items())
    assert fds.num_samples_tracked.sum() == 0
    fds.update_running_stats(*draw(40, seed=7), 2)
    alone = FDS(3, 8)
    alone.update_running_stats(*draw(40, seed=7), 0)
    assert torch.equal(fds.running_mean, alone.running_mean)  # and the epochs before are not in it


# decision 1: a pure function


@pytest.mark.parametrize("epoch", [0, 1])
def test_smooth_never_writes_into_its_input(epoch):
    fds, (z, y) = trained(), draw(20)
    z_before, y_before, buffers = z.clone(), y.clone(), statistics(fds)
    fds.smooth(z, y, epoch)
    assert torch.equal(z, z_before)
    assert torch.equal(y, y_before)
    assert all(torch.equal(value, buffers[name]) for name, value in statistics(fds).items())


def test_statistics_never_write_into_the_features():
    (z, y), fds = draw(30), FDS(3, 8)
    z_before, y_before = z.clone(), y.clone()
    fds.observe(z, y)
    fds.finish_epoch(0)
    assert torch.equal(z, z_before)
    assert torch.equal(y, y_before)


def test_gradient_flows_through_the_features_only_and_is_the_scale():
    fds, (z, y) = trained(), draw(20)
    z.requires_grad_()
    fds.smooth(z, y, 1).sum().backward()
    rows = y.long()
    ratio = fds.smoothed_var_last_epoch / fds.running_var_last_epoch
    torch.testing.assert_close(z.grad, ratio.clamp(0.1, 10).sqrt()[rows])
    assert all(buffer.grad is None and not buffer.requires_grad for buffer in fds.buffers())
    assert not list(fds.parameters())


def test_statistics_of_features_that_carry_gradient_keep_no_graph():
    z, y = draw(30)
    fds = FDS(3, 8)
    fds.observe(z.requires_grad_(), y)
    fds.finish_epoch(0)
    assert not any(buffer.requires_grad for buffer in fds.buffers())


def test_smooth_passes_gradcheck():
    fds, (z, y) = trained(dtype=torch.float64), draw(6, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: fds.smooth(x, y, 1), (z.requires_grad_(),))


# decision 2: one end of an epoch updates both


def test_one_end_of_epoch_updates_running_and_smoothed_statistics_together():
    fds = FDS(3, 8)
    for epoch in range(3):
        fds.update_last_epoch_stats(epoch)
        fds.update_running_stats(*draw(60, seed=epoch), epoch)
        assert torch.equal(fds.running_mean_last_epoch, fds.running_mean)
        assert torch.equal(fds.running_var_last_epoch, fds.running_var)
        window = slow.FDS(3, 8).window
        expected = slow.smooth_over_bins(fds.running_mean.double().tolist(), fds.num_samples_tracked.tolist(), window)
        close(fds.smoothed_mean_last_epoch, expected)


def test_the_buffers_of_this_epoch_and_the_last_are_not_the_same_memory():
    fds = trained()
    assert fds.running_mean.data_ptr() != fds.running_mean_last_epoch.data_ptr()
    assert fds.running_var.data_ptr() != fds.running_var_last_epoch.data_ptr()


def test_the_published_calls_equal_observe_and_finish_epoch():
    published, streamed = FDS(3, 8), FDS(3, 8)
    for epoch in range(3):
        z, y = draw(50, seed=epoch)
        published.update_last_epoch_stats(epoch)
        published.update_running_stats(z, y, epoch)
        streamed.observe(z[:20], y[:20])
        streamed.observe(z[20:], y[20:])
        streamed.finish_epoch(epoch)
    for name, value in statistics(published).items():
        torch.testing.assert_close(value, statistics(streamed)[name])


def test_statistics_change_only_at_the_end_of_the_epoch():
    fds, (z, y) = trained(), draw(20)
    before, smoothed = statistics(fds), fds.smooth(z, y, 1)
    fds.observe(*draw(60, seed=9))
    assert all(torch.equal(value, before[name]) for name, value in statistics(fds).items())
    assert torch.equal(fds.smooth(z, y, 1), smoothed)


def test_every_epoch_starts_its_statistics_anew():
    fds = trained(momentum=0.0)
    fds.update_running_stats(*draw(60, seed=5), 1)
    alone = FDS(3, 8)
    alone.update_running_stats(*draw(60, seed=5), 0)
    torch.testing.assert_close(fds.running_mean, alone.running_mean)
    torch.testing.assert_close(fds.running_var, alone.running_var)


# decision 3: reflected ends, unseen bins unknown


def test_the_bin_axis_is_reflected_without_repeating_the_edge():
    z = torch.tensor([[0.0], [2.0], [10.0], [12.0], [20.0], [22.0]])
    y = torch.tensor([0.0, 0.0, 1.0, 1.0, 2.0, 2.0])
    fds = FDS(1, 3, kernel="triang", ks=3)
    fds.update_running_stats(z, y, 0)
    # means 1, 11, 21 under the window 1/4, 1/2, 1/4: row 0 sees row 1 on both sides
    close(fds.smoothed_mean_last_epoch[:, 0], [0.5 * 1 + 0.5 * 11, 11, 0.5 * 21 + 0.5 * 11])


def test_bins_never_seen_weigh_nothing_and_the_window_is_renormalised():
    z, y = draw(40)
    y[(y == 3) | (y == 5)] = 4.0
    fds = FDS(3, 8)
    fds.update_running_stats(z + 100, y, 0)
    assert (fds.smoothed_mean_last_epoch > 50).all()  # not pulled towards a mean of 0
    seen = torch.tensor([0, 1, 2, 4, 6, 7])
    window = slow.FDS(3, 8).window
    expected = slow.smooth_over_bins(fds.running_mean.double().tolist(), fds.num_samples_tracked.tolist(), window)
    close(fds.smoothed_mean_last_epoch[seen], float64(expected)[seen])


def test_constant_statistics_stay_constant_whatever_is_unseen():
    z = torch.tensor([[4.0], [6.0]]).repeat(3, 1)
    y = torch.tensor([1.0, 1, 6, 6, 7, 7])
    fds = FDS(1, 9)
    fds.update_running_stats(z, y, 0)
    seen = fds.num_samples_tracked > 0
    close(fds.smoothed_mean_last_epoch[seen], torch.full((3, 1), 5.0))
    torch.testing.assert_close(fds.smooth(z, y, 1), z)


def test_features_of_a_bin_never_seen_pass_unchanged():
    z, y = draw(40)
    y[y == 3] = 4.0
    fds = FDS(3, 8)
    fds.update_running_stats(z, y, 0)
    labels = torch.tensor([3.0, 4.0])
    out = fds.smooth(z[:2], labels, 1)
    assert torch.equal(out[0], z[0])
    assert not torch.equal(out[1], z[1])


def test_a_bin_first_seen_in_a_later_epoch_takes_its_epoch_value_whole():
    fds = FDS(3, 8, momentum=0.9)
    z, y = draw(60)
    early = y != 6
    fds.update_running_stats(z[early], y[early], 0)
    fds.update_running_stats(z, y, 1)
    close(fds.running_mean[6], z[y == 6].double().mean(0))
    close(fds.running_var[6], z[y == 6].double().var(0))


# decision 4: every label has a bin


def test_labels_beyond_the_ends_belong_to_the_end_rows():
    fds = trained(n=100, bucket_start=2)
    z = torch.randn(6, 3)
    inside = fds.smooth(z, torch.tensor([2.0, 2, 2, 7, 7, 7]), 1)
    assert torch.equal(fds.smooth(z, torch.tensor([-50.0, 0, 1.5, 8, 99, 1e6]), 1), inside)
    one_by_one = [
        fds.smooth(z[i : i + 1], label.view(1), 1) for i, label in enumerate(torch.tensor([-50.0, 0, 1.5, 8, 99, 1e6]))
    ]
    torch.testing.assert_close(torch.cat(one_by_one), inside)  # whatever else is in the batch


def test_end_rows_count_the_labels_beyond_them():
    fds = FDS(2, 6, bucket_start=2)
    fds.update_running_stats(torch.randn(7, 2), torch.tensor([0.0, 1, 2, 3, 5, 6, 40]), 0)
    assert fds.num_samples_tracked.tolist() == [3, 1, 0, 3]


def test_float_labels_are_binned_not_compared():
    fds = trained(n=100)
    z = torch.randn(4, 3)
    whole = fds.smooth(z, torch.tensor([1.0, 1.0, 3.0, 3.0]), 1)
    assert torch.equal(fds.smooth(z, torch.tensor([1.2, 1.999, 3.5, 3.0001]), 1), whole)


def test_own_bins_decide_the_row_as_they_do_for_lds():
    bins = Bins.uniform(0, 5, 50)
    fds = FDS(2, bins=bins)
    assert fds.running_mean.shape == (50, 2)
    scores = np.arange(51) / 10
    labels = torch.tensor(scores, dtype=torch.float32)
    fds.update_running_stats(torch.randn(51, 2), labels, 0)
    assert fds.num_samples_tracked.tolist() == bins.counts(scores).tolist()


@pytest.mark.parametrize("edges", [np.linspace(-3, 3, 13), np.linspace(20000, 20001, 11), [-1, 0, 0.1, 7, 100]])
def test_own_bins_of_any_range_agree_with_numpy(edges):
    bins = Bins(edges)
    near = np.concatenate([bins.edges, bins.edges + 1e-3, bins.edges - 1e-3, bins.edges[:-1] + np.diff(bins.edges) / 3])
    fds = FDS(1, bins=bins, ks=3)
    fds.update_running_stats(torch.randn(len(near), 1), torch.tensor(near, dtype=torch.float32), 0)
    assert fds.num_samples_tracked.tolist() == bins.counts(near.astype(np.float32)).tolist() == bins.counts(near).tolist()


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8, torch.float64, torch.float16])
def test_labels_of_any_number_type_and_of_one_or_two_axes_work_alike(kind):
    fds, (z, y) = trained(), draw(20)
    expected = fds.smooth(z, y, 1)
    assert torch.equal(fds.smooth(z, y.to(kind), 1), expected)
    assert torch.equal(fds.smooth(z, y.to(kind)[:, None], 1), expected)
    flat, column = FDS(3, 8), FDS(3, 8)
    flat.update_running_stats(z, y, 0)
    column.update_running_stats(z, y.to(kind)[:, None], 0)
    assert torch.equal(flat.running_mean, column.running_mean)


def test_a_channel_without_variance_leaves_the_other_channels_calibrated():
    z, y = draw(80)
    z[:, 1] = 0.1
    z[y == 4, 2] = 0.7  # this one is constant in a single bin
    fds = FDS(3, 8)
    fds.update_running_stats(z, y, 0)
    assert (fds.running_var[:, 1] == 0).all()
    assert fds.running_var[4, 2] == 0
    out = fds.smooth(z, y, 1)
    assert torch.equal(out[:, 1], z[:, 1])
    assert torch.equal(out[y == 4, 2], z[y == 4, 2])
    assert (out[:, 0] != z[:, 0]).all()
    assert (out[y != 4, 2] != z[y != 4, 2]).all()


# decision 5: batch by batch, at any mean, over all ranks


@pytest.mark.parametrize("sizes", [[1] * 97, [5, 90, 2], [97]])
def test_batch_by_batch_equals_all_at_once(sizes):
    z, y = draw(97, dtype=torch.float64)
    once, streamed = exact(3, 8), exact(3, 8)
    once.update_running_stats(z, y, 0)
    for part, labels in zip(z.split(sizes), y.split(sizes)):
        streamed.observe(part, labels)
    streamed.finish_epoch(0)
    for name, value in statistics(once).items():
        torch.testing.assert_close(statistics(streamed)[name], value, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("batch", [50, 20_000])
def test_variance_survives_a_mean_of_1000_and_a_standard_deviation_of_a_hundredth(batch):
    """A plain float32 sum of squares gives negative variances here."""
    generator = torch.Generator().manual_seed(0)
    z = 1000 + 0.01 * torch.randn(20_000, 4, generator=generator)
    y = torch.randint(0, 5, (20_000,), generator=generator)
    fds = FDS(4, 5, ks=3)
    for part, labels in zip(z.split(batch), y.split(batch)):
        fds.observe(part, labels)
    fds.finish_epoch(0)
    for b in range(5):
        torch.testing.assert_close(fds.running_var[b].double(), z[y == b].double().var(0), rtol=1e-4, atol=0)
    out = fds.smooth(z, y, 1)
    torch.testing.assert_close(out.double().var(0), z.double().var(0), rtol=0.05, atol=0)  # nor does the calibration lose it


def many(n=900, D=5, K=6, deviation=0.01, dtype=torch.float32, seed=0):
    """Features (n, D) of mean 1000 and more, another in each bin, and labels (n,), half of which are 1; none is 4."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, K, (n,), generator=generator)
    y = torch.where((y == 4) | (torch.rand(n, generator=generator) < 0.4), 1, y)
    return (1000 + 7.0 * y[:, None] + deviation * torch.randn(n, D, generator=generator, dtype=torch.float64)).to(dtype), y


@pytest.fixture
def bin_by_bin(monkeypatch):
    """Few samples take the way of many: in pieces of a few rows, and by as many threads as torch may use."""
    for name, value in (("_BLOCK", 64), ("_PIECE", 8), ("_THREADS_FROM", 0), ("_THREADS_EACH", 0)):
        monkeypatch.setattr(bin_statistics, name, value)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("deviation", [1e-4, 0.01, 30])
@pytest.mark.parametrize("kinds", [["float32"] * 2, ["float64", "float32"], ["bfloat16", "float32"], ["float64"]])
def test_many_samples_summed_bin_by_bin_keep_their_digits(bin_by_bin, threads, deviation, kinds):
    """Also where a later call comes in another type than the first, whose samples are the references."""
    torch.set_num_threads(threads)
    calls = [many(deviation=deviation, dtype=getattr(torch, kind), seed=i) for i, kind in enumerate(kinds)]
    fds = exact(5, 6, ks=3)
    for z, y in calls:
        fds.observe(z, y)
    fds.finish_epoch(0)
    z, y = torch.cat([z.double() for z, _ in calls]), torch.cat([y for _, y in calls])
    assert fds.num_samples_tracked.tolist() == [float((y == b).sum()) for b in range(6)]
    for b in (0, 1, 2, 3, 5):
        mean, var = z[y == b].mean(0), z[y == b].var(0)
        torch.testing.assert_close(fds.running_var[b], var, rtol=1e-5, atol=1e-12)
        assert ((fds.running_mean[b] - mean).abs() <= 1e-6 * var.sqrt() + 1e-12 * mean).all()


def test_many_samples_give_the_same_bits_with_any_number_of_threads(bin_by_bin):
    z, y = many()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        fds = FDS(5, 6, ks=3)
        fds.observe(z, y)
        found.append(fds.observed())
        assert torch.get_num_threads() == threads
    for sums in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(sums, found[0]))


def test_threads_share_the_work_where_bins_are_large(bin_by_bin, monkeypatch):
    """Where they are small, threads would mostly wait for one another: one does all, and torch's own do not help it."""
    z, y = many()
    inside, run = [], bin_statistics._in_threads
    monkeypatch.setattr(
        bin_statistics, "_in_threads",
        lambda work, threads: run(lambda i: (inside.append((threads, torch.get_num_threads())), work(i)), threads),
    )
    torch.set_num_threads(2)
    each = z.numel() // len(y.unique())
    for numbers, expected in ((each, [(2, 1), (2, 1)]), (each + 1, [(1, 1)])):
        inside.clear()
        monkeypatch.setattr(bin_statistics, "_THREADS_EACH", numbers)
        FDS(5, 6, ks=3).observe(z, y)
        assert inside == expected
        assert torch.get_num_threads() == 2


def test_many_samples_that_lie_apart_in_memory_are_summed_alike(bin_by_bin):
    z, y = many()
    for way in (lambda z: z.t().contiguous().t(), lambda z: z.repeat_interleave(2, 0)[::2]):
        apart, together = FDS(5, 6, ks=3), FDS(5, 6, ks=3)
        apart.observe(way(z), y)
        together.observe(z, y)
        assert not way(z).is_contiguous()
        assert all(torch.equal(a, b) for a, b in zip(apart.observed(), together.observed()))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_many_samples_with_bad_features_are_named_by_their_bin_without_a_warning(bin_by_bin, bad):
    z, y = many()
    z[y == 3] = bad
    fds = FDS(5, 6, ks=3)
    for part in (slice(0, 300), slice(300, None)):  # the second call adds to sums that are no longer finite
        fds.observe(z[part] * (1 if part.stop else -1), y[part])
    with pytest.raises(ValueError, match="bin 3"):
        fds.finish_epoch(0)


def test_an_error_in_one_of_the_threads_is_raised_and_leaves_their_number(bin_by_bin, monkeypatch):
    def full(*_, **__):
        raise MemoryError("no room for a piece")

    torch.set_num_threads(2)
    monkeypatch.setattr(torch, "sum", full)
    with pytest.raises(MemoryError, match="no room"):
        FDS(5, 6, ks=3).observe(*many())
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_features_of_any_scale_are_calibrated_alike(scale):
    z, y = draw(200)
    one, other = FDS(3, 8), FDS(3, 8)
    one.update_running_stats(z, y, 0)
    other.update_running_stats(z * scale, y, 0)
    torch.testing.assert_close(other.smooth(z * scale, y, 1) / scale, one.smooth(z, y, 1), rtol=1e-4, atol=1e-4)


def test_an_epoch_without_features_is_an_error_that_says_what_to_call():
    with pytest.raises(ValueError, match="observe"):
        FDS(3, 8).finish_epoch(0)


def test_bad_features_are_named_by_their_bin_and_leave_the_statistics_as_they_were():
    fds, (z, y) = trained(), draw(40)
    before = statistics(fds)
    z[y == 4] = torch.nan
    with pytest.raises(ValueError, match=r"(?=.*features)(?=.*NaN)(?=.*bin 4)"):
        fds.update_running_stats(z, y, 1)
    assert all(torch.equal(value, before[name]) for name, value in statistics(fds).items())


@pytest.mark.parametrize("kind", ["own", "released"])
@pytest.mark.parametrize("bad", [torch.nan, -torch.inf])
def test_labels_that_are_no_finite_numbers_are_refused_with_their_place(kind, bad):
    """But for the unknown pixels of a dense map, whose calibrated features nobody looks at."""
    fds = FDS(3, 8, ks=3, kind=kind)
    z, y = draw(40)
    for epoch in range(2):
        fds.update_running_stats(z, y, epoch)
    y = y.float()
    y[[4, 9]] = bad
    for call in (lambda: fds.smooth(z, y, 2), lambda: fds.observe(z, y)):
        with pytest.raises(ValueError, match="^labels: 2 of 40 are NaN or infinite, the first at index 4$"):
            call()
    dense = fds.smooth(z.T.reshape(1, 3, 5, 8), y.view(1, 5, 8), 2)
    torch.testing.assert_close(dense.reshape(3, 40).T[5:9], fds.smooth(z[5:9], y[5:9], 2))


def with_constant_channel(epoch):
    z, y = draw(101, seed=epoch)
    z[:, 1] = 0.1
    return z, y


def shard_worker(rank, cases, path, folder):
    """One of two processes: observes its uneven share of each case and must end with the statistics of all."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    try:
        for case, shares in enumerate(cases):
            fds = FDS(3, 8)
            for epoch in range(2):
                z, y = with_constant_channel(epoch)
                fds.observe(z.split(shares)[rank], y.split(shares)[rank])
                fds.finish_epoch(epoch)
            torch.save(fds.state_dict(), f"{folder}/{case}_{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    cases = [[90, 11], [101, 0]]  # uneven shares; a process with nothing to observe
    torch.multiprocessing.spawn(shard_worker, (cases, tmp_path / "rendezvous", tmp_path), nprocs=2)
    alone = FDS(3, 8)
    for epoch in range(2):
        alone.update_running_stats(*with_constant_channel(epoch), epoch)
    for case in range(len(cases)):
        states = [torch.load(tmp_path / f"{case}_{rank}.pt", weights_only=True) for rank in range(2)]
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(states[0][name], value, rtol=1e-6, atol=1e-7)
            assert torch.equal(states[0][name], states[1][name])
        assert (states[0]["running_var"][:, 1] == 0).all()  # the merge makes no variance where there is none


# decision 6 is the training loop's: which features reach `observe`


# decision 7: the published names


def test_the_state_dict_has_exactly_the_published_buffers():
    state = FDS(feature_dim=5, bucket_num=100, bucket_start=3).state_dict()
    assert set(state) == set(PUBLISHED_BUFFERS)
    assert state["epoch"].shape == (1,)
    assert state["num_samples_tracked"].shape == (97,)
    for name in PUBLISHED_BUFFERS[1:-1]:
        assert state[name].shape == (97, 5)
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert set(FDS(5, bins=Bins.uniform(0, 1, 10)).state_dict()) == set(PUBLISHED_BUFFERS)


def test_the_constructor_takes_the_published_arguments_in_the_published_order():
    fds = FDS(4, 50, 2, 1, 3, "triang", 7, 1, 0.5)
    assert fds.running_mean.shape == (48, 4)
    assert fds.epoch.item() == 1  # start_update, as published
    z, y = draw(20, D=4)
    fds.update_running_stats(z, y, 1)
    assert torch.equal(fds.smooth(z, y, 2), z)
    assert not torch.equal(fds.smooth(z, y, 3), z)


def test_a_saved_state_continues_as_if_never_interrupted():
    fds = trained(epochs=2)
    file = io.BytesIO()
    torch.save(fds.state_dict(), file)
    file.seek(0)
    loaded = FDS(3, 8)
    loaded.load_state_dict(torch.load(file, weights_only=True), strict=True)
    z, y = draw(30, seed=8)
    assert torch.equal(loaded.smooth(z, y, 2), fds.smooth(z, y, 2))
    for one in (fds, loaded):
        one.update_running_stats(z, y, 2)
    assert all(torch.equal(value, fds.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert torch.equal(loaded.smooth(z, y, 3), fds.smooth(z, y, 3))


def test_statistics_loaded_over_others_are_those_smooth_uses():
    old, new, (z, y) = trained(), trained(epochs=3), draw(30)
    old.smooth(z, y, 1)
    old.load_state_dict(new.state_dict())
    assert torch.equal(old.smooth(z, y, 1), new.smooth(z, y, 1))


def test_a_buffer_written_from_outside_counts_at_once():
    """As DistributedDataParallel does when it broadcasts buffers."""
    fds, (z, y) = trained(), draw(30)
    before = fds.smooth(z, y, 1)
    fds.smoothed_mean_last_epoch += 1
    torch.testing.assert_close(fds.smooth(z, y, 1), before + 1)
    fds.double()
    close(fds.smooth(z.double(), y, 1), before + 1, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_pass_without_gradient_leaves_the_next_step_its_gradient(mode):
    fds, (z, y) = trained(), draw(30)
    with mode():
        expected = fds.smooth(z, y, 1)
    out = fds.smooth(z.clone().requires_grad_(), y, 1)
    out.sum().backward()
    torch.testing.assert_close(out.detach(), expected.clone())


def test_a_copy_is_independent():
    fds, (z, y) = trained(), draw(30)
    twin = copy.deepcopy(fds)
    expected = twin.smooth(z, y, 1)
    fds.update_running_stats(*draw(60, seed=4), 1)
    assert torch.equal(twin.smooth(z, y, 1), expected)


# decision 8: dense features, autocast, compilation, replicas


def test_dense_features_equal_flat_ones_pixel_by_pixel():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(3, 5, 4, 6, generator=generator)
    y = torch.randint(0, 8, (3, 1, 4, 6), generator=generator).float()
    flat_z, flat_y = z.permute(0, 2, 3, 1).reshape(-1, 5), y.reshape(-1)
    dense, flat = FDS(5, 8), FDS(5, 8)
    dense.update_running_stats(z, y, 0)
    flat.update_running_stats(flat_z, flat_y, 0)
    for name, value in flat.state_dict().items():
        torch.testing.assert_close(dense.state_dict()[name], value)
    out = dense.smooth(z, y, 1)
    assert out.shape == z.shape
    torch.testing.assert_close(out.permute(0, 2, 3, 1).reshape(-1, 5), flat.smooth(flat_z, flat_y, 1))
    torch.testing.assert_close(dense.smooth(z, y[:, 0], 1), out)
    torch.testing.assert_close(dense.smooth(z.to(memory_format=torch.channels_last), y, 1), out)


def test_gradient_of_dense_features_equals_that_of_flat_ones():
    z = torch.randn(2, 3, 4, 5, requires_grad=True)
    y = torch.randint(0, 8, (2, 1, 4, 5)).float()
    fds, weight = trained(), torch.randn(2, 3, 4, 5)
    (fds.smooth(z, y, 1) * weight).sum().backward()
    flat = z.detach().permute(0, 2, 3, 1).reshape(-1, 3).requires_grad_()
    (fds.smooth(flat, y.reshape(-1), 1) * weight.permute(0, 2, 3, 1).reshape(-1, 3)).sum().backward()
    torch.testing.assert_close(z.grad.permute(0, 2, 3, 1).reshape(-1, 3), flat.grad)


def test_half_precision_features_keep_statistics_in_float32_or_better():
    z, y = draw(200)
    fds = FDS(3, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = z.bfloat16()
        fds.update_running_stats(features, y, 0)
        out = fds.smooth(features, y, 1)
    assert {value.dtype for value in fds.state_dict().values()} == {torch.float32}
    wide = exact(3, 8)
    wide.update_running_stats(features.double(), y, 0)
    for name, value in statistics(wide).items():
        torch.testing.assert_close(statistics(fds)[name].double(), value, rtol=1e-6, atol=1e-6)
    assert out.dtype == torch.bfloat16
    close(out.double(), wide.smooth(features.double(), y, 1), rtol=0.01, atol=0.02)


def test_half_precision_features_beyond_its_range_do_not_overflow_the_squares():
    z = torch.tensor([[60000.0], [-60000.0]], dtype=torch.float16)
    fds = FDS(1, 4, ks=3)
    fds.update_running_stats(z, torch.tensor([1.0, 1.0]), 0)
    close(fds.running_var[1], z.double().var(0), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dense", [False, True])
def test_compiled_smoothing_is_the_same(dense):
    torch._dynamo.reset()
    fds = trained()
    z = torch.randn(4, 3, 5, 5) if dense else torch.randn(20, 3)
    y = torch.randint(0, 8, (4, 1, 5, 5) if dense else (20,)).float()
    compiled = torch.compile(fds.smooth, backend="aot_eager", fullgraph=True)
    x, w = z.clone().requires_grad_(), z.clone().requires_grad_()
    out, expected = compiled(x, y, 1), fds.smooth(w, y, 1)
    torch.testing.assert_close(out, expected)
    out.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(x.grad, w.grad)
    fds.update_running_stats(*draw(60, seed=6), 1)
    torch.testing.assert_close(compiled(z, y, 2), fds.smooth(z, y, 2))  # and sees the next epoch's statistics


def test_a_replica_smooths_as_the_module_does():
    """What DataParallel makes of a module: the same buffers in a shallow copy."""
    fds, (z, y) = trained(), draw(20)
    replica = fds._replicate_for_data_parallel()
    replica._buffers = dict(fds._buffers)
    assert torch.equal(replica.smooth(z, y, 1), fds.smooth(z, y, 1))


def test_no_batch_is_too_small():
    fds, (z, y) = trained(), draw(20)
    torch.testing.assert_close(fds.smooth(z[:1], y[:1], 1), fds.smooth(z, y, 1)[:1])
    assert fds.smooth(z[:0], y[:0], 1).shape == (0, 3)
    fds.observe(z[:0], y[:0])


# what bad arguments get


@pytest.mark.parametrize(
    ("arguments", "how", "named"),
    [
        ((0, 10), {}, r"feature_dim.*\b0\b"),
        ((3, 10, 10), {}, r"bucket_start.*10.*\b10\b"),
        ((3, 10, -1), {}, "bucket_start.*-1"),
        ((3, 10), {"kernel": "box"}, "kernel.*gaussian.*box"),
        ((3, 10), {"ks": 4}, r"ks.*\b4\b"),
        ((3, 10), {"sigma": 0}, r"sigma.*\b0\b"),
        ((3, 10), {"momentum": 1.5}, r"momentum.*1\.5"),
        ((3, 10), {"momentum": -0.1}, r"momentum.*-0\.1"),
        ((3, 10), {"clip": (0, 1)}, r"clip.*\(0, 1\)"),
        ((3, 10), {"clip": (3, 2)}, r"clip.*\(3, 2\)"),
        ((3, 2), {"ks": 5}, r"ks.*\b5\b.*\b2\b"),
        ((3, 12), {"bins": Bins.uniform(0, 1, 10)}, "bucket_num.*10.*12"),
    ],
)
def test_bad_arguments_are_named_with_their_value(arguments, how, named):
    with pytest.raises(ValueError, match=named):
        FDS(*arguments, **how)


@pytest.mark.parametrize("call", ["smooth", "observe"])
@pytest.mark.parametrize(
    ("features", "labels", "named"),
    [
        ((5, 4), (5,), r"features.*\(B, 3\).*\(5, 4\)"),
        ((5,), (5,), r"features.*\(5,\)"),
        ((5, 3), (6,), r"labels.*\(6,\).*\(5, 3\)"),
        ((5, 3), (5, 2), r"labels.*\(5, 2\).*\(5, 3\)"),
        ((2, 3, 4, 5), (2, 1, 4, 4), r"labels.*\(2, 1, 4, 4\).*\(2, 3, 4, 5\)"),
        ((2, 3, 4, 5), (2,), r"labels.*\(2,\).*\(2, 3, 4, 5\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(call, features, labels, named):
    fds = trained()
    arguments = (torch.zeros(features), torch.zeros(labels)) + ((1,) if call == "smooth" else ())
    with pytest.raises(ValueError, match=named):
        getattr(fds, call)(*arguments)


@pytest.mark.parametrize("bins", [None, Bins(np.arange(9))], ids=["whole labels", "own bins"])
def test_one_bad_label_is_named_before_it_reaches_the_statistics(bins):
    z, y = draw(20)
    y[7] = torch.nan
    fds = FDS(3, 8, bins=bins)
    with pytest.raises(ValueError, match=r"(?=.*labels)(?=.*1 of 20)(?=.*index 7)"):
        fds.observe(z, y)


# the model's type, other units, and what own loops hand over


CASTS = [lambda m: m.double(), lambda m: m.half(), lambda m: m.bfloat16(), lambda m: m.to(torch.float64)]


@pytest.mark.parametrize("cast", CASTS)
@pytest.mark.parametrize("steps", [10, 50])
def test_labels_fall_into_the_bins_of_numpy_whatever_the_model_is_cast_to(cast, steps):
    """Edges cast with the model put 6 of 10 labels into other bins in float64, and far more in half precision."""
    bins = Bins.uniform(0, steps / 10, steps)
    labels = torch.arange(steps).double() / 10
    model = cast(torch.nn.Sequential(torch.nn.Linear(4, 4), FDS(4, bins=bins, ks=3)))
    features = model[0](torch.randn(steps, 4, dtype=model[0].weight.dtype))
    model[1].observe(features, labels)
    model[1].finish_epoch(0)
    assert bins.counts(labels).tolist() == [1] * steps
    assert model[1].num_samples_tracked.tolist() == bins.counts(labels).tolist()
    assert {buffer.dtype for buffer in model[1].buffers()} == {torch.float32}
    assert model[0].weight.dtype == features.dtype != torch.float32
    assert model[1].smooth(features, labels, 1).dtype == features.dtype


def test_counts_and_variances_beyond_half_precision_are_kept_in_a_half_precision_model():
    """As float16, counts stop at 65,504 and a standard deviation of 300 is an infinite variance."""
    fds = FDS(1, 4, ks=3, momentum=None).half()
    z = torch.randn(100_000, 1, generator=torch.Generator().manual_seed(0))
    labels = torch.ones(100_000)
    for epoch in range(4):
        fds.update_running_stats((z + epoch).half(), labels, epoch)
    assert fds.num_samples_tracked[1] == 400_000
    close(fds.running_mean[1], [1.5], rtol=0.01, atol=0.01)
    wide = FDS(1, 4, ks=3).half()
    wide.update_running_stats((300 * z).half(), labels, 0)
    close(wide.running_var[1], [300.0**2], rtol=0.02, atol=0)
    assert wide.smooth((300 * z[:100]).half(), labels[:100], 1).isfinite().all()


@pytest.mark.parametrize("assign", [False, True])
def test_statistics_read_from_a_half_precision_file_are_float32(assign):
    fds, state = FDS(3, 8), {name: value.half() for name, value in trained().state_dict().items()}
    fds.load_state_dict(state, assign=assign)
    assert {buffer.dtype for buffer in fds.buffers()} == {torch.float32}


def test_the_default_type_of_half_precision_makes_no_half_precision_statistics():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        assert {buffer.dtype for buffer in FDS(3, 8).buffers()} == {torch.float32}
    finally:
        torch.set_default_dtype(before)


def test_observations_begun_in_inference_mode_go_on_outside_of_it():
    z, y = draw(40)
    fds, plain = FDS(3, 8), FDS(3, 8)
    with torch.inference_mode():
        fds.observe(z[:20], y[:20])
        fds.add_observed(fds.observed())
    fds.observe(z[20:], y[20:])
    fds.finish_epoch(0)
    for part in (slice(20), slice(20), slice(20, 40)):
        plain.observe(z[part], y[part])
    plain.finish_epoch(0)
    for name, value in statistics(plain).items():
        torch.testing.assert_close(statistics(fds)[name], value)


def test_buffers_written_through_data_count_at_once():
    """As old code for moving averages of weights and helpers that broadcast do; no version of the buffer tells of it."""
    fds, (z, y) = trained(), draw(30)
    before = fds.smooth(z, y, 1)
    fds.smoothed_mean_last_epoch.data += 1
    torch.testing.assert_close(fds.smooth(z, y, 1), before + 1)
    fds.smoothed_mean_last_epoch.data = fds.smoothed_mean_last_epoch.data + 1
    torch.testing.assert_close(fds.smooth(z, y, 1), before + 2)


def test_few_labels_are_calibrated_as_many_are():
    """With fewer labels than rows only their rows are computed."""
    z, y = draw(200, K=60)
    fds = FDS(3, 60)
    fds.update_running_stats(z, y, 0)
    together = fds.smooth(z, y, 1)
    apart = torch.cat([fds.smooth(part, labels, 1) for part, labels in zip(z.split(7), y.split(7))])
    assert torch.equal(together, apart)


def test_the_variance_of_a_bin_with_one_sample_is_unknown_to_the_smoothing_and_its_mean_is_not():
    y = torch.tensor([0.0] * 50 + [1] * 50 + [2, 3, 4])
    z = torch.randn(103, 8, generator=torch.Generator().manual_seed(0))
    fds = FDS(8, bins=Bins.width(-0.5, 4.5, 1), ks=3, sigma=1)
    fds.update_running_stats(z, y, 0)
    a, b, _ = slow.kernel_window("gaussian", 3, 1)
    var, mean = fds.running_var, fds.running_mean
    close(fds.smoothed_var_last_epoch[1], (a * var[0] + b * var[1]) / (a + b))  # not averaged with bin 2's 0
    close(fds.smoothed_mean_last_epoch[1], (a * mean[0] + b * mean[1] + a * mean[2]) / (2 * a + b))
    assert fds.smoothed_var_last_epoch[1].mean() > 0.8 * var[1].mean()
    assert torch.equal(fds.smooth(z, y, 1)[100:], z[100:])


@pytest.mark.parametrize("momentum", [0.9, None])
def test_a_variance_known_once_stays_and_is_taken_whole_when_first_known(momentum):
    """Epochs with one and with many samples of a bin; the twin says the same."""
    D, K, numbers = 2, 5, [1, 1, 6, 1, 4]
    fds = exact(D, K, ks=3, momentum=momentum)
    twin = slow.FDS(D, K, window=slow.kernel_window("gaussian", 3, 2), momentum=momentum)
    for epoch, n in enumerate(numbers):
        z, y = draw(30, D, K - 1, seed=epoch, dtype=torch.float64)
        y[y == 2] = 1
        z, y = torch.cat([z, draw(n, D, K, seed=50 + epoch, dtype=torch.float64)[0]]), torch.cat([y, torch.full((n,), 2.0)])
        before = fds.running_var[2].clone()
        fds.update_running_stats(z, y, epoch)
        twin.finish_epoch(z.tolist(), y.long().tolist(), epoch)
        if epoch == 2:
            close(fds.running_var[2], z[30:].var(0))
        if epoch == 3:
            assert torch.equal(fds.running_var[2], before)
        close(fds.running_var, twin.var, rtol=1e-9, atol=1e-9)
        close(fds.smoothed_var_last_epoch[:4], float64(twin.smoothed_var)[:4], rtol=1e-9, atol=1e-9)
        close(fds.smoothed_mean_last_epoch[:4], float64(twin.smoothed_mean)[:4], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("bins", "labels", "said"),
    [
        (Bins.uniform(0, 500_000, 40), torch.randn(200), "100 % of the epoch's labels share one"),
        (Bins.uniform(-0.5, 0.5, 10), 1000 * torch.randn(200), "lie outside the bins"),
        (None, torch.rand(200), "100 % of the epoch's labels share one"),
        (None, torch.randint(1990, 2020, (200,)), "100 % lie outside the bins"),
    ],
    ids=["z-scores", "dollars", "0 to 1", "years"],
)
def test_labels_in_another_unit_than_the_bins_are_warned_of_once(bins, labels, said, caplog):
    fds = FDS(3, bins=bins)
    for epoch in range(3):
        fds.update_running_stats(torch.randn(200, 3), labels, epoch)
    assert len(caplog.records) == 1
    assert said in caplog.text
    assert "same unit" in caplog.text


def test_labels_that_fit_their_bins_are_not_warned_of(caplog):
    for bins, labels in ((Bins.uniform(0, 8, 20), draw(200)[1]), (None, draw(200)[1]), (None, torch.tensor([0.0, 1] * 100))):
        FDS(3, bins=bins).update_running_stats(torch.randn(200, 3), labels, 0)
    rain = torch.tensor(np.where(np.arange(200) % 10 < 7, 0.0, np.arange(200) / 10))  # 70 % zeros
    FDS(3, bins=Bins.uniform(0, 20, 20)).update_running_stats(torch.randn(200, 3), rain, 0)
    assert not caplog.records


@pytest.mark.parametrize("make", [np.array, list, lambda y: np.array(y)[:, None], lambda y: np.array(y, dtype=object)])
def test_labels_may_be_arrays_or_lists(make):
    z, y = draw(20)
    fds, other = trained(), trained()
    expected = fds.smooth(z, y, 1)
    assert torch.equal(fds.smooth(z, make(y.tolist()), 1), expected)
    other.update_running_stats(z, make(y.tolist()), 1)
    fds.update_running_stats(z, y, 1)
    assert torch.equal(fds.running_mean, other.running_mean)


@pytest.mark.parametrize("call", ["smooth", "observe"])
@pytest.mark.parametrize(
    ("features", "labels", "named"),
    [
        (torch.zeros(3, 3), ["a", "b", "c"], "labels: expected numbers"),
        (torch.zeros(3, 3), np.ma.masked_array([1.0, 2, 3], mask=[0, 1, 0]), "labels: 1 of 3 are masked, the first at index 1"),
        (np.zeros((3, 3)), torch.zeros(3), "features: expected a torch tensor, found ndarray"),
    ],
)
def test_what_is_no_tensor_of_features_or_no_numbers_is_named(call, features, labels, named):
    fds = trained()
    with pytest.raises(ValueError, match=named):
        getattr(fds, call)(features, labels, *([1] if call == "smooth" else []))


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_edges_of_other_methods_are_not_cast_either(kind):
    from imbalanced_regression.methods.ordinal_entropy import OrdinalEntropy
    from imbalanced_regression.methods.rows import bin_of
    from imbalanced_regression.methods.srl import SRL

    bins, labels = Bins.uniform(0, 5, 50), torch.arange(50).double() / 10
    for method in (OrdinalEntropy(bins=bins), SRL(bins, 4)):
        assert bin_of(labels, method.to(kind)._edges).tolist() == list(range(50))


def test_the_tables_of_a_step_are_kept_and_follow_every_change_of_the_buffers():
    features, labels, fds = torch.randn(400, 6), torch.rand(400) * 20, FDS(6, 20)
    fds.update_running_stats(features, labels, 0)
    made = []
    fds._movements = lambda *parts: made.append(0) or FDS._movements(fds, *parts)

    def moved() -> torch.Tensor:
        fresh = copy.deepcopy(fds)  # a copy keeps nothing
        assert fresh._tables._tables is None
        del fresh._movements
        found = fds.smooth(features, labels, 1)
        assert torch.equal(found, fresh.smooth(features, labels, 1))
        return found

    first = moved()
    assert torch.equal(moved(), first)
    assert len(made) == 1
    changes = [
        lambda: fds.running_mean_last_epoch[3].add_(1), lambda: fds.running_var_last_epoch.mul_(2),
        lambda: fds.smoothed_mean_last_epoch.copy_(fds.running_mean), lambda: fds.num_samples_tracked.detach()[5:].zero_(),
        lambda: fds.load_state_dict(FDS(6, 20).state_dict()), lambda: fds.update_running_stats(features * 3, labels, 1),
        lambda: setattr(fds, "smoothed_var_last_epoch", fds.smoothed_var_last_epoch * 1.5),
        lambda: setattr(fds.running_mean_last_epoch, "data", fds.running_mean_last_epoch + 1),
    ]
    for number, change in enumerate(changes, start=2):
        before = moved()
        change()
        assert not torch.equal(moved(), before), number
        assert len(made) == number


def test_tables_made_without_a_gradient_serve_a_step_with_one():
    features, labels, fds = torch.randn(40, 3), torch.rand(40) * 4, FDS(3, 4)
    fds.update_running_stats(features, labels, 0)
    with torch.inference_mode():
        inside = fds.smooth(features, labels, 1)
    z = features.clone().requires_grad_()
    out = fds.smooth(z, labels, 1)
    out.sum().backward()
    assert torch.equal(out, inside)
    with torch.inference_mode():
        made = FDS(3, 4)
        made.update_running_stats(features, labels, 0)
        assert torch.equal(made.smooth(features, labels, 1), inside)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_few_features_are_moved_at_once_and_many_block_by_block_to_the_same_bits(monkeypatch, kind):
    fds, (z, y) = trained(), draw(50)
    z, gradient = z.to(kind), torch.randn(z.shape, generator=torch.Generator().manual_seed(1)).to(kind)

    def there_and_back() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        leaf = z.clone().requires_grad_()
        out = fds.smooth(leaf, y, 1)
        (slope,) = torch.autograd.grad(out, leaf, gradient, create_graph=True)
        once = z.clone().requires_grad_()
        fds.smooth(once, y, 1).backward(gradient)
        return out.detach(), slope.detach(), once.grad

    at_once = there_and_back()
    monkeypatch.setattr(calibration, "_FEW", 0)
    monkeypatch.setattr(calibration, "_BLOCK", 21)  # of 7 rows, the last block is of one
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        for few, many in zip(at_once, there_and_back()):
            assert few.dtype == many.dtype == kind
            assert torch.equal(few, many)
