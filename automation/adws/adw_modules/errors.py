"""Exit codes, one meaning each, and the two exceptions that end a phase.

| code | meaning |
|---|---|
| 0 | done, or skipped |
| 2 | usage or configuration |
| 3 | state missing, invalid, of another issue, or in use by another process |
| 4 | worktree missing |
| 5 | plan missing |
| 10 | the review found blockers |
| 11 | the check command failed |
| 20 / 21 / 22 | agent failed / timed out / gave nothing usable |
| 30 | the forge did not give what was asked for |
| 31 / 32 / 33 | git failed / push rejected / no remote |
| 40 | internal error |
| 130 / 143 | interrupted / terminated |
"""

OK = 0
USAGE = 2
STATE = 3
NO_WORKTREE = 4
NO_PLAN = 5
BLOCKERS = 10
CHECK_FAILED = 11
AGENT_FAILED = 20
AGENT_TIMEOUT = 21
AGENT_UNUSABLE = 22
FORGE = 30
GIT = 31
PUSH_REJECTED = 32
NO_REMOTE = 33
INTERNAL = 40
INTERRUPTED = 130
TERMINATED = 143


class AdwError(Exception):
    """A failure with an exit code, a class, a sentence that names the cause, and whether a retry can help."""

    def __init__(self, code: int, kind: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.kind = kind
        self.message = message
        self.retryable = retryable


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived. A BaseException, so that no `except Exception` swallows it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum

    @property
    def code(self) -> int:
        """The exit code: 130 for SIGINT, 143 for the others."""
        return INTERRUPTED if self.signum == 2 else TERMINATED
