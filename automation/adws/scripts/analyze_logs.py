# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Tell how the runs of a project went: success, failures, durations, usage, by trigger.

Reads the state files and the logs' exit.json; a run with no end and no living process counts as lost.
"""

import json
import os
import sys
import time
from dataclasses import replace
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from adw_modules.config import load
from adw_modules.runs import PHASES, Entry, entries, phase_table

STALE_DAYS = 7
TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens")
MERGES = ("success", "failed", "pending", "conflict")
Report = dict[str, Any]


def rate(part: int, whole: int) -> float:
    """Return a percentage with one decimal."""
    return round(100.0 * part / whole, 1) if whole else 0.0


def percentile(values: list[float], share: float) -> float:
    """Return a percentile by the nearest rank."""
    ordered = sorted(values)
    rank = max(0, min(len(ordered) - 1, -(-len(ordered) * share // 100) - 1))
    return round(ordered[int(rank)], 3)


def lost_between_phases(item: Entry) -> Entry:
    """Count a run that stopped between two phases as lost: it has no end and no process (spec/adw.md §7)."""
    return replace(item, status="lost") if item.status == "in_progress" else item


def outcome(item: Entry) -> str:
    """Return how a run went, in the words of the report."""
    if item.status == "failed":
        return f"failed_at_{item.phase or 'unknown'}"
    return "in_progress" if item.status in {"running", "pending"} else item.status


def attempts(log_root: str, project: str, env: str, adw_id: str) -> list[Report]:
    """Read what the logs say of a run's attempts."""
    found: list[Report] = []
    base = os.path.join(log_root, project, env, adw_id)
    for phase in PHASES:
        folder = os.path.join(base, phase)
        numbers = sorted(int(n) for n in _names(folder) if n.isascii() and n.isdigit())
        for number in numbers:
            try:
                with open(os.path.join(folder, str(number), "exit.json"), encoding="utf-8") as stream:
                    data = json.load(stream)
            except (OSError, ValueError):
                data = None
            if isinstance(data, dict):
                found.append({"phase": phase, "attempt": number, "exit_code": str(data.get("code"))})
            else:
                found.append({"phase": phase, "attempt": number, "exit_code": None})
    return found


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def durations(items: list[Entry]) -> Report:
    """Return P50, P95 and mean of each phase, in seconds, of the attempts that completed."""
    table: dict[str, list[float]] = {}
    for item in items:
        metrics = item.state.get("metrics")
        phases = metrics.get("phases") if isinstance(metrics, dict) else None
        for entry in phases if isinstance(phases, list) else []:
            name = str(entry.get("phase_name", "")).removeprefix("adw_") if isinstance(entry, dict) else ""
            seconds = entry.get("duration_seconds") if isinstance(entry, dict) else None
            done = phase_table(item.state).get(name) == "completed"
            if done and isinstance(seconds, int | float):
                table.setdefault(name, []).append(float(seconds))
    return {
        name: {
            "p50": percentile(values, 50),
            "p95": percentile(values, 95),
            "mean": round(sum(values) / len(values), 3),
            "count": len(values),
        }
        for name, values in sorted(table.items())
    }


def usage(items: list[Entry]) -> Report:
    """Return the sums of all agents' tokens and cost."""
    total: Report = {"agent_calls": 0, **dict.fromkeys(TOKENS, 0), "cost_usd": 0.0}
    for item in items:
        table = item.state.get("usage")
        part = table.get("total") if isinstance(table, dict) else None
        for key in total:
            value = part.get(key) if isinstance(part, dict) else None
            if isinstance(value, int | float):
                total[key] += value
    total["cost_usd"] = round(total["cost_usd"], 6)
    return total


