"""NYUD2-DIR's parts: bins and weights, transforms, model, data, metrics of a dense loop. Folder modules run in subprocesses."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from commands import ROOT, execute, run_program
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from imbalanced_regression import Bins, DepthMetrics, Regressor
from imbalanced_regression.training import Pixels, runtime
from imbalanced_regression.training.loaders import Shard, make_loader

NYU = ROOT / "nyud2-dir"
SMALL = ["--scenes", "3", "--frames", "3", "--test", "4", "--height", "32", "--width", "44"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nyud2") / "sample"
    said = execute(["make_sample.py", *SMALL, "--out", folder], NYU)
    assert "9 training images of 3 scenes, 4 test images" in said
    return folder


def test_weights_bins_and_fds():
    """One process for what needs the folder's modules and no data: they take seconds to import."""
    run_program("nyud2_weights", NYU)


def test_every_transform_moves_image_and_depth_together():
    """The picture's red is a function of its depth; after each transform it still is, up to resampling."""
    run_program("nyud2_transforms", NYU)


def test_the_model_has_the_published_names_and_shapes():
    run_program("nyud2_model", NYU)


def test_a_published_checkpoint_with_numpy_scalars_is_measured(sample, tmp_path):
    run_program("nyud2_published", NYU, tmp_path / "published.pth.tar")
    said = execute(["test.py", "--eval_model", tmp_path / "published.pth.tar", "--data_dir", sample, "--model", "resnet18",
                    "--height", "32", "--width", "44", "--workers", "0"], NYU)
    assert "RMSE" in said
    assert "delta1" in said


def test_draws_follow_from_seed_epoch_and_index_and_disturb_no_one(sample):
    run_program("nyud2_draws", NYU, sample)


def test_pairs_kept_resized_are_the_pairs(sample, tmp_path):
    run_program("nyud2_cache", NYU, shutil.copytree(sample, tmp_path / "data"), tmp_path / "cache")


def test_preprocessing_gives_itself_back_and_the_mask_is_balanced(sample, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(sample, again)
    files = ("train_bucket_num.txt", "nyu2_train_FDS_subset.csv", "test_balanced_mask.npy")
    for name in files:
        (again / name).unlink()
    execute(["preprocess_nyud2.py", "--data_dir", again, "--height", "32", "--width", "44", "--pairs", "8"], NYU)
    for name in files:
        assert (again / name).read_bytes() == (sample / name).read_bytes(), name
    assert "is there already" in execute(["preprocess_nyud2.py", "--data_dir", again, "--mask"], NYU)
    mask = np.load(sample / "test_balanced_mask.npy")
    assert mask.shape == (4, 32, 44)
    assert mask.dtype == np.uint8
    run_program("nyud2_mask", NYU, sample)


# -- bad input: an error of one line with file and row ---------------------------------------------------------------


def spoiled(sample, tmp_path, change):
    folder = tmp_path / "data"
    shutil.copytree(sample, folder)
    change(folder)
    return folder


def second_row(text: str):
    def change(folder):
        rows = (folder / "nyu2_test.csv").read_text().splitlines()
        (folder / "nyu2_test.csv").write_text("\n".join([rows[0], text, *rows[2:]]))
    return change


def depth_file(values, where="nyu2_test/00001_depth.png"):
    return lambda folder: Image.fromarray(values).save(folder / where)


def masked(make):
    return lambda folder: np.save(folder / "test_balanced_mask.npy", make(np.load(folder / "test_balanced_mask.npy")))


def unbalanced(mask):
    mask[:, :, :] = 1
    return mask


TEST = "nyu2_test.csv, row 2: "
BAD = {
    "missing": (second_row("data/nyu2_test/9_colors.png,data/nyu2_test/00001_depth.png"), TEST + "the image .* is missing"),
    "fields": (second_row("data/nyu2_test/00001_colors.png"), TEST + "expected an image and a depth path, found 1"),
    "outside": (second_row("data/../x.png,data/nyu2_test/00001_depth.png"), TEST + "the path is 'data/../x.png', not data"),
    "absolute": (second_row("/etc/passwd,data/nyu2_test/00001_depth.png"), TEST + "the path is '/etc/passwd', not data"),
    "depth of 8 bits": (depth_file(np.full((68, 91), 9, np.uint8)), TEST + "the depth file .* is of mode L, expected 16-bit"),
    "depth all zero": (depth_file(np.zeros((68, 91), np.uint16)), TEST + "the depth file .* is all zero"),
    "no picture": (lambda f: (f / "nyu2_test/00001_depth.png").write_bytes(b"x"), TEST + ".*depth.png cannot be read"),
    "mask shape": (masked(lambda mask: mask[:3]), r"has shape \(3, 32, 44\); nyu2_test.csv .* \(4, 32, 44\)"),
    "mask values": (masked(lambda mask: mask * 7), "image 1 holds other values than 0 and 1"),
    "mask of another test set": (masked(unbalanced), "not balanced: it is of another test set"),
    "mask where no depth is": (depth_file(np.pad(np.full((2, 2), 900, np.uint16), ((0, 66), (0, 89)))),
                               TEST + "test_balanced_mask.npy marks pixels without depth; it is of another test set"),
    "size": (lambda f: Image.new("RGB", (9, 9)).save(f / "nyu2_test/00001_colors.png"), TEST + ".* differ in size: 9x9 and"),
}


def test_bad_input_is_named_with_file_and_row(sample, tmp_path):
    """All in one process, as its start takes longer than a check."""
    cases = []
    for number, (name, (change, words)) in enumerate(BAD.items()):
        cases.append((name, str(spoiled(sample, tmp_path / str(number), change)), words))
    run_program("nyud2_bad_input", NYU, repr(cases))


def test_errors_of_the_scripts_are_one_line(sample, tmp_path):
    small = ["--height", "32", "--width", "44", "--no_imagenet", "--model", "resnet18", "--store_root", tmp_path / "runs"]
    folder = spoiled(sample, tmp_path, depth_file(np.full((68, 91, 3), 9, np.uint8), "nyu2_train/sample_room_0001_out/1.png"))
    for flags, words in (
        (["--data_dir", tmp_path / "none"], "nyu2_train.csv is missing; python download_nyud2.py"),
        (["--data_dir", sample, "--bucket_counts", sample / "nyu2_test.csv"], "expected 100 whole numbers, a line each"),
        (["--data_dir", folder, "--workers", "1", "--select_on", "test"],
         "nyu2_train.csv, row 4: the depth file " + str(folder)),
    ):
        said = execute(["train.py", *small, *flags], NYU, code=2)
        lines = [line for line in said.splitlines() if "error: " in line]
        assert len(lines) == 1, said
        assert words in lines[0]
        assert "Traceback" not in said


# -- the loop over pixels ----------------------------------------------------------------------------------------------


class Maps(Dataset):
    """Images whose depth is their first channel at twice the size, under a mask."""

    def __init__(self, count: int):
        random = np.random.default_rng(0)
        self.inputs = random.uniform(0.5, 9, (count, 1, 4, 5)).astype(np.float32)
        self.targets = random.uniform(0.5, 9, (count, 1, 8, 10)).astype(np.float32)
        self.masks = (random.random((count, 1, 8, 10)) < 0.6).astype(np.float32)

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, i):
        return self.inputs[i], self.targets[i], self.masks[i]


