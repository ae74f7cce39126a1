"""Train on NYUD2-DIR: image of a room -> depth map.

    python train.py                                                     # vanilla
    python train.py --reweight inverse --lds --fds                      # LDS + FDS
    python train.py --retrain_fc --pretrained <ckpt> --reweight inverse # RRT: re-trains R
    python train.py --evaluate --resume <ckpt>
    torchrun --nproc_per_node 4 train.py --amp bf16                     # several GPUs, one process each

Without network access for the ImageNet weights add --no_imagenet. On a CPU, with the sample of make_sample.py:

    python train.py --data_dir sample --bucket_counts sample/train_bucket_num.txt --model resnet18 --height 36 --width 48
"""

from __future__ import annotations

import logging
from pathlib import Path

from imbalanced_regression import choices, cli, flags, stages

DEFAULTS = {
    "loss": "mse", "lr": 1e-4, "batch_size": 32, "lds_ks": 5, "lds_sigma": 2, "fds_ks": 5, "fds_sigma": 2, "bucket_num": 100,
    "bucket_start": 7,
    "focal_beta": 1.0, "huber_beta": 0.5, "bmc_sigma": 1, "gai_sigma": 1, "bni_sigma": 1, "gai_components": 16,
}


def parse_args():
    parser = cli.ArgumentParser(description=__doc__)
    flags.add(parser, DEFAULTS, "nyud2-dir")
    group = parser.add_argument_group("NYUD2-DIR")
    group.add_argument("--model", default="resnet50", choices=choices.RESNETS, help="the encoder, by torchvision's name")
    group.add_argument("--imagenet", action="store_true", default=True, help="start from ImageNet weights, as published")
    group.add_argument("--no_imagenet", dest="imagenet", action="store_false", help="start from scratch, without a download")
    group.add_argument("--epochs", type=int, default=10, help="passes over the training set; the rate falls to a tenth every 5")
    group.add_argument("--start_epoch", type=int, default=0, help="number of the first epoch, for the rate and for FDS")
    group.add_argument("--weight_decay", type=float, default=1e-4, help="of adam")
    group.add_argument("--height", type=int, default=228, help="of the cropped images, in pixels")
    group.add_argument("--width", type=int, default=304, help="of the cropped images, in pixels")
    group.add_argument("--cache", metavar="DIR", help="keep the resized pairs there in one file, for faster epochs")
    group.add_argument("--select_on", choices=("val", "test"), default="val",
                       help="choose the checkpoint on held-out training scenes, or as published on the test set")
    group.add_argument("--val_share", type=float, default=0.05, help="share of the training scenes held out")
    group.add_argument("--bucket_counts", metavar="FILE", default=None,
                       help="training pixels per depth bin, for other data (preprocess_nyud2.py); default: NYUD2's")
    args = parser.parse_args()
    args.schedule = list(range(5, args.epochs, 5))
    cli.check_least(args, height=32, width=32)
    cli.check_shares(args, "val_share")
    return args, flags.plan(args)


def main() -> None:
    args, plan = parse_args()
    # after the flags, so that --help answers at once
    from functools import partial

    from loaddata import make_splits
    from models.net import PUBLISHED_TO_OURS, make_model
    from utils import BINS, COUNTS_FILE, SHOTS, bucket_weights, examples, new_metrics, read_counts, row_weights

    from imbalanced_regression.tools import report
    from imbalanced_regression.training import Pixels, checkpoint
    from imbalanced_regression.training.randomness import seed_all

    with flags.started(args, "nyud2", args.model, images=True) as (ranks, folder):
        counts = read_counts(args.bucket_counts or COUNTS_FILE)
        labels = choices.Labels(BINS, counts, dense=True)
        table = flags.sample_weights(args, labels, lambda _, *how: bucket_weights(*how, counts=counts))
        splits = make_splits(
            args.data_dir, (args.height, args.width), table, seed=args.seed,
            subset=args.fds and args.fds_stats == "second_pass", val_share=None if args.select_on == "test" else args.val_share,
            cache=args.cache, workers=args.workers,
        )
        pixels = len(splits.train) * args.height * args.width
        if args.reweight != "none" and not 0.5 < pixels / counts.sum() < 2:
            logging.getLogger("train").warning(
                "the weights come from the counts of %.3g pixels, the training set has %.3g; pass the counts of this data by "
                "--bucket_counts (preprocess_nyud2.py makes them)", counts.sum(), pixels,
            )

        seed_all(args.seed)
        last = Path(args.resume or folder / checkpoint.LAST)
        begun = args.resume is not None and last.is_file()
        fresh = not (args.pretrained or args.evaluate or args.constant != "none" or begun)
        model = make_model(args.model, imagenet=args.imagenet and fresh, fds=args.fds, **flags.fds(args))
        result = stages.train(
            args, plan, model, splits, labels, Pixels(partial(new_metrics, tuple(counts))), folder=folder, runtime=ranks,
            select="rmse", renames=PUBLISHED_TO_OURS, published=row_weights,
        )
        if ranks.is_main:
            report.write(
                None if args.evaluate else folder, result, train_counts=counts, bins=BINS, shots=SHOTS, label="depth (m)",
                window=flags.lds(args), title=folder.name, table_csv=report.images_csv(splits.test.pairs.images, result),
                examples=() if args.evaluate else examples(model, splits.test, ranks), predictions=args.predictions,
            )


if __name__ == "__main__":
    cli.guard(main)
