"""The `patch` agent: no model, deterministic. The issue carries a unified diff; it is planned and applied."""

import os
from collections import Counter
from dataclasses import dataclass, field

from adw_modules import git
from adw_modules.errors import AGENT_UNUSABLE, AdwError

_FENCES = ("```", "~~~")
_NAMED = frozenset({"diff", "patch", "udiff"})


@dataclass
class FilePatch:
    """What a diff does to one file."""

    path: str
    old_path: str
    kind: str = "modify"
    hunks: int = 0
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    binary: bool = False
    mode: str = ""


def unusable(message: str) -> AdwError:
    """Make the error for an issue or a diff that cannot be used."""
    return AdwError(AGENT_UNUSABLE, "agent", message)


def _blocks(body: str) -> list[tuple[str, str]]:
    """Return (info word, content) of all fenced code blocks."""
    found: list[tuple[str, str]] = []
    fence, info, indent = "", "", 0
    lines: list[str] = []
    for line in body.replace("\r\n", "\n").split("\n"):
        text = line.lstrip(" ")
        pad = len(line) - len(text)
        if not fence:
            if pad <= 3 and text.startswith(_FENCES):
                fence = text[: len(text) - len(text.lstrip(text[0]))]
                words = text[len(fence) :].split()
                info, lines, indent = (words[0].lower() if words else ""), [], pad
        elif text.startswith(fence) and not text.strip(fence[0]).strip() and pad <= 3:
            found.append((info, "\n".join(lines) + "\n"))
            fence = ""
        else:
            lines.append(line[indent:] if line[:indent].isspace() else line)
    if fence and lines:
        found.append((info, "\n".join(lines).rstrip("\n") + "\n"))
    return found


def looks_like_diff(text: str) -> bool:
    """Tell whether a text is a unified diff."""
    lines = text.split("\n")
    if any(line.startswith("diff --git ") for line in lines):
        return True
    pairs = zip(lines, lines[1:], lines[2:], strict=False)
    return any(a.startswith("--- ") and b.startswith("+++ ") and c.startswith("@@ ") for a, b, c in pairs)


def extract(body: str, number: str) -> str:
    """Return the diff that an issue carries: all blocks named diff or patch, else those that look like one."""
    blocks = _blocks(body)
    chosen = [text for info, text in blocks if info in _NAMED and text.strip()]
    if not chosen:
        chosen = [text for _, text in blocks if looks_like_diff(text)]
    if not chosen:
        raise unusable(
            f"issue {number} carries no unified diff; put one in a ```diff block or choose an agent "
            '(agent = "claude" in .adw.toml)'
        )
    for text in chosen:
        if not looks_like_diff(text):
            raise unusable(
                f"issue {number} has a ```diff block that is no unified diff: it needs "
                "`--- a/path`, `+++ b/path` and `@@` lines"
            )
    return "".join(chosen)


def _name(raw: str) -> str:
    """Return the path of a `---` or `+++` line without its a/ or b/; empty for /dev/null."""
    text = raw.split("\t", 1)[0].strip()
    if text.startswith('"'):
        raise unusable(f"the diff quotes a file name ({text}); such names are not supported")
    if text == "/dev/null":
        return ""
    return text[2:] if text.startswith(("a/", "b/")) else text


