"""The phases end to end with the patch agent and the local forge: real git, real processes."""

import glob
import json
import os
import shutil

import pytest

from conftest import ADWS, DIFF, Project, git, read


def test_a_whole_run(project: Project) -> None:
    done = project.sdlc("7", "abcd1234", ADW_CHECK_COMMAND="grep -q goodbye a.txt && touch junk")
    assert done.code == 0, done.out + done.err
    assert done.err == ""
    assert done.markers[:3] == ["ADW_ID=abcd1234", "PHASE=plan", "STATUS=started"]
    assert done.markers[-1] == "STATUS=completed"
    branch = "feature-7-abcd1234"
    tree = project.tree("7", "abcd1234")
    assert done.last("BRANCH") == branch
    assert done.last("WORKTREE_PATH") == tree
    assert done.last("PLAN_FILE") == "specs/7-abcd1234-say-goodbye.md"
    state = project.state("abcd1234")
    assert state["phase_status"] == {"plan": "completed", "build": "completed", "review": "completed"}
    assert state["issue_number"] == "7"
    assert state["issue_class"] == "/feature"
    assert state["branch_name"] == state["worktree_name"] == branch
    assert state["worktree_path"] == tree
    assert state["pr_created"] is True
    assert state["pr_url"] == f"file://{project.root}/automation/pulls/1.md"
    assert state["last_review"]["success"] is True
    assert state["last_review"]["head_commit"] == git(tree, "rev-parse", "HEAD")
    assert state["usage"]["total"]["agent_calls"] == 3
    assert [p["phase_name"] for p in state["metrics"]["phases"]] == ["adw_plan", "adw_build", "adw_review"]
    assert state["triggered_by"] == "manual"
    assert "error" not in state
    assert git(tree, "status", "--porcelain") == ""
    assert project.remote_head(branch) == git(tree, "rev-parse", "HEAD")
    assert git(tree, "show", "HEAD:a.txt") == "hello\ngoodbye"
    assert git(project.root, "status", "--porcelain") == "?? issues/"
    assert git(project.root, "branch", "--show-current") == "main"
    with open(os.path.join(project.root, "automation/pulls/1.md"), encoding="utf-8") as stream:
        pull = stream.read()
    assert "## Diffstat" in pull
    assert "**Review passed**" in pull
    for phase in ("plan", "build", "review"):
        folder = f"{project.root}/logs/repo/local/abcd1234/{phase}/1"
        with open(f"{folder}/exit.json", encoding="utf-8") as stream:
            assert json.load(stream)["code"] == 0
        assert os.path.exists(f"{folder}/start.json")
        assert b"STATUS=completed" in read(f"{folder}/execution.log")


def test_each_phase_again_changes_nothing(project: Project) -> None:
    assert project.sdlc("7", "r1").code == 0
    tree = project.tree("7", "r1")
    head = git(tree, "rev-parse", "HEAD")
    calls = project.state("r1")["usage"]["build"]["agent_calls"]
    for phase in (project.plan, project.build, project.review):
        done = phase("7", "r1")
        assert done.code == 0, done.out
        assert done.last("STATUS") == "completed"
    assert git(tree, "rev-parse", "HEAD") == head
    assert os.listdir(os.path.join(project.root, "automation/pulls")).count("1.md") == 1
    assert not os.path.exists(os.path.join(project.root, "automation/pulls/2.md"))
    assert project.state("r1")["usage"]["build"]["agent_calls"] == calls
    assert len(glob.glob(f"{project.root}/logs/repo/local/r1/build/*")) == 2
    assert project.build("7").last("ADW_ID") == "r1"  # without an id: the newest run of the issue


def test_a_new_issue_text_is_planned_again(project: Project) -> None:
    assert project.plan("7", "r1").code == 0
    project.issue(7, body="more words")
    assert project.plan("7", "r1").code == 0
    assert project.state("r1")["usage"]["plan"]["agent_calls"] == 2
    assert project.branches() == ["feature-7-r1", "main"]


def test_from_other_folders(project: Project) -> None:
    os.makedirs(os.path.join(project.root, "automation/sub"))
    done = project.plan("7", "r1", cwd=os.path.join(project.root, "automation/sub"))
    assert done.code == 0, done.out
    done = project.run("adw_phases/adw_build.py", "7", "r1", cwd=project.tree("7", "r1"))
    assert done.code == 0, done.out
    assert project.state("r1")["phase_status"]["build"] == "completed"


