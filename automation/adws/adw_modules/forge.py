"""Where issues come from and pull requests go to: one small interface, and the local forge.

The local forge needs nothing: issues are `issues/{number}.md`, a pull request is a pushed branch and a file.
"""

import os
import time
from dataclasses import dataclass, field
from typing import Protocol

from adw_modules import crash, frontmatter, git, markers
from adw_modules.config import Config
from adw_modules.errors import FORGE, AdwError
from adw_modules.state import flocked, remove_unfinished, write_atomic

COMMENT_DELAYS_S = (1.0, 3.0)
ISSUE_MAX_BYTES = 4 * 1024 * 1024
REVIEW_HEADING = "## Review"


@dataclass(frozen=True)
class Issue:
    """An issue as it was read."""

    number: str
    title: str
    body: str
    state: str
    labels: list[str] = field(default_factory=list)
    url: str = ""


@dataclass(frozen=True)
class PullRequest:
    """A pull request that exists."""

    number: int
    url: str


@dataclass(frozen=True)
class Proposal:
    """What a pull request should say."""

    head: str
    base: str
    title: str
    body: str
    diffstat: str
    adw_id: str
    issue: str


class Forge(Protocol):
    """What the phases ask of a forge."""

    def read_issue(self, number: str) -> Issue:
        """Read an issue."""

    def comment_issue(self, number: str, body: str) -> None:
        """Comment on an issue; may fail."""

    def ensure_pull(self, proposal: Proposal) -> PullRequest:
        """Return the branch's open pull request, made only if there is none."""

    def review_pull(self, number: int, body: str) -> None:
        """Put a review on a pull request; may fail."""


def create(cfg: Config, adw_id: str) -> Forge:
    """Make the forge that the configuration names."""
    if cfg.forge == "github":
        from adw_modules.forge_github import GithubForge

        return GithubForge(cfg)
    return LocalForge(cfg, adw_id)


def soften(what: str, failure: AdwError) -> None:
    """Log a failure that must not end a phase."""
    markers.say(f"note: {what} failed and is left out: {failure.message}")


def comment(forge: Forge, number: str, body: str) -> None:
    """Comment on the issue; tried again twice, then logged. It never ends a phase."""
    _gently(f"the comment on issue {number}", lambda: forge.comment_issue(number, body))


def review(forge: Forge, number: int, body: str) -> bool:
    """Put the review on the pull request; tried again twice, then logged."""
    return _gently(f"the review on pull request {number}", lambda: forge.review_pull(number, body))


def _gently(what: str, action: object) -> bool:
    for delay in (*COMMENT_DELAYS_S, -1.0):
        try:
            action()  # type: ignore[operator]
        except AdwError as problem:
            if delay < 0:
                soften(what, problem)
                return False
            time.sleep(delay)
        except OSError as problem:
            soften(what, AdwError(FORGE, "forge", str(problem)))
            return False
        else:
            return True
    return False


