"""Faces and ages: what bad input gets, which pixels come out, what does not depend on processes, and the published split."""

from __future__ import annotations

import csv
import hashlib
import os
import pickle
import runpy
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from commands import ROOT
from PIL import Image
from scipy.io import savemat
from torch.utils.data import DataLoader
from torchvision import models
from torchvision.transforms import functional as plain

from imbalanced_regression import cache as cache_file
from imbalanced_regression.faces import dataset as age
from imbalanced_regression.faces import drawn as faces
from imbalanced_regression.faces.ages import AGE_BINS
from imbalanced_regression.faces.dataset import AgeDataset
from imbalanced_regression.faces.pixels import crop_and_flip, load_face
from imbalanced_regression.faces.resnet import ResNetEncoder, normalize
from imbalanced_regression.faces.table import preprocess, read_age_csv, split_by_age, write_csv
from imbalanced_regression.images import RESNETS, BadImage


def photo(path: Path, width: int = 90, height: int | None = None, seed: int = 0, **save) -> Path:
    """A drawn face, squeezed to the size asked for."""
    face = faces.draw_face(40, "f", np.random.default_rng(seed), 120)
    path.parent.mkdir(parents=True, exist_ok=True)
    face.resize((width, height or width)).save(path, **save)
    return path


@pytest.fixture
def folder(tmp_path):
    """Nine images in two folders, three to a split, and their csv."""
    rows = []
    for i, split in enumerate(["train", "val", "test"] * 3):
        path = f"{'ab'[i % 2]}/{i}.jpg"
        photo(tmp_path / path, 50, seed=i)
        rows.append((20 + i, path, split))
    write_csv(tmp_path / "faces.csv", ("age", "path", "split"), rows)
    return tmp_path


def read(folder: Path, **options):
    return read_age_csv(folder / "faces.csv", folder, **options)


# -- the csv -----------------------------------------------------------------------------------------------------------


def test_csv_is_read_into_three_splits(folder):
    splits = read(folder)
    assert {name: len(split) for name, split in splits.items()} == {"train": 3, "val": 3, "test": 3}
    assert splits["val"].ages.tolist() == [21, 24, 27]
    assert splits["val"].ages.dtype == np.float32
    assert splits["val"].lines.tolist() == [3, 6, 9]  # line 1 is the header
    assert splits["val"].paths == [str(folder / path) for path in ("b/1.jpg", "a/4.jpg", "b/7.jpg")]


@pytest.mark.parametrize("text", ["abc", "", "nan", "-1", "201", "inf", "1e999"])
def test_an_age_that_is_none_is_refused_with_its_line(folder, text):
    table = folder / "faces.csv"
    table.write_text(table.read_text().replace("23,", f"{text},"))
    with pytest.raises(ValueError, match=r"faces\.csv, line 5: age is .*not a number from 0 to 200"):
        read(folder)


