"""`python -m imbalanced_regression sweep`: rows, resuming, failures, kills, launchers; with a train.py made for the tests."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from imbalanced_regression import __main__ as tools
from imbalanced_regression.tools import rows, starting, sweep

ROOT = Path(__file__).resolve().parents[1]
METHODS = """
[vanilla]
flags = ""
paper = true
published = { l1 = { overall = 7.77 } }
source = "the paper, table 2"

[inv]
flags = "--reweight inverse"
paper = true

[again]
flags = "--reweight sqrt_inv --pretrained {vanilla}"

[broken]
flags = "--fail"
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "toy-dir"
    made.mkdir()
    shutil.copy(ROOT / "tests" / "programs" / "fake_train.py", made / "train.py")
    (made / "methods.toml").write_text(METHODS)
    return made


def words(*given) -> list[str]:
    """The sweep in a process of its own."""
    return [sys.executable, str(ROOT / "tests" / "programs" / "light_sweep.py"), "sweep", *map(str, given)]


@pytest.fixture
def call(monkeypatch, capsys):
    """The same in this process: (folder, flags...) -> its stdout and stderr; it runs beside the folder."""
    monkeypatch.setattr(starting, "HEAVY", ())

    def called(folder, *given, code: int = 0) -> SimpleNamespace:
        monkeypatch.chdir(Path(folder).parent)
        monkeypatch.setattr(sys, "argv", [tools.PROGRAM, "sweep", *map(str, (folder, *given))])
        capsys.readouterr()
        found = 0
        try:
            tools.guard(tools.main)
        except SystemExit as end:
            found = end.code
        said = SimpleNamespace(**dict(zip(("stdout", "stderr"), capsys.readouterr())))
        assert found == code, said
        return said

    return called


def errors(said: SimpleNamespace) -> list[str]:
    """The lines of the printed text but for those of the cost, which no two runs share."""
    lines = said.stdout.splitlines()
    cost = next(i for i, line in enumerate(lines) if line.startswith("cost"))
    return lines[:cost] + lines[lines.index("", cost):]


def starts(out: Path) -> dict[str, int]:
    """How often each run was started, by its place."""
    return {str(file.parent.parent.relative_to(out)): file.read_text().count("start") for file in out.rglob("starts.txt")}


def test_rows_and_seeds_make_a_table_and_a_second_call_starts_nothing(folder, tmp_path, call):
    done = call(folder, "--seeds", "0-1", "--jobs", "2", "--metrics", "mse")
    table = done.stdout.splitlines()
    assert table[0] == "toy-dir"
    assert [line.split()[:3] for line in table[3:5]] == [["vanilla", "2", "1.500"], ["inv", "2", "1.500"]]
    assert "4 of 4 done, 0 running, 0 failed" in done.stderr
    before = starts(tmp_path / "sweep")
    assert len(before) == 4
    assert set(before.values()) == {1}
    assert call(folder, "--seeds", "0-1", "--metrics", "mse").stdout == done.stdout
    assert starts(tmp_path / "sweep") == before


def test_the_record_of_a_run_says_how_it_was_made(folder, tmp_path, call):
    call(folder, "--methods", "inv", "--seeds", "3", "--", "--table", "x")
    record = json.loads(next((tmp_path / "sweep").rglob("run.json")).read_text())
    assert record["command"].startswith("python train.py --table x --reweight inverse --seed 3 --store_root ")
    assert record["row"] == "inv"
    assert record["seconds"] > 0
    assert record["hardware"]["cores"] == os.cpu_count()
    assert "torch" in record["software"]


def test_other_flags_are_other_runs(folder, tmp_path, call):
    call(folder, "--methods", "inv")
    call(folder, "--methods", "inv", "--", "--table", "x")
    assert len(starts(tmp_path / "sweep")) == 2


