"""Personas: whose voice a phase's agent has, and where it comes from."""

import glob
import os

import pytest

from adw_modules.config import load
from adw_modules.errors import USAGE, AdwError
from adw_modules.persona import text_of
from conftest import Project, read

AGENT = "cat >/dev/null\necho 'a plan that is long enough'\n"


def agent(project: Project) -> dict[str, str]:
    project.issue(7, head="labels: [bug]\n", diff="")
    path = project.program("agent.sh", "#!/bin/sh\n" + AGENT)
    return {"ADW_AGENT": "command", "ADW_AGENT_COMMAND": path}


def prompt(project: Project, role: str = "planner") -> str:
    paths = glob.glob(f"{project.folder('r1')}/plan/{role}/*/prompt.md")
    assert len(paths) == 1
    return read(paths[0]).decode()


def own(project: Project, name: str, text: str) -> None:
    project.write(f"automation/content/agents/{name}", text)


def of(project: Project, phase: str = "plan", **env: str) -> str:
    return text_of(load({**env, "ADW_PROJECT_ROOT": project.root}, project.root), phase)


def test_the_persona_comes_before_the_prompt(project: Project) -> None:
    project.write(".adw.toml", 'persona = "architect"\n')
    done = project.plan("7", "r1", **agent(project))
    assert done.code == 0, done.out
    text = prompt(project)
    assert text.startswith("# Architect\n")
    assert "\n\n---\n\nWrite the impl" in text


def test_without_one_the_prompt_stands_alone(project: Project) -> None:
    done = project.plan("7", "r1", **agent(project))
    assert done.code == 0, done.out
    assert prompt(project).startswith("Write the impl")


def test_a_phase_may_have_its_own_or_none(project: Project) -> None:
    project.write(".adw.toml", 'persona = "implementer"\npersona_plan = "architect"\npersona_review = "none"\n')
    assert of(project, "plan").startswith("# Architect")
    assert of(project, "build").startswith("# Implementer")
    assert of(project, "review") == ""
    assert of(project, "build", ADW_PERSONA_BUILD="tester").startswith("# Tester")


def test_an_unknown_one_is_a_validation_failure_that_names_the_known_ones(project: Project) -> None:
    project.write(".adw.toml", 'persona = "implementor"\n')
    done = project.plan("7", "r1", **agent(project))
    assert done.code == USAGE
    assert "no agent is named 'implementor'" in done.out
    assert "implementer, maintainer, performance-engineer" in done.out
    error = project.state("r1")["error"]
    assert (error["class"], error["phase"]) == ("validation", "plan")
    assert not os.path.exists(project.tree("7", "r1")), "nothing was begun"


def test_the_projects_own_comes_first_and_adds_to_the_built_in(project: Project) -> None:
    own(project, "implementer.md", "---\nname: implementer\ndescription: >-\n  folded\n---\n\nOurs.\n")
    own(project, "deep/pirate.md", "\ufeff---\r\nname: 'pirate'\r\n---\r\nArrr\u2026")
    assert of(project, ADW_PERSONA="implementer") == "Ours."
    assert of(project, ADW_PERSONA="pirate") == "Arrr\u2026"
    assert of(project, ADW_PERSONA="reviewer").startswith("# Reviewer")


def test_what_is_no_agent_is_passed_over(project: Project) -> None:
    outside = os.path.join(project.base, "outside.md")
    with open(outside, "w", encoding="utf-8") as stream:
        stream.write("---\nname: outside\n---\nx\n")
    own(project, "_shared.md", "---\nname: shared\n---\nx\n")
    own(project, "_old/gone.md", "---\nname: gone\n---\nx\n")
    own(project, "plain.md", "no front matter\n")
    own(project, "open.md", "---\nname: open\n")
    own(project, "empty.md", "---\nname: empty\n---\n\n")
    own(project, "copy.md", "---\nname: twice\n---\ncopy\n")
    own(project, "twice.md", "---\nname: twice\n---\nthe right one\n")
    with open(os.path.join(project.root, "automation/content/agents/bytes.md"), "wb") as stream:
        stream.write(b"---\nname: bytes\n---\n\xff\n")
    os.symlink(outside, os.path.join(project.root, "automation/content/agents/link.md"))
    for name in ("outside", "shared", "gone", "plain", "open", "empty", "bytes", "link"):
        with pytest.raises(AdwError, match="no agent is named"):
            of(project, ADW_PERSONA=name)
    assert of(project, ADW_PERSONA="twice") == "the right one"
