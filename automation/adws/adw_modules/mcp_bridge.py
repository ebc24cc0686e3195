# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Answer questions about runs as JSON on stdout.

    mcp_bridge.py get_state ADW_ID
    mcp_bridge.py list_workflows [--status S] [--adw-id PREFIX] [--limit N]

An error is `{"error", "details"?, "success": false}` with exit code 2 (usage) or 3 (state). `total` counts
what the filters let through, before the limit. Nothing is written anywhere.
"""

import json
import os
import sys

_ADWS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DEFAULT_LIMIT = 50
MAX_LIMIT = 1000
_LISTED = (
    "issue_number",
    "issue_class",
    "title",
    "branch_name",
    "worktree_path",
    "worktree_created_at",
    "pr_created",
    "pr_url",
    "triggered_by",
    "created_at",
    "updated_at",
    "error",
    "skip_reason",
)


class _RefusedError(Exception):
    def __init__(self, code: int, error: str, details: str = "") -> None:
        super().__init__(error)
        self.code = code
        self.error = error
        self.details = details


def _out(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")


def _agents_dir() -> str:
    given = os.environ.get("ADW_AGENTS_DIR")
    if given and os.path.isabs(given):
        return given
    from adw_modules.config import load

    return load().agents_dir


def get_state(adw_id: str) -> dict[str, object]:
    """Return a run's state with its derived status."""
    from adw_modules.entry import valid_id
    from adw_modules.runs import entry, phase_table

    if not valid_id(adw_id):
        raise _RefusedError(
            2, f"invalid adw_id {adw_id!r}", "letters and digits first, then also _ and -, at most 64"
        )
    found = entry(_agents_dir(), adw_id)
    if found.problem:
        raise _RefusedError(3, f"no usable state for adw_id {adw_id!r}", found.problem)
    return {
        **found.state,
        "adw_id": adw_id,
        "status": found.status,
        "current_phase": found.phase or None,
        "phase_status": phase_table(found.state),
    }


def list_workflows(status: str = "", prefix: str = "", limit: int = DEFAULT_LIMIT) -> dict[str, object]:
    """Return the runs, the newest first."""
    from adw_modules.runs import entries, phase_table

    everything = entries(_agents_dir())
    matching = [e for e in everything if e.adw_id.startswith(prefix) and status in {"", e.status}]
    rows = []
    for item in matching[:limit]:
        row: dict[str, object] = {"adw_id": item.adw_id}
        row |= {key: item.state.get(key) for key in _LISTED}
        row |= {"status": item.status, "current_phase": item.phase or None}
        if item.problem:
            row["problem"] = item.problem
        else:
            row["phase_status"] = phase_table(item.state)
        rows.append(row)
    return {
        "workflows": rows,
        "total": len(matching),
        "returned": len(rows),
        "all": len(everything),
        "limit": limit,
    }


def _options(words: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name not in {"--status", "--adw-id", "--limit"}:
            raise _RefusedError(2, f"unknown argument {word!r}", __doc__ or "")
        if not equals:
            if not rest:
                raise _RefusedError(2, f"{name} needs a value")
            value = rest.pop(0)
        found[name] = value
    return found


def _list(words: list[str]) -> dict[str, object]:
    from adw_modules.runs import STATUSES

    options = _options(words)
    status = options.get("--status", "")
    if status and status not in STATUSES:
        raise _RefusedError(2, f"unknown status {status!r}", "known are " + ", ".join(STATUSES))
    text = options.get("--limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MAX_LIMIT):
        raise _RefusedError(2, f"--limit {text!r} is not a number from 1 to {MAX_LIMIT}")
    return list_workflows(status, options.get("--adw-id", ""), int(text))


def _answer(argv: list[str]) -> dict[str, object]:
    if not argv:
        raise _RefusedError(2, "a command is missing: get_state or list_workflows", __doc__ or "")
    command, rest = argv[0], argv[1:]
    if command == "get_state":
        if len(rest) != 1:
            raise _RefusedError(2, "get_state needs one adw_id")
        return get_state(rest[0])
    if command == "list_workflows":
        return _list(rest)
    raise _RefusedError(2, f"unknown command {command!r}; known are get_state and list_workflows")


def main(argv: list[str] | None = None) -> int:
    """Answer one question and return the exit code."""
    if _ADWS not in sys.path:
        sys.path.insert(0, _ADWS)
    args = sys.argv[1:] if argv is None else argv
    if args in (["--help"], ["-h"]):
        sys.stdout.write((__doc__ or "") + "\n")
        return 0
    try:
        _out(_answer(args))
    except _RefusedError as refused:
        body: dict[str, object] = {"error": refused.error, "success": False}
        if refused.details:
            body["details"] = refused.details
        _out(body)
        return refused.code
    except Exception as problem:  # noqa: BLE001 -- the caller reads JSON, whatever happens
        code = getattr(problem, "code", 40)
        _out({"error": f"{type(problem).__name__}: {problem}", "success": False})
        return code if isinstance(code, int) else 40
    return 0


if __name__ == "__main__":
    # This file's own folder would make its neighbours top-level modules; the package's parent is wanted.
    sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != os.path.dirname(os.path.abspath(__file__))]
    sys.exit(main())
