"""BMC, GAI and BNI against the slow twins, the golden values and the integral they stand for; the fits; the bad inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from slow import balanced_mse as twin

from imbalanced_regression.bins import Bins
from imbalanced_regression.methods import balanced_mse
from imbalanced_regression.methods.balanced_mse import BMC, BNI, GAI
from imbalanced_regression.methods.lds import effective_density

Y = torch.tensor([[1.0], [2], [4], [7], [7]], dtype=torch.float64)
PREDS = torch.tensor([[1.5], [1], [5], [6], [3]], dtype=torch.float64)
MIXTURE = ([2.0, 6.0], [1.0, 4.0], [0.7, 0.3])
HISTOGRAM = ([1.0, 3, 5, 7], [0.4, 0.3, 0.2, 0.1])
LOSSES = {
    "bmc": lambda **how: BMC(**how),
    "gai": lambda **how: GAI(*MIXTURE, **how),
    "bni": lambda **how: BNI(*HISTOGRAM, **how),
}
every_loss = pytest.mark.parametrize("name", LOSSES)


def example(count=9, d=1, seed=0):
    draw = torch.Generator().manual_seed(seed)
    outputs, targets = (3 * torch.randn(count, d, generator=draw, dtype=torch.float64) for _ in range(2))
    return outputs, targets, torch.rand(count, generator=draw, dtype=torch.float64) + 0.1


def twin_of(name, outputs, targets, sigma, weights=None, noise="gaussian"):
    outputs, targets = outputs.reshape(len(outputs), -1).tolist(), targets.reshape(len(targets), -1).tolist()
    weights = None if weights is None else weights.reshape(-1).tolist()
    if name == "bmc":
        return twin.bmc(outputs, targets, sigma, weights, noise)
    if name == "gai":
        means, variances, shares = MIXTURE
        return twin.gai(outputs, targets, [[m] for m in means], [[[v]] for v in variances], shares, sigma, weights)
    return twin.bni(outputs, targets, [[c] for c in HISTOGRAM[0]], HISTOGRAM[1], sigma, weights, noise)


@pytest.mark.parametrize(
    ("name", "sigma", "golden"),
    [
        ("bmc", 1, 4.4716915922), ("bmc", 2, 11.1152337395), ("gai", 1, 1.3824585841), ("gai", 2, -1.1747275473),
        ("bni", 1, 1.5957420582), ("bni", 2, -0.8979842040),
    ],
)
def test_the_golden_values(name, sigma, golden):
    assert LOSSES[name](sigma=sigma)(PREDS, Y).item() == pytest.approx(golden, rel=1e-6)
    assert twin_of(name, PREDS, Y, sigma) == pytest.approx(golden, rel=1e-9)


def test_the_golden_value_of_two_outputs():
    preds = torch.tensor([[1.0, 0], [2, 1], [0, 3]], dtype=torch.float64)
    targets = torch.tensor([[0.0, 0], [2, 2], [1, 3]], dtype=torch.float64)
    assert BMC()(preds, targets).item() / 2 == pytest.approx(0.1751360077, rel=1e-9)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_gai_is_the_numerically_integrated_likelihood(sigma):
    for i in (0, 4):
        exact = twin.gai_by_integration(PREDS[i, 0].item(), Y[i, 0].item(), *MIXTURE, sigma)
        assert GAI(*MIXTURE, sigma=sigma)(PREDS[i], Y[i]).item() == pytest.approx(2 * sigma**2 * exact, rel=1e-6, abs=1e-7)


@every_loss
@pytest.mark.parametrize("sigma", [0.3, 1.0, 10.0])
@pytest.mark.parametrize("learn", [False, True])
def test_weighted_and_plain_losses_equal_the_twins(name, sigma, learn):
    outputs, targets, weights = example()
    loss = LOSSES[name](sigma=sigma, learn=learn)
    for given in (None, weights):
        expected = twin_of(name, outputs, targets, sigma, given)
        assert loss(outputs, targets, given).item() == pytest.approx(expected, rel=1e-5, abs=1e-5)
        assert loss(outputs.float(), targets.float(), given).item() == pytest.approx(expected, rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("name", ["bmc", "bni"])
def test_the_laplace_siblings_equal_the_twins(name):
    outputs, targets, weights = example()
    found = LOSSES[name](sigma=0.7, noise="laplace")(outputs, targets, weights)
    assert found.item() == pytest.approx(twin_of(name, outputs, targets, 0.7, weights, "laplace"), rel=1e-6)


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
@pytest.mark.parametrize("d", [2, 3])
def test_bmc_of_several_outputs_equals_the_twin(d, noise):
    outputs, targets, weights = example(d=d)
    expected = twin.bmc(outputs.tolist(), targets.tolist(), 1.3, weights.tolist(), noise)
    assert BMC(1.3, noise=noise)(outputs, targets, weights).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("d", [2, 3])
def test_gai_of_several_outputs_equals_the_twin(d):
    outputs, targets, weights = example(d=d)
    random = np.random.default_rng(0)
    means, roots = random.normal(size=(4, d)), random.normal(size=(4, d, d))
    variances, shares = (roots @ roots.transpose(0, 2, 1)).astype(np.float32), [0.1, 0.2, 0.3, 0.4]
    expected = twin.gai(outputs.tolist(), targets.tolist(), means.tolist(), variances.tolist(), shares, 1.3, weights.tolist())
    assert GAI(means, variances, shares, 1.3)(outputs, targets, weights).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
def test_bni_of_two_outputs_equals_the_twin(noise):
    outputs, targets, weights = example(d=2)
    centers = np.stack(np.meshgrid([-2.0, 0, 2], [-1.0, 1]), axis=-1).reshape(-1, 2)
    shares = [0.1, 0.2, 0.3, 0.2, 0.2, 0.0]
    expected = twin.bni(outputs.tolist(), targets.tolist(), centers.tolist(), shares, 1.3, weights.tolist(), noise)
    assert BNI(centers, shares, 1.3, noise=noise)(outputs, targets, weights).item() == pytest.approx(expected, rel=1e-6)


@every_loss
def test_gradients_are_those_of_finite_differences_without_that_of_the_factor(name):
    outputs, targets, weights = example(6)
    loss = LOSSES[name](sigma=1.5, learn=True).double()
    outputs.requires_grad_()
    loss(outputs, targets, weights).backward()
    step = 1e-5
    for i in range(len(outputs)):
        moved = []
        for sign in (1, -1):
            there = outputs.detach().clone()
            there[i] += sign * step
            moved.append(twin_of(name, there, targets, 1.5, weights))
        assert outputs.grad[i].item() == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-5, abs=1e-6)
    moved = [twin_of(name, outputs.detach(), targets, 1.5 * np.exp(sign * step), weights) for sign in (1, -1)]
    moved = [value / (2 * (1.5 * np.exp(sign * step)) ** 2) for value, sign in zip(moved, (1, -1))]
    assert loss.log_sigma.grad.item() == pytest.approx(2 * 1.5**2 * (moved[0] - moved[1]) / (2 * step), rel=1e-5, abs=1e-6)


@every_loss
def test_a_learnt_sigma_stays_positive_is_saved_and_has_its_own_rate(name):
    outputs, targets, _ = example()
    loss, fixed = LOSSES[name](sigma=2.0, learn=True, lr=0.3), LOSSES[name](sigma=2.0)
    assert fixed.parameter_groups() == []
    assert not list(fixed.parameters())
    (group,) = loss.parameter_groups()
    assert (group["lr"], group["params"]) == (0.3, [loss.log_sigma])
    assert LOSSES[name](learn=True).parameter_groups()[0]["lr"] == 1e-2
    optimizer = torch.optim.SGD(loss.parameter_groups(), lr=1e-3)
    before = loss.sigma.item()
    for _ in range(30):
        optimizer.zero_grad()
        loss(outputs, targets).backward()
        optimizer.step()
        assert loss.sigma.item() > 0
    assert loss.sigma.item() != pytest.approx(before)
    other = LOSSES[name](learn=True)
    other.load_state_dict(loss.state_dict())
    assert other.sigma.item() == loss.sigma.item()


@every_loss
def test_a_vector_and_a_column_are_the_same_rows(name):
    outputs, targets, weights = example()
    loss = LOSSES[name]()
    expected = loss(outputs, targets, weights).item()
    for left in (outputs, outputs[:, 0]):
        for right in (targets, targets[:, 0]):
            for given in (weights, weights[:, None]):
                assert loss(left, right, given).item() == pytest.approx(expected, rel=1e-12)


@every_loss
def test_half_precision_and_far_values_are_finite(name):
    outputs, targets, _ = example()
    for dtype in (torch.bfloat16, torch.float16):
        there = (100 * outputs).to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            value = LOSSES[name](sigma=0.1)(there, (100 * targets).to(dtype))
        value.backward()
        assert value.dtype == torch.float32
        assert value.isfinite()
        assert there.grad.isfinite().all()


@pytest.mark.parametrize("name", ["gai", "bni"])
@pytest.mark.parametrize("learn", [False, True])
def test_dense_maps_in_chunks_equal_their_pixels_at_once(name, learn, monkeypatch):
    draw = torch.Generator().manual_seed(0)
    outputs, targets = (8 * torch.rand(2, 1, 5, 7, generator=draw, dtype=torch.float64) for _ in range(2))
    weights = torch.rand(2, 1, 5, 7, generator=draw, dtype=torch.float64)
    results = []
    for cells in (balanced_mse._MOST_CELLS, 30):
        monkeypatch.setattr(balanced_mse, "_MOST_CELLS", cells)
        loss, there = LOSSES[name](sigma=1.5, learn=learn).double(), outputs.clone().requires_grad_()
        value = loss(there, targets, weights)
        value.backward()
        results.append((value.detach(), there.grad, loss.log_sigma.grad if learn else torch.zeros(())))
    torch.testing.assert_close(results[0], results[1])
    expected = twin_of(name, outputs.reshape(-1), targets.reshape(-1), 1.5, weights)
    assert results[0][0].item() == pytest.approx(expected, rel=1e-5)


def test_labels_far_from_zero_lose_no_digits():
    outputs, targets, _ = example(d=2)
    assert BMC()(outputs.float() + 1e4, targets.float() + 1e4).item() == pytest.approx(BMC()(outputs, targets).item(), rel=1e-2)


@pytest.mark.parametrize("far", [1e4, 1e6])
@pytest.mark.parametrize(
    "loss",
    [BMC(), GAI([0.0, 0.0], [1.0, 1.0], [0.5, 0.5]), BNI([0.0, 1e-9, 4.0], [0.5, 0.3, 0.2]), BMC(noise="laplace")],
    ids=["bmc", "gai", "bni", "bmc laplace"],
)
def test_far_from_equal_labels_the_gradient_in_float32_is_that_in_float64(loss, far):
    """Terms of 10^8 and more swallow the logarithm of how many are equal; their shares must sum to 1 all the same."""
    slopes = []
    for dtype in (torch.float32, torch.float64):
        there = torch.tensor([far, -far, 3.0], dtype=dtype, requires_grad=True)
        loss(there, torch.zeros(3)).backward()
        slopes.append(there.grad.double())
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-6 * far)


def test_bmc_says_that_it_needs_the_whole_batch():
    assert BMC.whole_batch is True
    assert not hasattr(GAI, "whole_batch")


# the fits


def skewed(count=1600, seed=0):
    random = np.random.default_rng(seed)
    return np.concatenate([random.normal(10, 1, count), random.normal(30, 4, count // 4), random.normal(60, 2, count // 16)])


def test_the_mixture_of_labels_is_that_of_scikit_learn():
    mixture = pytest.importorskip("sklearn.mixture")
    labels = skewed()
    theirs = mixture.GaussianMixture(3, random_state=0, tol=1e-8, max_iter=1000).fit(labels[:, None])
    ours = GAI.fit(labels, components=3)
    order, other = np.argsort(ours.means[:, 0].numpy()), np.argsort(theirs.means_[:, 0])
    np.testing.assert_allclose(ours.means[order, 0], theirs.means_[other, 0], rtol=1e-3)
    np.testing.assert_allclose(ours.variances[order, 0, 0], theirs.covariances_[other, 0, 0], rtol=1e-2)
    np.testing.assert_allclose(ours.log_probabilities.exp()[order], theirs.weights_[other], rtol=1e-3)


def test_the_mixture_of_two_outputs_is_that_of_scikit_learn():
    mixture = pytest.importorskip("sklearn.mixture")
    random = np.random.default_rng(0)
    labels = np.concatenate([random.normal(size=(900, 2)) @ [[1, 0.5], [0, 2]], [9, 4] + random.normal(size=(300, 2))])
    theirs = mixture.GaussianMixture(2, random_state=0, tol=1e-8, max_iter=1000).fit(labels)
    ours = GAI.fit(labels, components=2)
    order, other = np.argsort(ours.means[:, 0].numpy()), np.argsort(theirs.means_[:, 0])
    np.testing.assert_allclose(ours.means[order], theirs.means_[other], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(ours.variances[order], theirs.covariances_[other], rtol=1e-2, atol=1e-2)


def test_counts_at_bin_centres_fit_as_the_labels_they_stand_for():
    bins = Bins.uniform(0, 80, 160)
    counts = bins.counts(skewed())
    of_counts = GAI.fit(bins=bins, counts=counts, components=3)
    of_labels = GAI.fit(np.repeat(bins.centers, counts), components=3)
    for name in ("means", "variances", "log_probabilities"):
        torch.testing.assert_close(getattr(of_counts, name), getattr(of_labels, name))
    millions = GAI.fit(bins=bins, counts=counts * 2_000_000, components=3)  # 4.2 billion, more than 32 bits hold
    torch.testing.assert_close(millions.means, of_counts.means)
    torch.testing.assert_close(millions.log_probabilities, of_counts.log_probabilities)


def test_the_fit_follows_its_seed_and_the_unit_of_the_labels():
    labels = skewed(400)
    first, again = GAI.fit(labels, components=4, seed=4), GAI.fit(labels, components=4, seed=4)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    metres = GAI.fit(labels / 1000 + 5, components=4, seed=4)
    torch.testing.assert_close((metres.means - 5) * 1000, first.means, rtol=1e-3, atol=1e-2)


def test_constant_labels_are_one_component_and_stay_finite():
    loss = GAI.fit(np.full(20, 7.0), components=1)
    assert loss(PREDS, Y).isfinite()
    assert loss.means.tolist() == [[7.0]]


def test_the_histogram_may_be_smoothed_and_empty_bins_weigh_nothing():
    bins, counts = Bins.uniform(0, 8, 4), np.array([40, 0, 20, 40])
    plain = BNI.fit(bins, counts)
    assert plain.centers[:, 0].tolist() == [1, 3, 5, 7]
    np.testing.assert_allclose(plain.log_probabilities.exp(), [0.4, 0, 0.2, 0.4], rtol=1e-6)
    there = PREDS.clone().requires_grad_()
    plain(there, Y).backward()
    assert there.grad.isfinite().all()
    smooth = BNI.fit(bins, counts, lds=True, ks=3, lds_sigma=1, boundary="zeros")
    density = effective_density(counts, ks=3, sigma=1, boundary="zeros")
    np.testing.assert_allclose(smooth.log_probabilities.exp(), density / density.sum(), rtol=1e-6)
    expected = twin.bni(PREDS.tolist(), Y.tolist(), plain.centers.tolist(), (density / density.sum()).tolist(), 1.0)
    assert smooth(PREDS, Y).item() == pytest.approx(expected, rel=1e-6)


# what is refused


def test_a_batch_too_small_for_bmc_is_refused():
    with pytest.raises(ValueError, match="BMC: expected a batch of at least 2 rows, found 1"):
        BMC()(torch.ones(1, 1), torch.ones(1, 1))


@every_loss
@pytest.mark.parametrize(
    ("outputs", "targets"),
    [((4,), (3,)), ((4, 1), (1, 4)), ((4, 2), (4,)), ((4, 2), (4, 1)), ((), ()), ((0, 1), (0, 1)), ((4, 5), (4, 4))],
)
def test_shapes_that_would_broadcast_are_refused(name, outputs, targets):
    with pytest.raises(ValueError, match="does not fit outputs|expected"):
        LOSSES[name]()(torch.ones(outputs), torch.ones(targets))


@every_loss
def test_weights_of_another_shape_are_refused(name):
    with pytest.raises(ValueError, match="weights: shape"):
        LOSSES[name]()(PREDS, Y, torch.ones(4))


def test_dense_maps_for_bmc_and_outputs_the_density_lacks_are_refused():
    with pytest.raises(ValueError, match="BMC: outputs: .*sample pixels as rows, or use GAI or BNI"):
        BMC()(torch.ones(2, 1, 3, 3), torch.ones(2, 1, 3, 3))
    with pytest.raises(ValueError, match="GAI: outputs: .*its density is over 1 outputs"):
        GAI(*MIXTURE)(torch.ones(4, 2), torch.ones(4, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BMC(0), "sigma: expected a finite number above 0"),
        (lambda: BMC(float("nan"), learn=True), "sigma: expected a finite number above 0"),
        (lambda: BMC(lr=0), "lr: expected"),
        (lambda: BMC(noise="uniform"), "noise: expected one of gaussian, laplace, found 'uniform'"),
        (lambda: GAI([1, 2], [1, -1], [0.5, 0.5]), "variances: expected finite numbers, none negative"),
        (lambda: GAI([1, 2], [1], [0.5, 0.5]), "variances: expected shape"),
        (lambda: GAI([1, np.nan], [1, 1], [0.5, 0.5]), "means: expected finite numbers"),
        (lambda: BNI([1, 2], [0.5, 0.6]), "probabilities: expected non-negative numbers with sum 1, found sum 1.1"),
        (lambda: BNI([1, 2], [1.5, -0.5]), "probabilities: expected non-negative"),
        (lambda: BNI([1, 2], [1.0]), "probabilities: expected shape"),
        (lambda: BNI(np.zeros((2, 3)), [0.5, 0.5]), "centers: expected at most 2 outputs, found 3"),
        (lambda: BNI.fit(Bins.uniform(0, 1, 3), [1, 2]), "counts: expected one for each of the 3 bins"),
        (lambda: BNI.fit(Bins.uniform(0, 1, 2), [0, 0]), "counts: expected finite non-negative counts"),
        (lambda: GAI.fit(), "labels: expected either labels, or bins and counts"),
        (lambda: GAI.fit([1.0], counts=[1]), "labels: expected either labels, or bins and counts"),
        (lambda: GAI.fit([1.0, np.nan]), "labels: expected finite numbers"),
        (lambda: GAI.fit([1.0, 2.0, 2.0], components=3), "components: expected a whole number from 1 to the 2 distinct labels"),
        (lambda: GAI.fit(bins=Bins.uniform(0, 1, 2), counts=[-1, 2], components=1), "counts: expected 2 finite non-negative"),
    ],
)
def test_bad_arguments_are_refused_with_their_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
