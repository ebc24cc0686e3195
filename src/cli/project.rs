//! `adwd project`: which repositories are served.

use serde_json::{Map, json};

use super::args::Project;
use super::fail::{Fail, exit};
use super::link::{Cx, Projects, arguments};
use super::{place, render};
use crate::doctor;

/// Does it.
pub async fn command(cx: &Cx, given: Project) -> Result<u8, Fail> {
    match given {
        Project::List => {
            let client = cx.connect().await?;
            let served: Projects = client.call("list_adw_projects", Map::new()).await?;
            if cx.out.is_json() {
                cx.out.json(&served);
            } else {
                render::projects(&cx.out, &served.projects);
            }
        }
        Project::Add { path, name } => {
            let root = root(cx, path)?;
            let client = cx.connect_or_start().await?;
            let added = cx.add_project(&client, &root, name.as_deref()).await?;
            if cx.out.is_json() {
                cx.out.json(&added);
            } else if !added.added {
                cx.out.note(&format!("{} is served already", added.project.path));
            }
            if !cx.out.is_json() {
                render::projects(&cx.out, &[added.project]);
            }
        }
        Project::Remove { name } => {
            let client = cx.connect().await?;
            let answer = client
                .call_value("remove_adw_project", arguments(vec![("name", Some(json!(name)))]))
                .await?;
            if cx.out.is_json() {
                cx.out.json(&answer);
            } else {
                cx.out.line(&format!("no longer serving {name}; nothing in it was changed"));
            }
        }
        Project::Detect { path } => {
            let root = root(cx, path)?;
            let found = doctor::detect(&root, cx.config());
            if cx.out.is_json() {
                cx.out
                    .json(&json!({"path": root, "profile": found.profile, "reason": found.reason}));
            } else {
                cx.out.line(&format!("{}\t{}\t{}", root.display(), found.profile, found.reason));
            }
        }
    }
    Ok(exit::OK)
}

/// The repository's root for a path, the global `--project`, or the current folder.
fn root(cx: &Cx, path: Option<std::path::PathBuf>) -> Result<std::path::PathBuf, Fail> {
    let named = path.or_else(|| cx.global.project.as_ref().map(Into::into));
    let start = named.map_or_else(|| cx.here.clone(), |path| cx.here.join(path));
    if !start.is_dir() {
        return Err(Fail::new(
            exit::NOT_FOUND,
            "no_folder",
            format!("{} is no folder", start.display()),
        ));
    }
    place::repository_root(&start).ok_or_else(|| {
        Fail::usage(format!("{} is in no git repository", start.display()))
            .hint("`git init` makes one; a run needs a remote and a base branch too")
    })
}
