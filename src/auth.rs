//! Who is asking, and what the road they came by lets them do.
//!
//! A principal is made from facts the transport proves (the peer's uid on the socket), never from
//! anything the request claims. What a principal may do is one table, [`Principal::allows`].

use nix::unistd::Uid;

/// The road a request came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// The daemon's unix socket: the kernel vouches for the peer's uid.
    Unix,
    /// HTTP on loopback: any local process can have sent it, a web page's script included.
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
    /// Read everything: runs, logs, projects, series of books.
    Read,
    /// Trigger, cancel and resume runs; carry series of books on.
    Steer,
    /// Add and remove projects, which decides whose scripts the daemon executes.
    ManageProjects,
    /// Say on whose behalf a run is triggered (`webhook`, `cron`, `slash_command`, `cli`).
    NameTrigger,
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Stable name, such as `uid:1000` or `loopback`.
    pub user_id: String,
    /// The road.
    pub transport: Transport,
}

impl Principal {
    /// The peer of a unix socket.
    #[must_use]
    pub fn unix(uid: u32) -> Principal {
        Principal { user_id: format!("uid:{uid}"), transport: Transport::Unix }
    }

    /// A client on loopback HTTP, which proves nothing about itself.
    #[must_use]
    pub fn loopback() -> Principal {
        Principal { user_id: "loopback".to_owned(), transport: Transport::Http }
    }

    /// Whether the principal may do it.
    ///
    /// Choosing which repositories are served means choosing which programs run as the daemon's
    /// user, so it takes proof of being that user.
    #[must_use]
    pub fn allows(&self, action: Action) -> bool {
        match action {
            Action::Read | Action::Steer => true,
            Action::ManageProjects | Action::NameTrigger => self.transport == Transport::Unix,
        }
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
    fn only_the_socket_proves_enough_to_choose_what_is_executed() {
        let (unix, http) = (Principal::unix(1000), Principal::loopback());
        for action in [Action::Read, Action::Steer] {
            assert!(unix.allows(action) && http.allows(action), "{action:?}");
        }
        for action in [Action::ManageProjects, Action::NameTrigger] {
            assert!(unix.allows(action) && !http.allows(action), "{action:?}");
        }
        assert_eq!(unix.user_id, "uid:1000");
        assert_eq!((unix.transport.as_str(), http.transport.as_str()), ("unix", "http"));
    }

    #[test]
    fn another_user_is_not_welcome_but_root_is() {
        assert!(peer_is_welcome(1000, 1000));
        assert!(peer_is_welcome(1000, 0));
        assert!(!peer_is_welcome(1000, 1001));
        assert!(!peer_is_welcome(0, 1000));
    }
}
