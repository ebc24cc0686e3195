//! What a preflight asks git: the base that a run is cut from, the remote, and the branches that are
//! there. Answers that rest on files alone are kept while these do not change (`known`).

use std::path::Path;

use super::ctx::Ctx;
use super::git::{Base, GitError};
use super::known::Look;
use super::project::Project;

/// A look at all that git's answers about references and remotes rest on.
async fn look_at_references(ctx: &Ctx, project: &Project) -> Option<Look> {
    let common = ctx.git(project).common_dir().await.ok()?;
    let home = ctx.deps.base_env.get("HOME").map(Path::new);
    Look::at_references(&common, home, ctx.file_time())
}

/// URL of the project's remote, asked where the answer may be another than before.
pub(super) async fn remote_url(ctx: &Ctx, project: &Project) -> Result<Option<String>, GitError> {
    let remote = project.remote();
    let question = format!("remote {remote} {}", project.root.display());
    if let Some(known) = ctx.known.get(&question) {
        return Ok(Some(known).filter(|url| !url.is_empty()));
    }
    let look = look_at_references(ctx, project).await;
    let url = ctx.git(project).remote_url(&remote).await?;
    if let Some(look) = look {
        ctx.known.put(question, look, url.clone().unwrap_or_default());
    }
    Ok(url)
}

/// The base. A remote is asked each time: its branch may have moved.
pub(super) async fn resolve_base(ctx: &Ctx, project: &Project) -> Result<Base, GitError> {
    let (remote, branch) = (project.remote(), project.base_branch());
    let trees = ctx.worktrees(project);
    if remote_url(ctx, project).await?.is_some() {
        return trees.resolve_base(&remote, branch.as_deref()).await;
    }
    let wanted = branch.as_deref().unwrap_or_default();
    let question = format!("base {wanted} {}", project.root.display());
    if let Some((branch, commit)) =
        ctx.known.get(&question).as_deref().and_then(|known| known.split_once('\n'))
    {
        let (branch, commit) = (branch.to_owned(), commit.to_owned());
        return Ok(Base { branch, commit, fetched: false });
    }
    let look = look_at_references(ctx, project).await;
    let base = trees.resolve_base(&remote, branch.as_deref()).await?;
    if let Some(look) = look.filter(|_| !base.fetched) {
        ctx.known.put(question, look, format!("{}\n{}", base.branch, base.commit));
    }
    Ok(base)
}

/// Local branches that match a pattern. git is asked only where one may: a branch matches when it
/// holds each plain piece of the pattern, the longest among them.
pub(super) async fn branches_like(
    ctx: &Ctx,
    project: &Project,
    pattern: &str,
) -> Result<Vec<String>, GitError> {
    let git = ctx.git(project);
    let question = format!("branches {}", project.root.display());
    let all = match ctx.known.get(&question) {
        Some(known) => known,
        None => {
            let look = look_at_references(ctx, project).await;
            let Some(all) = git.all_branches().await? else { return git.branches(pattern).await };
            let all = all.join("\n");
            if let Some(look) = look {
                ctx.known.put(question, look, all.clone());
            }
            all
        }
    };
    let pieces = pattern.split(['*', '?', '[', ']', '\\']);
    let piece = pieces.max_by_key(|piece| piece.len()).unwrap_or_default();
    if all.lines().any(|name| name.contains(piece)) {
        git.branches(pattern).await
    } else {
        Ok(vec![])
    }
}