class _Parser:
    """Reads a unified diff, git's or plain, and counts each hunk's lines, so content is never a header."""

    def __init__(self) -> None:
        self.files: list[FilePatch] = []
        self.current: FilePatch | None = None
        self.old = self.new = 0
        self.minus = ""

    def feed(self, number: int, line: str) -> None:
        if self.old > 0 or self.new > 0:
            self._hunk_line(number, line)
        elif line.startswith("diff --git "):
            self._git_header(line)
        elif line.startswith("--- "):
            self.minus = line[4:]
        elif line.startswith("+++ "):
            self._names(line[4:])
        elif line.startswith("@@ "):
            self._hunk(number, line)
        elif self.current:
            self._extended(line)

    def _git_header(self, line: str) -> None:
        words = line[len("diff --git ") :]
        half = len(words) // 2
        old, new = words[:half], words[half + 1 :]
        if _name(old) != _name(new):
            parts = words.split(" ")
            if len(parts) != 2:
                raise unusable(f"cannot read the file names of {line!r}")
            old, new = parts
        self.current = FilePatch(_name(new), _name(old))
        self.files.append(self.current)

    def _names(self, plus: str) -> None:
        old, new = _name(self.minus), _name(plus)
        entry = self.current
        if entry is None or entry.hunks or entry.path not in {old, new}:
            entry = FilePatch(new or old, old or new)
            self.files.append(entry)
            self.current = entry
        if not old:
            entry.kind = "add"
        elif not new:
            entry.kind = "delete"
            entry.path = old
        elif entry.kind == "modify":
            entry.path, entry.old_path = new, old

    def _hunk(self, number: int, line: str) -> None:
        if self.current is None:
            raise unusable(f"line {number} of the diff: a hunk without file names before it")
        try:
            ranges = line.split("@@")[1].split()
            self.old = int(ranges[0].partition(",")[2] or 1)
            self.new = int(ranges[1].partition(",")[2] or 1)
        except (IndexError, ValueError):
            raise unusable(f"line {number} of the diff: cannot read {line!r}") from None
        self.current.hunks += 1

    def _hunk_line(self, number: int, line: str) -> None:
        entry = self.current
        if entry is None:  # pragma: no cover -- a hunk always has a file
            return
        if line.startswith("+"):
            self.new -= 1
            entry.added.append(line[1:])
        elif line.startswith("-"):
            self.old -= 1
            entry.removed.append(line[1:])
        elif line.startswith(" ") or line == "":
            self.old -= 1
            self.new -= 1
        elif not line.startswith("\\"):
            raise unusable(f"line {number} of the diff: the hunk ends too early at {line!r}")

    def _extended(self, line: str) -> None:
        entry = self.current
        if entry is None:
            return
        if line.startswith("new file mode "):
            entry.kind = "add"
            entry.mode = line.rsplit(maxsplit=1)[-1]
        elif line.startswith("deleted file mode "):
            entry.kind = "delete"
        elif line.startswith("new mode "):
            entry.mode = line.rsplit(maxsplit=1)[-1]
        elif line.startswith(("rename from ", "copy from ")):
            entry.kind = line.split(" ", 1)[0]
            entry.old_path = line.split(" from ", 1)[1]
        elif line.startswith(("GIT binary patch", "Binary files ")):
            entry.binary = True


def parse(diff: str) -> list[FilePatch]:
    """Read a diff and refuse every path that is not plainly inside the project."""
    parser = _Parser()
    for number, line in enumerate(diff.split("\n"), start=1):
        parser.feed(number, line)
    if parser.old > 0 or parser.new > 0:
        raise unusable("the diff ends in the middle of a hunk; its @@ counts do not match its lines")
    if not parser.files:
        raise unusable("the diff names no file")
    for entry in parser.files:
        for path in {entry.path, entry.old_path}:
            check_path(path)
        if entry.mode in {"120000", "160000"}:
            raise unusable(f"the diff makes {entry.path} a symbolic link or a submodule; refused")
    return parser.files


def check_path(path: str) -> None:
    """Refuse absolute paths, `..`, git's own folder and control characters."""
    parts = path.split("/")
    bad = (
        not path
        or path.startswith(("/", "~"))
        or "\\" in path
        or any(part in {"", ".", ".."} or part.lower().rstrip(". ") == ".git" for part in parts)
        or any(part.lower().startswith("git~") for part in parts)
        or not path.isprintable()
    )
    if bad:
        raise unusable(f"the diff touches {path!r}, which is not a plain path inside the project; refused")


