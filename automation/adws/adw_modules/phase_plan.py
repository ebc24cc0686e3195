"""Plan: read and classify the issue, make worktree and branch, write the plan file and commit it."""

import os

from adw_modules import agent, classify, crash, forge, git, guard, markers, patch, worktree
from adw_modules.errors import AGENT_UNUSABLE, GIT, NO_PLAN, AdwError
from adw_modules.forge import Issue
from adw_modules.phase import Run, prompt, slug
from adw_modules.state import State, now

PLAN_MIN_CHARS = 20


def plan(run: Run) -> str:
    """Run the phase."""
    issue = run.forge.read_issue(run.issue)
    markers.say(f"issue {issue.number}: {issue.title}")
    reason = classify.out_of_scope(issue)
    if reason:
        return _skip(run, issue, reason)
    if _reusable(run, issue):
        markers.say("the plan of this run is there already and the issue has not changed; it is used again")
        _tell(run)
        return "completed"
    run.save_issue(issue)
    kind, reason = _classify(run, issue)
    if kind == "none":
        return _skip(run, issue, reason)
    path = _ensure_worktree(run)
    branch = run.text("branch_name") or f"{kind}-{issue.number}-{run.adw_id}"
    worktree.enter_branch(path, branch)
    run.set(issue_class=f"/{kind}", branch_name=branch, worktree_name=branch)
    markers.emit("BRANCH", branch)
    name = run.text("plan_file") or f"specs/{issue.number}-{run.adw_id}-{slug(issue.title)}.md"
    text = _write(run, issue, kind, path, name)
    _commit(run, issue, path, name, text)
    run.set(plan_file=name)
    markers.emit("PLAN_FILE", name)
    _check(run, path, branch, name)
    note = f"[adwd] run `{run.adw_id}` planned this as a {kind}: `{name}` on `{branch}`."
    forge.comment(run.forge, issue.number, note)
    return "completed"


def _tell(run: Run) -> None:
    if not run.told_worktree:
        markers.emit("WORKTREE_PATH", run.worktree())
    markers.emit("BRANCH", run.text("branch_name"))
    markers.emit("PLAN_FILE", run.text("plan_file"))


def _reusable(run: Run, issue: Issue) -> bool:
    """Tell whether a plan of the same issue text stands on the branch, with its worktree."""
    branch, name = run.text("branch_name"), run.text("plan_file")
    if not (branch and name and run.phase_head("plan")):
        return False
    try:
        old = run.load_issue()
    except AdwError:
        return False
    if (old.title, old.body) != (issue.title, issue.body):
        return False
    path = run.worktree()
    if not worktree.is_worktree_of(path, run.cfg.root):
        if not git.branch_exists(run.cfg.root, branch):
            return False
        path = _ensure_worktree(run)
    if not git.branch(path):
        worktree.enter_branch(path, branch)
    try:
        _check(run, path, branch, name, keep_head=True)
    except AdwError:
        return False
    if path != run.text("worktree_path"):
        run.set(worktree_path=path)
    return True


def _skip(run: Run, issue: Issue, reason: str) -> str:
    markers.say(f"skipped: {reason}")
    run.skip_reason = reason
    branch, path = run.text("branch_name"), run.worktree()
    root = run.cfg.root
    if branch and git.branch_exists(root, branch):
        where = path if worktree.is_worktree_of(path, root) else root
        if not worktree.leave_branch(where, branch, run.phase_head("plan") or run.text("base_commit")):
            markers.say(f"note: the branch {branch} holds work of an earlier attempt and is kept")
    if run.made_worktree and not run.cfg.daemon:
        worktree.remove(root, path)
        run.update(_forget_worktree)
    run.set(skip_reason=reason, title=issue.title)
    forge.comment(run.forge, issue.number, f"[adwd] run `{run.adw_id}` skipped this issue: {reason}.")
    return "skipped"


def _forget_worktree(state: State) -> None:
    for key in ("worktree_path", "worktree_created_at"):
        state.pop(key, None)


def _classify(run: Run, issue: Issue) -> tuple[str, str]:
    kind = classify.by_labels(issue) or classify.by_prefix(issue.title)
    if kind:
        return kind, ""
    if run.cfg.agent == "patch":
        return classify.by_words(issue.title), ""
    path = _ensure_worktree(run)
    labels = ", ".join(issue.labels) or "none"
    text = prompt("classify", number=issue.number, title=issue.title, body=issue.body, labels=labels)
    kind, reason = classify.by_reply(guard.ask(run, "classifier", text, path))
    if not kind:
        kind = classify.by_words(issue.title)
        markers.say(f"note: the classifier gave no usable answer; taken for a {kind} by the title's words")
    return kind, reason


