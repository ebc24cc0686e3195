"""What must still hold in the worktree after an agent was in it."""

from typing import TYPE_CHECKING

from adw_modules import agent, git, markers
from adw_modules.errors import AGENT_UNUSABLE, NO_WORKTREE, AdwError
from adw_modules.worktree import is_worktree_of

if TYPE_CHECKING:
    from adw_modules.phase import Run

SHOWN = 20


def ask(run: "Run", role: str, prompt: str, path: str) -> str:
    """Call an agent that is to read only; what it wrote all the same is taken back."""
    before = (git.branch(path), git.head(path))
    clean = not git.status(path)
    text = agent.invoke(run, role, prompt, cwd=path, writes=False)
    _still_there(run, path)
    if (git.branch(path), git.head(path)) != before:
        message = f"the {role} agent moved the worktree off {before[0] or before[1]}; it was to read only"
        raise AdwError(AGENT_UNUSABLE, "agent", message)
    if clean and git.status(path):
        markers.say(f"note: the {role} agent changed files although it was to read only; taken back:")
        discard(path)
    return text


def work(run: "Run", role: str, prompt: str, path: str, branch: str) -> str:
    """Call an agent that is to change the worktree, and check that it stayed on the branch."""
    start = git.head(path)
    text = agent.invoke(run, role, prompt, cwd=path, writes=True)
    _still_there(run, path)
    current = git.branch(path)
    if current != branch:
        message = f"the {role} agent moved the worktree from {branch} to {current or 'a detached HEAD'}"
        raise AdwError(AGENT_UNUSABLE, "agent", f"{message}; git switch {branch} brings it back")
    if not git.is_ancestor(path, start, "HEAD"):
        message = f"the {role} agent rewrote the history of {branch}: {start} is no longer part of it"
        raise AdwError(AGENT_UNUSABLE, "agent", message)
    return text


def _still_there(run: "Run", path: str) -> None:
    if not is_worktree_of(path, run.cfg.root):
        raise AdwError(NO_WORKTREE, "agent", f"the agent removed the worktree {path}")


def discard(path: str) -> None:
    """Put the worktree back to HEAD: it belongs to this run alone, and what is lost is told."""
    lines = git.status(path)
    for line in lines[:SHOWN]:
        markers.say(line, "  ")
    if len(lines) > SHOWN:
        markers.say(f"… and {len(lines) - SHOWN} more", "  ")
    git.run(["reset", "--quiet", "--hard", "HEAD"], path)
    git.run(["clean", "--quiet", "-f", "-d"], path)
