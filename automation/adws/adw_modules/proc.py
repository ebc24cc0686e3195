"""Child processes: short tools whose output is captured, and long ones whose whole tree is owned.

Children run in a session of their own with no terminal. Output goes to files, never to a pipe, so a
grandchild that keeps a descriptor open cannot block anything. An owned tree is ended on every exit path:
the group first, then what escaped with `setsid`, found as a descendant (this process is made a child
subreaper) or by a token in its environment.
"""

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import IO, NamedTuple

from adw_modules import crash, signals

TERM_GRACE_S = 2.0
LEFTOVER_GRACE_S = 0.3
PATIENCE_S = 10.0
CAPTURE_MAX_BYTES = 64 * 1024 * 1024
TREE_OUTPUT_MAX_BYTES = 512 * 1024 * 1024
TOKEN_VARIABLE = "ADW_CALL_TOKEN"  # noqa: S105 -- no secret: it marks the processes of one call
_PR_SET_CHILD_SUBREAPER = 36
# What uv set for this script must not leak into the programs that the project runs.
_UV_VARIABLES = ("UV", "UV_RUN_RECURSION_DEPTH", "VIRTUAL_ENV", "PYTHONUNBUFFERED")
_GIT_VARIABLES = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
)


class ToolResult(NamedTuple):
    """What a short tool gave."""

    code: int
    out: str
    err: str
    timed_out: bool


class TreeResult(NamedTuple):
    """How an owned tree ended."""

    code: int
    timed_out: bool
    too_much: bool
    seconds: float
    swept: int


