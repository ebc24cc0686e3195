"""Review: the change against plan, issue and check; findings with severity; blockers make it fail."""

import os
from collections import Counter
from typing import Any

from adw_modules import agent, checks, forge, git, guard, markers, patch
from adw_modules.errors import AGENT_UNUSABLE, BLOCKERS, AdwError
from adw_modules.phase import Run, prompt
from adw_modules.phase_build import PLAN_MAX_CHARS, merge_base, need_plan
from adw_modules.state import bad_state, now

DIFF_MAX_CHARS = 200_000
FINDINGS_MAX = 200
TEXT_MAX_CHARS = 4000
_SEVERITY = {
    "blocker": "blocker",
    "critical": "blocker",
    "blocking": "blocker",
    "high": "blocker",
    "major": "major",
    "tech_debt": "major",
    "medium": "major",
    "warning": "major",
    "minor": "minor",
    "skippable": "minor",
    "low": "minor",
    "nit": "minor",
    "info": "minor",
    "suggestion": "minor",
}
Finding = dict[str, Any]


def review(run: Run) -> str:
    """Run the phase."""
    if run.phase_status("plan") == "skipped":
        markers.say(f"skipped: {run.text('skip_reason') or 'the plan phase skipped this issue'}")
        return "skipped"
    path, _, name = need_plan(run)
    if run.phase_status("build") != "completed":
        raise bad_state(f"run {run.adw_id} has no completed build; run the build phase first")
    head = git.head(path)
    base = merge_base(run, path)
    if run.cfg.agent == "patch":
        summary, findings = _by_rules(run, path, base, name)
    else:
        summary, findings = _by_agent(run, path, base, name)
    blockers = [f for f in findings if f["severity"] == "blocker"]
    result = {
        "success": not blockers,
        "review_summary": summary,
        "review_issues": findings,
        "reviewed_at": now(),
        "head_commit": head,
    }
    heads = run.state.get("head_commit")
    run.set(last_review=result, head_commit={**(heads if isinstance(heads, dict) else {}), "review": head})
    _tell(run, result)
    if git.head(path) != head:
        raise AdwError(AGENT_UNUSABLE, "agent", "the branch moved while it was reviewed")
    if blockers:
        first = markers.one_line(str(blockers[0]["description"]))[:300]
        message = f"the review found {len(blockers)} blocker(s); the first: {first}"
        raise AdwError(BLOCKERS, "validation", message)
    return "completed"


def _tell(run: Run, result: dict[str, Any]) -> None:
    markers.say(f"review: {result['review_summary']}")
    for finding in result["review_issues"]:
        where = f" {finding['file']}:{finding.get('line', '')}".rstrip(":") if finding.get("file") else ""
        markers.say(f"{finding['severity']}{where}: {finding['description']}", "- ")
    number = run.state.get("pr_number")
    if run.state.get("pr_url"):
        markers.emit("PR_URL", run.text("pr_url"))
    if isinstance(number, int) and forge.review(run.forge, number, _markdown(run, result)):
        markers.say(f"the review is on pull request {number}")


def _markdown(run: Run, result: dict[str, Any]) -> str:
    verdict = "passed" if result["success"] else "found blockers"
    lines = [f"**Review {verdict}** (run `{run.adw_id}`, commit `{result['head_commit'][:12]}`)", ""]
    lines += [_plain(result["review_summary"]), ""]
    for finding in result["review_issues"]:
        place = f" `{_plain(str(finding['file']))}`" if finding.get("file") else ""
        if finding.get("line"):
            place += f" line {finding['line']}"
        lines.append(f"- **{finding['severity']}**{place}: {_plain(finding['description'])}")
        if finding.get("resolution"):
            lines.append(f"  - resolution: {_plain(finding['resolution'])}")
    if not result["review_issues"]:
        lines.append("No findings.")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    return markers.one_line(text)


def _finding(severity: str, description: str, file: str = "") -> Finding:
    out: Finding = {"severity": severity, "description": description}
    if file:
        out["file"] = file
    return out


def _check_findings(run: Run, path: str) -> list[Finding]:
    """Judge the recorded result of the check; where it is of another tree, the check is run again."""
    if not run.cfg.check_command:
        return [_finding("minor", "no check command is configured, so nothing was run against the change")]
    tree = git.tree_of(path)
    last = run.state.get("last_check")
    same = isinstance(last, dict) and last.get("tree") == tree and last.get("command") == run.cfg.check_command
    if not same:
        markers.say("the recorded check is of another state of the branch; it is run again")
        clean = not git.status(path)
        checks.record(run, checks.run_check(run, path), tree)
        if clean:
            checks.tidy(path)
        last = run.state.get("last_check")
    if isinstance(last, dict) and last.get("ok"):
        return []
    return [_finding("blocker", f"the check command fails: {run.cfg.check_command}")]


