//! Profiles: where a layout keeps scripts, state, logs and worktrees, how its phases are called,
//! and what must be true when one says that it is done.
//!
//! A profile is data. The three built-in ones are this project's own automation (`adwd`), the
//! `kotadb` layout and the course layout `tac`, both as found in public repositories
//! (`spec/adw-world.md` §1, §10); a user's own comes from `[[profile]]` in the configuration and
//! names the one it `extends`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where the scripts of a profile come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptsFrom {
    /// From the project's own tree.
    Project,
    /// From the copy that the daemon carries.
    Embedded,
}

/// Who makes the worktree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorktreeBy {
    /// The daemon, before the first phase.
    Daemon,
    /// The script; the daemon adopts it.
    Script,
    /// Nobody: the script works in the main checkout, so runs of the project go one by one.
    Nobody,
}

/// A condition that must hold when a phase ends with exit code 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Post {
    /// The worktree is recorded and exists.
    Worktree,
    /// The plan file is recorded and exists in the worktree.
    PlanFile,
    /// The plan file is part of the branch's last commit's tree.
    PlanCommitted,
    /// The branch has commits that the base has not.
    AheadOfBase,
    /// The worktree's last commit is none that an earlier phase ended at.
    NewCommit,
    /// The worktree has no uncommitted change.
    Clean,
    /// The remote has the branch at the same commit.
    Pushed,
    /// The state says that a pull request was made.
    PrCreated,
    /// The pull request has a URL.
    PrUrl,
    /// The last review parses and is of this attempt.
    Review,
    /// The last review has no blocker.
    NoBlocker,
}

/// A phase: its script and its post-conditions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Name of the phase.
    pub name: String,
    /// Candidates, relative to the scripts' root; the first that exists is taken.
    pub scripts: Vec<String>,
    /// What must hold after exit code 0.
    #[serde(default)]
    pub post: Vec<Post>,
    /// It cannot be run twice with the same id: it dies of what its first try made.
    #[serde(default)]
    pub once: bool,
    /// Its exit codes from 10 on mean what `spec/adw.md` §3 says, in a layout whose others do not.
    #[serde(default)]
    pub coded: bool,
}

/// What a layout's stdout tells, as regular expressions with one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StdoutRules {
    /// `KEY=value` markers are printed.
    pub markers: bool,
    /// A line that names the worktree.
    pub worktree: Option<String>,
    /// A line that names the pull request.
    pub pr_url: Option<String>,
    /// A line that says that the issue is out of scope.
    pub skipped: Option<String>,
}

/// A layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Name.
    pub name: String,
    /// Where the scripts come from.
    pub scripts_from: ScriptsFrom,
    /// Working folder of the scripts, relative to the project's root; empty for the root.
    pub cwd: String,
    /// Arguments after `uv run`; `{script} {issue} {adw_id} {phase} {model}` are replaced.
    pub argv: Vec<String>,
    /// The phases, in the order of a life.
    pub phases: Vec<Phase>,
    /// Phases of a run where the trigger names none.
    pub sequence: Vec<String>,
    /// Folder of the state files, `{agents_dir}/{adw_id}/adw_state.json`, relative to the root.
    pub agents_dir: String,
    /// Who makes the worktree.
    pub worktree_by: WorktreeBy,
    /// Folder of the worktrees, relative to the root.
    pub trees_dir: String,
    /// The base branch that the scripts cut from, where the layout fixes it.
    pub base_branch: Option<String>,
    /// The scripts cut from the local branch of that name, so there must be one.
    pub base_is_local: bool,
    /// Branches that a run of this id would make; `{issue} {adw_id} {adw_id8}` are replaced.
    pub branch_pattern: String,
    /// Least Python version, such as `3.12`.
    pub min_python: Option<String>,
    /// Files that the scripts need, relative to the scripts' root.
    pub required_files: Vec<String>,
    /// Slash commands that must exist as `.claude/commands/**/{name}.md`.
    pub required_prompts: Vec<String>,
    /// Programs that must be on the path.
    pub required_tools: Vec<String>,
    /// Variables that must be set in the daemon's environment.
    pub required_env: Vec<String>,
    /// Environment of the scripts; `{root} {state_root} {log_root} {trees_dir} {agents_dir}
    /// {adw_id} {empty_env_file} {environment} {claude}` are replaced.
    pub env: BTreeMap<String, String>,
    /// What stdout tells.
    pub stdout: StdoutRules,
    /// Exit codes mean what `spec/adw.md` §3 says.
    pub exit_codes: bool,
    /// Files below `{agents_dir}/{adw_id}` or the log folder that grow while an agent works.
    pub agent_stream: String,
}

