"""Run one phase or several for one issue in this process."""

from collections.abc import Callable

from adw_modules import git, markers, signals, worktree
from adw_modules.config import Config, load
from adw_modules.errors import INTERNAL, OK, AdwError, Interrupted
from adw_modules.phase import Frame, Run
from adw_modules.state import State, StateStore, bad_state, find_newest, now


def execute(issue: str, adw_id: str, phases: tuple[str, ...], *, sdlc: bool) -> int:
    """Do it and return the exit code. Failures before the first phase change nothing."""
    signals.install()
    try:
        run = _open(issue, adw_id, phases)
    except AdwError as failure:
        markers.error(failure.message)
        markers.emit("STATUS", "failed")
        return failure.code
    except Interrupted as signal:
        markers.emit("STATUS", "failed")
        return signal.code
    except Exception as problem:  # noqa: BLE001 -- the last line of defence
        import traceback

        markers.say(traceback.format_exc())
        markers.error(f"internal error: {type(problem).__name__}: {problem}")
        markers.emit("STATUS", "failed")
        return INTERNAL
    try:
        return _phases(run, phases, sdlc=sdlc)
    except Interrupted as signal:  # between two phases
        signals.unwind()
        markers.emit("STATUS", "failed")
        return signal.code


def _phases(run: Run, phases: tuple[str, ...], *, sdlc: bool) -> int:
    code = OK
    for name in phases:
        signals.check()
        code, status = Frame(run, name).execute(_body(name))
        if code != OK or status != "completed":
            return code
    if sdlc:
        _cleanup(run, phases)
    return code


def _open(issue: str, adw_id: str, phases: tuple[str, ...]) -> Run:
    cfg = load()
    if not adw_id:
        adw_id = find_newest(cfg.agents_dir, issue)
        if not adw_id:
            raise bad_state(f"no run of issue {issue} in {cfg.agents_dir}; run the plan phase first")
        markers.emit("ADW_ID", adw_id)
    store = StateStore(cfg.agents_dir, adw_id)
    run = Run(cfg, issue, adw_id, store)
    store.check_folder()
    fresh = not store.exists()
    if not fresh:
        _same_issue(store.load(), issue, adw_id)
    elif phases[0] != "plan":
        raise bad_state(f"no state for {adw_id} in {cfg.agents_dir}; run the plan phase first, or check the id")
    store.take_run_lock()
    if not fresh:
        run.state = store.load()
        _same_issue(run.state, issue, adw_id)
    else:
        run.state = store.update(lambda state: _create(state, run), create=True)
    for note in cfg.notes:
        markers.say(f"note: {note}")
    if not cfg.daemon:
        worktree.ensure_exclude(cfg.root, [cfg.agents_dir, cfg.trees_dir, cfg.pulls_dir, cfg.log_root])
    return run


def _same_issue(state: State, issue: str, adw_id: str) -> None:
    found = state.get("issue_number")
    if found is not None and str(found) != issue:
        raise bad_state(f"run {adw_id} belongs to issue {found}, not {issue}; use another id. Nothing changed")


def _create(state: State, run: Run) -> None:
    cfg = run.cfg
    if state:
        return
    state.update(
        schema_version=1,
        adw_id=run.adw_id,
        issue_number=run.issue,
        created_at=now(),
        phase_status={"plan": "pending", "build": "pending", "review": "pending"},
        pr_created=False,
        triggered_by=cfg.triggered_by,
        env=cfg.env,
        agent=cfg.agent,
    )
    for key, value in (
        ("mcp_request_id", cfg.mcp_request_id),
        ("mcp_user_id", cfg.mcp_user_id),
        ("model", cfg.model),
    ):
        if value:
            state[key] = value


def _body(name: str) -> Callable[[Run], str]:
    if name == "plan":
        from adw_modules.phase_plan import plan

        return plan
    if name == "build":
        from adw_modules.phase_build import build

        return build
    from adw_modules.phase_review import review

    return review


def _cleanup(run: Run, phases: tuple[str, ...]) -> None:
    """Remove the worktree of a manual run that went all the way, where that was asked for."""
    cfg: Config = run.cfg
    path = run.text("worktree_path")
    if cfg.daemon or not cfg.cleanup_worktrees or phases[-1] != "review" or not path:
        return
    try:
        if git.remote_head(cfg.root, cfg.remote, run.text("branch_name")) == git.head(path):
            worktree.remove(cfg.root, path)
            run.set(worktree_removed_at=now())
            markers.say(f"worktree {path} removed")
    except AdwError as problem:
        markers.say(f"note: the worktree stays: {problem.message}")
