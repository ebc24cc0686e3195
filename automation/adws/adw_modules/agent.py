"""Agents behind one small interface, each call in a folder of its own, with accounting.

`{agents}/{id}/{phase}/{role}/{n}/` holds prompt.md (which is the agent's stdin), raw_output.jsonl (its
stdout, written by the agent itself), stderr.log and result.json. n is never used again.
"""

import json
import os
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from adw_modules import crash, git, markers
from adw_modules.errors import AGENT_FAILED, AGENT_TIMEOUT, AGENT_UNUSABLE, AdwError
from adw_modules.state import now, write_atomic

if TYPE_CHECKING:
    from adw_modules.config import Config
    from adw_modules.phase import Run
    from adw_modules.proc import TreeResult

USAGE_KEYS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens")
REPLY_MAX_BYTES = 64 * 1024 * 1024
_QUOTA = ("credit", "billing", "quota")
_PERMANENT = (
    *_QUOTA,
    "api key",
    "authentication",
    "unauthorized",
    "invalid",
    "not found",
    "budget",
    "unknown option",
    "permission",
)


@dataclass
class Reply:
    """What an agent answered."""

    text: str
    usage: dict[str, int] = field(default_factory=dict)
    cost_usd: float | None = None
    denials: list[str] = field(default_factory=list)
    session: str = ""
    error: str = ""
    out_of_budget: bool = False
    status: int | None = None
    """The HTTP status that the model's API refused with, where the agent tells it."""
    waiting: str = ""
    """What it waited for at the end of the stream: it tries its model's API again and again."""


class Dialect(Protocol):
    """What differs between agent programs."""

    name: str

    def argv(self, cfg: "Config", *, writes: bool, budget_usd: float | None) -> list[str]:
        """Return the argument list; the prompt is never part of it."""

    def read(self, raw: str) -> Reply:
        """Read the stream; `Reply.error` says that it is a failure."""


class CommandDialect:
    """Any program: prompt on stdin, reply on stdout, perhaps with lines `{"usage": {…}}`.

    Each tells all that the call has used so far, so the last one counts; none is part of the reply.
    """

    name = "command"

    def argv(self, cfg: "Config", *, writes: bool, budget_usd: float | None) -> list[str]:
        """Split the configured command."""
        del writes, budget_usd
        text = cfg.agent_command.strip()
        try:
            words = json.loads(text) if text.startswith("[") else shlex.split(text)
        except ValueError as problem:
            raise AdwError(AGENT_FAILED, "environment", f"ADW_AGENT_COMMAND cannot be read: {problem}") from None
        if not words or not all(isinstance(word, str) for word in words):
            message = "ADW_AGENT=command needs ADW_AGENT_COMMAND, words or a JSON array of strings"
            raise AdwError(AGENT_FAILED, "environment", message)
        return list(words)

    def read(self, raw: str) -> Reply:
        """Take stdout as the reply."""
        lines, usage = [], None
        body = raw.rstrip().split("\n")
        for number, line in enumerate(body, 1):
            told = _told_usage(line, last=number == len(body))
            if told is None:
                lines.append(line)
            else:
                usage = told
        text = "\n".join(lines)
        return Reply(text) if usage is None else Reply(text, numbers(usage), cost_usd=cost(usage.get("cost_usd")))


def _told_usage(line: str, *, last: bool) -> dict[str, Any] | None:
    """Return the usage of a line that holds nothing else; the last one may."""
    if not line.startswith("{") or '"usage"' not in line:
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    usage = value.get("usage") if isinstance(value, dict) and (last or len(value) == 1) else None
    return usage if isinstance(usage, dict) else None


def numbers(usage: dict[str, Any]) -> dict[str, int]:
    """Take the token counts out of an untrusted object."""
    out = {}
    for key in USAGE_KEYS:
        value = usage.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12:
            out[key] = int(value)
    return out


