# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Check that a machine and a project can run ADW phases; each finding says how to mend it.

`health_check.py [--json]`; exit code 0 when nothing is wrong, else 1.
"""

import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

GIT_MIN = (2, 39)
FREE_MIN_BYTES = 500 * 1024 * 1024
TOOL_TIMEOUT_S = 30.0
Finding = dict[str, str]


def finding(name: str, status: str, detail: str, mend: str = "") -> Finding:
    """Make one finding; status is ok, warning or error."""
    out = {"check": name, "status": status, "detail": detail}
    if mend:
        out["mend"] = mend
    return out


def ask(argv: list[str], cwd: str | None = None) -> tuple[int, str]:
    """Run a short command and return its code and what it said."""
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=TOOL_TIMEOUT_S,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "GH_PROMPT_DISABLED": "1"},
        )
    except subprocess.TimeoutExpired:
        return 124, f"no answer in {TOOL_TIMEOUT_S:.0f} s"
    except OSError as problem:
        return 127, problem.strerror or "cannot be started"
    text = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
    return done.returncode, text


def check_git() -> Finding:
    """See that git is there and new enough."""
    code, text = ask(["git", "--version"])
    words = text.split()
    if code != 0 or len(words) < 3:
        return finding("git", "error", text, "install git 2.39 or newer and put it on PATH")
    numbers = tuple(int(part) for part in words[2].split(".")[:2] if part.isdigit())
    if numbers < GIT_MIN:
        return finding("git", "error", words[2], "install git 2.39 or newer")
    return finding("git", "ok", words[2])


def check_python() -> Finding:
    """Tell which Python this is."""
    version = ".".join(str(n) for n in sys.version_info[:3])
    return finding("python", "ok", f"{version} at {sys.executable}")


def check_uv() -> Finding:
    """See that the launcher is there; python3 works without it."""
    path = os.environ.get("UV") or shutil.which("uv")
    if not path:
        return finding("uv", "warning", "not on PATH", "pip install uv; or start the scripts with python3")
    code, text = ask([path, "--version"])
    return finding("uv", "ok" if code == 0 else "error", text or path, "" if code == 0 else "install uv again")


def check_agent(agent: str, command: str) -> Finding:
    """See that the agent's program is there."""
    if agent == "patch":
        return finding("agent", "ok", "patch, which is built in")
    path = shutil.which(command)
    if path:
        return finding("agent", "ok", f"{agent}: {path}")
    variable = {"claude": "CLAUDE_CODE_PATH", "codex": "CODEX_PATH", "command": "ADW_AGENT_COMMAND"}[agent]
    return finding("agent", "error", f"{agent}: {command!r} not found", f"install it, or set {variable}")


def check_forge(forge: str, gh_path: str, issues_dir: str) -> Finding:
    """See that the forge can be used."""
    if forge == "local":
        if os.path.isdir(issues_dir):
            return finding("forge", "ok", f"local, issues in {issues_dir}")
        mend = f"make {issues_dir} with files such as 1.md, or set ADW_ISSUES_DIR, or ADW_FORGE=github"
        return finding("forge", "warning", f"local, but there is no {issues_dir}", mend)
    code, text = ask([gh_path, "auth", "status"])
    if code == 127:
        return finding("forge", "error", f"{gh_path}: {text}", "install gh, or set GH_PATH")
    if code != 0:
        last = text.splitlines()[-1] if text else f"exit code {code}"
        return finding("forge", "error", last.strip(), "gh auth login, or set GH_TOKEN")
    return finding("forge", "ok", "github, gh is logged in")


def check_folder(name: str, path: str) -> Finding:
    """See that a folder of ours can be written, or made."""
    at = path
    while not os.path.lexists(at) and os.path.dirname(at) != at:
        at = os.path.dirname(at)
    if not os.path.isdir(at) or not os.access(at, os.W_OK | os.X_OK):
        return finding(name, "error", f"{path} cannot be written", f"make {at} a folder that you may write")
    free = shutil.disk_usage(at).free
    if free < FREE_MIN_BYTES:
        return finding(name, "error", f"{path}: {free // 2**20} MiB free", "free at least 500 MiB")
    return finding(name, "ok", path)


