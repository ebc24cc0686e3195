"""One phase of one run: the frame that all three share.

The frame writes the markers, the state's phase_status, error and metrics, and the files of a manual run's
attempt. A phase itself is a function that returns "completed" or "skipped", or raises.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable
from typing import Any

from adw_modules import git, markers, signals
from adw_modules.config import Config
from adw_modules.errors import INTERNAL, OK, STATE, AdwError, Interrupted
from adw_modules.forge import Forge, Issue, create
from adw_modules.state import State, StateStore, now, write_atomic

ISSUE_FILE = "issue.json"
STATE_BODY_MAX_CHARS = 64 * 1024
SLUG_MAX_CHARS = 48
PHASES = ("plan", "build", "review")


class Run:
    """What a phase knows: configuration, ids, the state's last value, the forge."""

    def __init__(self, cfg: Config, issue: str, adw_id: str, store: StateStore) -> None:
        self.cfg = cfg
        self.issue = issue
        self.adw_id = adw_id
        self.store = store
        self.phase = ""
        self.state: State = {}
        self.skip_reason = ""
        self.persona = ""
        self.denials: list[str] = []
        self.made_worktree = False
        self.told_worktree = False
        self._forge: Forge | None = None

    @property
    def forge(self) -> Forge:
        """The forge, made when it is first asked for."""
        if self._forge is None:
            self._forge = create(self.cfg, self.adw_id)
        return self._forge

    def update(self, change: Callable[[State], None]) -> None:
        """Change the state and keep its new value."""
        self.state = self.store.update(change)

    def set(self, **values: object) -> None:
        """Set keys of the state."""
        self.update(lambda state: state.update(values))

    def text(self, key: str) -> str:
        """Return a string of the state, or an empty one."""
        value = self.state.get(key)
        return value if isinstance(value, str) else ""

    def phase_status(self, phase: str) -> str:
        """Return what the state says of a phase."""
        table = self.state.get("phase_status")
        return str(table.get(phase, "pending")) if isinstance(table, dict) else "pending"

    def phase_head(self, phase: str) -> str:
        """Return the commit that a phase ended at, or an empty string."""
        table = self.state.get("head_commit")
        return str(table.get(phase) or "") if isinstance(table, dict) else ""

    def worktree(self) -> str:
        """Return where the worktree is: the daemon's word, else the state's."""
        return self.cfg.worktree_path or self.text("worktree_path")

    def save_issue(self, issue: Issue) -> None:
        """Keep the issue as it was planned: whole in a file, and in the state."""
        full = {**issue.__dict__}
        path = os.path.join(self.store.folder, ISSUE_FILE)
        write_atomic(path, json.dumps(full, indent=2).encode("ascii") + b"\n")
        short = dict(full)
        if len(issue.body) > STATE_BODY_MAX_CHARS:
            short.update(body=issue.body[:STATE_BODY_MAX_CHARS], body_truncated=True)
        self.set(issue=short, title=issue.title)

    def load_issue(self) -> Issue:
        """Return the issue as it was planned."""
        try:
            with open(os.path.join(self.store.folder, ISSUE_FILE), "rb") as stream:
                data = json.load(stream)
        except (OSError, ValueError):
            data = self.state.get("issue")
        if not isinstance(data, dict):
            message = "the state holds no issue; run the plan phase again with the same id"
            raise AdwError(STATE, "validation", message)
        labels = data.get("labels")
        return Issue(
            number=self.issue,
            title=str(data.get("title") or ""),
            body=str(data.get("body") or ""),
            state=str(data.get("state") or "open"),
            labels=[str(label) for label in labels] if isinstance(labels, list) else [],
            url=str(data.get("url") or ""),
        )


def slug(title: str) -> str:
    """Make the readable part of a file name."""
    import unicodedata

    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode("ascii").lower()
    words = "".join(c if c.isalnum() else " " for c in plain).split()
    out = ""
    for word in words:
        if out and len(out) + len(word) + 1 > SLUG_MAX_CHARS:
            break
        out = f"{out}-{word}" if out else word[:SLUG_MAX_CHARS]
    return out or "issue"


def prompt(name: str, **values: str) -> str:
    """Fill a template of adw_prompts; text that is filled in is never searched for placeholders."""
    import re

    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with open(os.path.join(here, "adw_prompts", f"{name}.md"), encoding="utf-8") as stream:
        template = stream.read()
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found.group(1).lower()], template)


