"""Reading the runs of a project, for the bridge and the analysis: states, their problems, their status.

The status of a run is derived, because no file holds it:

| status | when |
|---|---|
| running | a process holds the run's lock |
| failed | a phase failed |
| skipped | the plan phase found the issue out of scope |
| completed | all phases are completed |
| lost | a phase is in progress, but no process lives |
| pending | no phase has begun |
| in_progress | some phases are completed, the next has not begun, no process lives |
| unknown | the state cannot be read; `problem` says why |
"""

import contextlib
import fcntl
import os
import time
from dataclasses import dataclass

from adw_modules.errors import AdwError
from adw_modules.state import STATE_FILE, State, StateStore, is_alive

STATUSES = ("pending", "in_progress", "running", "completed", "failed", "skipped", "lost", "unknown")
PHASES = ("plan", "build", "review")
LOCK_WAIT_S = 2.0


@dataclass
class Entry:
    """One folder of the agents folder."""

    adw_id: str
    folder: str
    state: State
    status: str
    problem: str
    stamp: float
    phase: str = ""


def shared_load(store: StateStore) -> State:
    """Read a state under a shared lock, where there is a lock file; nothing is made."""
    try:
        fd = os.open(store.path + ".lock", os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return store.load()
    try:
        deadline = time.monotonic() + LOCK_WAIT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            time.sleep(0.01)
        return store.load()  # a rename is atomic: without the lock the value is whole as well
    finally:
        os.close(fd)


def phase_table(state: State) -> dict[str, str]:
    """Return the status of each phase."""
    table = state.get("phase_status")
    table = table if isinstance(table, dict) else {}
    return {name: str(table.get(name, "pending")) for name in PHASES}


def derive(state: State, *, alive: bool) -> str:
    """Return the status of a run."""
    values = list(phase_table(state).values())
    if alive:
        return "running"
    if "failed" in values:
        return "failed"
    if values[0] == "skipped":
        return "skipped"
    if "in_progress" in values:
        return "lost"
    if all(value == "completed" for value in values):
        return "completed"
    return "pending" if all(value == "pending" for value in values) else "in_progress"


def current_phase(state: State) -> str:
    """Return the phase that is at work, failed, or comes next; empty when all are through."""
    table = phase_table(state)
    for wanted in ("in_progress", "failed"):
        for name in PHASES:
            if table[name] == wanted:
                return name
    if table["plan"] == "skipped":
        return ""
    return next((name for name in PHASES if table[name] == "pending"), "")


def seconds_of(text: object) -> float:
    """Read an RFC 3339 or naive ISO time; 0.0 where it is none."""
    from datetime import UTC, datetime

    if not isinstance(text, str):
        return 0.0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def entry(agents_dir: str, name: str) -> Entry:
    """Read one run; what is wrong with it is told, never hidden."""
    store = StateStore(agents_dir, name)
    alive = is_alive(store.folder)
    try:
        state = shared_load(store)
    except AdwError as problem:
        stamp = 0.0
        for path in (store.path, store.folder):
            with contextlib.suppress(OSError):
                stamp = os.lstat(path).st_mtime
                break
        return Entry(name, store.folder, {}, "running" if alive else "unknown", problem.message, stamp)
    stamp = seconds_of(state.get("updated_at"))
    if not stamp:
        with contextlib.suppress(OSError):
            stamp = os.stat(store.path).st_mtime
    return Entry(name, store.folder, state, derive(state, alive=alive), "", stamp, current_phase(state))


def entries(agents_dir: str) -> list[Entry]:
    """Read all runs, the newest first."""
    try:
        names = [n for n in os.listdir(agents_dir) if not n.startswith(".")]
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        folder = os.path.join(agents_dir, name)
        if not os.path.isdir(folder) and not os.path.islink(folder):
            continue
        empty = not os.path.lexists(os.path.join(folder, STATE_FILE)) and not is_alive(folder)
        if empty and not os.path.islink(folder) and not os.listdir(folder):
            continue
        found.append(entry(agents_dir, name))
    return sorted(found, key=lambda e: (-e.stamp, e.adw_id))
