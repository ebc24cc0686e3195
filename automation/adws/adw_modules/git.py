"""Git through its command line: one runner, the facts and the changes that the phases need."""

import fcntl
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from adw_modules.errors import GIT, NO_REMOTE, PUSH_REJECTED, AdwError

LOCK_FILE = "adwd-worktree.lock"
LOCK_WAIT_S = 300.0
RACE_TRIES = 5
PUSH_TRIES = 3
NETWORK_TIMEOUT_S = 600.0
HOOK_TIMEOUT_S = 1800.0
_NETWORK = (
    "could not resolve host",
    "connection timed out",
    "connection refused",
    "connection reset",
    "operation timed out",
    "network is unreachable",
    "early eof",
    "rpc failed",
    "remote end hung up",
    "the requested url returned error: 5",
    "ssl_error",
    "gnutls",
    "kex_exchange_identification",
    "temporary failure",
)
_EMPTY_WORDS = ("failed to push some refs", "Could not read from remote repository")
_REJECTED = ("[rejected]", "[remote rejected]", "hook declined", "non-fast-forward", "protected branch")
_NO_REMOTE = ("does not appear to be a git repository", "repository not found", "no such remote")


class Stats:
    """Counts what a phase did, for its metrics."""

    git_count = 0
    git_seconds = 0.0
    agent_count = 0
    agent_seconds = 0.0


STATS = Stats()


def git_env() -> dict[str, str]:
    """Make the environment for git: no prompts, plain messages, nothing that a hook left behind."""
    from adw_modules.proc import project_env

    env = project_env()
    env.update(
        GIT_TERMINAL_PROMPT="0",
        GIT_EDITOR="true",
        GIT_PAGER="cat",
        LC_ALL="C.UTF-8",
        LANGUAGE="en",
    )
    return env


def redact(text: str) -> str:
    """Take user names and passwords out of URLs."""
    parts = text.split("://")
    for at, part in enumerate(parts[1:], start=1):
        authority = part.replace("\n", " ").replace("'", " ").split("/", 1)[0].split(" ", 1)[0]
        if "@" in authority:
            parts[at] = "***@" + part[authority.rindex("@") + 1 :]
    return "://".join(parts)