def test_a_gpu_that_is_not_there_is_said_and_its_runs_take_the_cpu(folder, monkeypatch, call):
    monkeypatch.setattr(starting, "hardware", lambda: {"cpu": "a CPU", "cores": 2, "gpus": ["a GPU"]})
    done = call(folder, "--gpus", "0,3", "--seeds", "0-1", "--methods", "inv")
    assert "--gpus 3: nvidia-smi shows 1 here, counted from 0; a run on another takes the CPU" in done.stderr
    assert "2 of 2 done" in done.stderr
    assert "--gpus" not in call(folder, "--gpus", "0", "--seeds", "0-1", "--methods", "inv").stderr


def test_a_failed_run_ends_no_other_is_listed_and_tried_again(folder, tmp_path, call):
    done = call(folder, "--methods", "broken", "vanilla")
    assert "failed: toy-dir broken seed 0: exit code 2: fake_train.py: error: --lr: told to fail" in done.stderr
    assert "1 of 2 done, 0 running, 1 failed" in done.stderr
    assert "vanilla" in done.stdout
    call(folder, "--methods", "broken", "vanilla")
    assert sorted(starts(tmp_path / "sweep").values()) == [1, 2]
    status = call(folder, "--methods", "broken", "vanilla", "--status")
    assert "told to fail" in status.stderr
    assert sorted(starts(tmp_path / "sweep").values()) == [1, 2]


def test_a_row_that_needs_a_checkpoint_brings_the_other_along_and_waits_for_it(folder, tmp_path, call):
    call(folder, "--methods", "again", "--seeds", "0,2", "--jobs", "4")
    runs = [json.loads(file.read_text()) for file in (tmp_path / "sweep").rglob("args.json")]
    used = [run for run in runs if run["pretrained"]]
    assert len(runs) == 4
    assert {Path(run["pretrained"]).read_text() for run in used} == {"checkpoint of seed 0", "checkpoint of seed 2"}
    assert all(Path(run["pretrained"]).read_text() == f"checkpoint of seed {run['seed']}" for run in used)


def test_a_row_whose_checkpoint_will_never_be_is_listed(folder, call):
    (folder / "methods.toml").write_text(METHODS.replace("{vanilla}", "{broken}"))
    done = call(folder, "--methods", "again")
    assert "again seed 0: not started: a run whose checkpoint it needs has failed" in done.stderr


@pytest.mark.parametrize(("number", "fork"), [(signal.SIGTERM, "never"), (signal.SIGKILL, "never"), (signal.SIGKILL, "always")])
def test_a_killed_sweep_ends_its_runs_and_the_same_command_goes_on_to_the_same_table(folder, tmp_path, call, number, fork):
    go = tmp_path / "go"
    given = (folder, "--methods", "vanilla", "inv", "--jobs", "2", "--fork", fork, "--", "--hold", go)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words(*given), cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        try:
            wait_until(lambda: len(list((tmp_path / "sweep").rglob("ckpt.best.pth.tar"))) == 2)
            again = call(*given[:-3], "--status")
            assert "another sweep works in" in call(*given, code=2).stderr
            assert "0 of 2 done" in again.stderr
        finally:
            first.send_signal(number)
    wait_until(lambda: len(list((tmp_path / "sweep").rglob("saved"))) == 2)
    go.touch()
    done = call(*given)
    assert "2 of 2 done" in done.stderr
    assert set(starts(tmp_path / "sweep").values()) == {2}
    assert errors(call(*given[:-3], "--out", tmp_path / "other", "--fork", "never")) == errors(done)


def wait_until(true) -> None:
    """Until an event: a sweep that hangs is ended by the test's own time limit of ten minutes, which decides nothing else."""
    import time

    end = time.monotonic() + 600
    while not true():
        assert time.monotonic() < end, "the event never came"
        time.sleep(0.02)


