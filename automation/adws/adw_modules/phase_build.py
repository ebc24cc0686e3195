"""Build: implement the plan in the worktree, check, commit, push, pull request."""

import os

from adw_modules import agent, checks, crash, forge, git, guard, markers, patch, worktree
from adw_modules.errors import AGENT_UNUSABLE, CHECK_FAILED, FORGE, GIT, NO_PLAN, AdwError
from adw_modules.forge import Issue, Proposal
from adw_modules.phase import Run, prompt
from adw_modules.state import bad_state

PREFIX = {"feature": "feat", "bug": "fix", "chore": "chore"}
PLAN_MAX_CHARS = 200_000


def build(run: Run) -> str:
    """Run the phase."""
    if run.phase_status("plan") == "skipped":
        markers.say(f"skipped: {run.text('skip_reason') or 'the plan phase skipped this issue'}")
        return "skipped"
    path, branch, name = need_plan(run)
    issue = run.load_issue()
    if _reusable(run, path, branch):
        markers.say("this build is there already, pushed and with its pull request; it is used again")
    else:
        _implement(run, issue, path, branch, name)
        git.push(path, run.cfg.root, run.cfg.remote, branch)
    head = git.head(path)
    if git.remote_head(run.cfg.root, run.cfg.remote, branch) != head:
        message = f"after the push {branch} on {run.cfg.remote} is not at {head}"
        raise AdwError(GIT, "git", message, retryable=True)
    heads = run.state.get("head_commit")
    run.set(head_commit={**(heads if isinstance(heads, dict) else {}), "build": head})
    first = not run.state.get("pr_created")
    _pull(run, issue, path, branch, name)
    _check(run, path)
    if first:
        note = f"[adwd] run `{run.adw_id}` built this on `{branch}`: {run.text('pr_url')}"
        forge.comment(run.forge, issue.number, note)
    return "completed"


def need_plan(run: Run) -> tuple[str, str, str]:
    """Return worktree, branch and plan file, checked."""
    path, branch, name = run.worktree(), run.text("branch_name"), run.text("plan_file")
    if not branch or run.phase_status("plan") not in {"completed", "in_progress"}:
        raise bad_state(f"run {run.adw_id} has no completed plan; run the plan phase first")
    if path and worktree.is_worktree_of(path, run.cfg.root) and not git.branch(path):
        worktree.enter_branch(path, branch)
    worktree.need(path, run.cfg.root, branch)
    if path != run.text("worktree_path"):
        run.set(worktree_path=path)
    markers.emit("WORKTREE_PATH", path)
    markers.emit("BRANCH", branch)
    committed = bool(name) and git.run(["cat-file", "-e", f"HEAD:{name}"], path, ok=(0, 1, 128))[0] == 0
    if not committed:
        message = f"the plan {name or 'file'} is not on {branch}; run the plan phase again with the same id"
        raise AdwError(NO_PLAN, "validation", message)
    return path, branch, name


def _reusable(run: Run, path: str, branch: str) -> bool:
    head = git.head(path)
    return (
        bool(run.state.get("pr_created"))
        and run.phase_head("build") == head
        and not git.status(path)
        and git.remote_head(run.cfg.root, run.cfg.remote, branch) == head
    )


def _has_work(run: Run, path: str) -> bool:
    """Tell whether the branch holds anything beyond the plan."""
    changed = git.changed_files(path, merge_base(run, path))
    return any(name != run.text("plan_file") for name in changed)


def merge_base(run: Run, path: str) -> str:
    """Return where the branch left its true base."""
    base = run.text("base_commit")
    remote_ref = f"refs/remotes/{run.cfg.remote}/{run.text('base_branch')}"
    tip = git.quiet(["rev-parse", "--verify", "--quiet", f"{remote_ref}^{{commit}}"], path) or base
    found = git.quiet(["merge-base", "HEAD", tip], path)
    # A base branch that was rewritten meanwhile has an older fork point than the one we cut from.
    if base and (not found or git.is_ancestor(path, found, base)) and git.is_ancestor(path, base, "HEAD"):
        return base
    if not found:
        raise AdwError(GIT, "git", f"the branch has no common history with {run.text('base_branch')}")
    return found


