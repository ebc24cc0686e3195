"""The forges: `gh` as a fake that keeps its state in a file, and the files of the local one."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from adw_modules import frontmatter
from adw_modules.config import load
from adw_modules.errors import AdwError
from adw_modules.forge import LocalForge, Proposal
from conftest import DIFF, Project, clean_env, read

GH = r"""
#!/usr/bin/env python3
import json, os, sys
path = os.environ["FAKE_GH"]
state = json.load(open(path))
args = sys.argv[1:]
state["log"].append(args)
verb = " ".join(args[:2])
code, out, err = 0, "", ""
failures = state["fail"].get(verb, [])
if failures:
    code, err = 1, failures.pop(0)
    if err == "LOST":  # the pull request is made, but the answer never comes
        state["pulls"].append({"number": 5, "url": "https://gh.test/o/r/pull/5", "headRefName": args[args.index("--head") + 1]})
        err = "Post \"https://gh.test\": EOF"
    if err == "LOST COMMENT":  # it is there, but the answer never comes
        err = "Post \"https://gh.test\": EOF"
        failures.insert(0, None)
elif verb in ("issue view", "pr view") and "comments" in args:
    out = json.dumps({"comments": [{"body": b} for v, b in state["bodies"] if v == verb.replace("view", "comment")]})
elif verb == "issue view":
    out = json.dumps(state["issue"])
elif verb == "pr list":
    out = json.dumps([p for p in state["pulls"] if p["headRefName"] == args[args.index("--head") + 1]])
elif verb == "pr create":
    n = len(state["pulls"]) + 1
    state["pulls"].append({"number": n, "url": f"https://gh.test/o/r/pull/{n}", "headRefName": args[args.index("--head") + 1]})
    out = f"https://gh.test/o/r/pull/{n}\n"
lost = bool(failures) and failures[0] is None and failures.pop(0) is None
if "--body-file" in args and (code == 0 or lost or verb == "pr create"):
    state["bodies"].append([verb, sys.stdin.read()])
assert os.environ["GH_PROMPT_DISABLED"] == "1" and args[-2:] == ["-R", "gh.test/o/r"], args
json.dump(state, open(path, "w"))
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


@pytest.fixture
def gh(project: Project) -> Project:
    issue = {"number": 7, "title": "Say goodbye", "state": "OPEN", "url": "https://gh.test/o/r/issues/7"}
    issue |= {"body": f"please\r\n```diff\r\n{DIFF}```", "labels": [{"name": "bug"}]}
    project.env = {"ADW_FORGE": "github", "ADW_FORGE_REPO": "gh.test/o/r", "GH_PATH": project.program("gh", GH)}
    project.env["FAKE_GH"] = os.path.join(project.base, "gh.json")
    put(project, {"issue": issue, "pulls": [], "log": [], "bodies": [], "fail": {}})
    return project


def put(project: Project, state: Any) -> None:
    with open(project.env["FAKE_GH"], "w", encoding="utf-8") as stream:
        json.dump(state, stream)


def got(project: Project) -> Any:
    return json.loads(read(project.env["FAKE_GH"]))


def failing(project: Project, verb: str, *messages: str) -> None:
    state = got(project)
    state["fail"][verb] = list(messages)
    put(project, state)


def test_a_whole_run_on_github(gh: Project) -> None:
    done = gh.sdlc("7", "r1")
    assert done.code == 0, done.out
    assert done.last("PR_URL") == "https://gh.test/o/r/pull/1"
    state = gh.state("r1")
    assert (state["pr_number"], state["issue_class"]) == (1, "/bug")
    seen = got(gh)
    verbs = [" ".join(args[:2]) for args in seen["log"]]
    comment, review = ["issue view", "issue comment"], ["pr view", "pr comment"]
    assert verbs == ["issue view", *comment, "pr list", "pr create", *comment, *review]
    assert "Closes #7" in dict(seen["bodies"])["pr create"]
    assert "Review passed" in dict(seen["bodies"])["pr comment"]
    for phase in (gh.plan, gh.build, gh.review):
        assert phase("7", "r1").code == 0
    assert len(got(gh)["pulls"]) == 1


def test_a_lost_answer_makes_no_second_pull_request(gh: Project) -> None:
    failing(gh, "pr create", "LOST")
    done = gh.sdlc("7", "r1")
    assert done.code == 0, done.out
    assert [p["number"] for p in got(gh)["pulls"]] == [5]
    assert gh.state("r1")["pr_number"] == 5


def test_a_lost_answer_makes_no_second_comment_and_neither_does_a_second_try(gh: Project) -> None:
    failing(gh, "issue comment", "LOST COMMENT")
    failing(gh, "pr comment", "LOST COMMENT")
    done = gh.sdlc("7", "r1")
    assert done.code == 0, done.out
    posted = [body for verb, body in got(gh)["bodies"] if verb != "pr create"]
    assert len(posted) == 3, posted
    assert all("<!-- adwd:" in body.rstrip().splitlines()[-1] for body in posted)
    # Killed before its end was noted, a phase is done again.
    state = gh.state("r1")
    state["head_commit"].pop("plan")
    with open(os.path.join(gh.folder("r1"), "adw_state.json"), "w", encoding="utf-8") as stream:
        json.dump(state, stream)
    assert gh.plan("7", "r1").code == 0
    assert len([body for verb, body in got(gh)["bodies"] if verb == "issue comment"]) == 2


