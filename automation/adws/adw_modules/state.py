"""`{agents}/{adw_id}/adw_state.json`: one JSON object, written atomically under an advisory lock.

Writers: exclusive lock on `adw_state.json.lock`, temporary file in the same folder, fsync, rename, fsync of
the folder. Readers need no lock, because a rename is atomic. Keys that this version does not know survive.
"""

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from adw_modules import crash, signals
from adw_modules.errors import STATE, AdwError

State = dict[str, Any]
STATE_FILE = "adw_state.json"
RUN_LOCK = "run.lock"
STATE_MAX_BYTES = 1024 * 1024
LOCK_WAIT_S = 30.0
SCHEMA_VERSION = 1


def now() -> str:
    """Return the time as RFC 3339 UTC with milliseconds."""
    moment = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment * 1000) % 1000:03d}Z"


def bad_state(message: str, *, retryable: bool = False) -> AdwError:
    """Make the error for a state that is missing or cannot be used."""
    return AdwError(STATE, "validation", message, retryable=retryable)


def fsync_dir(path: str) -> None:
    """Make a rename in this folder durable. Filesystems that cannot are left alone."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(fd)
    finally:
        os.close(fd)


def write_atomic(path: str, data: bytes) -> None:
    """Replace a file: temporary file beside it, fsync, rename, fsync of the folder."""
    folder, name = os.path.split(path)
    temp = os.path.join(folder, f".{name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    with signals.shield():
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        crash.here("file-made", name)
        try:
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                os.fsync(fd)
            finally:
                os.close(fd)
            crash.here("file-synced", name)
            os.rename(temp, path)
            crash.here("file-renamed", name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temp)
            raise
        fsync_dir(folder)


def remove_unfinished(folder: str) -> None:
    """Remove what a killed `write_atomic` left below a folder. For who holds the lock of all its writers."""
    for parent, _, names in os.walk(folder):
        for name in names:
            parts = name.split(".")
            if name.startswith(".") and parts[-1] == "tmp" and len(parts) > 3 and parts[-3].isdigit():
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(parent, name))


@contextlib.contextmanager
def flocked(path: str, *, shared: bool = False, wait_s: float = LOCK_WAIT_S) -> Iterator[int]:
    """Hold an advisory lock on a file, which is made if it is missing. Children do not inherit it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        deadline = time.monotonic() + wait_s
        delay = 0.002
        while True:
            try:
                fcntl.flock(fd, mode | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise bad_state(f"{path} is locked for {wait_s:.0f} s", retryable=True) from None
            time.sleep(delay)
            delay = min(delay * 2, 0.05)
        yield fd
    finally:
        os.close(fd)


def parse(data: bytes, path: str) -> State:
    """Read a state's bytes; say what is wrong and what to do about it."""
    advice = f"restore it from a copy, or move {os.path.dirname(path)} away and start with a new id"
    if len(data) > STATE_MAX_BYTES:
        raise bad_state(f"{path} is larger than {STATE_MAX_BYTES} bytes; {advice}")
    if not data.strip():
        raise bad_state(f"{path} is empty; {advice}")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as problem:
        raise bad_state(f"{path} is not valid JSON ({problem}); {advice}") from None
    if not isinstance(value, dict):
        raise bad_state(f"{path} holds a JSON {type(value).__name__}, not an object; {advice}")
    return value


def read_file(path: str) -> State:
    """Read a state file without following a symbolic link."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise bad_state(f"no state at {path}; run the plan phase first, or check the id") from None
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            raise bad_state(f"{path} is a symbolic link; refused. Replace it by the file itself") from None
        raise bad_state(f"{path} cannot be read: {problem.strerror}") from None
    try:
        with os.fdopen(fd, "rb") as stream:
            return parse(stream.read(STATE_MAX_BYTES + 1), path)
    except OSError as problem:
        raise bad_state(f"{path} cannot be read: {problem.strerror}") from None


class StateStore:
    """The state of one run."""

    def __init__(self, agents_dir: str, adw_id: str) -> None:
        self.agents_dir = agents_dir
        self.adw_id = adw_id
        self.folder = os.path.join(agents_dir, adw_id)
        self.path = os.path.join(self.folder, STATE_FILE)
        self._run_lock_fd = -1

    def check_folder(self) -> None:
        """Refuse a run folder that leads out of the agents folder."""
        if os.path.lexists(self.folder):
            real = os.path.realpath(self.folder)
            if real != os.path.join(os.path.realpath(self.agents_dir), self.adw_id):
                raise bad_state(f"{self.folder} is a symbolic link to {real}; refused. Remove the link")
            if not os.path.isdir(self.folder):
                raise bad_state(f"{self.folder} is not a folder; move it away")

    def exists(self) -> bool:
        """Tell whether there is a state file, whatever it holds."""
        return os.path.lexists(self.path)

    def load(self) -> State:
        """Read the state."""
        self.check_folder()
        return read_file(self.path)

    def take_run_lock(self) -> None:
        """Hold `run.lock` for the life of this process: two processes never work on one id."""
        self.check_folder()
        os.makedirs(self.folder, exist_ok=True)
        path = os.path.join(self.folder, RUN_LOCK)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        deadline = time.monotonic() + 1.0  # a reader that only looks holds it for an instant
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
                    os.close(fd)
                    message = f"run {self.adw_id} is in use by another process (pid {owner}); nothing changed"
                    raise bad_state(message, retryable=True) from None
                time.sleep(0.02)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
        self._run_lock_fd = fd
        crash.here("run-locked")
        remove_unfinished(self.folder)

    def update(self, change: Callable[[State], None], *, create: bool = False) -> State:
        """Load, change and save under the lock; nothing that another writer saved is lost."""
        self.check_folder()
        with flocked(self.path + ".lock"):
            state = {} if create and not self.exists() else read_file(self.path)
            change(state)
            state["schema_version"] = state.get("schema_version", SCHEMA_VERSION)
            state["updated_at"] = now()
            data = json.dumps(state, indent=2, sort_keys=True, ensure_ascii=False)
            encoded = data.encode("utf-8", "backslashreplace") + b"\n"
            if len(encoded) > STATE_MAX_BYTES:
                raise bad_state(f"the state of {self.adw_id} would grow beyond {STATE_MAX_BYTES} bytes")
            write_atomic(self.path, encoded)
            return state


def find_newest(agents_dir: str, issue: str) -> str:
    """Return the id of the newest readable state of an issue, or an empty string."""
    best = ("", "")
    try:
        names = os.listdir(agents_dir)
    except OSError:
        return ""
    for name in names:
        try:
            state = StateStore(agents_dir, name).load()
        except AdwError:
            continue
        stamp = str(state.get("updated_at") or state.get("worktree_created_at") or "")
        if state.get("issue_number") == issue and (stamp, name) > best:
            best = (stamp, name)
    return best[1]


def is_alive(folder: str) -> bool:
    """Tell whether a process holds the run lock of this run folder."""
    try:
        fd = os.open(os.path.join(folder, RUN_LOCK), os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(fd)
