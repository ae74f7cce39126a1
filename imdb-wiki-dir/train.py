"""Train on IMDB-WIKI-DIR: face -> age.

    python train.py                                                              # vanilla
    python train.py --reweight sqrt_inv --lds --fds                              # LDS + FDS
    python train.py --reweight sqrt_inv --lds --lds_kernel gaussian --lds_ks 5 --lds_sigma 2
    python train.py --retrain_fc --pretrained <ckpt> --reweight inverse          # RRT
    python train.py --evaluate --resume <ckpt>
    CUDA_VISIBLE_DEVICES=0,1,2,3 python train.py                                 # DataParallel
    torchrun --nproc_per_node 4 train.py --amp bf16 --channels_last --compile    # a process for each GPU
    python make_sample.py && python train.py --data_dir sample --model resnet18 --img_size 32   # drawn faces, on a CPU
"""

from __future__ import annotations

from imbalanced_regression import cli

DEFAULTS = {
    "dataset": "imdb_wiki",
    "flags": {"lds_ks": 5, "lds_sigma": 1, "fds_ks": 5, "fds_sigma": 1, "bucket_num": 100, "bucket_start": 0},
}


def parse_args():
    parser = cli.ArgumentParser(description=__doc__)
    cli.add_training_flags(parser, loss="l1", lr=1e-3, batch_size=256, print_freq=10, **DEFAULTS["flags"])
    group = parser.add_argument_group("faces")
    group.add_argument("--dataset", default=DEFAULTS["dataset"], help="the csv in --data_dir, without its ending")
    group.add_argument("--model", default="resnet50", choices=cli.RESNETS, help="the encoder, by torchvision's name")
    group.add_argument("--imagenet", action="store_true", help="start from ImageNet weights instead of from scratch")
    group.add_argument("--img_size", type=int, default=224, help="side of the images in pixels")
    group.add_argument("--epoch", type=int, default=90, help="passes over the training set")
    group.add_argument("--schedule", type=int, nargs="*", default=[60, 80], help="epochs at which the rate falls to a tenth")
    group.add_argument("--optimizer", choices=("adam", "sgd"), default="adam")
    group.add_argument("--momentum", type=float, default=0.9, help="of sgd")
    group.add_argument("--weight_decay", type=float, default=1e-4, help="of sgd; adam has none, as published")
    group.add_argument("--gpu", type=int, default=None, help="number of the only GPU to use; short for --device cuda:N")
    group.add_argument("--cache", default=None, metavar="DIR", help="keep the resized images there, for faster epochs")
    group.add_argument("--skip_bad_images", action="store_true", help="leave out and count images that cannot be read")
    args = parser.parse_args()
    if args.gpu is not None and args.device is None:
        args.device = f"cuda:{args.gpu}"
    if args.optimizer == "adam":
        args.weight_decay = 0.0
    args.epochs = args.epoch  # the loop's word
    cli.check_least(args, epoch=1, img_size=32)
    cli.check_training_flags(args)
    return args


def main() -> None:
    args = parse_args()
    # after the flags, so that --help answers at once
    from datasets import read_splits
    from loss import LOSSES
    from resnet import RENAMES, make_model
    from utils import AGE_BINS, evaluate, sample_weights

    from imbalanced_regression.faces.ages import age_splits
    from imbalanced_regression.tools import report
    from imbalanced_regression.training import engine, runtime

    here = runtime.start(args.device, args.amp, compile=args.compile, channels_last=args.channels_last)
    runtime.start_log(here)
    name = cli.run_name(args, args.dataset, args.model, optimizer=args.optimizer)
    folder = cli.run_folder(args, name, here)

    rows = read_splits(
        args.data_dir, args.dataset, skip_bad_images=args.skip_bad_images, img_size=args.img_size, workers=args.workers
    )
    train_ages = rows["train"].ages
    weights = sample_weights(train_ages, args.reweight, args.lds, args.lds_kernel, args.lds_ks, args.lds_sigma)
    splits = age_splits(rows, weights, img_size=args.img_size, seed=args.seed, cache=args.cache, workers=args.workers)

    runtime.seed_all(args.seed)
    model = make_model(args.model, imagenet=args.imagenet, fds=args.fds, **cli.fds_settings(args))
    result = engine.run(
        args, model, splits, LOSSES[args.loss], lambda preds, ages, _: evaluate(preds, ages, train_ages), here, folder,
        select="mse" if args.loss == "mse" else "l1", renames=RENAMES,
    )
    if here.is_main:
        report.write(
            None if args.evaluate else folder, result, train_labels=train_ages, bins=AGE_BINS,
            shots=result["test"]["per_bin"]["shot"], label="age (years)", window=cli.lds_window(args), title=name,
            predictions=args.predictions,
        )
    runtime.stop()


if __name__ == "__main__":
    cli.guard(main)
