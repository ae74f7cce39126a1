"""Flags become a plan, a name and methods: published names stay, and what makes no sense is refused in a line."""

from __future__ import annotations

import pytest

from imbalanced_regression import choices, cli, flags

AGES = {"loss": "l1", "lr": 1e-3, "batch_size": 256, "lds_ks": 9, "lds_sigma": 1, "fds_ks": 9, "fds_sigma": 1,
        "bucket_num": 100, "bucket_start": 3}


def parse(*words: str, **defaults):
    parser = cli.ArgumentParser()
    flags.add(parser, {**AGES, **defaults})
    return parser.parse_args(list(words))


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("", "agedb_resnet50_adam_l1_0.001_256"),
        ("--reweight sqrt_inv", "agedb_resnet50_sqrt_inv_adam_l1_0.001_256"),
        ("--reweight sqrt_inv --lds --fds", "agedb_resnet50_lds_gau_9_1_fds_gau_9_1_0_1_0.9_adam_l1_0.001_256"),
        ("--reweight inverse --lds --lds_kernel triang", "agedb_resnet50_lds_tri_9_adam_l1_0.001_256"),
        ("--fds --fds_kind own --fds_stats streaming", "agedb_resnet50_fds_gau_9_1_0_1_0.9_own_adam_l1_0.001_256"),
        ("--fds --fds_kernel laplace --start_update 1 --fds_mmt 0.8", "agedb_resnet50_fds_lap_9_1_1_1_0.8_adam_l1_0.001_256"),
        ("--loss focal_mse --lr 2.5e-4 --batch_size 64", "agedb_resnet50_adam_focal_mse_0.00025_64"),
        ("--retrain_fc --pretrained x --reweight inverse", "agedb_resnet50_inverse_retrain_fc_adam_l1_0.001_256"),
        ("--store_name try --seed 2", "agedb_resnet50_try_adam_l1_0.001_256_seed2"),
        ("--terms ranksim --ranksim_strength 100", "agedb_resnet50_ranksim_100_2_adam_l1_0.001_256"),
        ("--loss bmc --bmc_sigma 10 --bmc_learn", "agedb_resnet50_adam_bmc_10_learn_0.01_0.001_256"),
        ("--head uvote --uvote_heads 3", "agedb_resnet50_uvote_3_adam_l1_0.001_256"),
        ("--pretrain rnc", "agedb_resnet50_pretrain_adam_rnc_2_0.001_256"),
        ("--ascent 0.2 --optimizer_is_adam", None),
    ],
)
def test_runs_have_their_published_names(words, name):
    if name is None:
        with pytest.raises(SystemExit):
            parse(*words.split())
        return
    args = parse(*words.split())
    flags.plan(args)
    assert flags.run_name(args, "agedb", "resnet50") == name


def test_flags_become_a_plan():
    plan = flags.plan(parse("--lr", "0.1", "--seed", "3", "--terms", "conr", "--ascent", "0.2"))
    assert (plan.lr, plan.seed, plan.batch_size, plan.ascent, plan.views, plan.keep) == (0.1, 3, 256, 0.2, 2, "best")
    assert flags.plan(parse("--pretrain", "rnc")).keep == "last"
    assert flags.plan(parse("--terms", "conr", "--views", "1")).views == 1


def test_retraining_needs_no_weights():
    assert flags.plan(parse("--retrain_fc", "--pretrained", "x")).retrain_fc


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--lds", "--lds: smooths the weights of --reweight, found 'none'; add"),
        ("--lds --reweight dense", "--lds: .* found 'dense'"),
        ("--retrain_fc", "--retrain_fc: .* pass it by --pretrained"),
        ("--evaluate", "--evaluate: .* pass it by --resume"),
        ("--lr 0", "--lr: expected a number above 0, found 0"),
        ("--batch_size 0", "--batch_size: expected at least 1, found 0"),
        ("--seed -1", "--seed: expected at least 0, found -1"),
        ("--ascent -1", "--ascent: expected at least 0, found -1"),
        ("--fds --fds_kind released --fds_stats streaming", "--fds_stats: --fds_kind released takes .* found streaming; leave"),
        ("--fds_mmt 1", "--fds_mmt: expected at least 0 and below 1, found 1"),
        ("--lds_ks 4", "--lds_ks"),
        ("--bucket_start 100", "--bucket_start: expected 0 to --bucket_num - 1 = 99, found 100"),
        ("--huber_beta 0", "--huber_beta: expected a number above 0"),
        ("--loss bmc --reweight inverse", "--loss bmc: balances the labels itself, found --reweight inverse"),
        ("--head uvote --reweight inverse", "--head uvote: weighs each head by itself, found --reweight inverse"),
        ("--terms ranksim ranksim", "--terms: ranksim is named twice"),
        ("--pretrain rnc --terms ranksim", "--pretrain rnc: trains the encoder alone; leave out --terms"),
        ("--pretrain rnc --fds", "--pretrain rnc: .* leave out --fds"),
        ("--resample smogn", "--resample smogn: makes rows of a table .*add --retrain_fc --pretrained CKPT"),
        ("--predictions x.csv", "--predictions: goes with --evaluate"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(words, said):
    with pytest.raises(ValueError, match=said) as error:
        flags.plan(parse(*words.split()))
    assert "\n" not in str(error.value)


def test_a_default_of_no_flag_is_refused():
    with pytest.raises(ValueError, match="defaults: expected the names of flags, found 'lds_kss'"):
        flags.add(cli.ArgumentParser(), {"lds_kss": 5})


def test_settings_of_methods_not_used_are_known():
    settings = flags.settings(parse("--terms", "ranksim", "--loss", "focal_l1"))
    unused = choices.of_methods_not_used(settings)
    others = {"lds_ks", "fds_mmt", "bucket_start", "start_update", "bmc_sigma", "conr_push", "huber_beta", "uvote_heads"}
    assert others <= unused
    assert not {"ranksim_strength", "focal_beta", "lr", "loss"} & unused
    assert choices.owners("focal_beta") == ["focal_l1", "focal_mse"]
