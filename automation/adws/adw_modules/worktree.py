"""The worktree of a run: made here in a manual run, taken over from the daemon otherwise."""

import os

from adw_modules import git, markers
from adw_modules.errors import GIT, NO_WORKTREE, AdwError

EXCLUDE_BEGIN = "# adwd begin"
EXCLUDE_END = "# adwd end"


def ensure_exclude(root: str, folders: list[str]) -> None:
    """Keep a block in `.git/info/exclude` with those of our folders that lie inside the project."""
    lines = []
    for folder in folders:
        relative = os.path.relpath(folder, root)
        if not relative.startswith("..") and relative != ".":
            lines.append(f"/{relative}/")
    block = "\n".join([EXCLUDE_BEGIN, *lines, EXCLUDE_END]) + "\n"
    common = git.common_dir(root)
    path = os.path.join(common, "info", "exclude")
    with git.repo_lock(root):
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as stream:
                old = stream.read()
        except FileNotFoundError:
            old = ""
        if EXCLUDE_BEGIN in old and EXCLUDE_END in old:
            before, _, rest = old.partition(EXCLUDE_BEGIN)
            kept, _, after = rest.partition(EXCLUDE_END)
            missing = [line for line in lines if line not in kept.splitlines()]
            if not missing:
                return
            body = [line for line in kept.splitlines() if line] + missing
            new = before + "\n".join([EXCLUDE_BEGIN, *body, EXCLUDE_END]) + after
        else:
            new = old + ("" if not old or old.endswith("\n") else "\n") + block
        from adw_modules.state import write_atomic

        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_atomic(path, new.encode("utf-8", "surrogateescape"))


def is_worktree_of(path: str, root: str) -> bool:
    """Tell whether this folder is the top of a worktree of the project."""
    if not os.path.isdir(path):
        return False
    code, text, _ = git.run(
        ["rev-parse", "--path-format=absolute", "--show-toplevel", "--git-common-dir"], path, ok=range(256)
    )
    lines = text.splitlines()
    if code != 0 or len(lines) != 2:
        return False
    same_top = os.path.realpath(lines[0]) == os.path.realpath(path)
    return same_top and os.path.realpath(lines[1]) == os.path.realpath(git.common_dir(root))


def _registered(root: str, path: str) -> str:
    """Return what git's list says about this path: "", "ok", "initializing" or "missing"."""
    for block in git.out(["worktree", "list", "--porcelain"], root).split("\n\n"):
        lines = block.splitlines()
        if lines and os.path.realpath(lines[0][len("worktree ") :]) == os.path.realpath(path):
            if any(line == "locked initializing" for line in lines):
                return "initializing"
            return "ok" if os.path.isdir(path) else "missing"
    return ""


def _clear(root: str, path: str) -> None:
    """Clear what a killed attempt of this very run left: the run lock says that nobody else works on it."""
    args = ["worktree", "remove", "--force", "--force", path]
    if git.run(args, root, ok=range(256))[0] == 0:
        return
    if os.path.lexists(path):
        # Half made, without its .git file: git refuses. Nothing is deleted, it is moved aside.
        aside = f"{path}.broken-{os.urandom(3).hex()}"
        os.rename(path, aside)
        markers.say(f"note: {path} was left half made; what it held is now {aside}")
    git.run(args, root)


def _add(root: str, path: str, what: list[str]) -> None:
    known = _registered(root, path)
    if known == "ok":
        raise AdwError(GIT, "git", f"{path} is registered as a worktree but unusable; see git worktree list")
    if known in {"initializing", "missing"}:
        _clear(root, path)
    elif os.path.lexists(path) and (not os.path.isdir(path) or os.listdir(path)):
        raise AdwError(GIT, "git", f"{path} exists and is no worktree of this project; move it away")
    args = ["worktree", "add", "--quiet", *what]
    try:
        git.run(args, root)
    except AdwError as problem:
        if "commondir" not in problem.message:
            raise
        # A killed `worktree add` of anyone poisons the repository; this removes only broken entries.
        git.run(["worktree", "prune", "--expire=3.months.ago"], root, ok=range(256))
        git.run(args, root)


def ensure(root: str, path: str, base_commit: str, branch: str) -> bool:
    """Make sure that there is a worktree at this path; True when it was made now.

    It stands on the branch where that exists already, else detached at the base commit.
    """
    if is_worktree_of(path, root):
        return False
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with git.repo_lock(root):
        if branch and git.branch_exists(root, branch):
            _add(root, path, [path, branch])
        else:
            _add(root, path, ["--detach", path, base_commit])
    return True


def enter_branch(path: str, branch: str) -> None:
    """Put the worktree on the run's branch, which is made at HEAD where it does not exist."""
    current = git.branch(path)
    if current == branch:
        return
    if current:
        message = f"the worktree {path} is on the branch {current}, not on {branch}; switch it by hand"
        raise AdwError(GIT, "git", message)
    with git.repo_lock(path):
        if git.branch_exists(path, branch):
            git.run(["switch", "--quiet", "--no-guess", branch], path)
        else:
            git.run(["switch", "--quiet", "--no-track", "--create", branch], path)


def leave_branch(path: str, branch: str, only_ours: str) -> bool:
    """Detach and delete the run's branch, if it holds nothing beyond `only_ours`. True when it is gone."""
    if not git.branch_exists(path, branch):
        return True
    tip = git.out(["rev-parse", f"refs/heads/{branch}"], path)
    if tip != only_ours and not git.is_ancestor(path, tip, only_ours):
        return False
    with git.repo_lock(path):
        if git.branch(path) == branch:
            git.run(["switch", "--quiet", "--detach"], path)
        git.run(["branch", "--quiet", "-D", branch], path)
    return True


def need(path: str, root: str, branch: str) -> None:
    """Check that the worktree is there and on the run's branch."""
    hint = "run the plan phase again with the same id, it makes the worktree from the branch"
    if not path:
        raise AdwError(NO_WORKTREE, "validation", f"the state names no worktree; {hint}")
    if not is_worktree_of(path, root):
        raise AdwError(NO_WORKTREE, "validation", f"the worktree {path} is missing; {hint}")
    current = git.branch(path)
    if current != branch:
        message = f"the worktree {path} is on {current or 'no branch'}, not on {branch}; git switch {branch}"
        raise AdwError(GIT, "git", message)


def remove(root: str, path: str) -> None:
    """Remove the worktree of a finished manual run; git refuses where something is not committed."""
    with git.repo_lock(root):
        git.run(["worktree", "remove", path], root)
