//! Cron expressions: against known days, and against a slow reader of its own.

use jiff::tz::TimeZoneDatabase;
use proptest::prelude::*;

use super::*;

fn berlin(text: &str) -> Cron {
    Cron::parse(text, "Europe/Berlin").unwrap()
}

/// The next `n` moments after one, on the zone's clock.
fn next(cron: &Cron, after: &str, n: usize) -> Vec<String> {
    let mut at = Millis::parse_rfc3339(after).unwrap();
    let mut found = vec![];
    for _ in 0..n {
        at = cron.next(at).unwrap();
        found.push(cron.local(at));
    }
    found
}

#[test]
fn ordinary_days_are_as_everybody_expects() {
    let cron = Cron::parse("0 3 * * *", "UTC").unwrap();
    assert_eq!(
        next(&cron, "2026-11-21T03:00:00Z", 2),
        ["2026-11-22T03:00:00+00:00", "2026-11-23T03:00:00+00:00"]
    );
    assert_eq!(next(&cron, "2026-11-21T02:59:59.999Z", 1), ["2026-11-21T03:00:00+00:00"]);
    let office = berlin("*/30 9-10 * * mon-fri");
    assert_eq!(
        next(&office, "2026-11-20T09:20:00Z", 3),
        ["2026-11-20T10:30:00+01:00", "2026-11-23T09:00:00+01:00", "2026-11-23T09:30:00+01:00"]
    );
    let leap = Cron::parse("0 0 29 2 *", "UTC").unwrap();
    assert_eq!(
        next(&leap, "2096-03-01T00:00:00Z", 1),
        ["2104-02-29T00:00:00+00:00"],
        "2100 is no leap year"
    );
}

#[test]
fn days_of_month_and_of_week_add_up_unless_one_begins_with_a_star() {
    let either = Cron::parse("0 12 13 * fri", "UTC").unwrap();
    assert_eq!(
        next(&either, "2026-11-10T00:00:00Z", 3),
        ["2026-11-13T12:00:00+00:00", "2026-11-20T12:00:00+00:00", "2026-11-27T12:00:00+00:00"]
    );
    let both = Cron::parse("0 12 */2 * 0,7", "UTC").unwrap();
    assert_eq!(next(&both, "2026-11-02T00:00:00Z", 1), ["2026-11-15T12:00:00+00:00"]);
}

#[test]
fn a_time_that_is_skipped_comes_when_the_gap_is_over_and_once() {
    let cron = berlin("30 2 * * *");
    assert_eq!(
        next(&cron, "2026-03-28T00:00:00Z", 3),
        ["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]
    );
    assert_eq!(
        next(&berlin("0 2 * * *"), "2026-03-29T00:00:00Z", 1),
        ["2026-03-29T03:00:00+02:00"]
    );
    let several = berlin("0,15,30 2,3 * * *");
    assert_eq!(
        next(&several, "2026-03-29T00:30:00Z", 3),
        ["2026-03-29T03:00:00+02:00", "2026-03-29T03:15:00+02:00", "2026-03-29T03:30:00+02:00"]
    );
}

#[test]
fn a_time_that_comes_twice_counts_the_first_time() {
    assert_eq!(
        next(&berlin("30 2 * * *"), "2026-10-24T20:00:00Z", 2),
        ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]
    );
}

#[test]
fn what_goes_by_the_clock_skips_the_gap_and_runs_through_the_repeated_hour() {
    let cron = berlin("*/30 * * * *");
    assert_eq!(
        next(&cron, "2026-03-29T00:15:00Z", 3),
        ["2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00"]
    );
    assert_eq!(
        next(&cron, "2026-10-25T00:15:00Z", 4),
        [
            "2026-10-25T02:30:00+02:00",
            "2026-10-25T02:00:00+01:00",
            "2026-10-25T02:30:00+01:00",
            "2026-10-25T03:00:00+01:00"
        ]
    );
}

#[test]
fn a_day_that_is_left_out_altogether_is_made_good_the_next() {
    let samoa = Cron::parse("0 9 30 12 *", "Pacific/Apia").unwrap();
    assert_eq!(next(&samoa, "2011-01-01T00:00:00Z", 1), ["2011-12-31T00:00:00+14:00"]);
}