@pytest.mark.parametrize(
    "path", ["../secret.jpg", "a/../../x.jpg", "/etc/x.jpg", "C:\\x.jpg", "..\\x.jpg", "a\\..\\..\\x.jpg", "\\\\h\\x", "", "."]
)
def test_a_path_that_leaves_the_folder_is_refused(folder, path):
    table = folder / "faces.csv"
    table.write_text(table.read_text().replace("b/3.jpg", path))
    with pytest.raises(ValueError, match=r"faces\.csv, line 5: path is .*not a file below"):
        read(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no column age, path, split; found: nothing"),
        ("age,path\n1,a/0.jpg\n", "no column split; found: age, path"),
        ("age,path,split\n1,a/0.jpg\n", "line 2 has 2 fields, not 3"),
        ("age,path,split\n1,a/0.jpg,train,4\n", "line 2 has 4 fields, not 3"),
        ("age,path,split\n1,a/0.jpg,dev\n", "line 2: split is 'dev', not one of train, val, test"),
        ("age,path,split\n1,a/0.jpg,train\n1,a/2.jpg,val\n", "no row belongs to the split test; HELP"),
        ("age,path,split\n", "no row belongs to the split train; HELP"),
        ('age,path,split\n1,"a/0.jpg,train\n', "unexpected end of data"),
        (b"age,path,split\n1,a/\0.jpg,train\n", "is no text"),
    ],
)
def test_a_malformed_csv_is_refused_by_name(folder, content, message):
    (folder / "faces.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as caught:
        read(folder, advice="HELP")
    assert "faces.csv" in str(caught.value)


def test_missing_csv_or_folder_says_how_to_get_it(folder):
    with pytest.raises(FileNotFoundError, match=r"nothing\.csv is missing; HELP"):
        read_age_csv(folder / "nothing.csv", folder, advice="HELP")
    with pytest.raises(FileNotFoundError, match="image folder .*nowhere is missing; HELP"):
        read_age_csv(folder / "faces.csv", folder / "nowhere", advice="HELP")


def test_missing_images_stop_before_training_unless_skipped(folder, caplog):
    (folder / "b/3.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"line 5: the image .*b/3\.jpg is missing \(1 of 9 are\); --skip_bad_images"):
        read(folder)
    splits = read(folder, skip_bad_images=True)
    assert (len(splits["train"]), splits["train"].dropped, splits["val"].dropped) == (2, 1, 0)
    assert "skipped 1 of 3 images" in caplog.text


def test_skip_bad_images_drops_and_counts_damaged_ones(folder, caplog):
    whole = (folder / "a/0.jpg").read_bytes()
    (folder / "a/0.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "b/3.jpg").write_bytes(b"no image")
    split = read(folder, skip_bad_images=True)["train"]
    assert (split.dropped, split.ages.tolist(), split.lines.tolist()) == (2, [26], [8])
    assert "a/0.jpg: cannot be read" in caplog.text
    (folder / "a/6.jpg").unlink()
    with pytest.raises(ValueError, match="all 3 images of the split train are missing or damaged"):
        read(folder, skip_bad_images=True)


def test_ages_above_120_share_its_bin():
    assert AGE_BINS.count == 121
    assert AGE_BINS.index([0, 0.9, 1, 35, 119.5, 120, 121, 186]).tolist() == [0, 0, 1, 35, 119, 120, 120, 120]
    with pytest.raises(ValueError, match="NaN"):
        AGE_BINS.index([1, float("nan")])


# -- images ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(90, 90), (64, 64), (100, 60), (127, 110), (40, 30)])
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_pixels_equal_pillows_to_within_two_levels(tmp_path, size, kind):
    path = photo(tmp_path / f"x.{kind}", *size)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)).astype(int)
    found = load_face(path, 64)
    assert found.shape == (3, 64, 64)
    assert found.dtype == torch.uint8
    assert abs(found.permute(1, 2, 0).numpy() - expected).max() <= 2


def test_large_jpegs_are_decoded_smaller_with_nearly_the_same_pixels(tmp_path):
    path = photo(tmp_path / "x.jpg", 600, quality=90)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)).astype(int)
    difference = abs(load_face(path, 64).permute(1, 2, 0).numpy() - expected)
    assert difference.max() > 2  # decoded at a quarter
    assert difference.mean() < 1.5


@pytest.mark.parametrize(
    ("damage", "workers"), [("truncated", 0), ("empty", 0), ("text", 0), ("missing", 0), ("folder", 0), ("truncated", 1)]
)
def test_a_bad_image_stops_the_batch_with_its_path_on_one_line(folder, damage, workers):
    path = folder / "b/1.jpg"
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes({"truncated": whole[:-300], "empty": b"", "text": b"hello"}[damage])
    data = AgeDataset([folder / "a/0.jpg", path], [1, 2], img_size=32)
    with pytest.raises(ValueError, match=r"^\S+b/1\.jpg: (cannot be read|is missing)[^\n]*$"):
        next(iter(DataLoader(data, 2, num_workers=workers)))


def test_decompression_bombs_are_refused(tmp_path, monkeypatch):
    path = photo(tmp_path / "x.png", 90)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 90 * 90 - 1)  # here Pillow only warns ...
    with pytest.raises(BadImage, match=r"x\.png: cannot be read: .*limit of 8099"):
        load_face(path, 32)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 90 * 40)  # ... and above twice the limit refuses itself
    with pytest.raises(BadImage, match=r"x\.png: cannot be read: .*exceeds limit"):
        load_face(path, 32)


def test_a_bomb_is_refused_where_warnings_are_ignored(tmp_path, monkeypatch, recwarn):
    path = photo(tmp_path / "x.png", 90)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 90 * 90 - 1)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(BadImage, match="90x90 pixels, above the limit"):
            load_face(path, 32)


