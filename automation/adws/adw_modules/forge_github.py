"""GitHub through the `gh` command line: the user's own login, no prompts, search before create."""

import json
import os
import time
from collections.abc import Sequence
from typing import Any

from adw_modules.config import Config
from adw_modules.errors import FORGE, AdwError
from adw_modules.forge import Issue, Proposal, PullRequest, repo_of
from adw_modules.git import last_line
from adw_modules.proc import run_tool

GH_TIMEOUT_S = 60.0
RETRY_DELAYS_S = (1.0, 3.0)
BODY_MAX_CHARS = 60_000
_AUTH = ("gh auth login", "authentication", "bad credentials", "http 401", "gh_token", "not logged in")
_MISSING = ("could not resolve to a", "no issue", "not found", "http 404")
_PASSING = (
    "dial tcp",
    "lookup ",
    "timeout",
    "timed out",
    "connection re",
    "error connecting",
    "eof",
    "http 5",
    "rate limit",
    "http 429",
    "something went wrong",
)


def _error(what: str, text: str) -> AdwError:
    """Tell not found, not authenticated and not reachable apart."""
    low = text.lower()
    cause = last_line(text)
    if any(word in low for word in _PASSING):
        return AdwError(FORGE, "forge", f"{what}: the forge cannot be reached: {cause}", retryable=True)
    if any(word in low for word in _AUTH):
        return AdwError(FORGE, "forge", f"{what}: gh is not authenticated ({cause}); run gh auth login")
    if any(word in low for word in _MISSING):
        return AdwError(FORGE, "validation", f"{what}: not found: {cause}")
    return AdwError(FORGE, "forge", f"{what}: {cause}")


class GithubForge:
    """One repository on GitHub or a GitHub Enterprise server."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.repo = repo_of(cfg)

    def _gh(self, what: str, args: Sequence[str], *, stdin: str = "", retry: bool = False) -> str:
        env = {
            **os.environ,
            "GH_PROMPT_DISABLED": "1",
            "GH_NO_UPDATE_NOTIFIER": "1",
            "NO_COLOR": "1",
            "CLICOLOR": "0",
        }
        for delay in (*(RETRY_DELAYS_S if retry else ()), -1.0):
            try:
                done = run_tool(
                    [self.cfg.gh_path, *args, "-R", self.repo],
                    cwd=self.cfg.root,
                    env=env,
                    stdin=stdin,
                    timeout_s=GH_TIMEOUT_S,
                )
            except OSError as problem:
                message = f"{self.cfg.gh_path} cannot be started ({problem.strerror}); install gh or set GH_PATH"
                raise AdwError(FORGE, "environment", message) from None
            if done.code == 0 and not done.timed_out:
                return done.out
            failure = _error(what, "timed out" if done.timed_out else done.err or done.out)
            if delay < 0 or not failure.retryable:
                raise failure
            time.sleep(delay)
        raise AssertionError("unreachable")  # pragma: no cover

    def _json(self, what: str, args: Sequence[str]) -> Any:  # noqa: ANN401 -- JSON is anything
        text = self._gh(what, args, retry=True)
        try:
            return json.loads(text)
        except ValueError:
            raise AdwError(FORGE, "forge", f"{what}: gh answered no JSON: {text[:200]!r}") from None

    def read_issue(self, number: str) -> Issue:
        """Read an issue; a pull request of that number is refused."""
        what = f"issue {number} of {self.repo}"
        fields = "number,title,body,state,labels,url"
        data = self._json(what, ["issue", "view", number, "--json", fields])
        if not isinstance(data, dict) or not data.get("title"):
            raise AdwError(FORGE, "forge", f"{what}: gh answered no issue")
        if "/pull/" in str(data.get("url", "")):
            raise AdwError(FORGE, "validation", f"{what}: that number is a pull request, not an issue")
        labels = [str(x.get("name", "")) for x in data.get("labels") or [] if isinstance(x, dict)]
        return Issue(
            number=number,
            title=str(data["title"]),
            body=str(data.get("body") or ""),
            state=str(data.get("state") or "open").lower(),
            labels=[label for label in labels if label],
            url=str(data.get("url") or ""),
        )

    def comment_issue(self, number: str, body: str) -> None:
        """Comment on an issue."""
        self._comment("issue", number, f"comment on issue {number}", body)

    def _comment(self, kind: str, number: str, what: str, body: str) -> None:
        """Search before posting: a comment whose answer was lost, or of an earlier attempt, is there already.

        It is known by a mark that readers do not see, because a forge may change the text itself.
        """
        import hashlib

        mark = f"<!-- adwd:{hashlib.sha256(body.encode('utf-8', 'backslashreplace')).hexdigest()[:24]} -->"
        try:
            data = self._json(what, [kind, "view", number, "--json", "comments"])
        except AdwError as problem:
            if problem.retryable:
                raise
            # A forge that cannot tell its comments: said twice is better than not at all.
            data = None
        known = data.get("comments") if isinstance(data, dict) else None
        if any(mark in str(item.get("body")) for item in known or [] if isinstance(item, dict)):
            return
        text = f"{body[:BODY_MAX_CHARS].rstrip()}\n\n{mark}\n"
        self._gh(what, [kind, "comment", number, "--body-file", "-"], stdin=text)

    def _find(self, head: str) -> PullRequest | None:
        fields = "number,url,headRefName,isCrossRepository,state"
        args = ["pr", "list", "--head", head, "--state", "open", "--json", fields]
        for item in self._json(f"pull requests of {head}", args) or []:
            if item.get("headRefName", head) == head and not item.get("isCrossRepository"):
                return PullRequest(int(item["number"]), str(item["url"]))
        return None

    def ensure_pull(self, proposal: Proposal) -> PullRequest:
        """Search before create, and again after a create whose answer was lost."""
        what = f"pull request for {proposal.head}"
        for delay in (*RETRY_DELAYS_S, -1.0):
            found = self._find(proposal.head)
            if found:
                return found
            args = ["pr", "create", "--head", proposal.head, "--base", proposal.base]
            args += ["--title", proposal.title[:250], "--body-file", "-"]
            try:
                answer = self._gh(what, args, stdin=proposal.body[:BODY_MAX_CHARS])
            except AdwError as problem:
                if "already exists" in problem.message:
                    found = self._find(proposal.head)
                    if found:
                        return found
                if delay < 0 or not problem.retryable:
                    raise
                time.sleep(delay)
                continue
            return _from_url(answer) or self._found_or_fail(proposal.head, answer)
        raise AssertionError("unreachable")  # pragma: no cover

    def _found_or_fail(self, head: str, answer: str) -> PullRequest:
        found = self._find(head)
        if not found:
            raise AdwError(FORGE, "forge", f"gh pr create gave no URL: {answer[:200]!r}", retryable=True)
        return found

    def review_pull(self, number: int, body: str) -> None:
        """Comment on the pull request: the author of a pull request cannot approve it."""
        self._comment("pr", str(number), f"review of pull request {number}", body)


def _from_url(text: str) -> PullRequest | None:
    """Find `…/pull/N` as the last line of gh's answer."""
    for line in reversed(text.split()):
        base, slash, number = line.rpartition("/pull/")
        if slash and base.startswith("https://") and number.isdigit():
            return PullRequest(int(number), line)
    return None