impl Profile {
    /// The phase of that name.
    #[must_use]
    pub fn phase(&self, name: &str) -> Option<&Phase> {
        self.phases.iter().find(|p| p.name == name)
    }

    /// Names of all phases, in order.
    #[must_use]
    pub fn phase_names(&self) -> Vec<String> {
        self.phases.iter().map(|p| p.name.clone()).collect()
    }

    /// Keeps only the phases whose script exists; the sequence shrinks with them.
    #[must_use]
    pub fn present(mut self, exists: &dyn Fn(&str) -> bool) -> Profile {
        self.phases.retain(|p| p.scripts.iter().any(|s| exists(s)));
        let names = self.phase_names();
        self.sequence.retain(|s| names.contains(s));
        self
    }

    /// [`Profile::present`] where the scripts are the project's own.
    #[must_use]
    pub fn present_if_projects(self, exists: &dyn Fn(&str) -> bool) -> Profile {
        if self.scripts_from == ScriptsFrom::Project { self.present(exists) } else { self }
    }

    /// Puts asked-for phases into the order of the profile, without repeats.
    #[must_use]
    pub fn in_order(&self, asked: &[String]) -> Vec<String> {
        self.phase_names().into_iter().filter(|n| asked.contains(n)).collect()
    }
}

fn phase(name: &str, scripts: &[&str], post: &[Post]) -> Phase {
    Phase {
        name: name.to_owned(),
        scripts: scripts.iter().map(|s| (*s).to_owned()).collect(),
        post: post.to_vec(),
        once: false,
        coded: false,
    }
}

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|s| (*s).to_owned()).collect()
}

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// This project's own automation, carried by the daemon.
#[must_use]
pub fn adwd() -> Profile {
    use Post::{
        AheadOfBase, Clean, NoBlocker, PlanCommitted, PlanFile, PrCreated, PrUrl, Pushed, Review,
        Worktree,
    };
    let script = |p: &str| format!("adws/adw_phases/adw_{p}.py");
    let one = |p: &str, post: &[Post]| Phase {
        name: p.into(),
        scripts: vec![script(p)],
        post: post.to_vec(),
        once: false,
        coded: false,
    };
    Profile {
        name: "adwd".into(),
        scripts_from: ScriptsFrom::Embedded,
        cwd: String::new(),
        argv: strings(&["{script}", "{issue}", "{adw_id}"]),
        phases: vec![
            one("plan", &[Worktree, PlanFile, PlanCommitted]),
            one("build", &[Worktree, AheadOfBase, Clean, Pushed, PrCreated, PrUrl]),
            one("review", &[Review, NoBlocker]),
        ],
        sequence: strings(&["plan", "build", "review"]),
        agents_dir: "automation/agents".into(),
        worktree_by: WorktreeBy::Daemon,
        trees_dir: "automation/trees".into(),
        base_branch: None,
        base_is_local: false,
        branch_pattern: "*-{issue}-{adw_id}".into(),
        min_python: Some("3.11".into()),
        required_files: strings(&["adws/adw_modules/state.py", "adws/adw_prompts/plan.md"]),
        required_prompts: vec![],
        required_tools: vec![],
        required_env: vec![],
        env: BTreeMap::new(),
        stdout: StdoutRules { markers: true, ..StdoutRules::default() },
        exit_codes: true,
        agent_stream: "raw_output.jsonl".into(),
    }
}