def test_crop_and_flip_are_those_of_the_padded_image():
    image = torch.randint(0, 256, (3, 24, 24), dtype=torch.uint8)
    padded = plain.pad(image, 16)
    for top in (-16, -3, 0, 5, 16):
        for left in (-16, -1, 0, 8, 16):
            expected = plain.crop(padded, 16 + top, 16 + left, 24, 24)
            assert torch.equal(crop_and_flip(image, top, left, False), expected)
            assert torch.equal(crop_and_flip(image, top, left, True), plain.hflip(expected))


def test_crop_shows_black_only_where_the_image_is_smaller_than_the_padding():
    tiny = torch.full((3, 8, 8), 9, dtype=torch.uint8)
    assert crop_and_flip(tiny, 16, 0, False).sum() == 0  # moved out altogether


def test_normalizing_on_the_device_equals_the_usual_transform():
    image = torch.arange(256, dtype=torch.uint8).repeat(3, 1, 1)
    expected = plain.normalize(image.float() / 255, [0.5] * 3, [0.5] * 3)
    assert torch.allclose(normalize(image), expected, atol=1e-6)
    assert torch.equal(normalize(expected), expected)  # floats are taken as normalised


# -- the data set ------------------------------------------------------------------------------------------------------


def dataset(folder: Path, **options) -> AgeDataset:
    paths = [folder / f"{'ab'[i % 2]}/{i}.jpg" for i in range(9)]
    return AgeDataset(paths, np.arange(9.0), np.linspace(0.5, 1.5, 9), **{"img_size": 32, "train": True, **options})


def test_an_item_is_image_age_and_weight(folder):
    for cache in (None, folder / "cache"):
        for train in (False, True):
            image, target, weight = dataset(folder, train=train, cache=cache)[4]
            assert (image.shape, image.dtype, image.is_contiguous()) == ((3, 32, 32), torch.uint8, True)
            assert (target.tolist(), target.dtype) == ([4.0], torch.float32)
            assert (weight.tolist(), weight.dtype) == ([1.0], torch.float32)
    with pytest.raises(ValueError, match="2 paths, 1 ages, 1 weights"):
        AgeDataset(["a", "b"], [1])


def test_augmentation_depends_on_seed_epoch_and_index_alone(folder):
    one, other, seeded = dataset(folder), dataset(folder), dataset(folder, seed=1)
    images = {}
    for epoch in (0, 1):
        for data in (one, other, seeded):
            data.set_epoch(epoch)
        images[epoch] = [one[i][0] for i in range(9)]
        for i in reversed(range(9)):  # in another order
            assert torch.equal(other[i][0], images[epoch][i])
        assert not all(torch.equal(seeded[i][0], images[epoch][i]) for i in range(9))
    assert not any(torch.equal(a, b) for a, b in zip(images[0], images[1]))
    other.set_epoch(0)  # resumed
    assert torch.equal(other[3][0], images[0][3])


def test_workers_and_ranks_give_what_one_process_gives(folder):
    alone, shared_out, halves = dataset(folder), dataset(folder), [dataset(folder), dataset(folder)]
    loader = DataLoader(shared_out, 3, num_workers=2, persistent_workers=True)
    for epoch in (0, 1, 5):
        for data in (alone, shared_out, *halves):
            data.set_epoch(epoch)
        expected = torch.stack([alone[i][0] for i in range(9)])
        assert torch.equal(torch.cat([images for images, _, _ in loader]), expected)
        for rank, data in enumerate(halves):
            assert torch.equal(torch.stack([data[i][0] for i in range(rank, 9, 2)]), expected[rank::2])


def test_the_padding_is_the_published_16_at_224_and_in_proportion_below():
    found = {size: AgeDataset(["x"], [1], img_size=size).padding for size in (224, 112, 64, 28)}
    assert found == {224: 16, 112: 8, 64: 5, 28: 2}


def test_crops_reach_every_offset_and_half_are_flipped(tmp_path):
    # one bright pixel in the middle and one left of it tell where the crop lies and whether it is mirrored
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[32, 32], pixels[32, 28] = 255, 128
    Image.fromarray(pixels).save(tmp_path / "dot.png")
    data = AgeDataset([tmp_path / "dot.png"], [1], img_size=64, train=True, padding=16)
    rows, columns, flips = set(), set(), []
    for epoch in range(600):
        data.set_epoch(epoch)
        image = data[0][0][0]
        row, column = divmod(int(image.argmax()), 64)
        flip = column + 4 < 64 and image[row, column + 4] == 128
        rows.add(32 - row)
        columns.add((63 - column if flip else column) - 32)
        flips.append(flip)
    assert rows == columns == set(range(-16, 17))
    assert 0.43 < np.mean(flips) < 0.57


