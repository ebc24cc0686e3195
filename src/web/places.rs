//! Places for connections: how many there may be, and who goes when a new one comes.
//!
//! A connection that is owed an answer keeps its place. One that has not yet sent a whole request
//! costs its owner nothing, so when all places are taken the oldest such makes room; where those have
//! only just come, one that rests between two requests goes first. So whoever opens a thousand
//! connections and sends nothing keeps nobody out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::limits::{
    HTTP_HEAD_GRACE_MS, HTTP_HEAD_MS, HTTP_IDLE_MS, HTTP_SILENT_MS, HTTP_STALL_MS,
};

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has never sent a whole head.
    New,
    /// It was answered before, and has begun another head.
    Head,
    /// It is being answered.
    Busy,
    /// It was answered, and nothing came since.
    Idle,
}

/// Where one connection stands; shared by its task and by who looks for room.
#[derive(Debug)]
pub(super) struct Standing {
    peer: IpAddr,
    /// Ends the connection at once.
    pub(super) cut: CancellationToken,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// Since when the peer takes nothing of what we have for it.
    stalled: Option<Instant>,
    /// Whether anything ever came in this phase.
    heard: bool,
    /// Whether the peer said that nothing more will come.
    ended: bool,
}

impl Standing {
    fn new(peer: IpAddr, now: Instant) -> Standing {
        let state =
            State { phase: Phase::New, since: now, stalled: None, heard: false, ended: false };
        Standing { peer, cut: CancellationToken::new(), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, phase: Phase, now: Instant) {
        let mut state = self.state();
        (state.phase, state.since, state.heard) = (phase, now, false);
    }

    /// An answer is out; a connection that was cut meanwhile stays what it is.
    pub(super) fn answered(&self, now: Instant) {
        if self.state().phase == Phase::Busy {
            self.enter(Phase::Idle, now);
        }
    }

    /// Bytes came, or the end of them.
    pub(super) fn heard(&self, bytes: usize, now: Instant) {
        let mut state = self.state();
        if bytes == 0 {
            state.ended = true;
            return;
        }
        match state.phase {
            Phase::Idle => (state.phase, state.since) = (Phase::Head, now),
            Phase::New if !state.heard => state.since = now,
            _ => {}
        }
        state.heard = true;
    }

    /// Whether something could be written.
    pub(super) fn wrote(&self, taken: bool, now: Instant) {
        let mut state = self.state();
        state.stalled = if taken { None } else { state.stalled.or(Some(now)) };
    }

    /// Whether the peer has closed its side.
    pub(super) fn ended(&self) -> bool {
        self.state().ended
    }

    /// Whether a part of a head has come, and not the whole.
    pub(super) fn is_within_head(&self) -> bool {
        let state = self.state();
        state.heard && matches!(state.phase, Phase::New | Phase::Head)
    }

    /// When the connection has to be ended if nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let state = self.state();
        let ms = Duration::from_millis;
        let phase = match state.phase {
            Phase::New if !state.heard => Some(state.since + ms(HTTP_SILENT_MS)),
            Phase::New | Phase::Head => Some(state.since + ms(HTTP_HEAD_MS)),
            Phase::Idle => Some(state.since + ms(HTTP_IDLE_MS)),
            Phase::Busy => None,
        };
        let stall = state.stalled.map(|since| since + ms(HTTP_STALL_MS));
        phase.into_iter().chain(stall).min()
    }

    /// How soon it has to make room: the smaller the sooner; `None` is never.
    fn expendable(&self, now: Instant) -> Option<(u8, Instant)> {
        let state = self.state();
        if state.stalled.is_some() {
            return None;
        }
        match state.phase {
            Phase::New | Phase::Head => {
                let had_time = now - state.since >= Duration::from_millis(HTTP_HEAD_GRACE_MS);
                Some((if had_time { 0 } else { 2 }, state.since))
            }
            Phase::Idle => Some((1, state.since)),
            Phase::Busy => None,
        }
    }
}

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    per_peer: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    standings: BTreeMap<u64, Arc<Standing>>,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    places: Arc<Places>,
    /// Where the connection stands.
    pub(super) standing: Arc<Standing>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().standings.remove(&self.id);
    }
}