/// The kotadb layout: `automation/adws/…`, run from `automation/`, no markers.
#[must_use]
pub fn kotadb() -> Profile {
    use Post::{
        NewCommit, NoBlocker, PlanCommitted, PlanFile, PrCreated, PrUrl, Pushed, Review, Worktree,
    };
    let script = |p: &str| format!("automation/adws/adw_phases/adw_{p}.py");
    Profile {
        name: "kotadb".into(),
        scripts_from: ScriptsFrom::Project,
        cwd: "automation".into(),
        argv: strings(&["{script}", "{issue}", "{adw_id}"]),
        phases: vec![
            // Its second try dies of the branch and the worktree of its first.
            Phase {
                once: true,
                ..phase("plan", &[&script("plan")], &[Worktree, PlanFile, PlanCommitted, Pushed])
            },
            phase("build", &[&script("build")], &[NewCommit, Pushed, PrCreated, PrUrl]),
            Phase { coded: true, ..phase("review", &[&script("review")], &[Review, NoBlocker]) },
        ],
        sequence: strings(&["plan", "build", "review"]),
        agents_dir: "automation/agents".into(),
        worktree_by: WorktreeBy::Script,
        trees_dir: "automation/trees".into(),
        base_branch: Some("develop".into()),
        base_is_local: true,
        branch_pattern: "*-{issue}-{adw_id8}".into(),
        // Its scripts name none; the preflight tries whether the Python there can read them.
        min_python: None,
        required_files: strings(&["automation/adws/adw_modules"]),
        required_prompts: strings(&[
            "classify_issue",
            "generate_branch_name",
            "feature",
            "bug",
            "chore",
            "commit",
            "implement",
            "pull_request",
            "review",
        ]),
        required_tools: strings(&["claude", "gh"]),
        required_env: strings(&["ANTHROPIC_API_KEY"]),
        env: env(&[
            ("ADW_LOG_ROOT", "{log_root}"),
            ("ADW_ENV", "{environment}"),
            ("ADW_ENV_FILE", "{empty_env_file}"),
            ("ADW_SKIP_PLAN_CLEANUP", "true"),
            ("ADW_STREAM_TOKENS", "true"),
        ]),
        stdout: StdoutRules {
            markers: false,
            worktree: Some(r"^Created worktree at: (.+)$".into()),
            pr_url: Some(r"^Pull request created: .*?(https?://\S+)".into()),
            skipped: Some(r"^Issue classified as (out-of-scope), exiting gracefully".into()),
        },
        exit_codes: false,
        agent_stream: "raw_output.jsonl".into(),
    }
}

/// The course layout: root-level `adws/`, `agents/{id}/`, `trees/{id}/`.
#[must_use]
pub fn tac() -> Profile {
    use Post::{NewCommit, PlanCommitted, PlanFile, Pushed};
    let two = |p: &str, post: &[Post]| Phase {
        name: p.into(),
        scripts: vec![format!("adws/adw_{p}_iso.py"), format!("adws/adw_{p}.py")],
        post: post.to_vec(),
        once: false,
        coded: false,
    };
    Profile {
        name: "tac".into(),
        scripts_from: ScriptsFrom::Project,
        cwd: String::new(),
        argv: strings(&["{script}", "{issue}", "{adw_id}"]),
        phases: vec![
            two("plan", &[PlanFile, PlanCommitted, Pushed]),
            two("build", &[NewCommit, Pushed]),
            two("test", &[]),
            two("review", &[]),
            two("document", &[]),
            two("ship", &[]),
        ],
        sequence: strings(&["plan", "build", "review"]),
        agents_dir: "agents".into(),
        worktree_by: WorktreeBy::Script,
        trees_dir: "trees".into(),
        // The scripts with worktrees cut from `origin/main`; the others from where they are.
        base_branch: Some("main".into()),
        base_is_local: false,
        branch_pattern: "*-adw-{adw_id}-*".into(),
        min_python: None,
        required_files: strings(&["adws/adw_modules"]),
        required_prompts: strings(&["implement"]),
        required_tools: strings(&["claude", "gh"]),
        required_env: strings(&["ANTHROPIC_API_KEY"]),
        env: env(&[("CLAUDE_CODE_PATH", "{claude}")]),
        stdout: StdoutRules {
            markers: false,
            worktree: Some(
                r"^(?:Created worktree at|Using worktree at:|Worktree already exists at) (/.+?)(?: for branch \S+)?$"
                    .into(),
            ),
            pr_url: Some(
                r"^(?:Created pull request|Created PR|Found existing PR): (https?://\S+)$".into(),
            ),
            skipped: Some(r"^Error classifying issue: (No command selected: 0)".into()),
        },
        exit_codes: false,
        agent_stream: "raw_output.jsonl".into(),
    }
}