def test_evaluation_sees_the_whole_image(folder):
    data = dataset(folder, train=False)
    data.set_epoch(3)
    assert torch.equal(data[2][0], load_face(folder / "a/2.jpg", 32))


# -- the cache ---------------------------------------------------------------------------------------------------------


def test_cached_images_are_the_same_images(folder):
    for train in (False, True):
        plain_data, cached = dataset(folder, train=train), dataset(folder, train=train, cache=folder / "cache")
        for i in range(9):
            assert torch.equal(plain_data[i][0], cached[i][0])
    assert len(list((folder / "cache").glob("*.npy"))) == 1  # the two splits hold the same paths here


def test_the_cache_is_made_once_and_anew_when_an_image_changes(folder, monkeypatch):
    cache = folder / "cache"
    dataset(folder, cache=cache)
    with monkeypatch.context() as patch:
        patch.setattr(age, "load_face", lambda *_: pytest.fail("the cache was there"))
        dataset(folder, cache=cache)[0]
    photo(folder / "a/4.jpg", 60, seed=99)
    os.utime(folder / "a/4.jpg", (1, 1))
    assert torch.equal(dataset(folder, cache=cache, train=False)[4][0], load_face(folder / "a/4.jpg", 32))
    dataset(folder, cache=cache, img_size=16)
    assert len(list(cache.glob("*.npy"))) == 3


