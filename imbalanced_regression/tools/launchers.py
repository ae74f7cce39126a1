"""Where the runs of a sweep are started: as printed commands, or as jobs of a Slurm cluster through submitit.

The one idea: a cluster's job does for one run what `sweep.run_all` does for all, so a requeued job resumes its run.
"""

from __future__ import annotations

import io
import shlex
import time
from contextlib import redirect_stderr
from pathlib import Path

from . import starting, states
from .rows import Job


def printed(jobs: list[Job]) -> list[str]:
    """One shell line for each run that is not done; rows that need another's checkpoint come after it, with {NAME} left in."""
    lines = []
    for job in jobs:
        if states.state(job) != "done":
            words = ["python", *states.command(job, jobs, strict=False)[1:]]
            lines.append(f"cd {shlex.quote(str(job.benchmark.resolve()))} && {shlex.join(words)}")
    return lines


class Remote:
    """One run, for submitit to call in a job of its own. Preempted or out of time it saves its step and is queued again."""

    def __init__(self, job: Job, jobs: list[Job]):
        self.job, self.jobs = job, jobs
        self.started: starting.Started | None = None

    def __call__(self) -> str:
        if states.state(self.job) == "done":
            return "done"
        while (ready := states.ready(self.job, self.jobs)) is False:
            time.sleep(1)
        if ready is None:
            states.give_up(self.job)
            return "failed"
        if states.state(self.job) == "done":  # by another job, which was waited for
            return "done"
        self.started = starting.Started(self.job, self.jobs, {}, starting.versions(self.job.benchmark))
        self.started.process.wait()
        self.started.ended()
        return states.state(self.job)

    def checkpoint(self):
        """What submitit calls before the job is ended, and then queues in its place."""
        import submitit

        if self.started is not None:
            self.started.ask_to_stop()
            self.started.wait()
        return submitit.helpers.DelayedSubmission(Remote(self.job, self.jobs))


def _levels(waiting: list[Job]) -> list[list[Job]]:
    """The runs in the order they can be started: each level needs checkpoints of the levels before it alone."""
    names = {(job.row.name, job.dataset, job.benchmark, job.seed) for job in waiting}
    levels, left = [], list(waiting)
    while left:
        first = [job for job in left
                 if not any((need, job.dataset, job.benchmark, job.seed) in names for need in job.row.needs)] or left
        names -= {(job.row.name, job.dataset, job.benchmark, job.seed) for job in first}
        levels.append(first)
        left = [job for job in left if job not in first]
    return levels


def submit(jobs: list[Job], root: Path, *, cluster: str = "slurm", at_once: int = 1, **parameters):
    """Submit the runs that are not done as a job array, and those that need their checkpoints as one that comes after it.

    Runs that only wait for others would else fill the array's places for good. Returns submitit's jobs.

    Args:
        cluster: "slurm", or submitit's "local" or "debug".
        at_once: runs of the array at a time.
        parameters: of submitit, for example slurm_partition, timeout_min, cpus_per_task, gpus_per_node.

    Raises ValueError where submitit or Slurm is not installed, or Slurm refuses the jobs.
    """
    try:
        import submitit
    except ImportError:
        raise ValueError("--launcher: submitit is not installed; pip install 'imbalanced_regression[sweep]'") from None
    waiting = [job for job in jobs if states.state(job) != "done"]
    states.forget_failures(waiting)
    if not waiting:
        return []
    try:
        submitted: list = []
        for level in _levels(waiting):
            slurm: dict = {"slurm_array_parallelism": at_once} if cluster == "slurm" else {}
            if slurm and submitted:
                before = {job.job_id.partition("_")[0] for job in submitted}
                slurm["slurm_additional_parameters"] = {"dependency": ":".join(["afterany", *sorted(before)])}
            executor = submitit.AutoExecutor(folder=root / "jobs", cluster=cluster)
            executor.update_parameters(**parameters, **slurm)
            # submitit prints what sbatch says before it raises it
            with redirect_stderr(io.StringIO()), executor.batch():
                made = [executor.submit(Remote(job, jobs)) for job in level]
            submitted += made
        return submitted
    except RuntimeError as error:  # submitit's word for sbatch that is not there, or that has refused
        why = "; ".join(str(error).split("\n"))
        raise ValueError(f"--launcher: {cluster} cannot be used here ({why}); --launcher local does without") from None
