"""The one way to stdout: marker lines, and everything else indented so that it cannot be one.

A marker is a whole line `KEY=value`, written with one write. Forwarded text (agent replies, git output,
file names) is split at everything that any reader takes for a line end, each piece is indented by two
spaces, and control characters are made visible, so no text of others can start a line.
"""

import os

from adw_modules import crash

KEYS = frozenset({"ADW_ID", "WORKTREE_PATH", "PHASE", "STATUS", "PLAN_FILE", "BRANCH", "PR_URL"})
MARKER_MAX_BYTES = 4096
LINE_MAX_CHARS = 4000
LINES_MAX = 2000


class _Output:
    """Where the lines go: stdout, and the log file of a manual run."""

    tee_fd = -1
    stdout_broken = False

    def write(self, data: bytes) -> None:
        if not self.stdout_broken:
            try:
                _write_all(1, data)
            except OSError:
                # A closed pipe or a full disk must not end a phase; the log file may still work.
                self.stdout_broken = True
        if self.tee_fd >= 0:
            try:
                _write_all(self.tee_fd, data)
            except OSError:
                self.tee_fd = -1


_OUT = _Output()


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def set_tee(fd: int) -> None:
    """Copy every line to this descriptor as well; -1 stops it."""
    _OUT.tee_fd = fd


def visible(text: str) -> str:
    """Make control characters harmless: tabs stay, the rest becomes its escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else _escape(c) for c in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def one_line(text: str) -> str:
    """Join all lines of a text into one harmless line."""
    return visible(" ".join(part for part in text.splitlines() if part.strip()))


def emit(key: str, value: str) -> None:
    """Write the marker `KEY=value`."""
    if key not in KEYS:
        raise ValueError(f"{key} is not a marker")
    _emit(f"{key}={one_line(value)}")


def token_event(payload: dict[str, object]) -> None:
    """Write `TOKEN_EVENT:{json}`."""
    import json

    _emit("TOKEN_EVENT:" + json.dumps(payload, ensure_ascii=True, sort_keys=True))


def _emit(line: str) -> None:
    data = line.encode("utf-8", "backslashreplace")[: MARKER_MAX_BYTES - 1]
    _OUT.write(data.decode("utf-8", "ignore").encode() + b"\n")
    crash.here("marker-printed", line.partition("=")[0].partition(":")[0])


def say(text: str, prefix: str = "") -> None:
    """Write any text, every line of it indented and neutralised."""
    lines = text.splitlines() or [""]
    dropped = len(lines) - LINES_MAX
    out = []
    for line in lines[:LINES_MAX]:
        shown = visible(line)
        if len(shown) > LINE_MAX_CHARS:
            shown = shown[:LINE_MAX_CHARS] + f"… ({len(shown) - LINE_MAX_CHARS} more characters)"
        out.append(f"  {prefix}{shown}")
    if dropped > 0:
        out.append(f"  {prefix}… ({dropped} more lines)")
    _OUT.write(("\n".join(out) + "\n").encode("utf-8", "backslashreplace"))


def error(message: str) -> None:
    """Write the sentence that says why a phase fails."""
    say(message, "error: ")