def test_a_bad_image_or_a_full_disk_leaves_no_cache(folder, monkeypatch):
    cache = folder / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(cache_file.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(OSError, match=r"take .* GB and .*cache has 0\.00 GB free: name another folder for --cache"):
            dataset(folder, cache=cache)
    (folder / "a/8.jpg").write_bytes(b"no image")
    with pytest.raises(BadImage, match=r"a/8\.jpg: cannot be read"):
        dataset(folder, cache=cache)
    (folder / "a/8.jpg").unlink()
    with pytest.raises(BadImage, match=r"a/8\.jpg: No such file"):
        dataset(folder, cache=cache)
    assert not list(cache.glob("*.npy"))
    assert not list(cache.glob("*.part"))


def test_several_at_once_write_one_cache(folder, monkeypatch):
    asked, writes, all_asked = [], [], threading.Event()
    write, lock = cache_file._write, cache_file._locked

    def locked(path):
        asked.append(1)
        if len(asked) == 4:
            all_asked.set()
        return lock(path)

    def held(*args):
        writes.append(1)
        all_asked.wait()
        write(*args)

    monkeypatch.setattr(cache_file, "_locked", locked)
    monkeypatch.setattr(cache_file, "_write", held)
    with ThreadPoolExecutor(4) as pool:
        made = pool.map(lambda _: dataset(folder, cache=folder / "cache"), range(4))
        found = {data._cache for data in made}
    assert len(found) == len(writes) == 1
    assert np.load(found.pop()).shape == (9, 3, 32, 32)


def test_a_pickled_data_set_does_not_carry_the_cached_pixels(folder):
    data = dataset(folder, cache=folder / "cache")
    image = data[3][0]
    size = len(pickle.dumps(data))
    assert size < 9 * 3 * 32 * 32 / 2
    assert torch.equal(pickle.loads(pickle.dumps(data))[3][0], image)


# -- the encoder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "width"), [("resnet18", 512), ("resnet50", 2048)])
def test_the_encoder_is_torchvisions_resnet_up_to_the_pool(name, width):
    encoder = ResNetEncoder(name).eval()
    net = models.get_model(name, weights=None).eval()
    names = [key for key in net.state_dict() if not key.startswith("fc.")]
    assert list(encoder.state_dict()) == names
    net.load_state_dict(encoder.state_dict(), strict=False)
    net.fc = torch.nn.Identity()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        features = encoder(images)
        assert torch.allclose(features, net((images.float() / 255 - 0.5) / 0.5), atol=1e-4)
    assert features.shape == (2, width)
    assert encoder.feature_dim == width
    # the published initialisation: normal with the variance 2 / fan-out
    weight = encoder.layer4[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.02)


def test_every_named_resnet_has_the_width_that_is_written(monkeypatch):
    with torch.device("meta"):
        for name, width in RESNETS.items():
            assert models.get_model(name, weights=None).fc.in_features == width
    with pytest.raises(ValueError, match="--model is 'vgg', not one of resnet18, resnet34"):
        ResNetEncoder("vgg")


def test_imagenet_weights_that_cannot_be_fetched_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(self, *args, **kwargs):
        raise URLError("no route")

    monkeypatch.setattr(models.WeightsEnum, "get_state_dict", offline)
    with pytest.raises(OSError, match=r"--imagenet: cannot fetch http.*no route.*put that file into .*checkpoints, or train"):
        ResNetEncoder("resnet18", imagenet=True)


# -- making the csv ----------------------------------------------------------------------------------------------------


def test_published_order_gives_the_published_split_back(shared, tmp_path):
    source = shared / "data" / "agedb" / "agedb.csv"
    with open(source, newline="") as file:
        rows = list(csv.DictReader(file))
    write_csv(tmp_path / "meta.csv", ("age", "path"), [(row["age"], row["path"]) for row in rows])
    sizes = preprocess([tmp_path / "meta.csv"], tmp_path / "agedb.csv", cap=30)
    assert sizes == {"train": 12208, "val": 2140, "test": 2140}
    made = hashlib.sha256((tmp_path / "agedb.csv").read_bytes()).hexdigest()
    assert made == hashlib.sha256(source.read_bytes()).hexdigest()  # all 16,488 rows, and the file itself
    assert made == "ab9f8d4c7099a9d74ec5094c42b6fe9f1927a166a48d2ab800a88b2fd6081252"


def test_val_and_test_are_balanced_up_to_the_cap():
    ages = [5] * 2 + [30] * 10 + [40] * 500 + [130] * 50
    splits = split_by_age(ages, cap=30)
    counts = Counter(zip(ages, splits))
    assert counts[30, "val"] == counts[30, "test"] == 3
    assert counts[40, "val"] == counts[40, "test"] == 30
    assert counts[5, "train"] == 2  # too few to share
    assert counts[130, "train"] == 50  # the bins end at 120
    assert split_by_age(ages, cap=30) == splits
    assert split_by_age(ages, cap=30, seed=1) != splits


def test_agedb_ages_are_read_from_the_names(tmp_path):
    for name in ("10_MariaCallas_38_f.jpg", "9_A_B_57_m.jpg", "11_X_999_m.jpg", "readme.txt", "12_X_m.jpg"):
        (tmp_path / "AgeDB" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "AgeDB" / name).touch()
    agedb_table = runpy.run_path(str(ROOT / "agedb-dir/data/create_agedb.py"))["agedb_table"]
    rows, others = agedb_table(tmp_path)
    assert rows == [(57, "AgeDB/9_A_B_57_m.jpg"), (38, "AgeDB/10_MariaCallas_38_f.jpg")]
    assert others == 3
    with pytest.raises(FileNotFoundError, match=r"download_agedb\.py"):
        agedb_table(tmp_path / "nowhere")


def matlab(path: Path, db: str, rows: list[tuple], kind: type | None = None) -> None:
    """The layout of the real imdb.mat and wiki.mat: a 1 x 1 struct whose fields are 1 x N, texts in cells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dob, taken, names, score, second = zip(*rows)
    cells = np.empty((1, len(rows)), object)
    boxes = np.empty((1, len(rows)), object)
    for i, name in enumerate(names):
        cells[0, i] = np.array([name])
        boxes[0, i] = np.array([[10.0, 20.0, 110.0, 120.0]])
    fields = {
        "dob": np.array([dob], kind or np.int32), "photo_taken": np.array([taken], kind or np.uint16), "full_path": cells,
        "gender": np.array([[1.0] * len(rows)]), "name": cells, "face_location": boxes,
        "face_score": np.array([score]), "second_face_score": np.array([second]),
    }
    savemat(path, {db: fields})


def datenum(year: int, month: int, day: int) -> int:
    return date(year, month, day).toordinal() + 366


def test_imdb_wiki_ages_and_what_is_left_out(tmp_path):
    nan, inf = float("nan"), float("inf")
    rows = [
        (datenum(1950, 6, 30), 1990, "00/june.jpg", 4.0, nan),  # 40: born in the first half
        (datenum(1950, 7, 1), 1990, "00/july.jpg", 4.0, nan),  # 39: less one
        (datenum(1950, 1, 1), 1990, "00/negative_second.jpg", 1.0, -0.5),  # score just enough, no second face
        (datenum(1950, 1, 1), 1990, "00/none.jpg", -inf, nan),
        (datenum(1950, 1, 1), 1990, "00/unclear.jpg", 0.99, nan),
        (datenum(1950, 1, 1), 1990, "00/two.jpg", 4.0, 1.5),
        (datenum(1990, 1, 1), 1980, "00/unborn.jpg", 4.0, nan),
        (47, 1900, "00/no_birth.jpg", 4.0, nan),  # a datenum before year 1
        (datenum(1800, 1, 1), 2000, "00/oldest.jpg", 4.0, nan),  # 200 is kept
    ]
    matlab(tmp_path / "wiki_crop" / "wiki.mat", "wiki", rows)
    imdb_wiki_table = runpy.run_path(str(ROOT / "imdb-wiki-dir/data/create_imdb_wiki.py"))["imdb_wiki_table"]
    found, left = imdb_wiki_table(tmp_path, "wiki")
    assert found == [
        (40, "wiki_crop/00/june.jpg"), (39, "wiki_crop/00/july.jpg"),
        (40, "wiki_crop/00/negative_second.jpg"), (200, "wiki_crop/00/oldest.jpg"),
    ]
    assert left == {"no or unclear face": 2, "second face": 1, "impossible age": 2, "no birth, photo or path": 0}
    assert len(imdb_wiki_table(tmp_path, "wiki", min_score=0.5)[0]) == 5
    with pytest.raises(FileNotFoundError, match=r"imdb\.mat is missing; python download_imdb_wiki\.py"):
        imdb_wiki_table(tmp_path, "imdb")
    for content in (b"no matlab", b""):
        (tmp_path / "wiki_crop" / "wiki.mat").write_bytes(content)
        with pytest.raises(ValueError, match=r"wiki\.mat is not the wiki struct"):
            imdb_wiki_table(tmp_path, "wiki")
    savemat(tmp_path / "wiki_crop" / "wiki.mat", {"other": 1})
    with pytest.raises(ValueError, match=r"wiki\.mat is not the wiki struct"):
        imdb_wiki_table(tmp_path, "wiki")


def test_holes_in_the_matlab_table_leave_their_row_out(tmp_path):
    """NaN and infinite births and photos, as other tools save them, and a cell without a path: counted, and nothing warned."""
    nan, inf = float("nan"), float("inf")
    rows = [
        (datenum(1950, 6, 30), 1990.0, "a.jpg", 4.0, nan), (nan, 1990.0, "b.jpg", 4.0, nan), (inf, 1990.0, "c.jpg", 4.0, nan),
        (-inf, 1990.0, "d.jpg", 4.0, nan), (datenum(1950, 6, 30), nan, "e.jpg", 4.0, nan),
        (datenum(1950, 6, 30), inf, "f.jpg", 4.0, nan), (datenum(1950, 6, 30), 1990.0, "", 4.0, nan),
        (1e300, 1990.0, "g.jpg", 4.0, nan), (datenum(1950, 6, 30), 1990.0, "h.jpg", nan, nan),
        (datenum(1950, 6, 30), 1990.0, "i.jpg", 4.0, inf), (datenum(1960, 6, 30), 1e300, "j.jpg", 4.0, nan),
    ]
    matlab(tmp_path / "wiki_crop" / "wiki.mat", "wiki", rows, kind=np.float64)
    imdb_wiki_table = runpy.run_path(str(ROOT / "imdb-wiki-dir/data/create_imdb_wiki.py"))["imdb_wiki_table"]
    found, left = imdb_wiki_table(tmp_path, "wiki")
    assert found == [(40, "wiki_crop/a.jpg")]
    assert left == {"no or unclear face": 1, "second face": 1, "impossible age": 2, "no birth, photo or path": 6}


def test_preprocess_refuses_fractions_of_years(tmp_path):
    write_csv(tmp_path / "meta.csv", ("age", "path"), [("3.5", "a.jpg")])
    with pytest.raises(ValueError, match=r"meta\.csv, line 2: age is '3\.5', not a whole number"):
        preprocess([tmp_path / "meta.csv"], tmp_path / "out.csv", cap=30)
    with pytest.raises(FileNotFoundError, match=r"none\.csv is missing; run the create script"):
        preprocess([tmp_path / "none.csv"], tmp_path / "out.csv", cap=30)
    assert not (tmp_path / "out.csv").exists()


# -- drawn faces -------------------------------------------------------------------------------------------------------


def test_the_written_counts_are_agedbs(shared):
    with open(shared / "data" / "agedb" / "agedb.csv", newline="") as file:
        ages = [int(row["age"]) for row in csv.DictReader(file) if row["split"] == "train"]
    assert np.bincount(ages).tolist() == faces.TRAIN_COUNTS.tolist()


def test_sample_ages_follow_agedb_and_val_and_test_are_balanced():
    people = faces.sample_people(6104, 2)
    train = np.bincount([p.age for p in people if p.split == "train"], minlength=102)
    assert train.sum() == 6104
    assert abs(train - faces.TRAIN_COUNTS / 2).max() <= 1
    for split in ("val", "test"):
        counts = np.bincount([p.age for p in people if p.split == split], minlength=102)
        assert (counts[faces.TRAIN_COUNTS > 0] == 2).all()
        assert counts.sum() == 200
    shots = train[[p.age for p in people if p.split == "test"]]
    assert min((shots > 100).sum(), ((shots >= 20) & (shots <= 100)).sum(), (shots < 20).sum()) >= 40
    with pytest.raises(ValueError, match="must be positive"):
        faces.sample_people(0, 2)


def test_a_sample_depends_on_its_seed_and_not_on_the_number_of_processes(tmp_path):
    people = faces.sample_people(70, 1)[:70]
    paths = [f"AgeDB/{i}.jpg" for i in range(len(people))]
    for name, options in {"one": {}, "two": {"workers": 2}, "other": {"seed": 1}}.items():
        faces.write_sample(people, paths, tmp_path / name, "agedb.csv", size=16, **options)

    def read(name):
        return [(tmp_path / name / path).read_bytes() for path in paths]

    assert read("one") == read("two")
    assert not any(a == b for a, b in zip(read("one"), read("other")))


def test_only_a_sample_is_ever_overwritten(tmp_path):
    people = faces.sample_people(1, 1)[:1]

    def write(**options):
        faces.write_sample(people, ["AgeDB/0.jpg"], tmp_path, "agedb.csv", size=16, **options)

    (tmp_path / "AgeDB").mkdir()
    (tmp_path / "AgeDB" / "real.jpg").touch()
    with pytest.raises(ValueError, match="images that are no sample; pass another --out"):
        write(overwrite=True)
    (tmp_path / "AgeDB" / "real.jpg").unlink()
    (tmp_path / "AgeDB").rmdir()
    write()
    with pytest.raises(ValueError, match="has a sample; --overwrite replaces it"):
        write()
    (tmp_path / "AgeDB" / "stale.jpg").touch()
    write(overwrite=True)
    assert os.listdir(tmp_path / "AgeDB") == ["0.jpg"]


def test_age_shows_in_a_face():
    """A linear regression on small grey pictures, which sees little, tells the ages of other faces far better than chance."""
    rng = np.random.default_rng(0)
    ages = rng.uniform(1, 100, 700)

    def small(i):
        face = faces.draw_face(ages[i], "fm"[i % 2], np.random.default_rng((7, i)), 32)
        return np.asarray(face.convert("L"), float).ravel()

    x = np.stack([small(i) for i in range(len(ages))])
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    gram = x[:500] @ x[:500].T + 300 * np.eye(500)
    guess = ages[:500].mean() + x[500:] @ (x[:500].T @ np.linalg.solve(gram, ages[:500] - ages[:500].mean()))
    assert np.corrcoef(guess, ages[500:])[0, 1] > 0.75


@pytest.mark.parametrize("size", [16, 33, 64])
@pytest.mark.parametrize("years", [0, 1, 50, 101])
def test_faces_of_any_age_and_size_are_drawn(years, size):
    for gender in "fm":
        face = faces.draw_face(years, gender, np.random.default_rng(years), size)
        assert (face.size, face.mode) == ((size, size), "RGB")