class Attempt:
    """The files of one attempt in a manual run; under the daemon they are the daemon's."""

    def __init__(self, run: Run) -> None:
        self.folder = ""
        self.run = run
        self.start = time.time()
        self._log_fd = -1
        self._lock_fd = -1
        self.started_at = now()

    def open(self) -> None:
        """Make the folder, take its lock and copy all output to its log."""
        cfg = self.run.cfg
        if cfg.attempt_dir:
            return
        base = os.path.join(cfg.log_root, cfg.project, cfg.env, self.run.adw_id, self.run.phase)
        os.makedirs(base, exist_ok=True)
        number = max((int(n) for n in os.listdir(base) if n.isascii() and n.isdigit()), default=0)
        while not self.folder:
            number += 1
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.join(base, str(number)))
                self.folder = os.path.join(base, str(number))
        import fcntl

        self._lock_fd = os.open(os.path.join(self.folder, "run.lock"), os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        log = os.path.join(self.folder, "execution.log")
        self._log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        markers.set_tee(self._log_fd)
        self._write(
            "start.json",
            {
                "adw_id": self.run.adw_id,
                "issue_number": self.run.issue,
                "phase": self.run.phase,
                "attempt": number,
                "pid": os.getpid(),
                "started_at": self.started_at,
                "triggered_by": cfg.triggered_by,
            },
        )

    def _write(self, name: str, value: dict[str, Any]) -> None:
        text = json.dumps(value, indent=2, sort_keys=True)
        write_atomic(os.path.join(self.folder, name), text.encode("ascii") + b"\n")

    def close(self, code: int, status: str) -> None:
        """Write how the attempt ended and let its lock go."""
        markers.set_tee(-1)
        if not self.folder:
            return
        import resource

        own = resource.getrusage(resource.RUSAGE_SELF)
        kids = resource.getrusage(resource.RUSAGE_CHILDREN)
        with contextlib.suppress(OSError):
            self._write(
                "exit.json",
                {
                    "code": code,
                    "signal": code - 128 if code in {130, 143} else None,
                    "status": status,
                    "started_at": self.started_at,
                    "ended_at": now(),
                    "ms": int((time.time() - self.start) * 1000),
                    "maxrss_kb": max(own.ru_maxrss, kids.ru_maxrss),
                    "user_cpu_ms": int((own.ru_utime + kids.ru_utime) * 1000),
                    "system_cpu_ms": int((own.ru_stime + kids.ru_stime) * 1000),
                },
            )
        os.close(self._log_fd)
        os.close(self._lock_fd)


def _set_status(state: State, phase: str, status: str) -> None:
    table = state.get("phase_status")
    table = dict(table) if isinstance(table, dict) else {}
    for name in PHASES:
        table.setdefault(name, "pending")
    table[phase] = status
    state["phase_status"] = table


def _persona(cfg: Config, phase: str) -> str:
    if not cfg.persona_of(phase):
        return ""
    from adw_modules.persona import text_of

    return text_of(cfg, phase)


class Frame:
    """Runs one phase and keeps its books."""

    def __init__(self, run: Run, phase: str) -> None:
        self.run = run
        self.phase = phase
        self.attempt = Attempt(run)
        self.git_before = (git.STATS.git_count, git.STATS.git_seconds)
        self.agent_before = (git.STATS.agent_count, git.STATS.agent_seconds)

    def execute(self, body: Callable[[Run], str]) -> tuple[int, str]:
        """Run the phase; returns exit code and status."""
        run = self.run
        run.phase = self.phase
        code, status = INTERNAL, "failed"
        try:
            self.attempt.open()
            markers.emit("PHASE", self.phase)
            markers.emit("STATUS", "started")
            run.update(self._begin)
            run.persona = _persona(run.cfg, self.phase)
            status = body(run)
            run.update(lambda state: self._end(state, status, None))
            code = OK
        except Interrupted as signal:
            signals.unwind()
            code, status = signal.code, "failed"
            name = "interrupted" if code == 130 else "terminated"
            self._fail(AdwError(code, "cancelled", f"the {self.phase} phase was {name}", retryable=True))
        except AdwError as failure:
            code, status = failure.code, "failed"
            self._fail(failure)
        except Exception as problem:  # noqa: BLE001 -- the last line of defence; it tells everything
            import traceback

            markers.say(traceback.format_exc())
            code, status = INTERNAL, "failed"
            cause = f"{type(problem).__name__}: {problem}"
            self._fail(AdwError(INTERNAL, "internal", f"internal error in the {self.phase} phase: {cause}"))
        finally:
            markers.emit("STATUS", status)
            self.attempt.close(code, status)
        return code, status

    def _begin(self, state: State) -> None:
        _set_status(state, self.phase, "in_progress")
        error = state.get("error")
        if isinstance(error, dict) and error.get("phase") == self.phase:
            del state["error"]

    def _end(self, state: State, status: str, failure: AdwError | None) -> None:
        _set_status(state, self.phase, status)
        if failure:
            state["error"] = {
                "phase": self.phase,
                "class": failure.kind,
                "message": failure.message[:8000],
                "retryable": failure.retryable,
                "exit_code": failure.code,
            }
        elif status == "completed":
            state.pop("skip_reason", None)
        self._metrics(state)

    def _metrics(self, state: State) -> None:
        end = time.time()
        entry = {
            "phase_name": f"adw_{self.phase}",
            "start_timestamp": self.attempt.started_at,
            "end_timestamp": now(),
            "duration_seconds": round(end - self.attempt.start, 3),
            "memory_usage_mb": None,
            "checkpoint_count": 0,
            "git_operation_count": git.STATS.git_count - self.git_before[0],
            "git_operation_duration_seconds": round(git.STATS.git_seconds - self.git_before[1], 3),
            "agent_invocation_count": git.STATS.agent_count - self.agent_before[0],
            "agent_invocation_duration_seconds": round(git.STATS.agent_seconds - self.agent_before[1], 3),
        }
        metrics = state.get("metrics")
        metrics = dict(metrics) if isinstance(metrics, dict) else {}
        phases = metrics.get("phases")
        kept = [p for p in phases if isinstance(p, dict)] if isinstance(phases, list) else []
        kept = [p for p in kept if p.get("phase_name") != entry["phase_name"]]
        metrics["phases"] = [*kept, entry]
        state["metrics"] = metrics

    def _fail(self, failure: AdwError) -> None:
        signals.unwind()
        markers.error(failure.message)
        try:
            self.run.update(lambda state: self._end(state, "failed", failure))
        except (AdwError, OSError) as problem:
            markers.say(f"note: the failure could not be noted in the state: {problem}")
