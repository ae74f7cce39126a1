"""Train on AgeDB-DIR: face -> age.

    python train.py                                                              # vanilla
    python train.py --reweight sqrt_inv --lds --fds                              # LDS + FDS
    python train.py --reweight sqrt_inv --lds --lds_kernel gaussian --lds_ks 5 --lds_sigma 2
    python train.py --retrain_fc --pretrained <ckpt> --reweight inverse          # RRT
    python train.py --evaluate --resume <ckpt>
    CUDA_VISIBLE_DEVICES=0,1,2,3 python train.py                                 # DataParallel
    torchrun --nproc_per_node 4 train.py --amp bf16 --channels_last --local_bn --compile    # a process for each GPU
    python make_sample.py && python train.py --data_dir sample --model resnet18 --img_size 32   # drawn faces, on a CPU
"""

from __future__ import annotations

from imbalanced_regression import choices, cli, flags, stages
from imbalanced_regression.faces.flags import add_face_flags, face_plan

DEFAULTS = {
    "loss": "l1", "lr": 1e-3, "batch_size": 256, "lds_ks": 9, "lds_sigma": 1, "fds_ks": 9, "fds_sigma": 1,
    "bucket_num": 100, "bucket_start": 3, "bmc_sigma": 10, "gai_sigma": 10, "bni_sigma": 10, "ranksim_strength": 100,
}


def parse_args():
    parser = cli.ArgumentParser(description=__doc__)
    flags.add(parser, DEFAULTS, "agedb-dir")
    add_face_flags(parser, dataset="agedb")
    args = parser.parse_args()
    return args, face_plan(args)


def main() -> None:
    args, plan = parse_args()
    # after the flags, so that --help answers at once
    from datasets import read_splits
    from resnet import PUBLISHED_TO_OURS, make_model
    from utils import AGE_BINS, evaluate, sample_weights

    from imbalanced_regression.faces.ages import age_splits
    from imbalanced_regression.tools import report
    from imbalanced_regression.training import Arrays
    from imbalanced_regression.training.randomness import seed_all

    with flags.started(args, args.dataset, args.model, suffix=flags.split_name(args), images=True) as (ranks, folder):
        rows = read_splits(
            args.data_dir, args.dataset, split=args.split, skip_bad_images=args.skip_bad_images, img_size=args.img_size,
            workers=args.workers,
        )
        train_ages = rows["train"].ages
        labels = choices.Labels(AGE_BINS, AGE_BINS.counts(train_ages), train_ages)
        weights = flags.sample_weights(args, labels, sample_weights)
        splits = age_splits(rows, weights, img_size=args.img_size, seed=args.seed, cache=args.cache, workers=args.workers)

        seed_all(args.seed)
        model = make_model(args.model, imagenet=args.imagenet, fds=args.fds, **flags.fds(args))
        result = stages.train(
            args, plan, model, splits, labels, Arrays(lambda preds, ages, _: evaluate(preds, ages, train_ages)), folder=folder,
            runtime=ranks, renames=PUBLISHED_TO_OURS, published=sample_weights,
        )
        if ranks.is_main:
            report.write(
                None if args.evaluate else folder, result, train_labels=train_ages, bins=AGE_BINS,
                shots=result["test"]["per_bin"]["shot"], label="age (years)", window=flags.lds(args), title=folder.name,
                predictions=args.predictions,
            )


if __name__ == "__main__":
    cli.guard(main)
