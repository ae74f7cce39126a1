"""Train on UCI-DIR: a row of a table -> sound pressure, rings of an abalone, a house's price, strength of concrete.

    python train.py --dataset concrete                                  # vanilla; also airfoil, abalone, real_estate
    python train.py --reweight sqrt_inv --lds --fds                     # LDS + FDS
    python train.py --resample smogn                                    # SMOGN; also smoter, over, under
    python train.py --retrain_fc --pretrained <ckpt> --reweight inverse # RRT
    python train.py --evaluate --resume <ckpt>

Without the data: python train.py --data_dir sample, which holds concrete.
"""

from __future__ import annotations

from imbalanced_regression import cli

DATASETS = ("airfoil", "abalone", "real_estate", "concrete")
MODELS = ("mlp", "wide")
RESAMPLES = ("none", "smoter", "smogn", "over", "under")


def parse_args():
    parser = cli.ArgumentParser(description=__doc__)
    cli.add_training_flags(
        parser, loss="l1", lds_ks=5, lds_sigma=2, fds_ks=5, fds_sigma=2, bucket_num=None, bucket_start=0, lr=5e-3,
        batch_size=128, workers=0, print_freq=100,
    )
    group = parser.add_argument_group("UCI-DIR")
    group.add_argument("--dataset", choices=DATASETS, default="concrete", help="the table")
    group.add_argument("--model", choices=MODELS, default="mlp", help="hidden layers 20-30-10, or 256-256-64")
    group.add_argument("--epochs", type=int, default=80, help="passes over the training rows")
    group.add_argument("--schedule", type=int, nargs="*", default=[50, 70], help="epochs at which the rate falls to a tenth")
    group.add_argument("--weight_decay", type=float, default=0.0, help="of the optimizer")
    group.add_argument("--resample", choices=RESAMPLES, default="none", help="of the training rows, before training")
    group.add_argument("--split", metavar="FILE", help="csv of index,label,split; default: the seeded balanced split")
    group.add_argument("--split_seed", type=int, default=0, help="seed of the balanced split")
    parser.set_defaults(optimizer="adam")
    args = parser.parse_args()
    if args.bucket_num is None:
        from utils import TABLES

        args.bucket_num = TABLES[args.dataset].bins.count
    cli.check_training_flags(args)
    cli.check_least(args, split_seed=0)
    return args


def main() -> None:
    args = parse_args()
    # after the flags, so that --help answers at once
    from functools import partial

    import numpy as np
    from datasets import collate, read_splits
    from fds import FDS
    from loss import LOSSES
    from models import Encoder, ScaledLinear
    from utils import TABLES, evaluate, sample_weights

    from imbalanced_regression import Regressor
    from imbalanced_regression.tools import report
    from imbalanced_regression.training import engine, runtime

    here = runtime.start(args.device, args.amp, compile=args.compile)
    runtime.start_log(here)
    model = args.model if args.resample == "none" else f"{args.model}_{args.resample}"
    name = cli.run_name(args, f"uci_{args.dataset}", model, optimizer=args.optimizer)
    folder = cli.run_folder(args, name, here)

    table = TABLES[args.dataset]
    data = read_splits(
        args.dataset, args.data_dir, split=args.split, seed=args.split_seed, resample=args.resample, resample_seed=args.seed
    )
    train = data["train"]
    train.weights = sample_weights(
        train.labels, table.bins, args.reweight, args.lds, args.lds_kernel, args.lds_ks, args.lds_sigma
    )
    # shots, and what the report draws, are those of the rows before resampling
    train_labels = read_splits(args.dataset, args.data_dir, split=args.split, seed=args.split_seed)["train"].labels

    runtime.seed_all(args.seed)
    encoder = Encoder(train.inputs.shape[1], args.model)
    head = ScaledLinear(encoder.feature_dim, float(np.mean(train_labels)), float(np.std(train_labels)) or 1.0)
    fds = cli.build_fds(args, partial(FDS, bins=table.bins), encoder.feature_dim)
    result = engine.run(
        args, Regressor(encoder, head, fds), runtime.Splits(**data, collate=collate), LOSSES[args.loss],
        lambda preds, labels, _: evaluate(preds, labels, train_labels, table),
        here, folder, select="mse" if args.loss == "mse" else "l1",
    )
    if here.is_main:
        report.write(
            None if args.evaluate else folder, result, train_labels=train_labels, bins=table.bins,
            shots=result["test"]["per_bin"]["shot"], label=table.label, window=cli.lds_window(args), title=name,
        )
    runtime.stop()


if __name__ == "__main__":
    cli.guard(main)
