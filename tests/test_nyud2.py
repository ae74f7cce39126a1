"""NYUD2-DIR's parts: bins and weights, transforms, model, data, metrics of a dense loop. Folder modules run in subprocesses."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from commands import ROOT, execute
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from imbalanced_regression import Bins, DepthMetrics, Regressor
from imbalanced_regression.training import Pixels, runtime
from imbalanced_regression.training.loaders import Shard, make_loader

NYU = ROOT / "nyud2-dir"
SMALL = ["--scenes", "3", "--frames", "3", "--test", "4", "--height", "32", "--width", "44"]


def python(code: str, *words) -> str:
    """Run code in the folder, warnings being errors."""
    return execute(["-W", "error", "-c", code, *words], NYU)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nyud2") / "sample"
    said = execute(["make_sample.py", *SMALL, "--out", folder], NYU)
    assert "9 training images of 3 scenes, 4 test images" in said
    return folder


def test_weights_bins_and_fds():
    """One process for what needs the folder's modules and no data: they take seconds to import."""
    python("""
import numpy as np, torch
from scipy.ndimage import convolve1d
from utils import BINS, SHOTS, bucket_weights, pixel_bins, pixel_weights, read_counts, get_lds_kernel_window
from fds import FDS

# bins are the published product, to the bit: at and beside every edge, at every 8-bit and 16-bit depth, and anywhere
edges = BINS.edges.astype(np.float32)
depths = np.concatenate([edges, np.nextafter(edges, np.float32(0)), np.nextafter(edges, np.float32(99)),
    np.arange(256, dtype=np.float32) / np.float32(255) * np.float32(10), np.arange(12000, dtype=np.float32) / np.float32(1000),
    np.random.default_rng(0).uniform(0, 11, 10**5).astype(np.float32)])
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
dense.observe(features, labels); dense.finish_epoch(0)
known = labels.reshape(-1) > 0
flat.observe(features.movedim(1, -1).reshape(-1, 3)[known], labels.reshape(-1)[known]); flat.finish_epoch(0)
assert torch.equal(dense.running_mean, flat.running_mean) and torch.equal(dense.running_var, flat.running_var)
assert dense.num_samples_tracked.sum() == known.sum() and dense.running_mean.shape == (93, 3) and dense.clip == (0.2, 5.0)
""")


def test_every_transform_moves_image_and_depth_together():
    """The picture's red is a function of its depth; after each transform it still is, up to resampling."""
    python("""
import torch
from torchvision import tv_tensors
from nyu_transform import Lighting, Scale, nearest, train_transform, eval_transform, MEAN, STD
from torchvision.transforms import v2

H, W = 96, 128
y, x = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
depth = (60 + 0.8 * x + 0.5 * y).round().to(torch.uint8)[None]  # a slope: neighbours differ by at most 1
image = torch.cat([depth, 255 - depth, depth // 2])
pair = tv_tensors.Image(image), tv_tensors.Mask(depth)

def apart(image, depth, edge=2):
    image, depth = image.as_subclass(torch.Tensor), depth.as_subclass(torch.Tensor)
    red = image[0].float() * (1 if image.dtype == torch.uint8 else 255)
    inside = depth[0] > 0
    inside = -torch.nn.functional.max_pool2d(-inside[None].float(), 2 * edge + 1, 1, edge)[0] > 0  # off the rotation's border
    assert inside.float().mean() > 0.5
    inside[:edge], inside[-edge:], inside[:, :edge], inside[:, -edge:] = False, False, False, False  # and off the picture's
    return float((red - depth[0].float()).abs()[inside].max())

for seed in range(4):
    torch.manual_seed(seed)
    for transform in (Scale(48), Scale(96), v2.RandomHorizontalFlip(1), v2.CenterCrop((57, 77)),
                      v2.RandomRotation(5, v2.InterpolationMode.BILINEAR, fill=None),
                      v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True)):
        moved = transform(*pair)
        assert apart(*moved) <= 3, transform
        assert moved[0].shape[-2:] == moved[1].shape[-2:]
    whole = train_transform(57, 76, lighting=0, jitter=0)
    moved = whole(*pair)
    assert moved[0].shape == (3, 57, 76) and moved[1].shape == (1, 57, 76) and moved[1].dtype == torch.uint8
    raw = moved[0].as_subclass(torch.Tensor) * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    assert apart(raw, moved[1]) <= 4
    for color in (Lighting(0.1), v2.ColorJitter(0.4, 0.4, 0.4), v2.Normalize(MEAN, STD)):
        floats = tv_tensors.Image(image / 255)
        changed, same = color(floats, pair[1])
        assert torch.equal(same, pair[1]) and not torch.equal(changed, floats), color
assert set(nearest(depth, (57, 33)).unique().tolist()) <= set(depth.unique().tolist())
# the middle of each block, as Pillow takes it
assert nearest(torch.arange(8)[None], (1, 4)).tolist() == [[1, 3, 5, 7]]
assert eval_transform(57, 77)(*pair)[0].shape == (3, 57, 77)  # odd sizes
""")


