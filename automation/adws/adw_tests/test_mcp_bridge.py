"""The bridge, the analysis and the health check."""

import fcntl
import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from conftest import ADWS, Project, read

BRIDGE = "adw_modules/mcp_bridge.py"


def put(project: Project, name: str, **state: Any) -> None:
    os.makedirs(project.folder(name), exist_ok=True)
    with open(os.path.join(project.folder(name), "adw_state.json"), "w", encoding="utf-8") as stream:
        json.dump({"adw_id": name, "issue_number": "7", **state}, stream)


def listed(project: Project, *args: str) -> Any:
    done = project.run(BRIDGE, "list_workflows", *args)
    assert done.code == 0, done.out
    return json.loads(done.out)


def status(plan: str, build: str, review: str) -> dict[str, str]:
    return {"plan": plan, "build": build, "review": review}


def stamp(ago: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - ago))


@pytest.fixture
def several(project: Project) -> Project:
    ok, wait = "completed", "pending"
    put(project, "a-done", phase_status=status(ok, ok, ok), updated_at=stamp(60), triggered_by="mcp", pr_created=True)
    put(project, "a-fail", phase_status=status(ok, "failed", wait), updated_at=stamp(50), error={"class": "git"})
    put(project, "b-lost", phase_status=status(ok, "in_progress", wait), updated_at=stamp(40))
    put(project, "b-wait", phase_status=status(wait, wait, wait), updated_at=stamp(30), triggered_by="manual")
    put(project, "b-half", phase_status=status(ok, wait, wait), updated_at=stamp(20))
    put(project, "c-skip", phase_status=status("skipped", wait, wait), updated_at=stamp(10))
    put(project, "old", updated_at=stamp(90000), phase_status=status(ok, ok, ok))
    os.makedirs(project.folder("torn"))
    with open(os.path.join(project.folder("torn"), "adw_state.json"), "w", encoding="utf-8") as stream:
        stream.write('{"adw_id": ')
    return project


def test_list(several: Project) -> None:
    data = listed(several)
    rows = [(row["adw_id"], row["status"]) for row in data["workflows"]]
    assert rows == [
        ("torn", "unknown"),
        ("c-skip", "skipped"),
        ("b-half", "in_progress"),
        ("b-wait", "pending"),
        ("b-lost", "lost"),
        ("a-fail", "failed"),
        ("a-done", "completed"),
        ("old", "completed"),
    ]
    assert (data["total"], data["all"]) == (8, 8)
    assert [row["adw_id"] for row in listed(several, "--adw-id", "b-")["workflows"]] == ["b-half", "b-wait", "b-lost"]
    data = listed(several, "--status=completed", "--limit", "1")
    assert (data["total"], len(data["workflows"]), data["workflows"][0]["pr_created"]) == (2, 1, True)
    assert listed(several, "--status", "running")["total"] == 0
    with open(os.path.join(several.folder("b-lost"), "run.lock"), "wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert listed(several, "--status", "running")["workflows"][0]["adw_id"] == "b-lost"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ([], 2),
        (["nonsense"], 2),
        (["get_state"], 2),
        (["get_state", "../../x"], 2),
        (["get_state", "nope"], 3),
        (["get_state", "torn"], 3),
        (["list_workflows", "--limit", "abc"], 2),
        (["list_workflows", "--limit", "0"], 2),
        (["list_workflows", "--status", "odd"], 2),
        (["list_workflows", "--odd"], 2),
        (["list_workflows", "--limit"], 2),
    ],
)
def test_errors_are_json(several: Project, args: list[str], code: int) -> None:
    done = several.run(BRIDGE, *args)
    assert done.code == code
    answer = json.loads(done.out)
    assert answer["success"] is False
    assert answer["error"]
    assert not os.path.exists(several.folder("nope"))


def test_ways_to_start_it(several: Project) -> None:
    base = os.path.dirname(ADWS)
    env = several.environment({"ADW_AGENTS_DIR": os.path.join(several.root, "automation/agents")})
    ways = [
        ([sys.executable, os.path.join(ADWS, BRIDGE)], several.root),
        ([sys.executable, "-m", "adws.adw_modules.mcp_bridge"], base),
        ([sys.executable, "-m", "adw_modules.mcp_bridge"], ADWS),
        ([sys.executable, "mcp_bridge.py"], os.path.join(ADWS, "adw_modules")),
    ]
    for argv, cwd in ways:
        done = subprocess.run([*argv, "get_state", "a-done"], cwd=cwd, env=env, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert (answer["status"], answer["triggered_by"]) == ("completed", "mcp")


def test_analysis(several: Project) -> None:
    assert several.sdlc("7", "real").code == 0
    done = several.run("scripts/analyze_logs.py", "--format", "json", "--agent-metrics")
    assert done.code == 0, done.err
    data = json.loads(done.out)
    assert data["summary"]["total_runs"] == 8
    assert data["outcomes"]["completed"] == 2
    assert data["outcomes"]["failed_at_build"] == 1
    assert data["outcomes"]["lost"] == 2, "in a phase and between two, without a living process"
    assert data["failure_phases"] == {"build": 1}
    assert data["failure_classes"] == {"git": 1, "lost": 2}
    assert data["triggers"]["mcp"] == {"total": 1, "completed": 1, "failed": 0, "skipped": 0, "success_rate": 100.0}
    assert data["durations"]["plan"]["count"] == 1
    assert data["usage"]["agent_calls"] == 3
    assert data["agent_metrics"]["planner"]["calls"] == 1
    assert data["worktree_metrics"]["completed"] == 1
    assert {"auto_merge_metrics", "runs", "issues", "phase_reaches", "environment"} <= set(data)
    assert (
        json.loads(several.run("scripts/analyze_logs.py", "--format", "json", "--hours", "48").out)["summary"][
            "total_runs"
        ]
        == 9
    )
    out = os.path.join(several.base, "report.md")
    assert several.run("scripts/analyze_logs.py", "--format", "markdown", "--output", out).code == 0
    assert b"## Triggers" in read(out)
    assert "8 runs" in several.run("scripts/analyze_logs.py").out
    assert several.run("scripts/analyze_logs.py", "--env", "other").out.startswith("0 runs")
    assert several.run("scripts/analyze_logs.py", "--hours", "x").code == 2


def test_health(project: Project) -> None:
    done = project.run("health_check.py", "--json")
    data = json.loads(done.out)
    assert done.code == 0, done.out
    assert data["healthy"] is True
    found = {item["check"]: item["status"] for item in data["checks"]}
    assert found["git"] == found["remote"] == found["base branch"] == found["agent"] == "ok"
    done = project.run("health_check.py", ADW_AGENT="claude", CLAUDE_CODE_PATH="/nowhere", ADW_BASE_BRANCH="develop")
    assert done.code == 1
    assert "set CLAUDE_CODE_PATH" in done.out
    assert "git push origin develop" in done.out
    assert project.run("health_check.py", "--odd").code == 2
    project.write(".adw.toml", "odd = 1")
    assert project.run("health_check.py").code == 1
