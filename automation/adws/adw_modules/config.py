"""Where everything is and how it is done: environment, then `.adw.toml` at the project root, then defaults.

Nothing is located relative to these files: they may lie in the project, or in a folder of the daemon.
A variable that is set but empty counts as absent, except ADW_CHECK_COMMAND, where empty means "no check".
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adw_modules.errors import GIT, USAGE, AdwError

CONFIG_FILE = ".adw.toml"
AGENTS = ("patch", "claude", "codex", "command")
FORGES = ("local", "github")
TRIGGERS = ("mcp", "slash_command", "manual", "webhook", "cron", "cli")

# key in .adw.toml -> (variable, default)
_KEYS: dict[str, tuple[str, str]] = {
    "agents_dir": ("ADW_AGENTS_DIR", "automation/agents"),
    "trees_dir": ("ADW_TREES_DIR", "automation/trees"),
    "log_root": ("ADW_LOG_ROOT", "logs"),
    "pulls_dir": ("ADW_PULLS_DIR", "automation/pulls"),
    "issues_dir": ("ADW_ISSUES_DIR", "issues"),
    "base_branch": ("ADW_BASE_BRANCH", ""),
    "remote": ("ADW_REMOTE", "origin"),
    "agent": ("ADW_AGENT", "patch"),
    "agent_command": ("ADW_AGENT_COMMAND", ""),
    "agent_timeout_s": ("ADW_AGENT_TIMEOUT_S", "1800"),
    "agent_budget_usd": ("ADW_AGENT_BUDGET_USD", ""),
    "model": ("ADW_MODEL", ""),
    "claude_code_path": ("CLAUDE_CODE_PATH", "claude"),
    "codex_path": ("CODEX_PATH", "codex"),
    "forge": ("ADW_FORGE", "local"),
    "forge_repo": ("ADW_FORGE_REPO", ""),
    "gh_path": ("GH_PATH", "gh"),
    "check_command": ("ADW_CHECK_COMMAND", ""),
    "check_timeout_s": ("ADW_CHECK_TIMEOUT_S", "1800"),
    "env": ("ADW_ENV", "local"),
    "cleanup_worktrees": ("ADW_CLEANUP_WORKTREES", "false"),
    "persona": ("ADW_PERSONA", ""),
    "persona_plan": ("ADW_PERSONA_PLAN", ""),
    "persona_build": ("ADW_PERSONA_BUILD", ""),
    "persona_review": ("ADW_PERSONA_REVIEW", ""),
}
NO_PERSONA = "none"
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True)
class Config:
    """One resolved configuration."""

    root: str
    agents_dir: str
    trees_dir: str
    log_root: str
    pulls_dir: str
    issues_dir: str
    worktree_path: str
    base_branch: str
    base_commit: str
    remote: str
    agent: str
    agent_command: str
    agent_timeout_s: float
    agent_budget_usd: float | None
    model: str
    claude_code_path: str
    codex_path: str
    forge: str
    forge_repo: str
    gh_path: str
    check_command: str
    check_timeout_s: float
    triggered_by: str
    mcp_request_id: str
    mcp_user_id: str
    cleanup_worktrees: bool
    env: str
    daemon: bool
    attempt_dir: str
    persona: str
    persona_plan: str
    persona_build: str
    persona_review: str
    notes: tuple[str, ...] = field(default=())

    def persona_of(self, phase: str) -> str:
        """Return the name of the phase's persona, empty for none: its own key, else the one for all phases."""
        own = {"plan": self.persona_plan, "build": self.persona_build, "review": self.persona_review}
        name = own.get(phase, "") or self.persona
        return "" if name == NO_PERSONA else name

    @property
    def project(self) -> str:
        """The project's name in the log tree."""
        name = os.path.basename(self.root.rstrip("/")) or "project"
        return "".join(c if c.isalnum() or c in "._-" else "-" for c in name).lstrip(".") or "project"


def _usage(message: str) -> AdwError:
    return AdwError(USAGE, "preflight", message)