def triggers(items: list[Entry]) -> Report:
    """Return totals and success by what triggered the runs."""
    table: dict[str, Report] = {}
    for item in items:
        name = str(item.state.get("triggered_by") or "unknown")
        row = table.setdefault(name, {"total": 0, "completed": 0, "failed": 0, "skipped": 0})
        row["total"] += 1
        if item.status in {"failed", "lost"}:
            row["failed"] += 1
        elif item.status in row:
            row[item.status] += 1
    for row in table.values():
        row["success_rate"] = rate(row["completed"], row["completed"] + row["failed"])
    for name in ("mcp", "manual"):
        empty = {"total": 0, "completed": 0, "failed": 0, "skipped": 0, "success_rate": 0.0}
        table.setdefault(name, empty)
    return dict(sorted(table.items()))


def worktrees(items: list[Entry], now: float) -> Report:
    """Return how many worktrees there are, and how many belong to runs that nobody touched for days."""
    row = {"total": 0, "active": 0, "completed": 0, "stale": 0, "stale_threshold_days": STALE_DAYS}
    for item in items:
        path = item.state.get("worktree_path")
        if isinstance(path, str) and os.path.isdir(path):
            row["total"] += 1
            old = now - item.stamp > STALE_DAYS * 86400 and item.status != "running"
            key = "stale" if old else "completed" if item.status == "completed" else "active"
            row[key] += 1
    return row


def merges(items: list[Entry]) -> Report:
    """Return the auto-merge figures; only other layouts' states have them."""
    enabled = [item.state for item in items if item.state.get("auto_merge_enabled")]
    row: Report = {"enabled_count": len(enabled)}
    for name in MERGES:
        row[f"{name}_count"] = sum(1 for state in enabled if state.get("merge_status") == name)
    row["success_rate"] = rate(row["success_count"], len(enabled))
    return row


def agents(items: list[Entry]) -> Report:
    """Return calls, failures and cost of each agent role, from the result files."""
    table: dict[str, Report] = {}
    for item in items:
        for folder, _, names in os.walk(item.folder):
            if "result.json" not in names:
                continue
            try:
                with open(os.path.join(folder, "result.json"), encoding="utf-8") as stream:
                    data = json.load(stream)
            except (OSError, ValueError):
                continue
            role = str(data.get("role", "unknown"))
            row = table.setdefault(role, {"calls": 0, "failed": 0, "seconds": 0.0, "cost_usd": 0.0})
            row["calls"] += 1
            row["failed"] += data.get("success") is False
            row["seconds"] = round(row["seconds"] + float(data.get("seconds") or 0.0), 3)
            row["cost_usd"] = round(row["cost_usd"] + float(data.get("cost_usd") or 0.0), 6)
    return dict(sorted(table.items()))


def count(values: list[str]) -> dict[str, int]:
    """Count equal values."""
    table: dict[str, int] = {}
    for value in values:
        table[value] = table.get(value, 0) + 1
    return dict(sorted(table.items()))


def report(everything: list[Entry], options: Report) -> Report:
    """Make the whole report."""
    now = time.time()
    env, hours = options["env"], options["hours"]
    items = [
        lost_between_phases(item)
        for item in everything
        if item.stamp >= now - hours * 3600 and str(item.state.get("env") or "local") == env
    ]
    runs: list[Report] = []
    for item in items:
        tried = attempts(options["log_root"], options["project"], env, item.adw_id)
        error = item.state.get("error")
        failures = [
            {"phase": t["phase"], "exit_code": t["exit_code"]} for t in tried if t["exit_code"] not in {"0", None}
        ]
        if not failures and item.status == "failed" and isinstance(error, dict):
            failures = [{"phase": error.get("phase"), "exit_code": str(error.get("exit_code", ""))}]
        table = phase_table(item.state)
        runs.append(
            {
                "run_id": item.adw_id,
                "issue": item.state.get("issue_number"),
                "phases": [name for name in PHASES if table[name] != "pending"],
                "failures": failures,
                "outcome": outcome(item),
                "timestamp": item.state.get("updated_at"),
                "problem": item.problem or None,
                "agent_state": {k: v for k, v in item.state.items() if k not in {"issue", "last_review", "metrics"}},
            }
        )
    done = sum(1 for item in items if item.status == "completed")
    classes = [
        str(item.state["error"].get("class", "unknown"))
        for item in items
        if item.status == "failed" and isinstance(item.state.get("error"), dict)
    ]
    classes += ["lost" for item in items if item.status == "lost"]
    result: Report = {
        "analysis_time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "time_window_hours": hours,
        "environment": env,
        "summary": {"total_runs": len(items), "success_rate": rate(done, len(items))},
        "outcomes": count([outcome(item) for item in items]),
        "issues": count([str(item.state.get("issue_number", "unknown")) for item in items]),
        "phase_reaches": count([phase for run in runs for phase in run["phases"]]),
        "failure_phases": count([item.phase for item in items if item.status == "failed"]),
        "failure_classes": count(classes),
        "triggers": triggers(items),
        "durations": durations(items),
        "usage": usage(items),
        "worktree_metrics": worktrees(items, now),
        "auto_merge_metrics": merges(items),
        "runs": runs,
    }
    if options["agent_metrics"]:
        result["agent_metrics"] = agents(items)
    return result


