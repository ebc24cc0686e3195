//! Which project a repository of a forge is: by `forge_repo`, else by the URL of the remote.

use super::ctx::Ctx;
use super::project::Project;
use super::view::ProjectOfRepository;
use crate::auth::Scope;

/// A repository's name on a forge.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    /// `github.com`; none where only owner and name are told.
    host: Option<String>,
    owner: String,
    name: String,
}

impl Name {
    /// Of `owner/name` or `host/owner/name`.
    fn parse(text: &str) -> Option<Name> {
        let text = text.trim_matches('/').to_ascii_lowercase();
        let text = text.strip_suffix(".git").unwrap_or(&text);
        let parts: Vec<&str> = text.split('/').collect();
        let (host, owner, name) = match parts[..] {
            [owner, name] => (None, owner, name),
            [host, owner, name] => (Some(host.to_owned()), owner, name),
            _ => return None,
        };
        let whole = !owner.is_empty() && !name.is_empty() && host.as_deref() != Some("");
        whole.then(|| Name { host, owner: owner.to_owned(), name: name.to_owned() })
    }

    /// Of a remote's URL: `https://`, `ssh://`, or `user@host:path`; none for a folder.
    fn of_url(url: &str) -> Option<Name> {
        let (host, path) = match url.split_once("://") {
            Some(("file", _)) => return None,
            Some((_, rest)) => rest.split_once('/')?,
            None => url.split_once(':').filter(|(host, _)| !host.contains('/'))?,
        };
        let host = host.rsplit('@').next()?.split(':').next()?;
        let name = Name::parse(&format!("{host}/{}", path.trim_matches('/')));
        name.filter(|name| name.host.is_some())
    }

    fn is(&self, other: &Name) -> bool {
        let same_host = match (&self.host, &other.host) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        same_host && self.owner == other.owner && self.name == other.name
    }
}

/// The served projects that are this repository, `host/owner/name`.
pub(super) async fn projects_of(ctx: &Ctx, repository: &str) -> Vec<ProjectOfRepository> {
    let Some(wanted) = Name::parse(repository) else { return vec![] };
    ctx.try_unserved();
    let mut found = vec![];
    for project in ctx.projects() {
        // As its file is now: see `Ctx::project_for_work`.
        let project = ctx.project_for_work(&Scope::All, Some(&project.name)).unwrap_or(project);
        if name_of(ctx, &project).await.is_some_and(|name| name.is(&wanted)) {
            // The scripts of others speak with GitHub whatever this setting says.
            let issues_in_files = project.profile.name == "adwd" && project.forge() == "local";
            found.push(ProjectOfRepository { name: project.name.clone(), issues_in_files });
        }
    }
    found
}

async fn name_of(ctx: &Ctx, project: &Project) -> Option<Name> {
    if let Some(repository) = project.forge_repo() {
        return Name::parse(&repository);
    }
    let url = ctx.git(project).remote_url(&project.remote()).await.ok()??;
    Name::of_url(&url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_has_one_name_however_its_url_is_written() {
        let wanted = Name::parse("github.com/Acme/Shop").unwrap();
        for url in [
            "https://github.com/acme/shop.git",
            "https://github.com/acme/shop/",
            "https://token@github.com/acme/shop",
            "git@github.com:acme/shop.git",
            "ssh://git@github.com:22/acme/shop.git",
        ] {
            assert!(Name::of_url(url).unwrap().is(&wanted), "{url}");
        }
        for url in [
            "https://github.com/acme/shop2.git",
            "https://gitlab.com/acme/shop.git",
            "git@github.com:other/shop.git",
        ] {
            assert!(!Name::of_url(url).unwrap().is(&wanted), "{url}");
        }
        for url in
            ["/srv/git/shop.git", "file:///srv/git/shop.git", "../shop", "https://github.com/shop"]
        {
            assert_eq!(Name::of_url(url), None, "{url}");
        }
        assert!(Name::parse("acme/shop").unwrap().is(&wanted), "without a host on any");
        for text in ["", "/", "shop", "a/b/c/d", "//shop"] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }
}