def test_the_model_has_the_published_names_and_shapes():
    python("""
import torch
from imbalanced_regression.training import checkpoint
from models.net import PUBLISHED_TO_OURS, DepthEncoder, make_model
from nyu_transform import output_size

with torch.device("meta"):
    model = make_model("resnet50", fds=True)
names = checkpoint.published_names(model.state_dict(), PUBLISHED_TO_OURS)
assert all(name.startswith(("module.E.", "module.D.", "module.MFF.", "module.R.")) for name in names)
shapes = {name: tuple(value.shape) for name, value in names.items()}
for name, shape in {
    "module.E.conv1.weight": (64, 3, 7, 7), "module.E.layer4.2.conv3.weight": (2048, 512, 1, 1),
    "module.D.conv.weight": (1024, 2048, 1, 1), "module.D.bn.weight": (1024,),
    "module.D.up1.conv1.weight": (512, 1024, 5, 5), "module.D.up1.conv1_2.weight": (512, 512, 3, 3),
    "module.D.up4.conv2.weight": (64, 128, 5, 5), "module.D.up4.bn1_2.running_var": (64,),
    "module.MFF.up1.conv1.weight": (16, 256, 5, 5), "module.MFF.up4.conv2.weight": (16, 2048, 5, 5),
    "module.MFF.conv.weight": (64, 64, 5, 5), "module.R.conv0.weight": (128, 128, 5, 5), "module.R.bn1.bias": (128,),
    "module.R.conv1.weight": (128, 128, 5, 5), "module.R.conv2.weight": (1, 128, 5, 5), "module.R.conv2.bias": (1,),
    "module.R.FDS.running_mean": (93, 128), "module.R.FDS.num_samples_tracked": (93,),
}.items():
    assert shapes[name] == shape, (name, shapes.get(name))
biases = [n for n in names if n.endswith("bias") and not any(part in n for part in (".bn", "downsample"))]
assert biases == ["module.R.conv2.bias"]
for bare in (False, True):  # with and without DataParallel's prefix
    read = checkpoint.state_dict_of({n.removeprefix("module.") if bare else n: v for n, v in names.items()}, PUBLISHED_TO_OURS)
    assert read.keys() == model.state_dict().keys()

# sizes: odd ones as well; RRT re-trains all of R and nothing else
assert output_size(228, 304) == (114, 152)
small = make_model("resnet18", fds=True)
for height, width in ((37, 53), (32, 44)):
    preds, features = small(torch.randn(2, 3, height, width))
    assert preds.shape == (2, 1, *output_size(height, width)) and features.shape == (2, 80, *output_size(height, width))
small.freeze_encoder()
learn = {name.split(".")[0] for name, p in small.named_parameters() if p.requires_grad}
assert learn == {"neck", "head"}
small.train()
assert not small.encoder.D.bn.training and small.neck.bn0.training
before = {name: value.clone() for name, value in small.state_dict().items()}
other = make_model("resnet18", fds=True)
published = checkpoint.published_names(before, PUBLISHED_TO_OURS)
checkpoint.load_model(other, {"state_dict": published}, renames=PUBLISHED_TO_OURS, encoder_only=True)
same = {name for name, value in other.state_dict().items() if torch.equal(value, before[name])}
assert all(name in same for name in before if name.startswith("encoder."))
assert "neck.conv0.weight" not in same and "head.weight" not in same
""")


