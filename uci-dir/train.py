"""Train on UCI-DIR: a row of a table -> sound pressure, rings of an abalone, a house's price, strength of concrete.

    python train.py --dataset concrete                                  # vanilla; also airfoil, abalone, real_estate
    python train.py --reweight sqrt_inv --lds --fds                     # LDS + FDS
    python train.py --resample smogn                                    # SMOGN; also smoter, over, under
    python train.py --terms ranksim --ranksim_strength 10               # any method of the library
    python train.py --retrain_fc --pretrained <ckpt> --reweight inverse # RRT
    python train.py --model gbdt --reweight sqrt_inv --lds              # gradient boosting instead of a network
    python train.py --evaluate --resume <ckpt>

Without the data: python train.py --data_dir sample, which holds concrete.
"""

from __future__ import annotations

from imbalanced_regression import choices, cli, flags, stages

DATASETS = ("airfoil", "abalone", "real_estate", "concrete")
MODELS = ("mlp", "wide", "gbdt")
DEFAULTS = {
    "loss": "l1", "lr": 5e-3, "batch_size": 128, "lds_ks": 5, "lds_sigma": 2, "fds_ks": 5, "fds_sigma": 2, "bucket_num": None,
    "bucket_start": 0, "workers": 0, "print_freq": 100, "model": "mlp", "bmc_sigma": 3.0, "gai_sigma": 3.0, "bni_sigma": 3.0,
    "resamples": True,
}


def parse_args():
    parser = cli.ArgumentParser(description=__doc__)
    flags.add(parser, DEFAULTS, "uci-dir")
    group = parser.add_argument_group("UCI-DIR")
    group.add_argument("--dataset", choices=DATASETS, default="concrete", help="the table")
    group.add_argument("--model", choices=MODELS, default="mlp", help="hidden layers 20-30-10, 256-256-64; or trees")
    group.add_argument("--epochs", type=int, default=80, help="passes over the training rows; gbdt: trees")
    group.add_argument("--schedule", type=int, nargs="*", default=[50, 70], help="epochs at which the rate falls to a tenth")
    group.add_argument("--weight_decay", type=float, default=0.0, help="of the optimizer")
    group.add_argument("--split", metavar="FILE", help="csv of index,label,split; default: the seeded balanced split")
    group.add_argument("--split_seed", type=int, default=0, help="seed of the balanced split")
    if parser.parse_known_args()[0].model == "gbdt":
        import trees

        parser.set_defaults(**trees.DEFAULTS)
    args = parser.parse_args()
    if args.bucket_num is None:
        from utils import TABLES

        args.bucket_num = TABLES[args.dataset].bins.count
    plan = flags.plan(args)
    cli.check_least(args, split_seed=0)
    if args.model == "gbdt":
        trees.check(args)  # imported above
    return args, plan


def main() -> None:
    args, plan = parse_args()
    # after the flags, so that --help answers at once
    from functools import partial

    from datasets import collate, read_splits
    from fds import FDS
    from models import Encoder
    from utils import TABLES, evaluate, sample_weights

    from imbalanced_regression import Regressor, ScaledLinear
    from imbalanced_regression.tools import report
    from imbalanced_regression.training import Arrays, Splits
    from imbalanced_regression.training.randomness import seed_all

    drawn = f"split{args.split_seed}" if args.split_seed else ""
    with flags.started(args, f"uci_{args.dataset}", args.model, suffix=flags.split_name(args) or drawn) as (ranks, folder):
        table = TABLES[args.dataset]
        where = {"split": args.split, "seed": args.split_seed}
        data = read_splits(args.dataset, args.data_dir, **where, resample=choices.RESAMPLES[args.resample](vars(args)))
        train = data["train"]
        # shots, and what the report draws, are those of the rows before resampling
        train_labels = read_splits(args.dataset, args.data_dir, **where)["train"].labels
        labels = choices.Labels(table.bins, table.bins.counts(train.labels), train.labels)
        train.weights = flags.sample_weights(args, labels, partial(sample_weights, table.bins))

        def measure(preds, values, _):
            return evaluate(preds, values, train_labels, table)

        seed_all(args.seed)
        if args.model == "gbdt":
            import trees

            result = trees.run(args, data, measure, folder, ranks)
        else:
            encoder = Encoder(train.inputs.shape[1], args.model)
            head = ScaledLinear.of(encoder.feature_dim, train_labels)
            model = Regressor(encoder, head, flags.build_fds(args, partial(FDS, bins=table.bins), encoder.feature_dim))
            splits = Splits(**data, collate=collate)
            result = stages.train(args, plan, model, splits, labels, Arrays(measure), folder=folder, runtime=ranks)
        if ranks.is_main:
            report.write(
                None if args.evaluate else folder, result, train_labels=train_labels, bins=table.bins,
                shots=result["test"]["per_bin"]["shot"], label=table.label, window=flags.lds(args), title=folder.name,
                predictions=args.predictions,
            )


if __name__ == "__main__":
    cli.guard(main)