def check_repository(root: str) -> Finding:
    """See that git's worktree list works: a killed `worktree add` poisons it."""
    code, text = ask(["git", "worktree", "list", "--porcelain"], root)
    if code != 0:
        return finding("repository", "error", text.splitlines()[-1] if text else "?", "git worktree prune")
    if "locked initializing" in text:
        mend = "git worktree remove --force --force PATH for each one that is locked as initializing"
        return finding("repository", "warning", "a worktree was left half made", mend)
    return finding("repository", "ok", f"{root}, {text.count('worktree ')} worktrees")


def check_remote(root: str, remote: str, base: str) -> list[Finding]:
    """See that the remote answers and has the base branch."""
    code, text = ask(["git", "remote", "get-url", remote], root)
    if code != 0:
        mend = f"git remote add {remote} URL, or set ADW_REMOTE"
        return [finding("remote", "error", f"there is no remote {remote}", mend)]
    code, text = ask(["git", "ls-remote", "--heads", remote, f"refs/heads/{base}"], root)
    if code != 0:
        last = text.splitlines()[0] if text else f"exit code {code}"
        return [finding("remote", "error", last, "check the network, the URL and your credentials")]
    if not text:
        mend = f"git push {remote} {base}, or set ADW_BASE_BRANCH"
        return [
            finding("remote", "ok", remote),
            finding("base branch", "error", f"{base} is not there", mend),
        ]
    return [finding("remote", "ok", remote), finding("base branch", "ok", base)]


def collect() -> list[Finding]:
    """Make all checks."""
    found = [check_git(), check_python(), check_uv()]
    if found[0]["status"] == "error":
        return found
    from adw_modules import git
    from adw_modules.agent import CommandDialect
    from adw_modules.config import load
    from adw_modules.errors import AdwError

    try:
        cfg = load()
        words = CommandDialect().argv(cfg, writes=True, budget_usd=None) if cfg.agent == "command" else []
    except AdwError as problem:
        return [*found, finding("configuration", "error", problem.message, "mend it and try again")]
    command = {"claude": cfg.claude_code_path, "codex": cfg.codex_path}.get(cfg.agent, "".join(words[:1]))
    found.append(check_agent(cfg.agent, command))
    found.append(check_forge(cfg.forge, cfg.gh_path, cfg.issues_dir))
    found.append(check_folder("agents folder", cfg.agents_dir))
    found.append(check_folder("trees folder", cfg.trees_dir))
    found.append(check_folder("log folder", cfg.log_root))
    if cfg.forge == "local":
        found.append(check_folder("pulls folder", cfg.pulls_dir))
    found.append(check_repository(cfg.root))
    base = cfg.base_branch or git.default_branch(cfg.root, cfg.remote)
    found += check_remote(cfg.root, cfg.remote, base)
    if not cfg.check_command:
        mend = "set ADW_CHECK_COMMAND, or check_command in .adw.toml"
        found.append(finding("check command", "warning", "none, changes go unchecked", mend))
    else:
        found.append(finding("check command", "ok", cfg.check_command))
    return found


def main(argv: list[str] | None = None) -> int:
    """Check, tell, and return the exit code."""
    args = sys.argv[1:] if argv is None else argv
    if args in (["-h"], ["--help"]):
        sys.stdout.write((__doc__ or "") + "\n")
        return 0
    if args not in ([], ["--json"]):
        sys.stderr.write(f"error: unknown argument {args[0]}\nusage: health_check.py [--json]\n")
        return 2
    found = collect()
    healthy = all(item["status"] != "error" for item in found)
    if args:
        sys.stdout.write(json.dumps({"healthy": healthy, "checks": found}, indent=2) + "\n")
    else:
        for item in found:
            sys.stdout.write(f"{item['status']:<8} {item['check']}: {item['detail']}\n")
            if item.get("mend") and item["status"] != "ok":
                sys.stdout.write(f"         → {item['mend']}\n")
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main())