def test_a_published_checkpoint_with_numpy_scalars_is_measured(sample, tmp_path):
    python("""
import sys, numpy as np, torch
from imbalanced_regression.training import checkpoint
from models.net import PUBLISHED_TO_OURS, make_model
torch.manual_seed(0)
state = checkpoint.published_names(make_model("resnet18", fds=True).state_dict(), PUBLISHED_TO_OURS)
torch.save({"state_dict": state, "epoch": 7, "error": np.float64(1.3), "metric": {"RMSE": np.float32(1.3)}}, sys.argv[1])
""", tmp_path / "published.pth.tar")
    said = execute(["test.py", "--eval_model", tmp_path / "published.pth.tar", "--data_dir", sample, "--model", "resnet18",
                    "--height", "32", "--width", "44", "--workers", "0"], NYU)
    assert "RMSE" in said
    assert "delta1" in said


def test_draws_follow_from_seed_epoch_and_index_and_disturb_no_one(sample):
    python("""
import sys, torch
from loaddata import DepthDataset, read_pairs, held_out, scene
from utils import bucket_weights
pairs = read_pairs(sys.argv[1], "nyu2_train.csv")
make = lambda: DepthDataset(pairs, 32, 44, table=bucket_weights("inverse", True), half=True, augment=True, seed=4)
one, two = make(), make()
torch.manual_seed(1); a = torch.rand(3)
torch.manual_seed(1); one.set_epoch(3); first = one[5]; b = torch.rand(3)
assert torch.equal(a, b)  # the global state is as it was
two.set_epoch(2); other = two[5]; two[1]; two.set_epoch(3); again = two[5]
assert all(torch.equal(x, y) for x, y in zip(first, again)) and not torch.equal(first[0], other[0])
image, depth, weights = first
assert image.shape == (3, 32, 44) and depth.shape == weights.shape == (1, 16, 22) and image.dtype == torch.float32
assert ((weights == 0) == (depth == 0)).all() and depth.max() <= 10
out = held_out(pairs, 0.05, 1)
names = [scene(path) for path in pairs.images]
assert 0 < out.sum() < len(out) and (held_out(pairs, 0.05, 1) == out).all()
assert not {n for n, o in zip(names, out) if o} & {n for n, o in zip(names, out) if not o}
assert scene("x/bookstore_0001d_out/1.jpg") == scene("x/bookstore_0001f_out/9.jpg") == "bookstore_0001"
""", sample)


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
    python("""
import sys, numpy as np
from loaddata import DepthDataset, read_pairs, read_mask
from utils import BINS
data = DepthDataset(read_pairs(sys.argv[1], "nyu2_test.csv"), 32, 44, "16-bit", mask=read_mask(sys.argv[1], 4, 32, 44))
marked, every = np.zeros(100, int), np.zeros(100, int)
for _, depth, weights in (data[i] for i in range(4)):
    assert depth.shape == weights.shape == (1, 32, 44)
    marked += BINS.counts(depth[weights > 0].numpy()); every += BINS.counts(depth.reshape(-1).numpy())
present = every[every > 0]
assert (marked[every > 0] == present.min()).all(), marked
""", sample)


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
    python("""
import ast, re, sys
from loaddata import *
from utils import BINS
for name, folder, words in ast.literal_eval(sys.argv[1]):
    try:
        pairs = read_pairs(folder, "nyu2_test.csv")
        data = DepthDataset(pairs, 32, 44, "16-bit", mask=read_mask(folder, len(pairs), 32, 44))
        check_test(data, BINS)
        data[1]
        raise SystemExit(f"{name}: no error")
    except (ValueError, OSError) as error:
        assert re.search(words, str(error)), (name, str(error))
        assert "\\n" not in str(error)
""", repr(cases))


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