def test_forks_of_one_process_are_runs_like_any_other(folder, tmp_path, call):
    done = call(folder, "--methods", "broken", "again", "--seeds", "0-2", "--jobs", "2", "--", "--table", "x")  # 9 runs: forks
    assert "6 of 9 done, 0 running, 3 failed" in done.stderr
    assert "failed: toy-dir broken seed 0: exit code 2: fake_train.py: error: --lr: told to fail" in done.stderr
    given = (folder, "--methods", "again", "--seeds", "0-2", "--out", tmp_path / "fresh", "--fork", "never")
    fresh = call(*given, "--", "--table", "x")
    assert errors(fresh) == errors(done)
    records = [json.loads(file.read_text()) for file in (tmp_path / "sweep").rglob("run.json")]
    assert all(record["seconds"] > 0 for record in records)


WORKERS = """
import multiprocessing

def work():
    pass

if __name__ == "__main__":
    for context in (multiprocessing, multiprocessing.get_context("spawn")):  # the second reads the script anew
        worker = context.Process(target=work)
        worker.start()
        worker.join()
        assert worker.exitcode == 0, context
    print("workers by", multiprocessing.get_start_method())
    exec(compile(FAKE, "fake_train.py", "exec"))
"""


def test_processes_that_a_forked_run_starts_are_those_of_a_fresh_one(folder, tmp_path, call):
    """Such as load its data: the sweep is begun beside the folder, where there is no train.py."""
    fake = (folder / "train.py").read_text().replace("from __future__ import annotations", "")
    (folder / "train.py").write_text(WORKERS.replace("FAKE", repr(fake)))
    outputs = {}
    for fork in ("always", "never"):
        done = call(folder, "--methods", "vanilla", "--out", tmp_path / fork, "--fork", fork)
        assert "1 of 1 done" in done.stderr
        outputs[fork] = next((tmp_path / fork).rglob("output.log")).read_text()
    assert "workers by" in outputs["always"]
    assert outputs["always"] == outputs["never"]


