//! Places for streams and waits, which last: how many there may be, and how many of them one caller
//! may have.
//!
//! Without a share of each caller one key, however low its tier, could open them all, and then nobody
//! else could wait for a run. The socket has places of its own: whatever HTTP is busy with, the
//! daemon's own user gets one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bounds::{CALLER_STREAMS_COUNT, STREAMS_COUNT};
use super::error::ToolError;
use crate::auth::{Principal, Transport};

/// All places; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Streams(Arc<Mutex<Taken>>);

/// How many of each caller are open: over HTTP, and on the socket.
#[derive(Debug, Default)]
struct Taken {
    http: BTreeMap<String, usize>,
    unix: usize,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub struct StreamPlace {
    streams: Streams,
    /// Whose it is; none: the socket's.
    caller: Option<String>,
}

impl Streams {
    /// A place for one more.
    ///
    /// # Errors
    /// `busy`, with whose places are all taken.
    pub fn place(&self, principal: &Principal) -> Result<StreamPlace, ToolError> {
        let mut taken = self.taken();
        let caller = match principal.transport {
            Transport::Unix => {
                if taken.unix >= STREAMS_COUNT {
                    return Err(busy(STREAMS_COUNT, ""));
                }
                taken.unix += 1;
                None
            }
            Transport::Http => {
                if taken.http.values().sum::<usize>() >= STREAMS_COUNT {
                    return Err(busy(STREAMS_COUNT, ""));
                }
                let own = taken.http.get(&principal.user_id).copied().unwrap_or_default();
                if own >= CALLER_STREAMS_COUNT {
                    return Err(busy(CALLER_STREAMS_COUNT, " of this caller"));
                }
                taken.http.insert(principal.user_id.clone(), own + 1);
                Some(principal.user_id.clone())
            }
        };
        drop(taken);
        Ok(StreamPlace { streams: self.clone(), caller })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Whole after every statement, so a poisoned lock is as good as another.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut taken = self.streams.taken();
        let Some(caller) = &self.caller else {
            taken.unix -= 1;
            return;
        };
        match taken.http.get_mut(caller) {
            Some(own) if *own > 1 => *own -= 1,
            // Who has none open costs no memory.
            _ => drop(taken.http.remove(caller)),
        }
    }
}

fn busy(count: usize, whose: &str) -> ToolError {
    ToolError::new(
        "busy",
        format!("{count} streams and waits{whose} are open, which is the most"),
        "ask get_adw_state now and then instead of waiting",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> Principal {
        Principal { user_id: format!("key:{id}"), ..Principal::loopback(false) }
    }

    fn take(streams: &Streams, who: &Principal, count: usize) -> Vec<StreamPlace> {
        (0..count).map(|_| streams.place(who).unwrap()).collect()
    }

    #[test]
    fn one_caller_takes_its_share_and_leaves_the_others_theirs() {
        let streams = Streams::default();
        let mut greedy = take(&streams, &key("a"), CALLER_STREAMS_COUNT);
        let refused = streams.place(&key("a")).unwrap_err();
        assert_eq!(refused.code, "busy");
        assert!(refused.message.contains("of this caller"), "{}", refused.message);
        let _other = take(&streams, &key("b"), 1);
        let _anonymous = take(&streams, &Principal::loopback(false), 1);
        drop(greedy.pop());
        let _again = take(&streams, &key("a"), 1);
        assert!(streams.place(&key("a")).is_err());
    }

    #[test]
    fn the_socket_has_places_whatever_http_is_busy_with() {
        let streams = Streams::default();
        let callers = STREAMS_COUNT / CALLER_STREAMS_COUNT;
        let all: Vec<_> = (0..callers)
            .flat_map(|n| take(&streams, &key(&n.to_string()), CALLER_STREAMS_COUNT))
            .collect();
        let refused = streams.place(&key("late")).unwrap_err();
        assert!(!refused.message.contains("caller"), "{}", refused.message);
        let own = take(&streams, &Principal::unix(1), STREAMS_COUNT);
        assert!(streams.place(&Principal::unix(1)).is_err());
        drop((all, own));
        assert!(streams.place(&key("late")).is_ok() && streams.place(&Principal::unix(1)).is_ok());
        assert!(streams.taken().http.is_empty(), "nothing is remembered of who is gone");
    }
}
