//! `adwd clean`: worktrees of ended runs go before their time, and nothing else does.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, json};

use super::args::Clean;
use super::fail::{Fail, exit};
use super::link::{Cx, Projects, arguments};
use crate::client::Client;
use crate::doctor;
use crate::out::cell;
use crate::runs::git::Git;
use crate::runs::profile::WorktreeBy;
use crate::runs::worktree::{Discard, Worktrees};
use crate::runs::{ProjectView, RunPage, RunStatus, RunView};

/// What became of one worktree.
#[derive(Debug, Serialize)]
struct Cleaned {
    adw_id: String,
    status: RunStatus,
    path: PathBuf,
    removed: bool,
    /// Why it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<String>,
}

/// Does it.
pub async fn command(cx: &Cx, given: Clean) -> Result<u8, Fail> {
    let client = cx.connect_or_start().await?;
    let served: Projects = client.call("list_adw_projects", Map::new()).await?;
    let mut all = vec![];
    if given.ids.is_empty() {
        let only = cx.named_project(&client).await?;
        let meant = |p: &&ProjectView| only.as_ref().is_none_or(|name| *name == p.name);
        for project in served.projects.iter().filter(meant) {
            for run in ended_runs(&client, &project.name).await? {
                all.push((run, Some(project)));
            }
        }
    } else {
        for id in &given.ids {
            let run = state(&client, id).await?;
            let project = served.projects.iter().find(|p| p.name == run.project);
            all.push((run, project));
        }
    }
    let discard = if given.discard_changes { Discard::Changes } else { Discard::Folder };
    let mut done = vec![];
    for (run, project) in all {
        let Some(path) = worktree(&run) else {
            if !given.ids.is_empty() {
                cx.out.note(&format!("run {} has no worktree any more", run.adw_id));
            }
            continue;
        };
        let kept = match project.filter(|p| p.problem.is_none()) {
            Some(project) => one(cx, &client, project, &run, &path, discard, given.dry_run).await,
            None => Some(format!("its project {:?} is not served", run.project)),
        };
        let removed = kept.is_none() && !given.dry_run;
        done.push(Cleaned { adw_id: run.adw_id, status: run.status, path, removed, kept });
    }
    show(cx, &done);
    let refused = !given.ids.is_empty() && done.iter().any(|c| c.kept.is_some());
    Ok(if refused { exit::REFUSED } else { exit::OK })
}

fn show(cx: &Cx, done: &[Cleaned]) {
    if cx.out.is_json() {
        return cx.out.json(&json!({ "worktrees": done }));
    }
    if cx.out.is_terminal() && done.is_empty() {
        return cx.out.line("no ended run has a worktree");
    }
    let rows: Vec<_> = done
        .iter()
        .map(|c| {
            let what = match &c.kept {
                Some(why) => format!("kept: {why}"),
                None if c.removed => "removed".to_owned(),
                None => "would be removed".to_owned(),
            };
            vec![
                cell(&c.adw_id),
                cell(c.status.as_str()),
                cell(c.path.display().to_string()),
                cell(what),
            ]
        })
        .collect();
    cx.out.table(&["ID", "STATUS", "WORKTREE", "WHAT"], &rows);
}

async fn state(client: &Client, id: &str) -> Result<RunView, Fail> {
    Ok(client.call("get_adw_state", arguments(vec![("adw_id", Some(json!(id)))])).await?)
}

/// Runs of the daemon's that have ended and may have a worktree. One that somebody asked to keep
/// is not meant unless it is named.
async fn ended_runs(client: &Client, project: &str) -> Result<Vec<RunView>, Fail> {
    let mut found = vec![];
    let mut cursor: Option<String> = None;
    loop {
        let asked = arguments(vec![
            ("project", Some(json!(project))),
            ("limit", Some(json!(100))),
            ("cursor", cursor.map(|c| json!(c))),
        ]);
        let page: RunPage = client.call("list_adw_workflows", asked).await?;
        let ended = |r: &&crate::runs::RunSummary| r.status.is_terminal() && r.origin == "daemon";
        for run in page.workflows.iter().filter(ended) {
            let run = state(client, &run.adw_id).await?;
            if !(run.skip_cleanup && run.status == RunStatus::Completed) {
                found.push(run);
            }
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(found);
        }
    }
}

/// The worktree that is still there.
fn worktree(run: &RunView) -> Option<PathBuf> {
    let path = PathBuf::from(run.worktree_path.as_deref()?);
    (run.worktree.as_deref() == Some("present") && path.exists()).then_some(path)
}

/// Removes one worktree, or says why it stays.
async fn one(
    cx: &Cx,
    client: &Client,
    project: &ProjectView,
    run: &RunView,
    path: &Path,
    discard: Discard,
    dry_run: bool,
) -> Option<String> {
    if run.origin != "daemon" {
        return Some("a run that the daemon did not start; it only watches it".to_owned());
    }
    let visit = doctor::Visit {
        config: cx.config(),
        env: &cx.env,
        root: None,
        socket: cx.socket(),
        offline: true,
        fix: false,
    };
    let root = Path::new(&project.path);
    let served = match visit.project(root) {
        Ok(served) => served,
        Err(problem) => return Some(problem),
    };
    if served.profile.worktree_by == WorktreeBy::Nobody {
        return Some(format!("profile {} works in the checkout itself", project.profile));
    }
    let trees = Worktrees::new(Git::new(root, visit.child_env()), served.trees_dir());
    // Asked under the lock that a run which goes on takes before it uses its worktree.
    let still_ended = async || match state(client, &run.adw_id).await {
        Ok(now) if now.status.is_terminal() => Ok(()),
        Ok(now) => Err(format!("run {} is {}", now.adw_id, now.status)),
        Err(fail) => Err(fail.message),
    };
    if dry_run {
        return match still_ended().await {
            Ok(()) => trees.objection_to_removing(path, discard).await,
            Err(why) => Some(why),
        };
    }
    trees.remove_unless(path, discard, still_ended).await.err().map(|error| error.message)
}