def cost(value: object) -> float | None:
    """Take a cost out of an untrusted value."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6:
        return float(value)
    return None


def json_lines(raw: str) -> list[dict[str, Any]]:
    """Return the JSON objects of a stream; lines that are none are passed over."""
    found = []
    for line in raw.splitlines() if "\u2028" not in raw else raw.split("\n"):
        if line.lstrip().startswith("{"):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                found.append(value)
    return found


def dialect(name: str) -> Dialect:
    """Return how to talk to the configured agent."""
    if name == "claude":
        from adw_modules.agents_claude import ClaudeDialect

        return ClaudeDialect()
    if name == "codex":
        from adw_modules.agents_codex import CodexDialect

        return CodexDialect()
    return CommandDialect()


def new_folder(run: "Run", role: str) -> str:
    """Make the folder of one agent call; its number is never used again."""
    base = os.path.join(run.store.folder, run.phase, role)
    os.makedirs(base, exist_ok=True)
    number = max((int(n) for n in os.listdir(base) if n.isascii() and n.isdigit()), default=0)
    while True:
        number += 1
        path = os.path.join(base, str(number))
        try:
            os.mkdir(path)
        except FileExistsError:
            continue
        crash.here("call-folder-made", role)
        return path


def _spent(run: "Run") -> float:
    usage = run.state.get("usage")
    total = usage.get("total") if isinstance(usage, dict) else None
    return cost(total.get("cost_usd")) or 0.0 if isinstance(total, dict) else 0.0


def _remaining(run: "Run") -> float | None:
    budget = run.cfg.agent_budget_usd
    if budget is None:
        return None
    left = budget - _spent(run)
    if left <= 0:
        message = f"the run's agent budget of {budget:.2f} USD is spent; raise ADW_AGENT_BUDGET_USD"
        raise AdwError(AGENT_FAILED, "budget", message)
    return left


def invoke(run: "Run", role: str, prompt: str, *, cwd: str, writes: bool) -> str:
    """Call the agent and return its reply; every failure is an AdwError. All its processes are gone then.

    The phase's persona, where there is one, comes before the prompt: who it is, then what to do.
    """
    if run.persona:
        prompt = f"{run.persona}\n\n---\n\n{prompt}"
    talk = dialect(run.cfg.agent)
    argv = talk.argv(run.cfg, writes=writes, budget_usd=_remaining(run))
    folder = new_folder(run, role)
    prompt_path = os.path.join(folder, "prompt.md")
    write_atomic(prompt_path, prompt.encode("utf-8", "backslashreplace"))
    markers.say(f"agent {talk.name} as {role}: {folder}")
    started = now()
    ended = _launch(run, argv, cwd, folder, role)
    if ended.code != 0 and "--max-budget-usd" in argv and _unknown_budget(folder):
        # An older program: go without, the budget is then checked before the next call.
        at = argv.index("--max-budget-usd")
        del argv[at : at + 2]
        os.rename(os.path.join(folder, "stderr.log"), os.path.join(folder, "stderr-1.log"))
        ended = _launch(run, argv, cwd, folder, role)
    reply = talk.read(_raw(folder))
    failure = _verdict(run, talk.name, ended, reply, folder)
    _record(run, role, folder, reply, ended, started, failure)
    run.denials = reply.denials
    for denial in reply.denials:
        markers.say(f"note: the agent was refused a permission: {denial}")
    if ended.swept > 1:
        markers.say(f"note: {ended.swept - 1} processes that the agent left behind were ended")
    if failure:
        raise failure
    return reply.text


def _launch(run: "Run", argv: list[str], cwd: str, folder: str, role: str) -> "TreeResult":
    from adw_modules.proc import project_env, run_tree

    own = {"ADW_ID": run.adw_id, "ADW_ISSUE_NUMBER": run.issue, "ADW_PHASE": run.phase, "ADW_ROLE": role}
    if run.cfg.model:
        own["ADW_MODEL"] = run.cfg.model
    try:
        done = run_tree(
            argv,
            cwd=cwd,
            env=project_env(own),
            stdin_path=os.path.join(folder, "prompt.md"),
            out_path=os.path.join(folder, "raw_output.jsonl"),
            err_path=os.path.join(folder, "stderr.log"),
            timeout_s=run.cfg.agent_timeout_s,
        )
    except OSError as problem:
        message = f"the agent {argv[0]!r} cannot be started: {problem.strerror}; install it or set its path"
        raise AdwError(AGENT_FAILED, "environment", message) from None
    git.STATS.agent_count += 1
    git.STATS.agent_seconds += done.seconds
    return done


def _raw(folder: str) -> str:
    try:
        with open(os.path.join(folder, "raw_output.jsonl"), "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, size - REPLY_MAX_BYTES))
            return stream.read(REPLY_MAX_BYTES).decode("utf-8", "replace").replace("\0", "\ufffd")
    except OSError:
        return ""


def _unknown_budget(folder: str) -> bool:
    from adw_modules.proc import tail

    said = tail(os.path.join(folder, "stderr.log")).lower()
    return "unknown option" in said and "max-budget-usd" in said


def _verdict(run: "Run", name: str, ended: "TreeResult", reply: Reply, folder: str) -> AdwError | None:
    from adw_modules.proc import tail

    if ended.timed_out:
        message = f"the agent {name} did not end in {run.cfg.agent_timeout_s:.0f} s and was stopped"
        if reply.waiting:
            message += f"; it waited for its model: {markers.one_line(reply.waiting)[:300]}"
        return AdwError(AGENT_TIMEOUT, "timeout", message, retryable=True)
    if ended.too_much:
        return AdwError(AGENT_UNUSABLE, "agent", f"the agent {name} wrote too much output and was stopped")
    if ended.code == 0 and not reply.error:
        return None
    code = f"signal {-ended.code}" if ended.code < 0 else f"exit code {ended.code}"
    cause = reply.error
    if not cause or (ended.code != 0 and cause.startswith("no result")):
        cause = " ".join([cause, markers.one_line(tail(os.path.join(folder, "stderr.log"), 600))]).strip()
    message = f"the agent {name} failed ({code}): {markers.one_line(cause)[:800] or 'it said nothing'}"
    if reply.out_of_budget:
        return AdwError(AGENT_FAILED, "budget", message)
    return AdwError(AGENT_FAILED, "agent", message, retryable=_may_work_again(reply, message))


def _may_work_again(reply: Reply, message: str) -> bool:
    """Tell whether the same call may succeed later. A status is believed before words, which URLs hold too."""
    low = message.lower()
    if reply.status is None:
        return not any(word in low for word in _PERMANENT)
    if reply.status == 429:
        return not any(word in low for word in _QUOTA)
    return reply.status >= 500 or reply.status in {408, 409, 425}


def status_of(text: str) -> int | None:
    """Find the HTTP status in an agent's sentence about its model's API."""
    import re

    found = re.search(r"(?:\bstatus:?|\bAPI Error:(?: Request rejected)?) \(?([45]\d\d)\b", text)
    return int(found.group(1)) if found else None


def _record(
    run: "Run",
    role: str,
    folder: str,
    reply: Reply,
    ended: "TreeResult",
    started: str,
    failure: AdwError | None,
) -> None:
    result = {
        "agent": run.cfg.agent,
        "role": role,
        "model": run.cfg.model or None,
        "started_at": started,
        "ended_at": now(),
        "seconds": round(ended.seconds, 3),
        "exit_code": ended.code,
        "timed_out": ended.timed_out,
        "processes_ended": ended.swept,
        "success": failure is None,
        "error": failure.message if failure else None,
        "usage": reply.usage,
        "cost_usd": reply.cost_usd,
        "permission_denials": reply.denials,
        "session_id": reply.session or None,
        "result": reply.text,
    }
    text = json.dumps(result, indent=2, ensure_ascii=False)
    write_atomic(os.path.join(folder, "result.json"), text.encode("utf-8", "backslashreplace") + b"\n")
    account(run, role, reply)


def account(run: "Run", role: str, reply: Reply) -> None:
    """Add one call to the state's usage and tell it."""

    def add(state: dict[str, Any]) -> None:
        usage = state.setdefault("usage", {})
        if not isinstance(usage, dict):
            usage = state["usage"] = {}
        for key in (run.phase, "total"):
            entry = usage.get(key)
            entry = dict(entry) if isinstance(entry, dict) else {}
            entry["agent_calls"] = int(entry.get("agent_calls") or 0) + 1
            for name in USAGE_KEYS:
                entry[name] = int(entry.get(name) or 0) + reply.usage.get(name, 0)
            entry["cost_usd"] = round(float(entry.get("cost_usd") or 0.0) + (reply.cost_usd or 0.0), 6)
            usage[key] = entry

    run.update(add)
    counts = {name: reply.usage.get(name, 0) for name in USAGE_KEYS}
    markers.token_event(
        {
            "adw_id": run.adw_id,
            "phase": run.phase,
            "agent": role,
            **counts,
            "cost_usd": reply.cost_usd or 0.0,
            "cost_known": reply.cost_usd is not None,
            "timestamp": now(),
        }
    )