#[test]
fn a_wrong_expression_says_what_would_be_right() {
    for (text, part) in [
        ("0 3 * *", "has 4 fields and needs 5"),
        ("", "has 0 fields"),
        ("60 * * * *", "minute: \"60\" is none of 0 to 59"),
        ("0 24 * * *", "hour: \"24\" is none of 0 to 23"),
        ("0 0 0 * *", "day of month: \"0\""),
        ("0 0 * foo *", "month: \"foo\" is none of 1 to 12 or jan to dec"),
        ("0 0 * * mon-sun", "day of week: \"mon-sun\" goes backwards"),
        ("*/0 * * * *", "minute: \"*/0\""),
        ("1, * * * *", "minute: \"\""),
        ("0 0 30 2 *", "no such day ever comes"),
        ("+1 * * * *", "minute: \"+1\""),
        ("@often", "1 fields"),
    ] {
        let error = Cron::parse(text, "UTC").unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
    assert!(Cron::parse("@daily", "Mars/Base").unwrap_err().contains("IANA"));
    assert_eq!(
        next(&Cron::parse("@weekly", "UTC").unwrap(), "2026-11-21T00:00:00Z", 1),
        ["2026-11-22T00:00:00+00:00"]
    );
}

/// Minutes from which cron's rules can be read off: the wall clock of every minute of a stretch.
fn slowly(minute: &[u8], hour: Option<&[u8]>, zone: &str, from: i64, minutes: i64) -> Vec<i64> {
    let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
    let wall = |at: i64| zone.to_datetime(Timestamp::from_second(at).unwrap());
    let wanted = |wall: DateTime| {
        let (m, h) = (wall.minute().unsigned_abs(), wall.hour().unsigned_abs());
        minute.contains(&m) && hour.is_none_or(|hours| hours.contains(&h))
    };
    let mut found = vec![];
    let mut shown: BTreeSet<DateTime> = BTreeSet::new();
    // Wall times before the stretch count as shown as well.
    for at in (from - 180 * 60..from + minutes * 60).step_by(60) {
        let (before, now) = (wall(at - 60), wall(at));
        let fresh = shown.insert(now);
        let fixed = hour.is_some();
        let mut fires = wanted(now) && (fresh || !fixed);
        // The wall clock jumped ahead: what it left out is made good now.
        let mut left_out = before.checked_add(1.minute()).unwrap();
        while fixed && left_out < now {
            fires |= wanted(left_out);
            left_out = left_out.checked_add(1.minute()).unwrap();
        }
        if fires && at >= from {
            found.push(at * 1_000);
        }
    }
    found
}

fn list(numbers: &[u8]) -> String {
    numbers.iter().map(u8::to_string).collect::<Vec<_>>().join(",")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Around every change of the clock of several zones, expressions of times and of intervals
    /// fire exactly when one who watches the wall clock minute by minute would.
    #[test]
    fn it_fires_when_a_watcher_of_the_wall_clock_would(
        minutes in proptest::collection::btree_set(0_u8..60, 1..4),
        hours in proptest::option::of(proptest::collection::btree_set(0_u8..5, 1..4)),
        zone in proptest::sample::select(vec![
            "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo",
            "Africa/Cairo", "UTC", "Asia/Kathmandu",
        ]),
        change in 0_usize..12,
        before in 0_i64..600,
    ) {
        let minutes: Vec<u8> = minutes.into_iter().collect();
        let hours: Option<Vec<u8>> = hours.map(|hours| hours.into_iter().collect());
        let tz = TimeZoneDatabase::bundled().get(zone).unwrap();
        let start = Timestamp::from_second(1_500_000_000).unwrap();
        let at = tz.following(start).nth(change).map_or(start, |t| t.timestamp()).as_second();
        let from = (at - at.rem_euclid(60)) - before * 60;
        let text = format!(
            "{} {} * * *",
            list(&minutes),
            hours.as_ref().map_or("*".to_owned(), |hours| list(hours))
        );
        let cron = Cron::parse(&text, zone).unwrap();
        let expected = slowly(&minutes, hours.as_deref(), zone, from, 1_600);
        let mut found = vec![];
        let mut next = cron.next(Millis(from * 1_000 - 1));
        while let Some(at) = next.filter(|at| at.0 < (from + 1_600 * 60) * 1_000) {
            found.push(at.0);
            next = cron.next(at);
        }
        prop_assert_eq!(&found, &expected, "{} in {}", text, zone);
        for pair in found.windows(2) {
            prop_assert_eq!(cron.last(Millis(pair[1] - 1)), Some(Millis(pair[0])));
            prop_assert_eq!(cron.last(Millis(pair[1])), Some(Millis(pair[1])));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[0-9*/,a-z@ -]{0,24}") {
        let _ = Cron::parse(&text, "Europe/Berlin");
    }
}