def last_line(text: str) -> str:
    """Return the line that names the cause: the last `fatal:`, `error:` or `!` one, else the last of all."""
    lines = [line.strip() for line in redact(text).splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith(("fatal:", "error:", "! ")) and not any(word in line for word in _EMPTY_WORDS):
            return line
    return lines[-1] if lines else "(no message)"


def failure(args: Sequence[str], err: str, *, retryable: bool = False) -> AdwError:
    """Make the error for a git command that failed."""
    return AdwError(GIT, "git", f"git {args[0]} failed: {last_line(err)}", retryable=retryable)


def run(
    args: Sequence[str],
    cwd: str,
    *,
    ok: Sequence[int] = (0,),
    stdin: str = "",
    timeout_s: float = 300.0,
    env: dict[str, str] | None = None,
) -> tuple[int, str, str]:
    """Run git; raise unless the exit code is one of `ok`. Retries the race between worktree commands."""
    from adw_modules.proc import run_tool

    argv = ["git", "-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "core.quotePath=false", *args]
    if not os.path.isdir(cwd):
        raise AdwError(GIT, "git", f"git {args[0]}: the folder {cwd} does not exist")
    for attempt in range(RACE_TRIES):
        start = time.monotonic()
        try:
            done = run_tool(argv, cwd=cwd, env=env or git_env(), stdin=stdin, timeout_s=timeout_s, patient=True)
        except FileNotFoundError:
            raise AdwError(GIT, "environment", "git is not on PATH; install git 2.39 or newer") from None
        STATS.git_count += 1
        STATS.git_seconds += time.monotonic() - start
        if done.timed_out:
            raise AdwError(GIT, "git", f"git {args[0]} did not end in {timeout_s:.0f} s", retryable=True)
        if done.code < 0:
            message = f"git {args[0]} was killed (signal {-done.code}), for want of memory or by somebody"
            raise AdwError(GIT, "git", message, retryable=True)
        if done.code in ok:
            return done.code, done.out, done.err
        # Another process' half-made worktree: its admin folder is there, its commondir not yet.
        if "commondir" not in done.err or attempt == RACE_TRIES - 1:
            break
        time.sleep(0.1 * 2**attempt + random.random() * 0.1)  # noqa: S311 -- jitter, no secret
    raise failure(args, done.err or done.out, retryable="commondir" in done.err)


def out(args: Sequence[str], cwd: str) -> str:
    """Run git and return its output without the final newline."""
    return run(args, cwd)[1].rstrip("\n")


def quiet(args: Sequence[str], cwd: str) -> str:
    """Run git and return its output, or an empty string when it fails."""
    code, text, _ = run(args, cwd, ok=(0, 1, 2, 128, 129))
    return text.rstrip("\n") if code == 0 else ""


def common_dir(cwd: str) -> str:
    """Return the repository's common git folder."""
    return out(["rev-parse", "--path-format=absolute", "--git-common-dir"], cwd)


@contextmanager
def repo_lock(cwd: str) -> Iterator[None]:
    """Serialise worktree, branch and fetch commands of one repository; the daemon takes the same lock."""
    path = os.path.join(common_dir(cwd), LOCK_FILE)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    message = f"{path} has been locked for {LOCK_WAIT_S:.0f} s"
                    raise AdwError(GIT, "git", message, retryable=True) from None
            time.sleep(0.05)
        yield
    finally:
        os.close(fd)


def head(cwd: str) -> str:
    """Return the commit at HEAD."""
    return out(["rev-parse", "--verify", "HEAD^{commit}"], cwd)


def tree_of(cwd: str, revision: str = "HEAD") -> str:
    """Return the tree of a commit."""
    return out(["rev-parse", "--verify", f"{revision}^{{tree}}"], cwd)


def branch(cwd: str) -> str:
    """Return the branch that is checked out, or an empty string when HEAD is detached."""
    return quiet(["symbolic-ref", "--quiet", "--short", "HEAD"], cwd)


def branch_exists(cwd: str, name: str) -> bool:
    """Tell whether there is such a local branch."""
    return bool(quiet(["rev-parse", "--verify", "--quiet", f"refs/heads/{name}"], cwd))


def is_ancestor(cwd: str, older: str, newer: str) -> bool:
    """Tell whether one commit is reachable from another."""
    return run(["merge-base", "--is-ancestor", older, newer], cwd, ok=(0, 1, 128))[0] == 0


def status(cwd: str) -> list[str]:
    """Return what differs from HEAD, untracked files included; empty when clean."""
    text = run(["status", "--porcelain", "--untracked-files=all"], cwd)[1]
    return [line for line in text.splitlines() if line]


def untracked(cwd: str) -> list[str]:
    """Return the untracked files that git does not ignore."""
    text = run(["ls-files", "--others", "--exclude-standard", "-z"], cwd)[1]
    return [name for name in text.split("\0") if name]


def changed_files(cwd: str, base: str, tip: str = "HEAD") -> list[str]:
    """Return the paths that differ between two commits; a rename counts as both."""
    text = run(["diff", "--name-only", "--no-renames", "-z", base, tip, "--"], cwd)[1]
    return [name for name in text.split("\0") if name]


def identity_args(cwd: str) -> list[str]:
    """Return options that give git an identity where none is configured."""
    has_name = os.environ.get("GIT_AUTHOR_NAME") and os.environ.get("GIT_COMMITTER_NAME")
    has_mail = os.environ.get("GIT_AUTHOR_EMAIL") and os.environ.get("GIT_COMMITTER_EMAIL")
    args: list[str] = []
    if not has_name and not quiet(["config", "user.name"], cwd):
        args += ["-c", "user.name=adwd"]
    if not has_mail and not quiet(["config", "user.email"], cwd):
        args += ["-c", "user.email=adwd@localhost"]
    return args


def commit(cwd: str, message: str, paths: Sequence[str] = ()) -> str:
    """Commit what is staged (or just these paths), with the repository's hooks, and return the commit."""
    args = [*identity_args(cwd), "commit", "--quiet", "--file=-"]
    if paths:
        args += ["--only", "--", *paths]
    code, text, err = run(args, cwd, ok=range(256), stdin=message, timeout_s=HOOK_TIMEOUT_S)
    if code != 0:
        said = "\n".join(line for line in redact(err + "\n" + text).splitlines() if line.strip())[-1500:]
        raise AdwError(GIT, "git", f"git commit failed (a hook, or git itself): {said or code}")
    return head(cwd)


def remote_url(cwd: str, remote: str) -> str:
    """Return the URL of a remote as configured, or an empty string."""
    return quiet(["config", "--get", f"remote.{remote}.url"], cwd)


def need_remote(cwd: str, remote: str) -> str:
    """Return the remote's URL or fail with the code for "no remote"."""
    url = remote_url(cwd, remote)
    if not url:
        message = f"there is no git remote {remote!r}; git remote add {remote} URL, or name another in .adw.toml"
        raise AdwError(NO_REMOTE, "git", message)
    return url


def remote_target(root: str, remote: str) -> str:
    """Return what to push to and list: the remote's name, or its path where that is a relative one.

    Git reads a relative path from the top of the current worktree, which is right in the main one alone.
    """
    url = need_remote(root, remote)
    local = "://" not in url and ":" not in url.split("/", 1)[0]
    if local and not url.startswith(("/", "~")):
        return os.path.normpath(os.path.join(root, url))
    return remote


def is_network(err: str) -> bool:
    """Tell whether this message of git names the network as the cause."""
    low = err.lower()
    return any(word in low for word in _NETWORK)


def push_error(remote: str, branch_name: str, err: str) -> AdwError:
    """Tell the ways in which a push fails apart."""
    low = err.lower()
    cause = last_line(err)
    if any(word in low for word in _REJECTED):
        return AdwError(PUSH_REJECTED, "git", f"{remote} rejected the push of {branch_name}: {cause}")
    if any(word in low for word in _NO_REMOTE):
        return AdwError(NO_REMOTE, "git", f"the remote {remote} cannot be found: {cause}")
    if is_network(err):
        message = f"the push of {branch_name} failed {PUSH_TRIES} times on the network: {cause}"
        return AdwError(PUSH_REJECTED, "git", message, retryable=True)
    return AdwError(PUSH_REJECTED, "git", f"the push of {branch_name} to {remote} failed: {cause}")


def push(cwd: str, root: str, remote: str, branch_name: str, *, retry_delay_s: float = 1.0) -> None:
    """Push HEAD to the branch of the same name; a network failure is tried again, a refusal is not."""
    target = remote_target(root, remote)
    # No --set-upstream: it writes the shared configuration file, where parallel runs collide.
    args = ["push", "--quiet", target, f"HEAD:refs/heads/{branch_name}"]
    for attempt in range(PUSH_TRIES):
        code, _, err = run(args, cwd, ok=range(256), timeout_s=NETWORK_TIMEOUT_S)
        if code == 0:
            return
        raced = "commondir" in err
        if attempt == PUSH_TRIES - 1 or not (is_network(err) or raced):
            raise push_error(remote, branch_name, err)
        time.sleep(retry_delay_s * 3**attempt)


def remote_head(root: str, remote: str, branch_name: str) -> str:
    """Return the commit of a branch on the remote, asked there, or an empty string."""
    args = ["ls-remote", remote, f"refs/heads/{branch_name}"]
    text = run(args, root, timeout_s=NETWORK_TIMEOUT_S)[1]
    return text.split()[0] if text.split() else ""


def default_branch(cwd: str, remote: str) -> str:
    """Return the branch that the remote's HEAD names, or `main`."""
    name = quiet(["symbolic-ref", "--quiet", "--short", f"refs/remotes/{remote}/HEAD"], cwd)
    if name.startswith(remote + "/"):
        return name[len(remote) + 1 :]
    if remote_url(cwd, remote):
        code, text, _ = run(["ls-remote", "--symref", remote, "HEAD"], cwd, ok=range(256), timeout_s=60)
        for line in text.splitlines() if code == 0 else ():
            if line.startswith("ref: refs/heads/"):
                return line.split()[1][len("refs/heads/") :]
    return "main"


def fetch_base(cwd: str, remote: str, base: str) -> str:
    """Fetch the base branch and return its commit; without a remote, take the local branch."""
    if not remote_url(cwd, remote):
        local = quiet(["rev-parse", "--verify", "--quiet", f"refs/heads/{base}^{{commit}}"], cwd)
        if not local:
            raise AdwError(GIT, "preflight", f"the base branch {base!r} exists neither here nor on a remote")
        return local
    target = f"refs/remotes/{remote}/{base}"
    args = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", remote, f"+refs/heads/{base}:{target}"]
    for attempt in range(PUSH_TRIES):
        code, _, err = run(args, cwd, ok=range(256), timeout_s=NETWORK_TIMEOUT_S)
        if code == 0:
            return out(["rev-parse", "--verify", f"{target}^{{commit}}"], cwd)
        if "couldn't find remote ref" in err:
            message = f"the base branch {base!r} is not on {remote}; push it, or set ADW_BASE_BRANCH"
            raise AdwError(GIT, "preflight", message)
        if attempt == PUSH_TRIES - 1 or not (is_network(err) or "cannot lock ref" in err):
            break
        time.sleep(1.0 * 3**attempt)
    raise failure(args, err, retryable=is_network(err))
