"""Train on SHHS-DIR: a night of polysomnography -> general health score 0..100.

    python train.py                                                     # vanilla
    python train.py --reweight inverse --lds --fds                      # LDS + FDS
    python train.py --retrain_fc --pretrained <ckpt> --reweight inverse # RRT
    python train.py --evaluate --resume <ckpt>
    torchrun --nproc_per_node 4 train.py --amp bf16                     # several GPUs, one process each

Without the data: python make_sample.py, then python preprocess_shhs.py --data_dir sample --cap 4, and on a CPU
    python train.py --data_dir sample --width 8 --d_hid 32 --batch_size 8 --epochs 12 --schedule 9
"""

from __future__ import annotations

from imbalanced_regression import choices, cli, flags, stages

DEFAULTS = {
    "loss": "l1", "lr": 1e-3, "batch_size": 32, "lds_ks": 5, "lds_sigma": 2, "fds_ks": 5, "fds_sigma": 2, "bucket_num": 21,
    "bucket_start": 0, "model": "cnn-rnn", "bmc_sigma": 10, "gai_sigma": 10, "bni_sigma": 10,
}


def parse_args():
    parser = cli.ArgumentParser(description=__doc__)
    flags.add(parser, DEFAULTS, "shhs-dir")
    group = parser.add_argument_group("SHHS-DIR")
    group.add_argument("--epochs", type=int, default=80, help="passes over the training set")
    group.add_argument("--schedule", type=int, nargs="*", default=[60], help="epochs at which the rate falls to a tenth")
    group.add_argument("--width", type=int, default=32, help="channels of the first convolution; the last has 4 times that")
    group.add_argument("--d_hid", type=int, default=256, help="size of the epochs' and the nights' vectors, and of the MLP")
    group.add_argument("--segment", type=int, default=2048, help="30-s epochs whose activations are held at a time")
    args = parser.parse_args()
    plan = flags.plan(args)
    cli.check_least(args, width=1, d_hid=2, segment=1)
    if args.d_hid % 2:
        raise ValueError(f"--d_hid: expected an even number, half for each direction of the GRU, found {args.d_hid}")
    return args, plan


def main() -> None:
    args, plan = parse_args()
    # after the flags, so that --help answers at once
    import numpy as np
    from datasets import collate, length, read_splits
    from fds import FDS
    from models import NightEncoder, make_head
    from utils import BINS, evaluate, sample_weights

    from imbalanced_regression import Regressor
    from imbalanced_regression.tools import report
    from imbalanced_regression.training import Arrays, Splits
    from imbalanced_regression.training.randomness import seed_all

    with flags.started(args, "shhs", args.model) as (ranks, folder):
        data = read_splits(args.data_dir)
        train_scores = data["train"].scores
        labels = choices.Labels(BINS, BINS.counts(train_scores), train_scores)
        data["train"].weights = flags.sample_weights(args, labels, sample_weights)

        seed_all(args.seed)
        encoder = NightEncoder(width=args.width, d_hid=args.d_hid, segment=args.segment)
        head = make_head(encoder.feature_dim, start=float(np.median(train_scores)))
        model = Regressor(encoder, head, flags.build_fds(args, FDS, encoder.feature_dim))
        result = stages.train(
            args, plan, model, Splits(**data, collate=collate, length=length), labels,
            Arrays(lambda preds, scores, _: evaluate(preds, scores, train_scores)), folder=folder, runtime=ranks,
            published=sample_weights,
        )
        if ranks.is_main:
            report.write(
                None if args.evaluate else folder, result, train_labels=train_scores, bins=BINS,
                shots=result["test"]["per_bin"]["shot"], label="general health score", window=flags.lds(args),
                title=folder.name, predictions=args.predictions,
            )


if __name__ == "__main__":
    cli.guard(main)