def project_env(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Make the environment for agents and check commands: without our own settings and what uv added."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("ADW_") and k not in _GIT_VARIABLES}
    if env.get("UV_RUN_RECURSION_DEPTH"):
        for name in _UV_VARIABLES:
            env.pop(name, None)
    env.pop("CLAUDECODE", None)  # an agent that is started from within an agent refuses to run with it
    env.update(extra or {})
    return env


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Wait for the end without spinning; True when it came."""
    if process.poll() is not None:
        return True
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(process.pid)
            try:
                poller = select.poll()
                poller.register(fd, select.POLLIN)
                poller.poll(max(0, int(timeout_s * 1000)))
            finally:
                os.close(fd)
            return process.poll() is not None
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, number)


def _read_capped(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read(CAPTURE_MAX_BYTES).decode("utf-8", "surrogateescape")


def run_tool(
    argv: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str],
    stdin: str = "",
    timeout_s: float = 300.0,
    patient: bool = False,
) -> ToolResult:
    """Run a short tool and capture what it writes.

    A patient call lets the tool end by itself for a while when a signal arrives: a killed `git worktree add`
    poisons the repository.
    """
    signals.check()
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        source.write(stdin.encode("utf-8", "surrogateescape"))
        source.seek(0)
        process = subprocess.Popen(
            list(argv), cwd=cwd, env=dict(env), stdin=source, stdout=out, stderr=err, start_new_session=True
        )
        crash.here("tool-started", _called(argv))
        try:
            ended = _wait(process, timeout_s)
        except BaseException:
            if not (patient and _wait(process, PATIENCE_S)):
                _stop(process)
            raise
        if not ended:
            _stop(process)
        crash.here("tool-ended", _called(argv))
        return ToolResult(process.returncode, _read_capped(out), _read_capped(err), not ended)


def _called(argv: Sequence[str]) -> str:
    """Name a tool's call for a test: the program and its first plain word, as `git-push`."""
    words = (word for word in argv[1:] if word.isalpha())
    return f"{os.path.basename(argv[0])}-{next(words, '')}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    _signal_group(process.pid, signal.SIGTERM)
    if not _wait(process, TERM_GRACE_S):
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()


def become_subreaper() -> None:
    """Adopt orphaned descendants, so that they can be found. Linux only; elsewhere it does nothing."""
    import sys

    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _table() -> dict[int, tuple[int, int, str]]:
    """Return pid -> (parent, session, state) of all processes."""
    table: dict[int, tuple[int, int, str]] = {}
    if os.path.isdir("/proc/self"):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    with open(f"/proc/{name}/stat", "rb") as stream:
                        fields = stream.read().rpartition(b")")[2].split()
                    table[int(name)] = (int(fields[1]), int(fields[3]), fields[0].decode("ascii"))
        return table
    listing = subprocess.run(["ps", "-axo", "pid=,ppid=,sess=,state="], capture_output=True, check=False, text=True)
    for line in listing.stdout.splitlines():
        words = line.split()
        if len(words) == 4 and words[0].isdigit() and words[1].isdigit():
            table[int(words[0])] = (int(words[1]), -1, words[3][:1])
    return table


def descendants() -> set[int]:
    """Return the pids of all living descendants of this process."""
    return _descendants(_table())


def _descendants(table: Mapping[int, tuple[int, int, str]]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, (parent, _, _) in table.items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    queue = [os.getpid()]
    while queue:
        for child in children.get(queue.pop(), ()):
            if child not in found:
                found.add(child)
                queue.append(child)
    return {pid for pid in found if table[pid][2] != "Z"}


def _members(leader: int, token: str, before: set[int]) -> set[int]:
    """Return the living processes that belong to one call."""
    table = _table()
    found = _descendants(table) - before
    needle = f"{TOKEN_VARIABLE}={token}".encode("ascii")
    own = os.getpid()
    for pid, (_, session, state) in table.items():
        if pid in found or pid == own or state == "Z":
            continue
        if session == leader > 0:
            found.add(pid)
            continue
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as stream:
            if needle in stream.read():
                found.add(pid)
    return found


def end_tree(leader: int, token: str, before: set[int], grace_s: float) -> int:
    """End every process of one call: TERM, grace, KILL until none is left. Returns how many there were."""
    seen: set[int] = set()
    deadline = time.monotonic() + grace_s
    termed: set[int] = set()
    give_up = deadline + 10.0
    while True:
        _reap(seen, leader)
        members = _members(leader, token, before)
        if not members:
            return len(seen)
        seen |= members
        late = time.monotonic() >= deadline
        for pid in members:
            if late or pid not in termed:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        termed |= members
        if time.monotonic() > give_up:
            return len(seen)
        time.sleep(0.03)


def _reap(pids: set[int], leader: int) -> None:
    """Collect adopted zombies; the leader is collected by its Popen."""
    for pid in pids:
        if pid != leader:
            with contextlib.suppress(OSError):
                os.waitpid(pid, os.WNOHANG)


def _liveness() -> tuple[int, ...]:
    """Return a copy of stdout for an owned tree to hold, under the daemon.

    The daemon's proof of life is a lock on the open file description of the log, which is our stdout. The
    agent writes elsewhere, but as long as it lives that lock must not be free.
    """
    return (os.dup(1),) if os.environ.get("ADW_ATTEMPT_DIR") else ()


def run_tree(
    argv: Sequence[str],
    *,
    cwd: str,
    env: Mapping[str, str],
    stdin_path: str,
    out_path: str,
    err_path: str,
    timeout_s: float,
) -> TreeResult:
    """Run a program that may start others, and own all of it.

    stdin comes from a file (so it ends), stdout and stderr are appended to files. Whatever happens, nothing
    of the tree is alive afterwards.
    """
    signals.check()
    become_subreaper()
    before = descendants()
    token = os.urandom(8).hex()
    keep = _liveness()
    start = time.monotonic()
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    process: subprocess.Popen[bytes] | None = None
    timed_out = too_much = False
    swept = 0
    fds: list[int] = []
    grace = TERM_GRACE_S
    try:
        fds.append(os.open(stdin_path, os.O_RDONLY | os.O_CLOEXEC))
        fds.append(os.open(out_path, flags, 0o644))
        fds.append(fds[1] if err_path == out_path else os.open(err_path, flags, 0o644))
        process = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env={**env, TOKEN_VARIABLE: token},
            stdin=fds[0],
            stdout=fds[1],
            stderr=fds[2],
            start_new_session=True,
            pass_fds=keep,
        )
        crash.here("tree-started", os.path.basename(argv[0]))
        while not _wait(process, min(1.0, max(0.0, start + timeout_s - time.monotonic()))):
            timed_out = time.monotonic() - start >= timeout_s
            too_much = os.fstat(fds[1]).st_size > TREE_OUTPUT_MAX_BYTES
            if timed_out or too_much:
                break
        else:
            grace = LEFTOVER_GRACE_S
    finally:
        with signals.shield():
            leader = process.pid if process is not None else -1
            swept = end_tree(leader, token, before, grace)
            if process is not None:
                process.wait()
            for fd in {*fds, *keep}:
                os.close(fd)
    crash.here("tree-ended", os.path.basename(argv[0]))
    return TreeResult(process.returncode, timed_out, too_much, time.monotonic() - start, swept)


def tail(path: str, max_bytes: int = 4000) -> str:
    """Return the end of a file as text."""
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, size - max_bytes))
            return stream.read(max_bytes).decode("utf-8", "replace").strip()
    except OSError:
        return ""
