"""What all four scripts do first: read argv, refuse what is wrong, and write `ADW_ID=`.

Nothing but os and sys is imported until the first marker is out.
"""

import os
import sys

from adw_modules import crash, markers
from adw_modules.errors import USAGE

PHASES = ("plan", "build", "review")
_ID_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_ID_REST = _ID_FIRST | {"_", "-"}


class _UsageError(Exception):
    pass


def valid_issue(text: str) -> bool:
    """Tell whether this is `^[0-9]{1,10}$`."""
    return 1 <= len(text) <= 10 and text.isascii() and text.isdigit()


def valid_id(text: str) -> bool:
    """Tell whether this is `^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`."""
    return 1 <= len(text) <= 64 and text[0] in _ID_FIRST and all(c in _ID_REST for c in text)


def new_id() -> str:
    """Make an id of 8 hexadecimal characters."""
    return os.urandom(4).hex()


def _usage(kind: str) -> str:
    extra = " [--phases plan,build,review]" if kind == "sdlc" else ""
    return f"usage: adw_{kind}.py ISSUE [ADW_ID]{extra}"


def _parse_phases(text: str) -> tuple[str, ...]:
    wanted = tuple(p.strip() for p in text.split(","))
    for phase in wanted:
        if phase not in PHASES:
            raise _UsageError(f"--phases: unknown phase {phase!r}; known are plan, build, review")
    if len(set(wanted)) != len(wanted) or list(wanted) != sorted(wanted, key=PHASES.index):
        raise _UsageError("--phases: name each phase once, in the order plan, build, review")
    return wanted


def _parse(kind: str, argv: list[str]) -> tuple[str, str, tuple[str, ...]]:
    phases: tuple[str, ...] = PHASES if kind == "sdlc" else (kind,)
    words: list[str] = []
    rest = list(argv)
    while rest:
        arg = rest.pop(0)
        if kind == "sdlc" and arg == "--phases":
            if not rest:
                raise _UsageError("--phases needs a value, such as plan,build")
            phases = _parse_phases(rest.pop(0))
        elif kind == "sdlc" and arg.startswith("--phases="):
            phases = _parse_phases(arg.partition("=")[2])
        elif arg.startswith("-"):
            raise _UsageError(f"unknown option {arg}")
        else:
            words.append(arg)
    if not 1 <= len(words) <= 2:
        raise _UsageError(f"expected ISSUE and perhaps ADW_ID, got {len(words)} arguments")
    if not valid_issue(words[0]):
        raise _UsageError(f"issue {words[0]!r} is not a number of 1 to 10 digits")
    adw_id = words[1] if len(words) == 2 else ""
    if len(words) == 2 and not valid_id(adw_id):
        raise _UsageError(f"adw id {adw_id!r} is not valid: letters and digits first, then also _ and -, at most 64")
    return words[0], adw_id, phases


def main(kind: str, argv: list[str] | None = None) -> int:
    """Run one phase (`plan`, `build`, `review`) or several (`sdlc`) and return the exit code."""
    args = sys.argv[1:] if argv is None else argv
    if any(a in {"-h", "--help"} for a in args):
        markers.say(_usage(kind) + "\nsettings: ADW_* in the environment, then .adw.toml, then defaults")
        return 0
    try:
        issue, adw_id, phases = _parse(kind, args)
    except _UsageError as problem:
        markers.error(f"{problem}\n{_usage(kind)}")
        markers.emit("STATUS", "failed")
        return USAGE
    generated = not adw_id and phases[0] == "plan"
    if generated:
        adw_id = new_id()
    if adw_id:
        markers.emit("ADW_ID", adw_id)
    from adw_modules import runner

    return runner.execute(issue, adw_id, phases, sdlc=kind == "sdlc")


def script(kind: str) -> None:
    """Run as a script and leave at once: no second signal can lose the exit code any more."""
    code = main(kind)
    if "adw_modules.signals" in sys.modules:
        from adw_modules import signals

        signals.ignore_all()
    sys.stdout.flush()
    crash.here("phase-done")
    os._exit(code)
