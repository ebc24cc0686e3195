//! Whether a schedule is due. Pure.

use crate::clock::Millis;
use crate::config::CatchUp;
use crate::cron::Cron;
use crate::limits::{SCHEDULE_AHEAD_MS, SCHEDULE_LATE_MS};

/// What is to be done with a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Wait,
    /// Start what it names, for this moment; earlier ones that passed meanwhile are over with it.
    Fire(Millis),
    /// This moment, and those before it, passed too long ago.
    Missed(Millis),
    /// What was handled lies in the future: the clock had been wrong. Go on from here.
    Rewind(Millis),
}

/// What a schedule that is handled up to `handled` needs at `now`.
///
/// A moment is in time up to `SCHEDULE_LATE_MS` after it, so that a restart loses none. A clock that
/// goes back fires nothing again until it has caught up with what was handled; only where that would
/// take longer than `SCHEDULE_AHEAD_MS` the clock is believed (the key of each moment keeps even then
/// from starting one twice).
#[must_use]
pub fn due(cron: &Cron, catch_up: CatchUp, handled: Millis, now: Millis) -> Due {
    if handled.since_ms(now) > SCHEDULE_AHEAD_MS {
        return Due::Rewind(now);
    }
    let Some(last) = cron.last(now).filter(|last| *last > handled) else { return Due::Wait };
    if now.since_ms(last) <= SCHEDULE_LATE_MS || catch_up == CatchUp::Once {
        Due::Fire(last)
    } else {
        Due::Missed(last)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Millis {
        Millis::parse_rfc3339(text).unwrap()
    }

    fn nightly() -> Cron {
        Cron::parse("0 3 * * *", "Europe/Berlin").unwrap()
    }

    #[test]
    fn it_fires_in_time_and_once() {
        let (cron, handled) = (nightly(), at("2026-11-20T12:00:00Z"));
        let moment = at("2026-11-21T02:00:00Z");
        assert_eq!(due(&cron, CatchUp::Skip, handled, at("2026-11-21T01:59:59Z")), Due::Wait);
        for now in ["2026-11-21T02:00:00Z", "2026-11-21T02:09:59Z"] {
            assert_eq!(due(&cron, CatchUp::Skip, handled, at(now)), Due::Fire(moment), "{now}");
        }
        assert_eq!(due(&cron, CatchUp::Skip, moment, at("2026-11-21T02:00:01Z")), Due::Wait);
    }

    #[test]
    fn what_was_missed_is_made_good_only_where_that_is_asked_for_and_once() {
        let (cron, handled) = (nightly(), at("2026-11-18T12:00:00Z"));
        let (now, last) = (at("2026-11-21T09:00:00Z"), at("2026-11-21T02:00:00Z"));
        assert_eq!(due(&cron, CatchUp::Skip, handled, now), Due::Missed(last));
        assert_eq!(due(&cron, CatchUp::Once, handled, now), Due::Fire(last));
        assert_eq!(due(&cron, CatchUp::Once, last, now), Due::Wait);
    }

    #[test]
    fn a_clock_that_goes_back_fires_nothing_twice_and_one_that_was_years_ahead_is_forgotten() {
        let (cron, moment) = (nightly(), at("2026-11-21T02:00:00Z"));
        for now in ["2026-11-21T01:30:00Z", "2026-11-20T02:30:00Z"] {
            assert_eq!(due(&cron, CatchUp::Once, moment, at(now)), Due::Wait, "{now}");
        }
        let now = at("2024-11-21T01:30:00Z");
        assert_eq!(due(&cron, CatchUp::Once, moment, now), Due::Rewind(now));
    }

    proptest! {
        /// Whatever the clock does, short of years, each moment is fired at most once; and where it
        /// only goes on, with looks close enough together, each is fired.
        #[test]
        fn no_moment_is_fired_twice_and_none_is_lost(
            steps in proptest::collection::vec(-3_600_i64..9_000, 1..120),
            minute in 0_u8..60,
            forward in any::<bool>(),
        ) {
            // Over the night on which the clocks go back.
            let mut now = at("2026-10-24T20:00:00Z");
            let start = now;
            let cron = Cron::parse(&format!("{minute} * * * *"), "Europe/Berlin").unwrap();
            let (mut handled, mut fired) = (now, BTreeSet::new());
            for step in steps {
                now = now.plus_ms(if forward { step.abs() % 600 } else { step } * 1_000);
                match due(&cron, CatchUp::Skip, handled, now) {
                    Due::Fire(moment) => {
                        prop_assert!(fired.insert(moment), "{moment:?} twice");
                        prop_assert!(moment <= now);
                        handled = moment;
                    }
                    Due::Missed(moment) => handled = moment,
                    Due::Wait => {}
                    Due::Rewind(_) => prop_assert!(false, "the clock is not that wrong"),
                }
            }
            if forward {
                let mut expected = BTreeSet::new();
                let mut next = cron.next(start).unwrap();
                while next <= now {
                    expected.insert(next);
                    next = cron.next(next).unwrap();
                }
                prop_assert_eq!(fired, expected);
            }
        }
    }
}
