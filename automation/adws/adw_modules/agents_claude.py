"""The Claude Code command line, headless: `claude -p --output-format stream-json --verbose`.

What its stream means: the last `type: result` line is the verdict; `is_error: true` is a failure even with
`subtype: success`; no result line is a failure; `total_cost_usd` and `result` may be missing; a refused
permission ends with exit code 0 and is listed in `permission_denials`; `api_error_status` is what the API
refused with (older programs tell it in the sentence alone).
"""

from typing import TYPE_CHECKING

from adw_modules.agent import Reply, cost, json_lines, status_of

if TYPE_CHECKING:
    from adw_modules.config import Config

# `--dangerously-skip-permissions` is refused for root, so the tools are named. Those that edit are not: the
# mode allows them in the worktree, and a name would allow them everywhere, as in the main checkout.
_READ_TOOLS = "Read,Glob,Grep,Bash(git log:*),Bash(git diff:*),Bash(git show:*)"
_WRITE_TOOLS = "Read,Glob,Grep,Bash,TodoWrite"
# Needs no permission, and would leave the run's worktree for one that nobody knows, or outlive the call.
# And a phase does not drive the daemon that runs it, whatever the user's own settings allow.
_NEVER = "EnterWorktree,ExitWorktree,CronCreate,CronDelete,ScheduleWakeup,mcp__adwd"


class ClaudeDialect:
    """How to talk to `claude`."""

    name = "claude"

    def argv(self, cfg: "Config", *, writes: bool, budget_usd: float | None) -> list[str]:
        """Build the argument list; the prompt comes on stdin."""
        args = [cfg.claude_code_path, "-p", "--output-format", "stream-json", "--verbose"]
        if cfg.model:
            args += ["--model", cfg.model]
        if budget_usd is not None:
            args += ["--max-budget-usd", f"{budget_usd:.4f}"]
        mode = "acceptEdits" if writes else "default"
        args += ["--permission-mode", mode, "--disallowedTools", _NEVER]
        return [*args, "--allowedTools", _WRITE_TOOLS if writes else _READ_TOOLS]

    def read(self, raw: str) -> Reply:
        """Read the stream."""
        result, waiting = None, ""
        for event in json_lines(raw):
            kind = event.get("type")
            if kind == "result":
                result = event
            elif kind == "assistant":
                waiting = ""
            elif event.get("subtype") == "api_retry":
                why = event.get("error_status") or event.get("error")
                waiting = f"{why}, try {event.get('attempt')} of {event.get('max_retries')}"
        if result is None:
            return Reply("", error="no result line in the stream, it was cut off", waiting=waiting)
        usage = result.get("usage")
        usage = usage if isinstance(usage, dict) else {}
        tokens = {
            "input_tokens": usage.get("input_tokens"),
            "output_tokens": usage.get("output_tokens"),
            "cache_read_tokens": usage.get("cache_read_input_tokens"),
            "cache_creation_tokens": usage.get("cache_creation_input_tokens"),
        }
        text = result.get("result")
        text = text if isinstance(text, str) else ""
        denials = result.get("permission_denials")
        reply = Reply(
            text,
            {k: v for k, v in tokens.items() if isinstance(v, int) and not isinstance(v, bool) and v >= 0},
            cost_usd=cost(result.get("total_cost_usd")),
            denials=[_denial(d) for d in denials] if isinstance(denials, list) else [],
            session=str(result.get("session_id") or ""),
        )
        subtype = str(result.get("subtype") or "")
        reply.out_of_budget = subtype == "error_max_budget_usd"
        if result.get("is_error") is True or subtype.startswith("error"):
            errors = result.get("errors")
            more = "; ".join(str(e) for e in errors) if isinstance(errors, list) else ""
            reply.error = text or more or subtype or "it reported an error without a word"
            if subtype.startswith("error") and subtype not in reply.error:
                reply.error = f"{subtype}: {reply.error}"
            status = result.get("api_error_status")
            reply.status = status if isinstance(status, int) else status_of(reply.error)
        return reply


def _denial(item: object) -> str:
    if isinstance(item, dict):
        return f"{item.get('tool_name', '?')} {str(item.get('tool_input', ''))[:200]}"
    return str(item)[:200]