def _implement(run: Run, issue: Issue, path: str, branch: str, name: str) -> None:
    done = run.text("implemented_commit")
    if done and done == git.head(path) and not git.status(path) and _has_work(run, path):
        markers.say(f"the change is committed already as {done[:12]}; only what came after it is done again")
        return
    if run.cfg.agent == "patch":
        diff = patch.extract(issue.body, issue.number)
        files = patch.parse(diff)
        how = patch.apply(path, diff, files)
        text = {"applied": "the diff was applied", "already": "the diff is applied already"}[how]
        markers.say(text)
        agent.record_patch(run, "implementor", diff, text)
    else:
        reply = guard.work(run, "implementor", _prompt(run, issue, path, name), path, branch)
        markers.say(reply[-1500:], "| ")
    _not_unmerged(path)
    checks.stage_all(path)
    staged = git.run(["diff", "--cached", "--quiet"], path, ok=(0, 1))[0] == 1
    if not staged and not _has_work(run, path):
        raise AdwError(AGENT_UNUSABLE, "agent", _nothing(run))
    tree = git.out(["write-tree"], path)
    if run.cfg.check_command:
        check = checks.run_check(run, path)
        checks.record(run, check, tree)
        if not check.ok:
            message = f"{check.sentence()}\n{check.output[-1200:]}".strip()
            raise AdwError(CHECK_FAILED, "validation", message)
    checks.tidy(path)
    if git.branch(path) != branch:
        raise AdwError(GIT, "git", f"the check command moved the worktree off {branch}")
    if staged:
        git.commit(path, _message(run, issue))
        checks.tidy(path)
    run.set(implemented_commit=git.head(path))


def _nothing(run: Run) -> str:
    said = "the agent changed nothing beyond the plan"
    if not run.denials:
        return said
    more = f" and {len(run.denials) - 1} more" if len(run.denials) > 1 else ""
    return f"{said}; it was refused a permission: {markers.one_line(run.denials[0])}{more}"


def _not_unmerged(path: str) -> None:
    text = git.run(["ls-files", "--unmerged", "-z"], path)[1]
    if text:
        names = sorted({line.partition("\t")[2] for line in text.split("\0") if line})
        raise AdwError(AGENT_UNUSABLE, "agent", f"unmerged files are left: {', '.join(names[:5])}")


def _prompt(run: Run, issue: Issue, path: str, name: str) -> str:
    with open(os.path.join(path, name), encoding="utf-8", errors="replace") as stream:
        plan = stream.read(PLAN_MAX_CHARS)
    last = run.state.get("last_check")
    failed = ""
    if isinstance(last, dict) and last.get("ok") is False:
        failed = (
            "An earlier attempt is in the worktree already; then the check command failed with:\n\n"
            f"{last.get('output_tail', '')}\n"
        )
    return prompt(
        "implement",
        number=issue.number,
        title=issue.title,
        body=issue.body,
        plan=plan,
        plan_file=name,
        check=run.cfg.check_command or "none configured",
        failed=failed,
    )


def title_of(run: Run, issue: Issue) -> str:
    """Return the title of commit and pull request, with a conventional prefix."""
    from adw_modules.classify import by_prefix

    title = markers.one_line(issue.title)
    kind = run.text("issue_class").lstrip("/")
    return title if by_prefix(title) else f"{PREFIX.get(kind, 'chore')}: {title}"


def _message(run: Run, issue: Issue) -> str:
    return f"{title_of(run, issue)[:180]} (#{issue.number})\n\nADW-ID: {run.adw_id}\n"


def _pull(run: Run, issue: Issue, path: str, branch: str, name: str) -> None:
    base = merge_base(run, path)
    stat = git.out(["diff", "--stat=100", base, "HEAD", "--"], path)
    last = run.state.get("last_check")
    checked = "no check command is configured"
    if run.cfg.check_command and isinstance(last, dict):
        checked = f"`{last.get('command')}` {'passed' if last.get('ok') else 'failed'}"
    closing = f"Closes #{issue.number}" if run.cfg.forge == "github" else f"Issue {issue.number}"
    body = (
        f"{closing}.\n\nMade by adwd, run `{run.adw_id}`.\n\n- plan: `{name}`\n- check: {checked}\n"
        f"- base: `{run.text('base_branch')}` at `{base[:12]}`\n"
    )
    if run.cfg.forge == "github":
        body += f"\n```\n{stat[:4000]}\n```\n"
    proposal = Proposal(
        head=branch,
        base=run.text("base_branch"),
        title=title_of(run, issue),
        body=body,
        diffstat=stat,
        adw_id=run.adw_id,
        issue=issue.number,
    )
    pull = run.forge.ensure_pull(proposal)
    crash.here("pull-made")
    run.set(pr_created=True, pr_url=pull.url, pr_number=pull.number)
    markers.emit("PR_URL", pull.url)


def _check(run: Run, path: str) -> None:
    """Check the post-conditions: ahead of base, clean, pushed, with a pull request."""
    if git.head(path) == merge_base(run, path):
        raise AdwError(GIT, "git", "the branch is not ahead of its base")
    dirt = git.status(path)
    if dirt:
        raise AdwError(GIT, "git", f"the worktree is not clean after the build: {'; '.join(dirt[:5])}")
    if not run.text("pr_url"):
        raise AdwError(FORGE, "forge", "the pull request has no URL")