impl Places {
    /// `per_peer` does not hold for peers on this machine.
    pub(super) fn new(max: usize, per_peer: usize) -> Arc<Places> {
        Arc::new(Places { max, per_peer, taken: Mutex::default() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection, if need be another one's. `None`: all are being answered.
    pub(super) fn admit(self: &Arc<Places>, peer: IpAddr, now: Instant) -> Option<Place> {
        let peer = grouped(peer);
        let mut taken = self.taken();
        let own = || taken.standings.values().filter(|standing| standing.peer == peer).count();
        let too_many_own = !peer.is_loopback() && own() >= self.per_peer;
        if too_many_own || taken.standings.len() >= self.max {
            let may_go = |standing: &Standing| !too_many_own || standing.peer == peer;
            let oldest = taken
                .standings
                .iter()
                .filter(|(_, standing)| may_go(standing))
                .filter_map(|(id, standing)| Some((standing.expendable(now)?, *id)))
                .min();
            let (_, id) = oldest?;
            if let Some(standing) = taken.standings.remove(&id) {
                standing.cut.cancel();
            }
        }
        let id = taken.next;
        taken.next += 1;
        let standing = Arc::new(Standing::new(peer, now));
        taken.standings.insert(id, standing.clone());
        Some(Place { id, places: self.clone(), standing })
    }
}

/// The address by which connections are counted: who has one IPv6 address has the whole /64.
fn grouped(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from(u128::from(address) >> 64 << 64))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_cut(place: &Place) -> bool {
        place.standing.cut.is_cancelled()
    }

    #[test]
    fn the_oldest_without_a_head_makes_room_then_one_that_rests_then_one_that_just_came() {
        let mut now = Instant::now();
        let places = Places::new(3, 3);
        let resting = places.admit(ip("127.0.0.1"), now).unwrap();
        resting.standing.enter(Phase::Idle, now);
        now += Duration::from_secs(1);
        let silent = places.admit(ip("127.0.0.1"), now).unwrap();
        now += Duration::from_secs(1);
        let younger = places.admit(ip("127.0.0.1"), now).unwrap();
        younger.standing.heard(3, now);

        let fourth = places.admit(ip("127.0.0.1"), now).unwrap();
        assert!(is_cut(&silent) && !is_cut(&younger) && !is_cut(&resting));
        fourth.standing.enter(Phase::Busy, now);
        let fifth = places.admit(ip("127.0.0.1"), now).unwrap();
        assert!(is_cut(&resting) && !is_cut(&younger), "the other has only just come");
        fifth.standing.enter(Phase::Busy, now);
        let sixth = places.admit(ip("127.0.0.1"), now).unwrap();
        assert!(is_cut(&younger));
        sixth.standing.enter(Phase::Busy, now);
        assert!(places.admit(ip("127.0.0.1"), now).is_none(), "all are being answered");
        assert!(!is_cut(&fourth) && !is_cut(&fifth) && !is_cut(&sixth));
        drop(fifth);
        assert!(places.admit(ip("127.0.0.1"), now).is_some());
    }

    #[test]
    fn another_machine_takes_its_own_places_only() {
        let now = Instant::now();
        let places = Places::new(10, 2);
        let good = places.admit(ip("192.0.2.7"), now).unwrap();
        let flood: Vec<_> = (0..20).map(|_| places.admit(ip("192.0.2.66"), now).unwrap()).collect();
        assert!(!is_cut(&good));
        assert_eq!(flood.iter().filter(|place| !is_cut(place)).count(), 2);
        flood.iter().for_each(|place| place.standing.enter(Phase::Busy, now));
        assert!(places.admit(ip("192.0.2.66"), now).is_none());
        assert!(places.admit(ip("::ffff:192.0.2.66"), now).is_none(), "it is the same one");
        assert!(places.admit(ip("192.0.2.8"), now).is_some());
    }

    #[test]
    fn an_ipv6_network_counts_as_one_and_this_machine_is_not_counted() {
        let now = Instant::now();
        let places = Places::new(10, 1);
        let first = places.admit(ip("2001:db8::1"), now).unwrap();
        let other = places.admit(ip("2001:db8:0:1::1"), now).unwrap();
        let _second = places.admit(ip("2001:db8::2"), now).unwrap();
        assert!(is_cut(&first) && !is_cut(&other));
        let own: Vec<_> = ["::1", "::1", "127.0.0.1", "127.0.0.1"]
            .map(|peer| places.admit(ip(peer), now).unwrap())
            .into();
        assert!(own.iter().all(|place| !is_cut(place)));
    }

    #[test]
    fn every_phase_but_the_answering_has_its_end() {
        let mut now = Instant::now();
        let places = Places::new(1, 1);
        let place = places.admit(ip("127.0.0.1"), now).unwrap();
        let standing = &place.standing;
        let left = |now: Instant| standing.deadline().map(|at| (at - now).as_millis() as u64);
        assert_eq!(left(now), Some(HTTP_SILENT_MS));
        now += Duration::from_millis(HTTP_HEAD_MS + 1);
        assert!(left(now) > Some(HTTP_HEAD_MS), "who has only connected is not late with a head");
        standing.heard(1, now);
        assert_eq!(left(now), Some(HTTP_HEAD_MS));
        now += Duration::from_secs(1);
        standing.heard(1, now);
        assert_eq!(left(now), Some(HTTP_HEAD_MS - 1_000), "a byte buys no time");
        assert!(standing.is_within_head());
        standing.enter(Phase::Busy, now);
        assert_eq!(left(now), None);
        standing.wrote(false, now);
        now += Duration::from_secs(1);
        standing.wrote(false, now);
        assert_eq!(left(now), Some(HTTP_STALL_MS - 1_000));
        standing.wrote(true, now);
        standing.answered(now);
        assert_eq!(left(now), Some(HTTP_IDLE_MS));
        assert!(!standing.is_within_head());
        standing.heard(1, now);
        assert_eq!(left(now), Some(HTTP_HEAD_MS));
        standing.heard(0, now);
        assert!(standing.ended());
    }
}