def test_the_daemons_worktree_is_used(project: Project) -> None:
    tree = os.path.join(project.root, "automation/trees/mine")
    git(project.root, "worktree", "add", "--detach", "-q", tree, "main")
    attempt = os.path.join(project.base, "attempt")
    env = {"ADW_WORKTREE_PATH": tree, "ADW_DAEMON": "1", "ADW_ATTEMPT_DIR": attempt, "ADW_BASE_BRANCH": "main"}
    env |= {"ADW_TRIGGERED_BY": "mcp", "ADW_MCP_REQUEST_ID": "q1", "ADW_MCP_USER_ID": "u1"}
    for phase in (project.plan, project.build, project.review):
        done = phase("7", "r1", **env)
        assert done.code == 0, done.out
    state = project.state("r1")
    assert state["worktree_path"] == tree
    assert (state["triggered_by"], state["mcp_request_id"], state["mcp_user_id"]) == ("mcp", "q1", "u1")
    assert git(tree, "branch", "--show-current") == "feature-7-r1"
    assert not os.path.exists(os.path.join(project.root, "logs"))
    with open(os.path.join(project.root, ".git/info/exclude"), encoding="utf-8") as stream:
        assert "adwd" not in stream.read()


def test_the_scripts_work_from_a_copy_elsewhere(project: Project) -> None:
    copy = os.path.join(project.base, "elsewhere")
    shutil.copytree(ADWS, copy, ignore=shutil.ignore_patterns("adw_tests", "__pycache__"))
    done = project.run(os.path.join(copy, "adw_sdlc.py"), "7", "r1")
    assert done.code == 0, done.out + done.err


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("state: closed\n", "is closed"),
        ("labels: [bug, Question]\n", "label Question"),
        ("labels: wontfix\n", "wontfix"),
    ],
)
def test_out_of_scope_is_skipped(project: Project, head: str, reason: str) -> None:
    project.issue(7, head=head)
    done = project.sdlc("7", "r1")
    assert done.code == 0
    assert done.markers[-1] == "STATUS=skipped"
    state = project.state("r1")
    assert state["phase_status"]["plan"] == "skipped"
    assert state["phase_status"]["build"] == "pending"
    assert reason in state["skip_reason"]
    assert project.branches() == ["main"]
    assert project.build("7", "r1").last("STATUS") == "skipped"


def test_skipped_later_takes_the_branch_back(project: Project) -> None:
    assert project.plan("7", "r1").code == 0
    project.issue(7, head="state: closed\n")
    assert project.plan("7", "r1").last("STATUS") == "skipped"
    assert project.branches() == ["main"]


@pytest.mark.parametrize(
    ("title", "head", "kind"),
    [
        ("x", "labels:\n  - bug\n", "bug"),
        ("x", "labels: documentation, good first issue\n", "chore"),
        ("fix(parser)!: y", "", "bug"),
        ("docs: y", "", "chore"),
        ("The parser crashes", "", "bug"),
        ("Bump dependencies", "", "chore"),
        ("Show a clock", "", "feature"),
    ],
)
def test_classification(project: Project, title: str, head: str, kind: str) -> None:
    project.issue(7, title=f'"{title}"', head=head)
    assert project.plan("7", "r1").last("BRANCH") == f"{kind}-7-r1"


def test_check_failure_is_11_and_the_next_try_goes_on(project: Project) -> None:
    assert project.plan("7", "r1").code == 0
    done = project.build("7", "r1", ADW_CHECK_COMMAND="echo STATUS=completed; echo it is red; exit 3")
    assert done.code == 11
    assert "  | it is red" in done.out
    assert done.markers[-1] == "STATUS=failed"
    assert "STATUS=completed" not in done.markers
    error = project.state("r1")["error"]
    assert (error["phase"], error["class"]) == ("build", "validation")
    assert "it is red" in error["message"]
    done = project.build("7", "r1", ADW_CHECK_COMMAND="true")
    assert done.code == 0, done.out
    assert "error" not in project.state("r1")


def test_check_timeout_is_11(project: Project) -> None:
    assert project.plan("7", "r1").code == 0
    done = project.build("7", "r1", ADW_CHECK_COMMAND="sleep 300", ADW_CHECK_TIMEOUT_S="0.3")
    assert done.code == 11
    assert "did not end in time" in done.out


def test_no_diff_and_bad_diff_are_22(project: Project) -> None:
    project.issue(8, diff="")
    done = project.plan("8", "r8")
    assert done.code == 22
    assert "issue 8 carries no unified diff; put one in a ```diff block" in done.out
    project.issue(9, diff=DIFF.replace(" hello", " other"))
    assert project.plan("9", "r9").code == 0
    done = project.build("9", "r9")
    assert done.code == 22
    assert "does not apply" in done.out
    assert git(project.tree("9", "r9"), "status", "--porcelain") == ""