def _by_rules(run: Run, path: str, base: str, name: str) -> tuple[str, list[Finding]]:
    """Review a patch: what the plan lists against what the branch holds."""
    issue = run.load_issue()
    files = patch.parse(patch.extract(issue.body, issue.number))
    wanted = set(patch.touched(files))
    have = set(git.changed_files(path, base)) - {name}
    findings = [
        *(_finding("blocker", "the plan lists this file, but it is not changed", f) for f in sorted(wanted - have)),
        *(_finding("blocker", "changed, but the plan does not list it", f) for f in sorted(have - wanted)),
    ]
    planned: dict[str, Counter[str]] = {}
    for entry in files:
        planned.setdefault(entry.path, Counter()).update(line.rstrip("\r") for line in entry.added)
    for file in sorted(wanted & have):
        added = _added_lines(path, base, file)
        lines = planned.get(file, Counter())
        missing = sum((lines - added).values())
        if missing:
            text = f"{missing} of the {sum(lines.values())} lines that the diff adds are not there"
            findings.append(_finding("blocker", text, file))
        for line in added - lines:
            if line.startswith(("<<<<<<< ", ">>>>>>> ")):
                findings.append(_finding("blocker", "a conflict marker is left", file))
                break
    findings += _check_findings(run, path)
    checked = "the check command passes" if run.cfg.check_command else "no check command"
    if any(f["severity"] == "blocker" for f in findings):
        summary = f"The branch does not hold what was planned, or fails its check: {len(findings)} finding(s)."
    else:
        count = sum(sum(lines.values()) for lines in planned.values())
        summary = (
            f"The branch changes the {len(wanted)} planned file(s), all {count} added lines are there, {checked}."
        )
    agent.record_patch(run, "reviewer", f"diff {base} HEAD", summary)
    return summary, findings


def _added_lines(path: str, base: str, file: str) -> Counter[str]:
    args = ["diff", "--unified=0", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--text"]
    text = git.run([*args, base, "HEAD", "--", f":(literal){file}"], path)[1]
    added: Counter[str] = Counter()
    in_hunk = False
    for line in text.split("\n"):
        if line.startswith("@@ "):
            in_hunk = True
        elif in_hunk and line.startswith("+"):
            added[line[1:].rstrip("\r")] += 1
    return added


def _by_agent(run: Run, path: str, base: str, name: str) -> tuple[str, list[Finding]]:
    issue = run.load_issue()
    diff = git.run(
        ["diff", "--no-color", "--no-ext-diff", base, "HEAD", "--", ".", f":(exclude,literal){name}"], path
    )[1]
    if len(diff) > DIFF_MAX_CHARS:
        diff = diff[:DIFF_MAX_CHARS] + f"\n… cut; the whole is `git diff {base} HEAD`\n"
    with open(os.path.join(path, name), encoding="utf-8", errors="replace") as stream:
        plan = stream.read(PLAN_MAX_CHARS)
    first = _check_findings(run, path)
    passed = "passes" if run.cfg.check_command and not first else "is not configured or fails"
    text = prompt(
        "review",
        number=issue.number,
        title=issue.title,
        body=issue.body,
        plan=plan,
        diff=diff,
        base=base,
        check=f"{run.cfg.check_command or '(none)'}: {passed}",
    )
    reply = guard.ask(run, "reviewer", text, path)
    data = agent.find_json(reply)
    read = _read(data)
    if read is None:
        markers.say("note: the review cannot be read; the agent is asked once more for JSON alone")
        again = (
            "Your review could not be read. Answer with one JSON object and nothing else, in this shape:\n"
            '{"success": true, "review_summary": "…", "review_issues": [{"severity": "blocker|major|minor", '
            '"file": "…", "line": 1, "description": "…", "resolution": "…"}]}\n\n'
            f"Your review was:\n\n{reply[-20_000:]}\n"
        )
        read = _read(agent.find_json(guard.ask(run, "reviewer", again, path)))
    if read is None:
        message = "the reviewer's answer holds no review in JSON, twice"
        raise AdwError(AGENT_UNUSABLE, "agent", message, retryable=True)
    summary, findings = read
    return summary, first + findings


def _read(data: dict[str, Any] | None) -> tuple[str, list[Finding]] | None:
    """Read an agent's review; None where it is none."""
    if data is None or not isinstance(data.get("success"), bool):
        return None
    issues = data.get("review_issues", [])
    if not isinstance(issues, list):
        return None
    findings: list[Finding] = []
    for item in issues[:FINDINGS_MAX]:
        if not isinstance(item, dict):
            return None
        severity = str(item.get("severity") or item.get("issue_severity") or "").strip().lower()
        description = str(item.get("description") or item.get("issue_description") or "").strip()
        if not description:
            return None
        found = _finding(_SEVERITY.get(severity, "major"), description[:TEXT_MAX_CHARS])
        if isinstance(item.get("file"), str) and item["file"]:
            found["file"] = item["file"][:1000]
        if isinstance(item.get("line"), int) and not isinstance(item["line"], bool):
            found["line"] = item["line"]
        resolution = item.get("resolution") or item.get("issue_resolution")
        if isinstance(resolution, str) and resolution:
            found["resolution"] = resolution[:TEXT_MAX_CHARS]
        findings.append(found)
    summary = str(data.get("review_summary") or "").strip()[:TEXT_MAX_CHARS] or "(no summary)"
    if data["success"] is False and not any(f["severity"] == "blocker" for f in findings):
        findings.append(_finding("blocker", f"the reviewer says that it does not pass: {summary}"))
    return summary, findings