def _tables(data: Report) -> list[tuple[str, list[tuple[str, str]]]]:
    def pairs(table: Report) -> list[tuple[str, str]]:
        return [(str(k), _cell(v)) for k, v in table.items()]

    titles = (
        ("Outcomes", "outcomes"),
        ("Failed at", "failure_phases"),
        ("Failure classes", "failure_classes"),
        ("Triggers", "triggers"),
        ("Durations (s)", "durations"),
        ("Usage", "usage"),
        ("Worktrees", "worktree_metrics"),
        ("Agents", "agent_metrics"),
    )
    return [(title, pairs(data[key])) for title, key in titles if data.get(key)]


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return str(value)


def render(data: Report, style: str) -> str:
    """Write the report as JSON, Markdown or plain text."""
    if style == "json":
        return json.dumps(data, indent=2) + "\n"
    summary = data["summary"]
    head = f"{summary['total_runs']} runs in {data['time_window_hours']:g} h, {summary['success_rate']} % completed"
    lines = [f"# ADW runs ({data['environment']})", "", head, ""] if style == "markdown" else [head, ""]
    for title, rows in _tables(data):
        if style == "markdown":
            lines += [f"## {title}", "", "| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows), ""]
        else:
            lines += [title, *(f"  {k:<24} {v}" for k, v in rows), ""]
    for run in data["runs"]:
        problem = f" ({run['problem']})" if run["problem"] else ""
        mark = "- " if style == "markdown" else "  "
        lines.append(f"{mark}{run['run_id']} issue {run['issue']}: {run['outcome']}{problem}")
    return "\n".join(lines).rstrip() + "\n"


def _arguments(argv: list[str]) -> Any:  # noqa: ANN401 -- argparse's own
    import argparse

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--format", choices=("text", "json", "markdown"), default="text")
    parser.add_argument("--hours", type=float, default=24.0, help="how far back, default 24")
    parser.add_argument("--env", default="", help="which environment, default ADW_ENV or local")
    parser.add_argument("--agent-metrics", action="store_true", help="calls, failures and cost of each agent role")
    parser.add_argument("--output", "--output-file", default="-", help="a file; - or stdout is standard output")
    args = parser.parse_args(argv)
    if not args.hours > 0:
        parser.error("--hours must be above 0")
    return args


def main(argv: list[str] | None = None) -> int:
    """Write the report and return the exit code."""
    from adw_modules.errors import AdwError

    args = _arguments(sys.argv[1:] if argv is None else argv)
    try:
        cfg = load()
    except AdwError as problem:
        sys.stderr.write(f"error: {problem.message}\n")
        return problem.code
    options = {
        "env": args.env or cfg.env,
        "hours": args.hours,
        "agent_metrics": args.agent_metrics,
        "log_root": cfg.log_root,
        "project": cfg.project,
    }
    text = render(report(entries(cfg.agents_dir), options), args.format)
    if args.output in {"-", "stdout"}:
        sys.stdout.write(text)
        return 0
    try:
        with open(args.output, "w", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as problem:
        sys.stderr.write(f"error: {args.output}: {problem.strerror}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