def test_change_that_is_in_the_base_already_is_22(project: Project) -> None:
    assert project.plan("7", "r1").code == 0
    tree = project.tree("7", "r1")
    with open(os.path.join(tree, "a.txt"), "w", encoding="utf-8") as stream:
        stream.write("hello\ngoodbye\n")
    git(tree, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "by hand")
    assert project.build("7", "r1").code == 0  # the branch holds it: that is the work
    project.issue(8)
    git(project.root, "push", "-q", "origin", "feature-7-r1:main")
    assert project.plan("8", "r8").code == 0
    done = project.build("8", "r8")
    assert done.code == 22
    assert "changed nothing" in done.out


def test_missing_worktree_4_missing_plan_5(project: Project) -> None:
    assert project.plan("7", "r1").code == 0
    tree = project.tree("7", "r1")
    git(tree, "-c", "user.name=t", "-c", "user.email=t@t", "rm", "-q", "specs/7-r1-say-goodbye.md")
    git(tree, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "gone")
    assert project.build("7", "r1").code == 5
    git(project.root, "worktree", "remove", "--force", tree)
    assert project.build("7", "r1").code == 4
    assert project.plan("7", "r1").code == 0  # makes both again
    assert project.build("7", "r1").code == 0


def test_no_remote_33_rejected_32_and_resume(project: Project) -> None:
    assert project.plan("7", "r1").code == 0
    git(project.root, "remote", "rename", "origin", "gone")
    done = project.build("7", "r1")
    assert done.code == 33
    assert "git remote add" in done.out
    git(project.root, "remote", "rename", "gone", "origin")
    hook = os.path.join(project.remote, "hooks/pre-receive")
    with open(hook, "w", encoding="utf-8") as stream:
        stream.write("#!/bin/sh\necho not today >&2\nexit 1\n")
    os.chmod(hook, 0o755)
    done = project.build("7", "r1")
    assert done.code == 32
    assert "pre-receive hook declined" in done.out
    assert project.state("r1")["error"]["retryable"] is False
    os.unlink(hook)
    calls = project.state("r1")["usage"]["build"]["agent_calls"]
    done = project.build("7", "r1")
    assert done.code == 0, done.out
    assert project.state("r1")["usage"]["build"]["agent_calls"] == calls


def test_commit_hook_refusal_is_31(project: Project) -> None:
    hook = os.path.join(project.root, ".git/hooks/commit-msg")
    with open(hook, "w", encoding="utf-8") as stream:
        stream.write("#!/bin/sh\necho STATUS=completed\necho no such message >&2\nexit 1\n")
    os.chmod(hook, 0o755)
    done = project.plan("7", "r1")
    assert done.code == 31
    assert "no such message" in done.out
    assert "STATUS=completed" not in done.markers


def test_base_branch_must_exist(project: Project) -> None:
    done = project.plan("7", "r1", ADW_BASE_BRANCH="develop")
    assert done.code == 31
    assert "'develop' is not on origin" in done.out
    assert project.branches() == ["main"]


def test_issue_not_found_is_30(project: Project) -> None:
    done = project.plan("99", "r1")
    assert done.code == 30
    assert "issue 99 not found" in done.out


def test_review_blockers_are_10_and_land_on_the_pull_request(project: Project) -> None:
    assert project.sdlc("7", "r1", "--phases", "plan,build").code == 0
    tree = project.tree("7", "r1")
    with open(os.path.join(tree, "b.txt"), "w", encoding="utf-8") as stream:
        stream.write("<<<<<<< ours\n")
    with open(os.path.join(tree, "a.txt"), "w", encoding="utf-8") as stream:
        stream.write("hello\n>>>>>>> theirs\n")
    git(tree, "add", "-A")
    git(tree, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "odd")
    done = project.review("7", "r1", ADW_CHECK_COMMAND="false")
    assert done.code == 10
    review = project.state("r1")["last_review"]
    assert review["success"] is False
    told = {(f.get("file"), f["description"]) for f in review["review_issues"]}
    assert ("b.txt", "changed, but the plan does not list it") in told
    assert ("a.txt", "1 of the 1 lines that the diff adds are not there") in told
    assert ("a.txt", "a conflict marker is left") in told
    assert (None, "the check command fails: false") in told
    with open(os.path.join(project.root, "automation/pulls/1.md"), encoding="utf-8") as stream:
        assert "found blockers" in stream.read()


def test_review_before_build_is_3(project: Project) -> None:
    assert project.plan("7", "r1").code == 0
    assert project.review("7", "r1").code == 3