class LocalForge:
    """Issues and pull requests as files."""

    def __init__(self, cfg: Config, adw_id: str) -> None:
        self.cfg = cfg
        self.adw_id = adw_id

    def read_issue(self, number: str) -> Issue:
        """Read `issues/{number}.md`."""
        path = os.path.join(self.cfg.issues_dir, f"{number}.md")
        try:
            with open(path, "rb") as stream:
                data = stream.read(ISSUE_MAX_BYTES + 1)
        except FileNotFoundError:
            message = f"issue {number} not found: there is no {path}"
            raise AdwError(FORGE, "validation", message) from None
        except OSError as problem:
            raise AdwError(FORGE, "forge", f"{path} cannot be read: {problem.strerror}") from None
        if len(data) > ISSUE_MAX_BYTES:
            raise AdwError(FORGE, "validation", f"{path} is larger than {ISSUE_MAX_BYTES} bytes")
        fields, body = frontmatter.parse(data.decode("utf-8", "replace"), path)
        title = frontmatter.text_of(fields.get("title")) or _first_heading(body) or f"issue {number}"
        return Issue(
            number=number,
            title=markers.one_line(title),
            body=body,
            state=(frontmatter.text_of(fields.get("state")) or "open").lower(),
            labels=frontmatter.list_of(fields.get("labels")),
            url=frontmatter.text_of(fields.get("url")) or f"file://{path}",
        )

    def comment_issue(self, number: str, body: str) -> None:
        """Append to `{agents}/{id}/comments.md`; the issue's file belongs to the people."""
        from adw_modules.state import now

        path = os.path.join(self.cfg.agents_dir, self.adw_id, "comments.md")
        with open(path, "a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(f"<!-- {now()} issue {number} -->\n{body.rstrip()}\n\n")
        crash.here("comment-written")

    def _files(self) -> list[tuple[int, str]]:
        found = []
        for name in os.listdir(self.cfg.pulls_dir):
            stem, ext = os.path.splitext(name)
            if ext == ".md" and stem.isascii() and stem.isdigit():
                found.append((int(stem), os.path.join(self.cfg.pulls_dir, name)))
        return sorted(found)

    def _read(self, path: str) -> tuple[dict[str, frontmatter.Value], str]:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return frontmatter.parse(stream.read(), path)

    def ensure_pull(self, proposal: Proposal) -> PullRequest:
        """Write `{pulls}/{n}.md`, the same one when the branch has one already."""
        os.makedirs(self.cfg.pulls_dir, exist_ok=True)
        with flocked(os.path.join(self.cfg.pulls_dir, ".lock")):
            number, review_part = 0, ""
            files = self._files()
            for candidate, path in files:
                try:
                    fields, body = self._read(path)
                except AdwError as problem:
                    soften(f"reading {path}", problem)
                    continue
                same = frontmatter.text_of(fields.get("head")) == proposal.head
                if same and frontmatter.text_of(fields.get("state")) == "open":
                    number = candidate
                    _, found, rest = body.partition(f"\n{REVIEW_HEADING}\n")
                    review_part = f"\n{REVIEW_HEADING}\n{rest}" if found else ""
                    break
            if not number:
                number = max((n for n, _ in files), default=0) + 1
            url = self._url(number)
            self._write(number, _render(number, url, proposal) + review_part)
        return PullRequest(number, url)

    def _path(self, number: int) -> str:
        return os.path.join(self.cfg.pulls_dir, f"{number}.md")

    def _url(self, number: int) -> str:
        from urllib.parse import quote

        return "file://" + quote(self._path(number))

    def _write(self, number: int, text: str) -> None:
        """Write a file of the pull requests' folder, whose lock the caller holds."""
        remove_unfinished(self.cfg.pulls_dir)
        write_atomic(self._path(number), text.encode("utf-8", "backslashreplace"))

    def review_pull(self, number: int, body: str) -> None:
        """Put the newest review at the end of the file; it replaces the one before."""
        with flocked(os.path.join(self.cfg.pulls_dir, ".lock")):
            with open(self._path(number), encoding="utf-8", errors="replace") as stream:
                kept = stream.read().partition(f"\n{REVIEW_HEADING}\n")[0]
            self._write(number, f"{kept.rstrip()}\n\n{REVIEW_HEADING}\n\n{body.strip()}\n")


def _first_heading(body: str) -> str:
    for line in body.splitlines():
        if line.startswith("# "):
            return line[2:].strip()
    return ""


def _render(number: int, url: str, proposal: Proposal) -> str:
    quoted = frontmatter.quote
    return f"""---
number: {number}
title: {quoted(proposal.title)}
base: {quoted(proposal.base)}
head: {quoted(proposal.head)}
state: open
url: {quoted(url)}
adw_id: {quoted(proposal.adw_id)}
issue: {quoted(proposal.issue)}
---

# {proposal.title}

{_no_review_heading(proposal.body.strip())}

## Diffstat

```
{proposal.diffstat}
```
"""


def _no_review_heading(text: str) -> str:
    return "\n".join("#" + line if line.strip() == REVIEW_HEADING else line for line in text.splitlines())


def parse_repo(url: str) -> str:
    """Return `host/owner/repo` of a remote's URL (https, ssh and scp forms), or an empty string."""
    rest = url.strip()
    if "://" in rest:
        scheme, _, rest = rest.partition("://")
        if scheme not in {"https", "http", "ssh", "git", "git+ssh"}:
            return ""
        host, _, path = rest.partition("/")
        host = host.rpartition("@")[2].partition(":")[0]
    else:
        host, colon, path = rest.partition(":")
        if not colon or "/" in host:
            return ""
        host = host.rpartition("@")[2]
    parts = [part for part in path.strip("/").removesuffix(".git").split("/") if part]
    return f"{host.lower()}/{parts[0]}/{parts[1]}" if host and len(parts) == 2 else ""


def repo_of(cfg: Config) -> str:
    """Return what `gh -R` wants, from the configuration or the remote."""
    if cfg.forge_repo:
        return cfg.forge_repo
    url = git.need_remote(cfg.root, cfg.remote)
    repo = parse_repo(url)
    if not repo:
        message = f"no host/owner/repo in the URL of the remote {cfg.remote}; set ADW_FORGE_REPO"
        raise AdwError(FORGE, "preflight", message)
    return repo