def check_links(worktree: str, files: list[FilePatch]) -> None:
    """Refuse to write through a symbolic link."""
    for entry in files:
        for path in {entry.path, entry.old_path}:
            at = worktree
            for part in path.split("/"):
                at = os.path.join(at, part)
                if os.path.islink(at):
                    raise unusable(f"the diff touches {path}, which passes the symbolic link {part}; refused")


def touched(files: list[FilePatch]) -> list[str]:
    """Return every path that applying the diff changes."""
    paths = {entry.path for entry in files}
    paths |= {entry.old_path for entry in files if entry.kind == "rename"}
    return sorted(paths)


def apply(worktree: str, diff: str, files: list[FilePatch]) -> str:
    """Apply the diff to worktree and index; "applied", or "already" when it is there. Else exit 22."""
    check_links(worktree, files)
    # A copied or restored folder has other times than the index; without this git sees changes everywhere.
    git.run(["update-index", "-q", "--refresh"], worktree, ok=range(256))

    def attempt(*options: str) -> tuple[int, str]:
        code, _, err = git.run(["apply", *options, "-"], worktree, ok=range(256), stdin=diff)
        return code, err

    base = ("--index", "--whitespace=nowarn")
    code, reason = attempt(*base)
    if code == 0:
        return "applied"
    if attempt(*base, "--check", "--reverse")[0] == 0:
        return "already"
    # --recount forgives wrong @@ counts; --3way finds moved context through the blobs that the diff names.
    for option in ("--recount", "--3way"):
        if option == "--3way" or attempt(*base, "--check", option)[0] == 0:
            code, more = attempt(*base, option)
            if code == 0:
                return "applied"
            if option == "--3way" and "with conflicts" in more:
                reason = more
                _undo(worktree, files)
    if _all_there(worktree, files):
        return "already"
    raise unusable(f"the diff does not apply: {_reason(reason)}")


def _reason(err: str) -> str:
    lines = [line.strip() for line in err.splitlines() if line.startswith("error:") or "conflict" in line]
    return "; ".join(lines[:5]) or git.last_line(err)


def _undo(worktree: str, files: list[FilePatch]) -> None:
    """Take a conflicted three-way merge back for the files of the diff; nothing else was touched."""
    for path in touched(files):
        if git.run(["cat-file", "-e", f"HEAD:{path}"], worktree, ok=(0, 1, 128))[0] == 0:
            git.run(["checkout", "--quiet", "HEAD", "--", path], worktree, ok=range(256))
        else:
            git.run(["rm", "--quiet", "--cached", "--force", "--ignore-unmatch", "--", path], worktree)
            if os.path.lexists(os.path.join(worktree, path)):
                os.unlink(os.path.join(worktree, path))


def _all_there(worktree: str, files: list[FilePatch]) -> bool:
    """Tell whether every effect of the diff can be seen, line by line."""
    for entry in files:
        path = os.path.join(worktree, entry.path)
        if entry.kind == "delete":
            if os.path.lexists(path):
                return False
            continue
        if entry.binary or not entry.added or not os.path.isfile(path):
            return False
        with open(path, encoding="utf-8", errors="replace") as stream:
            have = Counter(line.rstrip("\r\n") for line in stream)
        if any(have[line.rstrip("\r")] < n for line, n in Counter(entry.added).items()):
            return False
        if any(have[line.rstrip("\r")] for line in entry.removed if line not in entry.added and line.strip()):
            return False
    return True


def describe(files: list[FilePatch]) -> str:
    """Return the table of a plan: what the diff touches."""
    rows = ["| file | change | hunks | + | - |", "|---|---|---|---|---|"]
    for entry in files:
        name = entry.path if entry.kind != "rename" else f"{entry.old_path} → {entry.path}"
        kind = entry.kind + (" (binary)" if entry.binary else "")
        safe = name.replace("|", "\\|")
        rows.append(f"| `{safe}` | {kind} | {entry.hunks} | {len(entry.added)} | {len(entry.removed)} |")
    return "\n".join(rows)