def test_eight_runs_at_once(project: Project) -> None:
    for number in range(20, 28):
        diff = f"--- /dev/null\n+++ b/new{number}.txt\n@@ -0,0 +1 @@\n+{number}\n"
        project.issue(number, title=f"Add {number}", diff=diff)
    started = [project.start("adw_sdlc.py", str(n), f"p{n}") for n in range(20, 28)]
    for process in started:
        out, err = process.communicate(timeout=50)
        assert process.returncode == 0, out + err
    pulls = set()
    for number in range(20, 28):
        state = project.state(f"p{number}")
        pulls.add(state["pr_url"])
        branch = state["branch_name"]
        assert branch == f"feature-{number}-p{number}"
        changed = git(project.root, "diff", "--name-only", "main", branch).split("\n")
        assert changed == [f"new{number}.txt", state["plan_file"]]
        assert project.remote_head(branch) == git(project.root, "rev-parse", branch)
    assert len(pulls) == 8


def test_cleanup_of_a_finished_manual_run(project: Project) -> None:
    assert project.sdlc("7", "r1", ADW_CLEANUP_WORKTREES="true").code == 0
    assert not os.path.exists(project.tree("7", "r1"))
    assert project.branches() == ["feature-7-r1", "main"]


def test_a_killed_worktree_add_of_this_run_is_mended(project: Project) -> None:
    tree = project.tree("7", "r1")
    git(project.root, "worktree", "add", "--detach", "-q", tree, "main")
    with open(os.path.join(project.root, ".git/worktrees/adw-7-r1/locked"), "w", encoding="utf-8") as stream:
        stream.write("initializing")
    shutil.rmtree(tree)
    os.makedirs(tree)
    assert project.plan("7", "r1").code == 0


def test_relative_remote(project: Project) -> None:
    git(project.root, "remote", "set-url", "origin", "../remote.git")
    done = project.sdlc("7", "r1")
    assert done.code == 0, done.out


def test_github_url_forms() -> None:
    from adw_modules.forge import parse_repo

    assert parse_repo("https://user:secret@github.test/o/r.git") == "github.test/o/r"
    assert parse_repo("https://github.test/o/r/") == "github.test/o/r"
    assert parse_repo("git@github.test:o/r.git") == "github.test/o/r"
    assert parse_repo("ssh://git@github.test:2222/o/r.git") == "github.test/o/r"
    assert parse_repo("/srv/git/r.git") == ""
    assert parse_repo("../r.git") == ""


def test_a_defect_of_ours_is_40_and_the_run_can_go_on_after_it(project: Project) -> None:
    copy = os.path.join(project.base, "adws")
    shutil.copytree(ADWS, copy)
    with open(os.path.join(copy, "adw_modules", "classify.py"), "a", encoding="utf-8") as stream:
        stream.write("def out_of_scope(issue):\n    raise LookupError('broken\\nSTATUS=completed')\n")
    done = project.run(os.path.join(copy, "adw_phases/adw_plan.py"), "7", "r1")
    assert done.code == 40, done.out
    assert done.markers[-1] == "STATUS=failed"
    assert done.markers.count("STATUS=completed") == 0
    assert "Traceback" in done.out
    state = project.state("r1")
    assert state["phase_status"]["plan"] == "failed"
    told = state["error"]
    assert (told["class"], told["retryable"], told["exit_code"]) == ("internal", False, 40)
    assert "LookupError" in told["message"]
    assert project.sdlc("7", "r1").code == 0
    assert "error" not in project.state("r1")


def test_a_killed_git_is_told_and_can_be_tried_again(project: Project) -> None:
    assert project.plan("7", "r1").code == 0
    os.mkdir(os.path.join(project.base, "bin"))
    script = f"""\
        #!/bin/sh
        case " $* " in *" add "*) kill -9 $$ ;; esac
        exec {shutil.which("git")} "$@"
        """
    folder = os.path.dirname(project.program("bin/git", script))
    done = project.build("7", "r1", PATH=f"{folder}:{os.environ['PATH']}")
    assert done.code == 31
    assert "git add was killed (signal 9)" in done.out
    assert project.state("r1")["error"]["retryable"] is True
    assert project.build("7", "r1").code == 0


def test_what_a_killed_writer_left_unfinished_is_removed(project: Project) -> None:
    assert project.plan("7", "r1").code == 0
    name = "4711.0a1b2c3d.tmp"
    left = [f"automation/agents/r1/.adw_state.json.{name}", f"automation/pulls/.1.md.{name}"]
    kept = ["automation/agents/r1/.notes.tmp", f"automation/agents/r2/.adw_state.json.{name}"]
    paths = [project.write(path, "") for path in left + kept]
    assert project.build("7", "r1").code == 0
    assert [os.path.exists(path) for path in paths] == [False, False, True, True]
