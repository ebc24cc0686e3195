"""The Codex command line: `codex exec --json -`, the prompt on stdin.

Its stream: `item.completed` with an `agent_message` is the reply (the last one counts), `turn.completed`
carries the usage (tokens read from and written to the cache are part of the input tokens), `turn.failed` and
`error` are failures. Their message may be the body of the API's answer, as it came.
"""

import json
from typing import TYPE_CHECKING

from adw_modules.agent import USAGE_KEYS, Reply, json_lines, status_of

if TYPE_CHECKING:
    from adw_modules.config import Config


class CodexDialect:
    """How to talk to `codex`."""

    name = "codex"

    def argv(self, cfg: "Config", *, writes: bool, budget_usd: float | None) -> list[str]:
        """Build the argument list. Overrides must follow `exec` to have an effect."""
        del budget_usd  # codex knows no limit of cost and tells none
        args = [cfg.codex_path, "exec", "--json", "--skip-git-repo-check"]
        args += ["--sandbox", "workspace-write" if writes else "read-only", "-c", 'approval_policy="never"']
        if cfg.model:
            args += ["--model", cfg.model]
        return [*args, "-"]

    def read(self, raw: str) -> Reply:
        """Read the stream."""
        reply = Reply("", dict.fromkeys(USAGE_KEYS, 0))
        completed = False
        for event in json_lines(raw):
            kind = event.get("type")
            if kind != "error":
                reply.waiting = ""
            if kind == "thread.started":
                reply.session = str(event.get("thread_id") or "")
            elif kind == "item.completed":
                item = event.get("item")
                if isinstance(item, dict) and item.get("type", item.get("item_type")) == "agent_message":
                    reply.text = str(item.get("text") or "")
            elif kind == "turn.completed":
                completed, reply.error = True, ""
                _add(reply, event.get("usage"))
            elif kind in {"turn.failed", "error"}:
                problem = event.get("error")
                told = problem.get("message") if isinstance(problem, dict) else event.get("message")
                reply.error, reply.status = _told(str(told or "it reported an error without a word"))
                # Without a network it tries again for ever, whatever its settings say.
                reply.waiting = reply.error if kind == "error" else ""
        if not completed and not reply.error:
            reply.error = "no result: the stream has no turn.completed, it was cut off"
        return reply


def _told(message: str) -> tuple[str, int | None]:
    """Read what went wrong, and the status of the API where it is in there."""
    if not message.startswith("{"):
        return message, status_of(message)
    try:
        body = json.loads(message)
    except (ValueError, RecursionError):
        return message, None
    error = body.get("error")
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return message, None
    # Codex tells the body of an answer with status 400 and nothing else; with others a sentence.
    kind = str(error.get("type") or "")
    return f"{kind or 'error'}: {error['message']}", 400 if kind == "invalid_request_error" else None


def _add(reply: Reply, usage: object) -> None:
    if not isinstance(usage, dict):
        return

    def count(key: str) -> int:
        value = usage.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0

    cached, written = count("cached_input_tokens"), count("cache_write_input_tokens")
    reply.usage["input_tokens"] += max(0, count("input_tokens") - cached - written)
    reply.usage["cache_read_tokens"] += cached
    reply.usage["cache_creation_tokens"] += written
    reply.usage["output_tokens"] += count("output_tokens")