def accumulator() -> DepthMetrics:
    return DepthMetrics(Bins.uniform(0, 10, 5), ["few", "many", "many", "medium", "few"])


class Ranks(runtime.Runtime):
    """A rank whose `gather` is answered from what the others were seen to send."""

    def gather(self, value):
        SENT.append(value)
        return list(SENT)


SENT: list = []


def test_pixels_measured_by_batches_and_ranks_equal_all_at_once():
    data = Maps(7)
    model = Regressor(nn.Identity(), nn.Identity())
    preds = nn.functional.interpolate(torch.from_numpy(data.inputs), (8, 10), mode="bilinear", align_corners=True)
    whole = accumulator()
    whole.update(preds, data.targets, data.masks)
    expected = whole.compute()

    def measure(here, batch, rank=0, world=1):
        loader = make_loader(data, Shard(range(7), batch, rank=rank, world=world), here, workers=0)
        return Pixels(accumulator)(model, loader, here, "test")

    for batch in (1, 3, 7):
        found, rows = measure(runtime.Runtime(), batch)
        for group in ("overall", "many", "medium", "few", "balanced"):
            assert found[group] == pytest.approx(expected[group], rel=1e-12), group
        error = [np.sqrt(((preds[i].numpy() - data.targets[i])[data.masks[i] > 0] ** 2).mean()) for i in range(7)]
        np.testing.assert_allclose(rows["rmse"], error, rtol=1e-5)
        assert rows["count"].tolist() == data.masks.sum((1, 2, 3)).tolist()
    one, alone = measure(runtime.Runtime(), 3)
    SENT.clear()
    for rank in range(3):
        found, rows = measure(Ranks(rank=rank, world=1), 2, rank, 3)
    assert found["overall"] == pytest.approx(one["overall"], rel=1e-12)
    for name in rows:
        np.testing.assert_array_equal(rows[name], alone[name])
    # the root of the mean over all pixels, not the mean of the images' roots
    assert one["overall"]["rmse"] != pytest.approx(alone["rmse"].mean(), rel=1e-4)