def _ensure_worktree(run: Run) -> str:
    """Return the worktree; take the daemon's over, or make one."""
    cfg = run.cfg
    base_branch = run.text("base_branch") or cfg.base_branch or git.default_branch(cfg.root, cfg.remote)
    branch = run.text("branch_name")
    if cfg.worktree_path:
        path = cfg.worktree_path
        if not worktree.is_worktree_of(path, cfg.root):
            raise AdwError(GIT, "git", f"ADW_WORKTREE_PATH: {path} is no worktree of {cfg.root}")
        base = run.text("base_commit") or cfg.base_commit or git.head(path)
    else:
        name = f"adw-{run.issue}-{run.adw_id}"
        path = run.text("worktree_path") or os.path.join(cfg.trees_dir, name)
        base = run.text("base_commit") or cfg.base_commit
        if not base:
            with git.repo_lock(cfg.root):
                base = git.fetch_base(cfg.root, cfg.remote, base_branch)
        if worktree.ensure(cfg.root, path, base, branch):
            run.made_worktree = True
    values = {"worktree_path": path, "base_branch": base_branch, "base_commit": base}
    if any(run.text(key) != value for key, value in values.items()):
        run.set(worktree_created_at=run.text("worktree_created_at") or now(), **values)
    if not run.told_worktree:
        run.told_worktree = True
        markers.emit("WORKTREE_PATH", path)
    return path


def _header(run: Run, issue: Issue, kind: str) -> str:
    check = run.cfg.check_command
    return f"""# {kind}: {markers.one_line(issue.title)}

| | |
|---|---|
| issue | {issue.number} |
| run | {run.adw_id} |
| base | {run.text("base_branch")} at {run.text("base_commit")[:12]} |
| check | {f"`{markers.one_line(check)}`" if check else "none configured"} |
"""


def _write(run: Run, issue: Issue, kind: str, path: str, name: str) -> str:
    if run.cfg.agent == "patch":
        diff = patch.extract(issue.body, issue.number)
        files = patch.parse(diff)
        patch.check_links(path, files)
        adds = sum(len(entry.added) for entry in files)
        minus = sum(len(entry.removed) for entry in files)
        body = (
            f"\n## What the issue's diff touches\n\n{patch.describe(files)}\n\n"
            f"{len(files)} files, {sum(e.hunks for e in files)} hunks, +{adds} -{minus}.\n\n"
            "## Steps\n\n1. Apply the diff to the branch.\n2. Run the project's check command.\n"
            "3. Commit, push, open the pull request.\n\n## Accepted when\n\n"
            "- exactly the files above differ from the base, and every added line is there;\n"
            "- the check command passes;\n- no conflict marker is left.\n"
        )
        agent.record_patch(run, "planner", issue.body, body)
        return _header(run, issue, kind) + body
    text = prompt(
        "plan",
        number=issue.number,
        title=issue.title,
        body=issue.body,
        kind=kind,
        plan_file=name,
        check=run.cfg.check_command or "none configured",
    )
    reply = _unwrap(guard.ask(run, "planner", text, path))
    if len(reply) < PLAN_MIN_CHARS:
        raise AdwError(AGENT_UNUSABLE, "agent", f"the planner's answer is no plan: {reply[:200]!r}")
    return _header(run, issue, kind) + "\n" + reply + "\n"


def _unwrap(text: str) -> str:
    """Take a plan out of a fence that holds the whole answer."""
    body = text.strip()
    lines = body.split("\n")
    opened = lines[0].startswith("```") and lines[0].strip("`").strip() in {"", "markdown", "md"}
    if len(lines) > 2 and opened and lines[-1].strip() == "```":
        return "\n".join(lines[1:-1]).strip()
    return body


def _commit(run: Run, issue: Issue, path: str, name: str, text: str) -> None:
    full = os.path.join(path, name)
    folder = os.path.dirname(full)
    real = os.path.realpath(folder)
    if not (real + "/").startswith(os.path.realpath(path) + "/") or os.path.islink(full):
        raise AdwError(GIT, "git", f"{name} would be written outside the worktree; is specs a symbolic link?")
    os.makedirs(folder, exist_ok=True)
    with open(full, "w", encoding="utf-8", errors="backslashreplace") as stream:
        stream.write(text)
    crash.here("plan-written")
    git.run(["add", "--force", "--", name], path)
    if git.run(["diff", "--cached", "--quiet", "--", name], path, ok=(0, 1))[0] == 1:
        title = markers.one_line(issue.title)[:60]
        git.commit(path, f"plan: {title} (#{issue.number})\n\nADW-ID: {run.adw_id}\n", [name])
    head = git.head(path)
    heads = run.state.get("head_commit")
    run.set(head_commit={**(heads if isinstance(heads, dict) else {}), "plan": head})


def _check(run: Run, path: str, branch: str, name: str, *, keep_head: bool = False) -> None:
    """Check the post-conditions: worktree, branch, and the plan committed on it."""
    worktree.need(path, run.cfg.root, branch)
    committed = git.run(["cat-file", "-e", f"HEAD:{name}"], path, ok=(0, 1, 128))[0] == 0
    if not committed or not os.path.isfile(os.path.join(path, name)):
        raise AdwError(NO_PLAN, "validation", f"the plan {name} is not committed on {branch}")
    if not keep_head and run.phase_head("plan") != git.head(path):
        raise AdwError(GIT, "git", f"the branch {branch} moved while the plan was made")