def record_patch(run: "Run", role: str, prompt: str, text: str) -> None:
    """Keep the patch agent's call like any other: folder, result, accounting."""
    folder = new_folder(run, role)
    write_atomic(os.path.join(folder, "prompt.md"), prompt.encode("utf-8", "backslashreplace"))
    line = json.dumps({"type": "result", "agent": "patch", "is_error": False, "result": text})
    write_atomic(os.path.join(folder, "raw_output.jsonl"), line.encode("ascii") + b"\n")
    result = {"agent": "patch", "role": role, "success": True, "ended_at": now(), "usage": {}, "result": text}
    write_atomic(os.path.join(folder, "result.json"), json.dumps(result, indent=2).encode("ascii") + b"\n")
    git.STATS.agent_count += 1
    account(run, role, Reply(text, cost_usd=0.0))


def find_json(text: str) -> dict[str, Any] | None:
    """Find the JSON object in a chatty text: the last fenced one, else the last balanced one."""
    import re

    blocks = re.findall(r"```[a-zA-Z]*[ \t]*\n(.*?)\n[ \t]*```", text, re.DOTALL)
    for block in reversed(blocks):
        value = _object(block.strip())
        if value is not None:
            return value
    decoder = json.JSONDecoder()
    best: dict[str, Any] | None = None
    at, tries = text.find("{"), 0
    while at >= 0 and tries < 2000:
        tries += 1
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at = text.find("{", at + 1)
            continue
        if isinstance(value, dict):
            best = value
        at = text.find("{", end)
    return best


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
