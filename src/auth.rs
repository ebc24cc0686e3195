//! Who is asking, and what that lets them do.
//!
//! A principal is made from facts the transport proves (the peer's uid on the socket, a key, a
//! signed token), never from anything the request claims. What a principal may do is one table,
//! [`Tier::allows`]; whose runs it may see is its [`Scope`].

mod access;
mod error;
mod identity;
mod issuer;
pub mod jwt;
pub mod keys;
mod pepper;
pub mod store;
pub mod throttle;
mod view;

use std::collections::BTreeSet;
use std::sync::Arc;

use nix::unistd::Uid;

pub use access::{Access, AccessDeps};
pub use error::{AccessError, Denied};
pub use identity::{HeldKey, Identity};
pub use pepper::PEPPER_FILE;
pub use view::{KeyList, KeyView, NewKey, ShownKey};

/// The road a request came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// The daemon's unix socket, and so stdio: the kernel vouches for the peer's uid.
    Unix,
    /// HTTP: a key or a token says who it is, or nothing does.
    Http,
}

impl Transport {
    /// The word used in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Unix => "unix",
            Transport::Http => "http",
        }
    }
}

/// Something a principal may or may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Read everything in its scope: runs, logs, projects, executions, series of books, usage.
    Read,
    /// Trigger, cancel and resume runs; submit steps; carry series of books on.
    Steer,
    /// Add and remove projects, which decides whose scripts the daemon executes.
    ManageProjects,
    /// Make, revoke and rotate keys; read what everybody asked.
    ManageKeys,
    /// Say on whose behalf a run is triggered (`webhook`, `cron`, `slash_command`, `cli`).
    NameTrigger,
}

impl Action {
    /// Every action, for tables.
    pub const ALL: [Action; 5] = [
        Action::Read,
        Action::Steer,
        Action::ManageProjects,
        Action::ManageKeys,
        Action::NameTrigger,
    ];
}

/// How much somebody is trusted with. Ordered: a later one may do all that an earlier one may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Reads, little.
    Free,
    /// Reads.
    Solo,
    /// Works.
    Team,
    /// Works, much.
    Enterprise,
    /// Manages projects and keys.
    Admin,
    /// The daemon's own user, as the kernel says.
    Owner,
}

impl Tier {
    /// Every tier, lowest first.
    pub const ALL: [Tier; 6] =
        [Tier::Free, Tier::Solo, Tier::Team, Tier::Enterprise, Tier::Admin, Tier::Owner];

    /// The table of permissions; the README shows the same one.
    #[must_use]
    pub fn allows(self, action: Action) -> bool {
        let least = match action {
            Action::Read => Tier::Free,
            Action::Steer => Tier::Team,
            Action::ManageProjects | Action::ManageKeys => Tier::Admin,
            Action::NameTrigger => Tier::Owner,
        };
        self >= least
    }

    /// The tier's word, as keys, the database and answers have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::Free => "free",
            Tier::Solo => "solo",
            Tier::Team => "team",
            Tier::Enterprise => "enterprise",
            Tier::Admin => "admin",
            Tier::Owner => "owner",
        }
    }

    /// The tier of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Tier> {
        Tier::ALL.into_iter().find(|tier| tier.as_str() == word)
    }
}

/// Whose runs a principal may see and touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Those of every project, step workflows and series of books.
    #[default]
    All,
    /// Those of these projects. Nothing else exists for it: step workflows and series of books
    /// belong to no project, so it sees none of them.
    Projects(Arc<BTreeSet<String>>),
}

impl Scope {
    /// Whether a project exists for it.
    #[must_use]
    pub fn holds(&self, project: &str) -> bool {
        match self {
            Scope::All => true,
            Scope::Projects(names) => names.contains(project),
        }
    }

    /// The projects that it is bound to; `None` where it is bound to none.
    #[must_use]
    pub fn bound_to(&self) -> Option<&BTreeSet<String>> {
        match self {
            Scope::All => None,
            Scope::Projects(names) => Some(names),
        }
    }
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Stable name: `uid:1000`, `loopback`, `key:{id of the key}`, `oauth:{subject}`.
    pub user_id: String,
    /// The road.
    pub transport: Transport,
    /// How much it is trusted with.
    pub tier: Tier,
    /// What exists for it.
    pub scope: Scope,
    /// What it may ask in an hour where that is its own and not its tier's, in tenths of a call;
    /// see `quota`.
    pub hourly_tenths: Option<u64>,
}