@pytest.mark.parametrize(("asked", "threads"), [(None, 4), ("1", 1), ("16", 4), ("", 4), ("0", 4), ("many", 4), ("2,1", 4)])
def test_runs_share_the_cores_or_keep_to_the_callers_threads(asked, threads, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert sweep.threads_each(2) == threads
    assert sweep.threads_each(100) == 1


def test_print_gives_one_command_a_line_that_a_shell_can_run(folder, tmp_path, call):
    lines = call(folder, "--methods", "vanilla", "inv", "--print").stdout.splitlines()
    assert len(lines) == 2
    subprocess.run(lines[1], shell=True, check=True)
    assert call(folder, "--methods", "vanilla", "inv", "--print").stdout.splitlines() == lines[:1]


def test_a_folder_may_have_several_data_sets(folder, call):
    published = METHODS.replace("{ l1 = { overall = 7.77 } }", "{ b = { l1 = { overall = 7.77 } } }")
    (folder / "methods.toml").write_text('[datasets]\na = "--table a"\nb = "--table b"\n' + published)
    done = call(folder, "--methods", "vanilla")
    assert [line for line in done.stdout.splitlines() if line.startswith("toy-dir")] == ["toy-dir a", "toy-dir b"]
    assert "2 of 2 done" in done.stderr
    assert "--datasets: " in call(folder, "--datasets", "c", code=2).stderr


def test_data_sets_of_ones_own_are_a_name_and_flags(folder, call):
    own = ["--datasets", "gap: --split 'a b.csv'", "full: "]
    printed = call(folder, "--methods", "vanilla", *own, "--print").stdout.splitlines()
    assert [("--split 'a b.csv'" in line, line.count("--split")) for line in printed] == [(True, 1), (False, 0)]
    done = call(folder, "--methods", "vanilla", "inv", "--datasets", "gap: --table a", "full: --table b")
    assert [line for line in done.stdout.splitlines() if line.startswith("toy-dir")] == ["toy-dir gap", "toy-dir full"]
    (folder / "methods.toml").write_text('[datasets]\na = "--table a"\nb = "--table b"\n' + METHODS.replace("published", "#"))
    for word, said in (("a: --table b", "there are two data sets 'a'"), ("c", "has a, b, found 'c'; one of your own is"),
                       ("c d: --table a", "a data set's name has letters"), ("c: 'x", "No closing quotation")):
        assert said in call(folder, "--datasets", word, code=2).stderr
    mixed = rows.choose_datasets(rows.read_benchmark(folder), ["b", "c: --table c", "c: --table c"])
    assert mixed == {"b": ("--table", "b"), "c": ("--table", "c")}


def test_the_folder_one_is_in_has_its_name(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert rows.read_benchmark(Path(".")).folder.name == "toy-dir"


def test_rows_of_ones_own(folder, call):
    done = call(folder, "--methods", "vanilla", "--row", "mine: --reweight 'sqrt_inv'")
    assert [line.split()[0] for line in done.stdout.splitlines()[3:5]] == ["vanilla", "mine"]


def test_published_numbers_may_be_of_one_data_set_and_must_be_numbers(folder):
    (folder / "methods.toml").write_text('[datasets]\na = "--table a"\nb = "--table b"\n[vanilla]\nflags = ""\n'
                                         "published = { a = { l1 = { few = 2.5 } } }\n")
    row = rows.read_benchmark(folder).rows["vanilla"]
    assert (row.published_on("a"), row.published_on("b")) == ({"l1": {"few": 2.5}}, {})
    text = (folder / "methods.toml").read_text()
    (folder / "methods.toml").write_text(text.replace("a = { l1", "c = { l1"))
    with pytest.raises(ValueError, match=r"\[vanilla\] published: expected data sets \(a, b\), found 'c'"):
        rows.read_benchmark(folder)
    (folder / "methods.toml").write_text(text.replace("2.5", "'x'"))
    with pytest.raises(ValueError, match="published: expected { l1 ="):
        rows.read_benchmark(folder)


@pytest.mark.parametrize(("given", "said"), [
    (["--methods", "no"], "--methods: .*has no row 'no'; expected all, paper, vanilla, inv, again, broken"),
    (["--seeds", "4-1"], "--seeds: expected numbers and ranges such as 0-4 or 0,2,7, found '4-1'"),
    (["--seeds", "x"], "found 'x'"),
    (["--row", "nothing"], "--row: expected \"name: --flags\""),
    (["--row", "a b: --x"], "a row's name has letters"),
    (["--row", "vanilla: --x"], "--row: there are two rows 'vanilla'; give yours another name"),
    (["--row", "mine: --x", "--row", "mine: --y"], "--row: there are two rows 'mine'; give yours another name"),
    (["--", "--seed", "3"], "--seed: the sweep sets it for each run; pass --seeds, before the --"),
    (["--", "--store_root=x"], "--store_root: the sweep sets it for each run; pass --out, before the --"),
    (["--jobs", "0"], "--jobs: expected at least 1, found 0"),
])
def test_bad_input_is_one_line_and_exit_code_2(folder, given, said, call):
    done = call(folder, *given, code=2)
    assert len(done.stderr.strip().splitlines()) == 1
    assert re.search(said, done.stderr)


def cluster(tmp_path, monkeypatch, sbatch: str) -> None:
    """Put a stand-in for Slurm, whose `sbatch` is a line of shell, before all other programs."""
    (tmp_path / "bin").mkdir()
    for name, line in {"sbatch": sbatch, "srun": "true"}.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")


@pytest.mark.parametrize("sbatch", [None, "echo 'sbatch: error: no such partition' >&2; echo 'sbatch: gave up' >&2; exit 1"])
def test_slurm_that_is_missing_or_refuses_is_one_line(folder, tmp_path, monkeypatch, call, sbatch):
    pytest.importorskip("submitit")
    if sbatch:
        cluster(tmp_path, monkeypatch, sbatch)
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    said = call(folder, "--launcher", "slurm", code=2).stderr.strip()
    assert len(said.splitlines()) == 1
    assert "--launcher: " in said
    if sbatch:
        assert "slurm cannot be used here (sbatch: error: no such partition; sbatch: gave up); --launcher local" in said


def test_an_array_of_runs_that_need_others_begins_after_theirs(folder, tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    from imbalanced_regression.tools import launchers

    cluster(tmp_path, monkeypatch, f"cat $1 >> {tmp_path}/scripts; echo ENDED >> {tmp_path}/scripts; "
                                   f"echo Submitted batch job 4$(grep -c ^ENDED {tmp_path}/scripts)")
    (folder / "methods.toml").write_text('[vanilla]\nflags = ""\n[then]\nflags = "--resume {vanilla}"\n')
    jobs = rows.make_jobs([rows.read_benchmark(folder)], ["vanilla", "then"], [], [0, 1], [], tmp_path / "sweep")
    made = launchers.submit(jobs, tmp_path / "sweep", at_once=3, timeout_min=5, slurm_partition="big")
    assert [job.job_id for job in made] == ["41_0", "41_1", "42_0", "42_1"]
    first, second = (tmp_path / "scripts").read_text().split("ENDED\n")[:2]
    assert "#SBATCH --array=0-1%2\n" in first  # two runs at most at a time: there are no more
    assert "#SBATCH --partition=big" in first
    assert "dependency" not in first
    assert "#SBATCH --dependency=afterany:41" in second


def test_what_is_no_benchmark_is_said(folder, tmp_path, call):
    (tmp_path / "empty").mkdir()
    assert "is no benchmark's folder: it has no train.py" in call(tmp_path / "empty", code=2).stderr
    (folder / "methods.toml").unlink()
    assert "has no methods.toml" in call(folder, code=2).stderr
    (folder / "methods.toml").write_text("[vanilla]\nflag = 3\n")
    assert "[vanilla] has no flags" in call(folder, code=2).stderr
    (folder / "methods.toml").write_text("[vanilla\n")
    assert "methods.toml: " in call(folder, code=2).stderr


def test_runs_of_several_versions_are_not_one_table_unless_told(folder, tmp_path, call):
    call(folder, "--methods", "vanilla", "inv")
    record = next((tmp_path / "sweep").rglob("run.json"))
    record.write_text(json.dumps({**json.loads(record.read_text()), "software": {"commit": "another"}}))
    assert "--mixed: the runs were made by 2 versions" in call(folder, "--methods", "vanilla", "inv", code=2).stderr
    assert "vanilla" in call(folder, "--methods", "vanilla", "inv", "--mixed").stdout


def test_submitits_local_executor_runs_the_same_jobs(folder, tmp_path):
    pytest.importorskip("submitit")
    from imbalanced_regression.tools import launchers

    jobs = rows.make_jobs([rows.read_benchmark(folder)], ["again"], [], [0], [], tmp_path / "sweep")
    done = launchers.submit(jobs, tmp_path / "sweep", cluster="local", timeout_min=5)
    assert [job.result() for job in done] == ["done", "done"]
    assert [sweep.state(job) for job in jobs] == ["done", "done"]
    assert launchers.submit(jobs, tmp_path / "sweep", cluster="local") == []


def test_runs_that_need_others_are_submitted_after_them(folder, tmp_path):
    from imbalanced_regression.tools import launchers

    text = METHODS + '\n[third]\nflags = "--pretrained {again}"\n'
    (folder / "methods.toml").write_text(text)
    jobs = rows.make_jobs([rows.read_benchmark(folder)], ["third", "inv"], [], [0, 1], [], tmp_path / "sweep")
    levels = [[(job.row.name, job.seed) for job in level] for level in launchers._levels(jobs)]
    assert [sorted(level) for level in levels] == [
        [("inv", 0), ("inv", 1), ("vanilla", 0), ("vanilla", 1)], [("again", 0), ("again", 1)], [("third", 0), ("third", 1)],
    ]
