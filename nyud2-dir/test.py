"""Measure a checkpoint on NYUD2-DIR's balanced test set: ours or a published one.

    python test.py --eval_model checkpoint/<run>/ckpt.best.pth.tar --data_dir ./data

Encoder, image size and pixel counts are those the checkpoint says it was trained with, else ResNet-50, 228 x 304 and NYUD2's;
flags overrule it.
"""

from __future__ import annotations

from imbalanced_regression import choices, cli


def main() -> None:
    parser = cli.ArgumentParser(description=__doc__)
    parser.add_argument("--eval_model", required=True, metavar="CKPT", help="the checkpoint")
    parser.add_argument("--data_dir", default="./data", help="where the data lies")
    parser.add_argument("--model", choices=choices.RESNETS, help="the encoder, by torchvision's name")
    parser.add_argument("--height", type=int, help="of the cropped images, in pixels")
    parser.add_argument("--width", type=int, help="of the cropped images, in pixels")
    parser.add_argument("--bucket_counts", metavar="FILE", help="training pixels per depth bin, which SERA and bMASE weigh by")
    parser.add_argument("--batch_size", type=int, default=32, help="images at a time")
    parser.add_argument("--workers", type=int, default=4, help="processes that load data")
    parser.add_argument("--device", default=None, help="cpu, cuda, cuda:1 or mps; default: a GPU if there is one")
    parser.add_argument("--amp", choices=("none", "bf16", "fp16"), default="none", help="mixed precision")
    args = parser.parse_args()
    cli.check_least(args, height=32, width=32, batch_size=1, workers=0)
    # after the flags, so that --help answers at once
    from functools import partial

    from loaddata import TEST, DepthDataset, check_test, read_mask, read_pairs
    from models.net import PUBLISHED_TO_OURS, make_model
    from nyu_transform import HEIGHT, WIDTH
    from utils import BINS, COUNTS_FILE, new_metrics, read_counts

    from imbalanced_regression.methods.targets import TargetUnit
    from imbalanced_regression.tools import report
    from imbalanced_regression.training import Pixels, checkpoint, runtime
    from imbalanced_regression.training.loaders import Shard, make_loader

    ranks = runtime.start(args.device, args.amp, spread=False)
    content = checkpoint.load(args.eval_model, "--eval_model")
    settings = {"model": "resnet50", "height": HEIGHT, "width": WIDTH, **(content.get("settings") or {})}
    name, height, width = (vars(args)[key] or settings[key] for key in ("model", "height", "width"))
    # other counts than training's would give other numbers under the same names
    counts = read_counts(args.bucket_counts or settings.get("bucket_counts") or COUNTS_FILE)
    model = make_model(name).to(ranks.device)
    if settings.get("target", "none") != "none":
        model.target = TargetUnit()  # the checkpoint holds its numbers
    checkpoint.load_model(model, content, renames=PUBLISHED_TO_OURS, path=args.eval_model, flag="--eval_model")

    pairs = read_pairs(args.data_dir, TEST)
    dataset = DepthDataset(pairs, height, width, "16-bit", mask=read_mask(args.data_dir, len(pairs), height, width))
    check_test(dataset, BINS)
    shard = Shard(range(len(dataset)), args.batch_size, rank=ranks.rank, world=ranks.world)
    loader = make_loader(dataset, shard, ranks, workers=args.workers)
    metrics, _ = Pixels(partial(new_metrics, tuple(counts)))(model, loader, ranks, "test")
    if ranks.is_main:
        print(report.table(metrics))
    runtime.stop()


if __name__ == "__main__":
    cli.guard(main)