impl Principal {
    /// The peer of a unix socket.
    #[must_use]
    pub fn unix(uid: u32) -> Principal {
        Principal {
            user_id: format!("uid:{uid}"),
            transport: Transport::Unix,
            tier: Tier::Owner,
            scope: Scope::All,
            hourly_tenths: None,
        }
    }

    /// The name of whoever shows no key on loopback.
    pub const LOOPBACK: &str = "loopback";

    /// A client on loopback HTTP that shows no key: any local process can have sent it, a web
    /// page's script included. It reads, unless the configuration trusts it (`trusted`).
    #[must_use]
    pub fn loopback(trusted: bool) -> Principal {
        Principal {
            user_id: Principal::LOOPBACK.to_owned(),
            transport: Transport::Http,
            tier: if trusted { Tier::Team } else { Tier::Free },
            scope: Scope::All,
            hourly_tenths: None,
        }
    }

    /// Whether the principal may do it. One that is bound to projects manages none and makes no
    /// keys, whatever its tier: either would be a way out of its bounds.
    #[must_use]
    pub fn allows(&self, action: Action) -> bool {
        let manages = matches!(action, Action::ManageProjects | Action::ManageKeys);
        self.tier.allows(action) && !(manages && self.scope.bound_to().is_some())
    }
}

/// The uid this process acts as.
#[must_use]
pub fn own_uid() -> u32 {
    Uid::effective().as_raw()
}

/// Whether a peer with `peer_uid` may use the socket of a daemon that runs as `own_uid`: the same
/// user, and root, who could read the daemon's memory anyway.
#[must_use]
pub fn peer_is_welcome(own_uid: u32, peer_uid: u32) -> bool {
    peer_uid == own_uid || peer_uid == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_of_the_table_of_permissions() {
        let rows = [
            (Action::Read, [true, true, true, true, true, true]),
            (Action::Steer, [false, false, true, true, true, true]),
            (Action::ManageProjects, [false, false, false, false, true, true]),
            (Action::ManageKeys, [false, false, false, false, true, true]),
            (Action::NameTrigger, [false, false, false, false, false, true]),
        ];
        assert_eq!(rows.map(|(action, _)| action), Action::ALL);
        for (action, cells) in rows {
            for (tier, allowed) in Tier::ALL.into_iter().zip(cells) {
                assert_eq!(tier.allows(action), allowed, "{tier:?} {action:?}");
            }
        }
    }

    #[test]
    fn a_tier_is_read_by_the_word_it_is_written_with() {
        for tier in Tier::ALL {
            assert_eq!(Tier::parse(tier.as_str()), Some(tier));
        }
        assert_eq!(Tier::parse("Team"), None);
    }

    #[test]
    fn loopback_alone_proves_nothing() {
        assert_eq!(Principal::loopback(false).tier, Tier::Free);
        assert_eq!(Principal::loopback(true).tier, Tier::Team);
        assert!(!Principal::loopback(true).allows(Action::ManageProjects));
        assert_eq!(Principal::unix(1000).user_id, "uid:1000");
    }

    #[test]
    fn what_is_bound_to_projects_sees_no_others() {
        let bound = Scope::Projects(Arc::new(BTreeSet::from(["shop".to_owned()])));
        assert!(bound.holds("shop") && !bound.holds("shopping") && !bound.holds(""));
        assert!(Scope::All.holds("anything"));
        assert_eq!((Scope::default(), Scope::All.bound_to()), (Scope::All, None));
    }

    #[test]
    fn what_is_bound_to_projects_manages_nothing() {
        let scope = Scope::Projects(Arc::new(BTreeSet::from(["shop".to_owned()])));
        let bound = Principal { tier: Tier::Admin, scope, ..Principal::loopback(true) };
        assert!(bound.allows(Action::Steer) && bound.allows(Action::Read));
        assert!(!bound.allows(Action::ManageProjects) && !bound.allows(Action::ManageKeys));
    }

    #[test]
    fn another_user_is_not_welcome_but_root_is() {
        assert!(peer_is_welcome(1000, 1000));
        assert!(peer_is_welcome(1000, 0));
        assert!(!peer_is_welcome(1000, 1001));
        assert!(!peer_is_welcome(0, 1000));
    }
}