def test_a_forge_that_cannot_tell_its_comments_gets_them_all_the_same(gh: Project) -> None:
    failing(gh, "pr view", "GraphQL: Field 'comments' doesn't exist on type 'PullRequest'")
    done = gh.sdlc("7", "r1")
    assert done.code == 0, done.out
    assert "Review passed" in dict(got(gh)["bodies"])["pr comment"]


def test_comments_never_end_a_phase(gh: Project) -> None:
    failing(gh, "issue comment", *["HTTP 403: secondary rate limit"] * 3)
    done = gh.plan("7", "r1")
    assert done.code == 0
    assert "note: the comment on issue 7 failed and is left out" in done.out
    assert sum(args[:2] == ["issue", "comment"] for args in got(gh)["log"]) == 3


@pytest.mark.parametrize(
    ("message", "needle", "retryable", "kind"),
    [
        ("GraphQL: Could not resolve to an Issue with the number of 7.", "not found", False, "validation"),
        ("To get started with GitHub CLI, please run:  gh auth login", "run gh auth login", False, "forge"),
        ("error connecting to gh.test\ndial tcp: lookup gh.test", "cannot be reached", True, "forge"),
    ],
)
def test_ways_in_which_an_issue_cannot_be_read(
    gh: Project,
    message: str,
    needle: str,
    retryable: bool,
    kind: str,
) -> None:
    failing(gh, "issue view", *[message] * 3)
    done = gh.plan("7", "r1")
    assert done.code == 30
    error = gh.state("r1")["error"]
    assert needle in error["message"]
    assert (error["retryable"], error["class"]) == (retryable, kind)


def test_gh_missing_and_a_pull_request_as_issue(gh: Project) -> None:
    assert gh.plan("7", "r1", GH_PATH="/nowhere/gh").code == 30
    assert gh.state("r1")["error"]["class"] == "environment"
    state = got(gh)
    state["issue"]["url"] = "https://gh.test/o/r/pull/7"
    put(gh, state)
    done = gh.plan("7", "r2")
    assert done.code == 30
    assert "is a pull request" in done.out


def test_local_pulls_are_found_by_head_and_keep_their_review(project: Project) -> None:
    cfg = load({**clean_env(), "ADW_PROJECT_ROOT": project.root}, project.root)
    forge = LocalForge(cfg, "r1")

    def proposal(head: str, body: str) -> Proposal:
        return Proposal(head, "main", 'a "title"\nSTATE', body, " a | 1 +", "r1", "7")

    first = forge.ensure_pull(proposal("h1", "one\n## Review\nforged"))
    assert first.number == 1
    assert forge.ensure_pull(proposal("h2", "two")).number == 2
    forge.review_pull(1, "fine")
    forge.review_pull(1, "better")
    assert forge.ensure_pull(proposal("h1", "three")) == first
    text = read(os.path.join(cfg.pulls_dir, "1.md")).decode()
    fields, body = frontmatter.parse(text, "x")
    assert (fields["head"], fields["title"], fields["state"]) == ("h1", 'a "title" STATE', "open")
    assert body.count("## Review") == 1
    assert body.endswith("better\n")
    assert "three" in body
    assert sorted(os.listdir(cfg.pulls_dir)) == [".lock", "1.md", "2.md"]


def test_front_matter() -> None:
    parse = frontmatter.parse
    fields, body = parse("---\ntitle: 'it''s'  \nlabels: [a, \"b c\"]\n# note\nn: x # y\n---\nbody\n", "f")
    assert (fields, body) == ({"title": "it's", "labels": ["a", "b c"], "n": "x"}, "body\n")
    assert parse("no front\n---\n", "f") == ({}, "no front\n---\n")
    assert frontmatter.list_of(parse("---\nlabels:\n- a\n-  b\n---\n", "f")[0]["labels"]) == ["a", "b"]
    for text, line in (
        ("---\na: 1\n", "line 1"),
        ("---\na: 1\nnonsense\n---\n", "line 3"),
        ("---\n- x\n---\n", "line 2"),
    ):
        with pytest.raises(AdwError, match=line):
            parse(text, "f")


def test_issue_without_front_matter(project: Project) -> None:
    project.write("issues/8.md", f"# fix: the title\n\n~~~\n{DIFF}~~~\n")
    done = project.plan("8", "r1")
    assert done.code == 0, done.out
    assert done.last("PLAN_FILE") == "specs/8-r1-fix-the-title.md"


def test_first_marker_is_quick(project: Project) -> None:
    """Only os and sys and four small modules are loaded before the first marker."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules)\n"
        "from adw_modules import entry, markers\n"
        "markers.emit = lambda *a: (_ for _ in ()).throw(SystemExit(repr(sorted(set(sys.modules) - before))))\n"
        "entry.main('plan', ['7', 'r1'])\n"
    )
    from conftest import ADWS

    done = subprocess.run([sys.executable, "-c", program, ADWS], cwd=project.root, capture_output=True, check=False)
    assert done.stderr.decode().strip() == repr(
        ["adw_modules", "adw_modules.crash", "adw_modules.entry", "adw_modules.errors", "adw_modules.markers"]
    )
