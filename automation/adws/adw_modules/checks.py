"""The project's check command, and the state of the worktree around it."""

import os
from dataclasses import dataclass
from typing import Any

from adw_modules import git, markers
from adw_modules.agent import new_folder
from adw_modules.phase import Run
from adw_modules.state import now

TAIL_MAX_BYTES = 4000
# Left behind by test runs of agents; never part of a change where the project does not track them.
DROPPINGS = (
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    "node_modules",
    ".venv",
    ".DS_Store",
)


@dataclass(frozen=True)
class Check:
    """How a check ended."""

    command: str
    ok: bool
    code: int
    timed_out: bool
    seconds: float
    output: str

    def sentence(self) -> str:
        """Say it in one sentence."""
        if self.ok:
            return f"the check command passed in {self.seconds:.1f} s"
        how = "did not end in time" if self.timed_out else f"failed with exit code {self.code}"
        return f"the check command {how}: {self.command}"


def run_check(run: Run, path: str) -> Check:
    """Run the check command in the worktree; its output goes to a file, its end to the log."""
    from adw_modules.proc import project_env, run_tree, tail

    folder = new_folder(run, "check")
    log = os.path.join(folder, "output.log")
    markers.say(f"check: {run.cfg.check_command}")
    ended = run_tree(
        ["/bin/sh", "-c", run.cfg.check_command],
        cwd=path,
        env=project_env({"ADW_ID": run.adw_id, "ADW_PHASE": run.phase}),
        stdin_path=os.devnull,
        out_path=log,
        err_path=log,
        timeout_s=run.cfg.check_timeout_s,
    )
    ok = ended.code == 0 and not ended.timed_out and not ended.too_much
    output = tail(log, TAIL_MAX_BYTES)
    check = Check(run.cfg.check_command, ok, ended.code, ended.timed_out, ended.seconds, output)
    markers.say(check.sentence())
    if not ok:
        markers.say(output or "(no output)", "| ")
    return check


def record(run: Run, check: Check, tree: str) -> None:
    """Note the result and the tree it belongs to; the review reads it."""
    entry: dict[str, Any] = {
        "command": check.command,
        "ok": check.ok,
        "exit_code": check.code,
        "timed_out": check.timed_out,
        "seconds": round(check.seconds, 3),
        "checked_at": now(),
        "tree": tree,
        "output_tail": check.output[-1500:],
    }
    run.set(last_check=entry)


def stage_all(path: str) -> None:
    """Stage every change except what tools leave behind."""
    excluded = [f":(exclude,glob)**/{name}" for name in DROPPINGS]
    excluded += [f":(exclude,glob)**/{name}/**" for name in DROPPINGS]
    git.run(["add", "--update"], path)
    code, _, err = git.run(["add", "--all", "--", ".", *excluded], path, ok=(0, 1))
    if code == 1 and "ignored" not in err:
        raise git.failure(["add"], err)


def tidy(path: str) -> None:
    """Take back what is neither committed nor staged: the by-products of the check and of the agent."""
    left = [line for line in git.status(path) if line[:2] == "??" or line[1] != " "]
    if not left:
        return
    markers.say(f"note: {len(left)} by-products that are not part of the change are removed:")
    for line in left[:20]:
        markers.say(line, "  ")
    git.run(["restore", "--worktree", "--", "."], path, ok=(0, 1))
    git.run(["clean", "--quiet", "--force", "-d", "--", "."], path)
