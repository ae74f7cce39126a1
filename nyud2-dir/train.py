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

from pathlib import Path

from imbalanced_regression import cli


def parse_args():
    parser = cli.ArgumentParser(description=__doc__)
    cli.add_training_flags(
        parser, loss="mse", lds_ks=5, lds_sigma=2, fds_ks=5, fds_sigma=2, bucket_num=100, bucket_start=7, lr=1e-4,
        batch_size=32, print_freq=10, fds_stats="second_pass",  # over the published subset
    )
    group = parser.add_argument_group("NYUD2-DIR")
    group.add_argument("--model", default="resnet50", choices=cli.RESNETS, help="the encoder, by torchvision's name")
    group.add_argument("--imagenet", action="store_true", default=True, help="start from ImageNet weights, as published")
    group.add_argument("--no_imagenet", dest="imagenet", action="store_false", help="start from scratch, without a download")
    group.add_argument("--epochs", type=int, default=10, help="passes over the training set; the rate falls to a tenth every 5")
    group.add_argument("--start_epoch", type=int, default=0, help="number of the first epoch, for the rate and for FDS")
    group.add_argument("--weight_decay", type=float, default=1e-4, help="of adam")
    group.add_argument("--height", type=int, default=228, help="of the cropped images, in pixels")
    group.add_argument("--width", type=int, default=304, help="of the cropped images, in pixels")
    group.add_argument("--select_on", choices=("val", "test"), default="val",
                       help="choose the checkpoint on held-out training scenes, or as published on the test set")
    group.add_argument("--val_share", type=float, default=0.05, help="share of the training scenes held out")
    group.add_argument("--bucket_counts", metavar="FILE", default=None,
                       help="training pixels per depth bin, for other data (preprocess_nyud2.py); default: NYUD2's")
    parser.set_defaults(optimizer="adam")
    args = parser.parse_args()
    args.schedule = list(range(5, args.epochs, 5))
    cli.check_training_flags(args)
    cli.check_least(args, start_epoch=0, height=32, width=32)
    cli.check_shares(args, "val_share")
    if args.start_epoch >= args.epochs:
        raise ValueError(f"--start_epoch: expected below --epochs {args.epochs}, found {args.start_epoch}")
    return args


def make_splits(args, table, log):
    """The training set without the held-out scenes, these or the test set to choose on, the test set, FDS's subset."""
    from loaddata import SUBSET, TEST, TRAIN, DepthDataset, check_test, held_out, read_mask, read_pairs
    from utils import BINS

    from imbalanced_regression.training.runtime import Splits

    size = (args.height, args.width)
    train, test = read_pairs(args.data_dir, TRAIN), read_pairs(args.data_dir, TEST)
    measured = DepthDataset(test, *size, "16-bit", mask=read_mask(args.data_dir, len(test), *size))
    check_test(measured, BINS)
    second_pass = args.fds and args.fds_stats == "second_pass"
    subset = read_pairs(args.data_dir, SUBSET) if second_pass else None
    if args.select_on == "test":
        log.warning("--select_on test: the checkpoint is chosen on the test set, as published; its numbers are optimistic")
        val = measured
    else:
        out = held_out(train, args.val_share, args.seed)
        log.info("%d of %d training images are held out, of whole scenes, to choose the checkpoint", out.sum(), len(out))
        val = DepthDataset(train.only(out.nonzero()[0]), *size)
        held = set(val.pairs.images)
        train = train.only((~out).nonzero()[0])
        if subset is not None:
            subset = subset.only([i for i, path in enumerate(subset.images) if path not in held])
            if not len(subset):
                raise ValueError(f"--val_share: all rows of {SUBSET} are of held-out scenes; make another, or --select_on test")
    return Splits(
        train=DepthDataset(train, *size, table=table, half=True, augment=True, seed=args.seed), val=val, test=measured,
        stats=None if subset is None else DepthDataset(subset, *size, half=True),
    )


def main() -> None:
    args = parse_args()
    # after the flags, so that --help answers at once
    import logging

    from loss import LOSSES
    from models.net import RENAMES, make_model
    from utils import BINS, COUNTS_FILE, SHOTS, bucket_weights, evaluate, examples, read_counts

    from imbalanced_regression.tools import report
    from imbalanced_regression.training import checkpoint, engine, runtime

    log = logging.getLogger("train")
    here = runtime.start(args.device, args.amp, compile=args.compile, channels_last=args.channels_last)
    runtime.start_log(here)
    name = cli.run_name(args, "nyud2", args.model, optimizer=args.optimizer)
    folder = cli.run_folder(args, name, here)

    counts = read_counts(args.bucket_counts or COUNTS_FILE)
    table = bucket_weights(args.reweight, args.lds, args.lds_kernel, args.lds_ks, args.lds_sigma, counts=counts)
    splits = make_splits(args, table, log)
    pixels = len(splits.train) * args.height * args.width
    if args.reweight != "none" and not 0.5 < pixels / counts.sum() < 2:
        log.warning("the weights come from the counts of %.3g pixels, the training set has %.3g; pass the counts of this data "
                    "by --bucket_counts (preprocess_nyud2.py makes them)", counts.sum(), pixels)

    runtime.seed_all(args.seed)
    last = Path(args.resume or folder / checkpoint.LAST)
    fresh = not (args.pretrained or args.evaluate or (args.resume is not None and last.is_file()))
    model = make_model(args.model, imagenet=args.imagenet and fresh, fds=args.fds, **cli.fds_settings(args))
    result = engine.run(
        args, model, splits, LOSSES[args.loss], evaluate, here, folder, select="rmse", renames=RENAMES,
        measure=engine.measure_pixels,
    )
    if here.is_main:
        report.write(
            None if args.evaluate else folder, result, train_counts=counts, bins=BINS, shots=SHOTS, label="depth (m)",
            window=cli.lds_window(args), title=name, table_csv=report.images_csv(splits.test.pairs.images, result),
            examples=() if args.evaluate else examples(model, splits.test, here),
            predictions=args.predictions,
        )
    runtime.stop()


if __name__ == "__main__":
    cli.guard(main)