/// The built-in profile of that name.
#[must_use]
pub fn built_in(name: &str) -> Option<Profile> {
    match name {
        "adwd" => Some(adwd()),
        "kotadb" => Some(kotadb()),
        "tac" => Some(tac()),
        _ => None,
    }
}

/// Which profile a repository wants, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// The profile, shrunk to the phases that are there.
    pub profile: Profile,
    /// What was found, for people.
    pub reason: String,
}

/// Looks at which files a repository has. `exists` is asked with paths relative to its root.
#[must_use]
pub fn detect(exists: &dyn Fn(&str) -> bool) -> Detected {
    if exists("automation/adws/adw_modules/markers.py") {
        return Detected {
            profile: own_scripts(adwd()),
            reason: "automation/adws/adw_modules/markers.py is there: adwd's own layout, run from this repository".into(),
        };
    }
    if exists("automation/adws/adw_phases/adw_plan.py") {
        return Detected {
            profile: kotadb().present(exists),
            reason: "automation/adws/adw_phases/adw_plan.py is there, without markers.py: the kotadb layout".into(),
        };
    }
    if let Some(found) =
        ["adws/adw_plan_iso.py", "adws/adw_plan.py"].into_iter().find(|p| exists(p))
    {
        return Detected {
            profile: fit_tac(tac(), exists),
            reason: format!("{found} is there: the tac layout"),
        };
    }
    Detected {
        profile: adwd(),
        reason: "no adws/ of its own: the automation that adwd carries is used".into(),
    }
}

/// The `adwd` profile with the scripts of the repository itself.
#[must_use]
pub fn own_scripts(mut profile: Profile) -> Profile {
    profile.scripts_from = ScriptsFrom::Project;
    for phase in &mut profile.phases {
        for script in &mut phase.scripts {
            *script = format!("automation/{script}");
        }
    }
    for file in &mut profile.required_files {
        *file = format!("automation/{file}");
    }
    profile
}

/// Fits the course layout to what is there: without `_iso` scripts nobody makes a worktree.
#[must_use]
pub fn fit_tac(profile: Profile, exists: &dyn Fn(&str) -> bool) -> Profile {
    let mut profile = profile.present(exists);
    if !exists("adws/adw_plan_iso.py") && !exists("adws/adw_modules/worktree_ops.py") {
        profile.worktree_by = WorktreeBy::Nobody;
        profile.base_branch = None;
    }
    profile
}