def _git_line(args: list[str], cwd: str) -> str:
    import subprocess

    from adw_modules.git import git_env

    done = subprocess.run(
        ["git", *args],
        cwd=cwd,
        env=git_env(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        errors="surrogateescape",
    )
    return done.stdout.strip("\n") if done.returncode == 0 else ""


def find_root(cwd: str) -> str:
    """Return the main worktree of the repository that holds this folder, also from inside a linked one."""
    common = _git_line(["rev-parse", "--path-format=absolute", "--git-common-dir"], cwd)
    if not common:
        message = f"{cwd} is in no git repository; go into one, or set ADW_PROJECT_ROOT"
        raise AdwError(GIT, "preflight", message)
    if os.path.basename(common) == ".git":
        return os.path.dirname(common)
    listing = _git_line(["worktree", "list", "--porcelain"], cwd)
    first = listing.splitlines()[:1]
    if first and first[0].startswith("worktree ") and "\nbare" not in listing.split("\n\n")[0]:
        return first[0][len("worktree ") :]
    return _git_line(["rev-parse", "--show-toplevel"], cwd) or cwd


def read_toml(root: str) -> dict[str, str]:
    """Read `.adw.toml`, if there is one, as strings; refuse what is not known."""
    path = os.path.join(root, CONFIG_FILE)
    if not os.path.exists(path):
        return {}
    import tomllib

    try:
        with open(path, "rb") as stream:
            raw: dict[str, Any] = tomllib.load(stream)
    except (OSError, ValueError) as problem:
        raise _usage(f"{path}: {problem}") from None
    out: dict[str, str] = {}
    for key, value in raw.items():
        if key not in _KEYS:
            raise _usage(f"{path}: unknown key {key!r}{_hint(key)}")
        if isinstance(value, bool):
            out[key] = "true" if value else "false"
        elif isinstance(value, str | int | float):
            out[key] = str(value)
        elif key == "agent_command" and isinstance(value, list) and all(isinstance(v, str) for v in value):
            import json

            out[key] = json.dumps(value)
        else:
            raise _usage(f"{path}: {key} must be a string, a number or true/false")
    return out


def _hint(key: str) -> str:
    import difflib

    close = difflib.get_close_matches(key.lower().removeprefix("adw_").replace("-", "_"), _KEYS, 1, 0.5)
    return f"; did you mean {close[0]}?" if close else "; known are " + ", ".join(sorted(_KEYS))


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise _usage(f"{name}: {text!r} is not a positive number")
    return value


def _flag(name: str, text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise _usage(f"{name}: {text!r} is neither true nor false")


def _choice(name: str, text: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise _usage(f"{name}: {text!r} is not one of {', '.join(known)}")
    return text


def load(environ: Mapping[str, str] | None = None, cwd: str | None = None) -> Config:
    """Resolve the configuration of this process."""
    env = os.environ if environ is None else environ
    here = cwd or os.getcwd()
    root = os.path.abspath(os.path.join(here, env.get("ADW_PROJECT_ROOT") or find_root(here)))
    if not os.path.isdir(root):
        raise _usage(f"ADW_PROJECT_ROOT: {root} is not a folder")
    toml = read_toml(root)
    value: dict[str, str] = {}
    for key, (variable, default) in _KEYS.items():
        given = env.get(variable)
        if given or (given is not None and key == "check_command"):
            value[key] = given
        else:
            value[key] = toml.get(key, default)

    def folder(key: str) -> str:
        return os.path.abspath(os.path.join(root, os.path.expanduser(value[key])))

    trigger = env.get("ADW_TRIGGERED_BY") or "manual"
    notes: tuple[str, ...] = ()
    if trigger not in TRIGGERS:
        notes = (f"ADW_TRIGGERED_BY={trigger} is not one of {', '.join(TRIGGERS)}; noted as manual",)
        trigger = "manual"
    worktree = env.get("ADW_WORKTREE_PATH") or ""
    budget = value["agent_budget_usd"]
    return Config(
        root=root,
        agents_dir=folder("agents_dir"),
        trees_dir=folder("trees_dir"),
        log_root=folder("log_root"),
        pulls_dir=folder("pulls_dir"),
        issues_dir=folder("issues_dir"),
        worktree_path=os.path.abspath(os.path.join(here, worktree)) if worktree else "",
        base_branch=value["base_branch"],
        base_commit=env.get("ADW_BASE_COMMIT") or "",
        remote=value["remote"],
        agent=_choice("ADW_AGENT", value["agent"], AGENTS),
        agent_command=value["agent_command"],
        agent_timeout_s=_number("ADW_AGENT_TIMEOUT_S", value["agent_timeout_s"]),
        agent_budget_usd=_number("ADW_AGENT_BUDGET_USD", budget) if budget else None,
        model=value["model"],
        claude_code_path=value["claude_code_path"],
        codex_path=value["codex_path"],
        forge=_choice("ADW_FORGE", value["forge"], FORGES),
        forge_repo=value["forge_repo"],
        gh_path=value["gh_path"],
        check_command=value["check_command"].strip(),
        check_timeout_s=_number("ADW_CHECK_TIMEOUT_S", value["check_timeout_s"]),
        triggered_by=trigger,
        mcp_request_id=env.get("ADW_MCP_REQUEST_ID") or "",
        mcp_user_id=env.get("ADW_MCP_USER_ID") or "",
        cleanup_worktrees=_flag("ADW_CLEANUP_WORKTREES", value["cleanup_worktrees"]),
        env="".join(c if c.isalnum() or c in "._-" else "-" for c in value["env"]).lstrip(".") or "local",
        daemon=(env.get("ADW_DAEMON") or "") in _TRUE,
        attempt_dir=env.get("ADW_ATTEMPT_DIR") or "",
        persona=value["persona"].strip(),
        persona_plan=value["persona_plan"].strip(),
        persona_build=value["persona_build"].strip(),
        persona_review=value["persona_review"].strip(),
        notes=notes,
    )
