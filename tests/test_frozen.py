"""The second stage on rows of a frozen encoder's features: what it trains is what the whole model's head would learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import toy
from commands import ROOT, from_folder
from torch import nn
from torch.utils.data import Dataset

from imbalanced_regression import Regressor, choices
from imbalanced_regression.faces.dataset import AgeDataset
from imbalanced_regression.training import Splits
from imbalanced_regression.training.frozen import resampled
from imbalanced_regression.training.model import FEATURES
from imbalanced_regression.training.runtime import Runtime

HOW = {"batch_size": 16, "workers": 0, "seed": 3, "runtime": Runtime()}


def same(rows, labels):
    return rows, labels


def pretrained(folder, *, dropout: float = 0.0):
    _, model = toy.run(folder, model=toy.make_model(fds=False, dropout=dropout), epochs=1)
    return str(folder / "ckpt.best.pth.tar"), model


@pytest.mark.parametrize("fds", [False, True])
def test_rows_that_are_not_resampled_train_the_head_as_the_frozen_encoder_does(tmp_path, fds):
    path, trained = pretrained(tmp_path / "first")
    changes = {"retrain_fc": True, "pretrained": path, "epochs": 3}
    _, plain = toy.run(tmp_path / "plain", model=toy.make_model(fds=fds, dropout=0), **changes)
    splits, values = resampled(trained, toy.make_splits(), same, lambda labels: toy.make_splits().train.weights, **HOW)
    assert np.array_equal(values, toy.make_splits().train.targets[:, 0])
    _, by_rows = toy.run(tmp_path / "rows", model=toy.make_model(fds=fds, dropout=0), splits=splits, **changes)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(by_rows.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_the_training_rows_alone_are_resampled_and_weighed_anew(tmp_path):
    _, model = pretrained(tmp_path / "first", dropout=0.5)
    before = toy.make_splits()
    smogn = choices.RESAMPLES["smogn"]({"seed": 0})
    one, two = (resampled(model, before, smogn, lambda labels: 2 + labels, **HOW) for _ in range(2))
    splits, labels = one
    assert (splits.val, splits.test) == (before.val, before.test)
    assert len(splits.train) == len(labels)
    assert not np.array_equal(np.sort(labels), np.sort(before.train.targets[:, 0]))
    inputs, target, weight = splits.train[4]
    assert inputs[FEATURES].shape == (6,)
    assert target.item() == pytest.approx(labels[4])
    assert weight.item() == pytest.approx(2 + labels[4])
    assert torch.equal(one[0].train.features, two[0].train.features)  # a dropout of 0.5 plays no part


class Maps(Dataset):
    """Images (2, 7, 9) with a label (1, 7, 9) for some of their pixels."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        random = np.random.default_rng(i)
        image, depth = random.normal(size=(2, 7, 9)), random.uniform(1, 9, (1, 7, 9))
        return image.astype(np.float32), depth.astype(np.float32), (random.random((1, 7, 9)) < 0.6).astype(np.float32)


def test_a_row_of_a_dense_label_is_what_the_head_sees_of_that_pixel():
    torch.manual_seed(0)
    encoder, neck = nn.Conv2d(2, 3, 3, padding=1), nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
    model = Regressor(encoder, nn.Conv2d(4, 1, 5, padding=2), neck=neck)
    data = Maps()
    splits, labels = resampled(model, Splits(data, data, data), same, lambda labels: np.full(len(labels), 3.0), **HOW)
    model.eval()
    found = {}
    for i in range(4):
        image, depth, known = (torch.tensor(part) for part in data[i])
        preds, _ = model(image[None])
        found.update(zip(depth[known > 0].tolist(), preds[0][known > 0].tolist()))
    assert len(labels) == len(found) == len(splits.train)
    for row in splits.train:
        inputs, target, weight = row
        pred, _ = model({FEATURES: inputs[FEATURES][None]})
        assert weight.mean().item() == pytest.approx(3)
        assert weight.count_nonzero() == 1
        at = weight > 0
        assert pred[0][at].item() == pytest.approx(found[target[at].item()], abs=1e-5)
    assert not any(p.requires_grad for p in model.neck.parameters())


def test_faces_are_looked_at_without_crops_and_flips(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    data = AgeDataset([tmp_path / "a.png"], [30], img_size=40, train=True, padding=8)
    plain = AgeDataset([tmp_path / "a.png"], [30], img_size=40)
    assert torch.equal(data.as_they_are()[0][0], plain[0][0])
    views = []
    for epoch in range(3):
        data.set_epoch(epoch)
        views.append(data[0][0])
    assert not all(torch.equal(view, plain[0][0]) for view in views)


def test_pixel_rows_are_weighed_by_their_own_counts():
    utils = from_folder("nyud2-dir", "utils")
    depths = np.array([1.05, 1.06, 1.02, 5.5])
    weights = utils.row_weights(depths, "inverse", False)
    np.testing.assert_allclose(weights, [2 / 3, 2 / 3, 2 / 3, 2])


def test_every_benchmark_but_the_table_has_the_second_stage():
    for folder in ROOT.glob("*-dir"):
        assert ("published=" in (folder / "train.py").read_text()) != (folder.name == "uci-dir"), folder