/// Builds a profile from a `[[profile]]` table: the fields given replace those of the profile it
/// `extends` (`adwd` where it names none).
///
/// # Errors
/// A sentence that names the profile and the field.
pub fn from_table(table: &serde_json::Map<String, serde_json::Value>) -> Result<Profile, String> {
    let name = table
        .get("name")
        .and_then(serde_json::Value::as_str)
        .ok_or("a [[profile]] needs a name")?;
    let base = table.get("extends").and_then(serde_json::Value::as_str).unwrap_or("adwd");
    let base = built_in(base).ok_or_else(|| {
        format!("profile {name:?} extends {base:?}, which is none of adwd, kotadb, tac")
    })?;
    let mut merged = serde_json::to_value(base).map_err(|e| e.to_string())?;
    for (key, value) in table.iter().filter(|(k, _)| *k != "extends") {
        if merged.get(key).is_none() {
            let known: Vec<&String> =
                merged.as_object().map(|o| o.keys().collect()).unwrap_or_default();
            return Err(format!("profile {name:?} has no field {key:?}; it may set {known:?}"));
        }
        merged[key] = value.clone();
    }
    let profile: Profile =
        serde_json::from_value(merged).map_err(|e| format!("profile {name:?}: {e}"))?;
    if profile.phases.is_empty() {
        return Err(format!("profile {name:?} has no phases"));
    }
    if let Some(lost) = profile.sequence.iter().find(|s| profile.phase(s).is_none()) {
        return Err(format!(
            "profile {name:?}: sequence names {lost:?}, which is none of its phases"
        ));
    }
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn having<'a>(files: &'a [&'a str]) -> impl Fn(&str) -> bool + 'a {
        move |f| files.contains(&f)
    }

    #[test]
    fn detection_says_what_it_found() {
        let own = detect(&having(&[
            "automation/adws/adw_modules/markers.py",
            "automation/adws/adw_phases/adw_plan.py",
        ]));
        assert_eq!(
            (own.profile.name.as_str(), own.profile.scripts_from),
            ("adwd", ScriptsFrom::Project)
        );
        let kota = detect(&having(&[
            "automation/adws/adw_phases/adw_plan.py",
            "automation/adws/adw_phases/adw_build.py",
        ]));
        assert_eq!(kota.profile.name, "kotadb");
        assert_eq!(kota.profile.sequence, ["plan", "build"]);
        let iso = detect(&having(&[
            "adws/adw_plan_iso.py",
            "adws/adw_build_iso.py",
            "adws/adw_test_iso.py",
        ]));
        assert_eq!(iso.profile.worktree_by, WorktreeBy::Script);
        assert_eq!(iso.profile.phase_names(), ["plan", "build", "test"]);
        let old = detect(&having(&["adws/adw_plan.py", "adws/adw_build.py"]));
        assert_eq!(old.profile.worktree_by, WorktreeBy::Nobody);
        assert_eq!(detect(&having(&[])).profile.scripts_from, ScriptsFrom::Embedded);
    }

    #[test]
    fn every_sequence_names_phases_of_its_profile() {
        for p in [adwd(), kotadb(), tac()] {
            assert!(p.sequence.iter().all(|s| p.phase(s).is_some()), "{}", p.name);
        }
    }

    #[test]
    fn a_users_profile_extends_and_is_checked() {
        let table = |v: serde_json::Value| v.as_object().unwrap().clone();
        let p = from_table(&table(
            serde_json::json!({"name":"mine","extends":"tac","agents_dir":"state"}),
        ))
        .unwrap();
        assert_eq!(
            (p.name.as_str(), p.agents_dir.as_str(), p.trees_dir.as_str()),
            ("mine", "state", "trees")
        );
        for (bad, says) in [
            (serde_json::json!({"extends":"tac"}), "name"),
            (serde_json::json!({"name":"x","extends":"y"}), "none of"),
            (serde_json::json!({"name":"x","agent_dir":"y"}), "agent_dir"),
            (serde_json::json!({"name":"x","sequence":["deploy"]}), "deploy"),
            (serde_json::json!({"name":"x","phases":[]}), "no phases"),
        ] {
            let err = from_table(&table(bad)).unwrap_err();
            assert!(err.contains(says), "{err}");
        }
    }

    #[test]
    fn asked_phases_come_in_the_order_of_the_profile() {
        assert_eq!(
            adwd().in_order(&["review".into(), "plan".into(), "plan".into()]),
            ["plan", "review"]
        );
    }
}
