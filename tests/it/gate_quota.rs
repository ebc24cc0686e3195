//! Quotas on both engines: one hour a caller, never more than it passes, whoever asks at once.

use adwd::audit::AuditError;
use adwd::db::{Db, fault};
use adwd::quota::{self, Cost, Standing, Verdict};
use adwd::{args, clock::Millis};

use crate::db::Scratch;
use crate::gate_support::*;
use crate::on_both_engines;

on_both_engines!(
    an_hour_begins_with_its_first_call_and_ends_an_hour_later,
    reads_and_writes_share_an_hour_and_a_refusal_takes_nothing,
    a_clock_that_was_set_back_locks_nobody_out,
    callers_do_not_pay_for_one_another,
    sixty_four_clients_and_two_daemons_never_get_more_than_the_quota,
    an_hour_goes_on_after_a_restart,
    what_is_cut_at_any_statement_takes_and_records_nothing,
    old_hours_are_forgotten_and_open_ones_are_not,
);

async fn spend(db: &Db, user: &str, cost: Cost, limit: i64, now: Millis) -> Verdict {
    let mut tx = db.begin().await.unwrap();
    let verdict = quota::spend(&mut tx, &charge(user, cost, limit), now).await.unwrap();
    tx.commit().await.unwrap();
    verdict
}

fn granted(verdict: Verdict) -> Standing {
    match verdict {
        Verdict::Granted(standing) => standing,
        Verdict::Refused { .. } => panic!("{verdict:?}"),
    }
}

fn refused(verdict: Verdict) -> (Standing, i64) {
    match verdict {
        Verdict::Refused { standing, refused } => (standing, refused),
        Verdict::Granted(_) => panic!("{verdict:?}"),
    }
}

async fn an_hour_begins_with_its_first_call_and_ends_an_hour_later(s: Scratch) {
    let (s, _) = ready(s).await;
    let end = NOW.plus_ms(HOUR_MS);
    for (at, left) in [(NOW, 10), (NOW.plus_ms(HOUR_MS - 1), 0)] {
        let standing = granted(spend(&s.db, "k", Cost::Write, 20, at).await);
        assert_eq!((standing.remaining_tenths, standing.resets_at), (left, end));
    }
    let (standing, _) = refused(spend(&s.db, "k", Cost::Write, 20, end.plus_ms(-1)).await);
    assert_eq!(standing.reset_ms(), 1);
    let standing = granted(spend(&s.db, "k", Cost::Write, 20, end).await);
    assert_eq!((standing.remaining_tenths, standing.resets_at), (10, end.plus_ms(HOUR_MS)));
    assert_eq!(hour(&s.db, "k").await, Some((end.0, 10, 0)), "one row, and it counts anew");
}

async fn reads_and_writes_share_an_hour_and_a_refusal_takes_nothing(s: Scratch) {
    let (s, _) = ready(s).await;
    assert_eq!(granted(spend(&s.db, "k", Cost::Read, 12, NOW).await).remaining_tenths, 11);
    assert_eq!(granted(spend(&s.db, "k", Cost::Write, 12, NOW).await).remaining_tenths, 1);
    for count in 1..=3 {
        let (standing, refused) = refused(spend(&s.db, "k", Cost::Write, 12, NOW).await);
        assert_eq!((standing.remaining_tenths, refused), (1, count));
    }
    assert_eq!(granted(spend(&s.db, "k", Cost::Read, 12, NOW).await).remaining_tenths, 0);
    assert_eq!(refused(spend(&s.db, "k", Cost::Read, 12, NOW).await).1, 4);
    // Who may ask half a call may read, and never write, in a new hour neither.
    assert_eq!(refused(spend(&s.db, "half", Cost::Write, 5, NOW).await).0.remaining_tenths, 5);
    assert_eq!(granted(spend(&s.db, "half", Cost::Read, 5, NOW).await).remaining_tenths, 4);
    // A limit that was lowered meanwhile holds at once.
    assert_eq!(granted(spend(&s.db, "less", Cost::Write, 100, NOW).await).remaining_tenths, 90);
    assert_eq!(refused(spend(&s.db, "less", Cost::Read, 10, NOW).await).0.remaining_tenths, 0);
}

async fn a_clock_that_was_set_back_locks_nobody_out(s: Scratch) {
    let (s, _) = ready(s).await;
    granted(spend(&s.db, "k", Cost::Write, 10, NOW).await);
    // Another daemon's clock is a little behind: the same hour.
    refused(spend(&s.db, "k", Cost::Write, 10, NOW.plus_ms(-60_000)).await);
    let long_ago = NOW.plus_ms(-30 * 24 * HOUR_MS);
    let standing = granted(spend(&s.db, "k", Cost::Write, 10, long_ago).await);
    assert_eq!(standing.resets_at, long_ago.plus_ms(HOUR_MS));
}

async fn callers_do_not_pay_for_one_another(s: Scratch) {
    let (s, clock) = ready(s).await;
    let audit = audit(&s.db, &clock, "here").await;
    for user in ["b", "a", "c"] {
        for expected in [true, false] {
            let charge = charge(user, Cost::Write, 10);
            let verdict = audit.admit(None, Some(charge)).await.unwrap().verdict.unwrap();
            assert_eq!(matches!(verdict, Verdict::Granted(_)), expected, "{user}");
        }
    }
}

/// Each client asks again and again, for reads and for writes in turn, until it is refused both.
async fn sixty_four_clients_and_two_daemons_never_get_more_than_the_quota(s: Scratch) {
    const LIMIT_TENTHS: i64 = 1_003;
    let (s, clock) = ready(s).await;
    let other = Db::open(&s.url).await.unwrap();
    let daemons = [audit(&s.db, &clock, "one").await, audit(&other, &clock, "two").await];
    let mut clients = Vec::new();
    for n in 0..64_usize {
        let audit = daemons[n % 2].clone();
        clients.push(tokio::spawn(async move {
            let mut passed = 0;
            let mut denied = [false, false];
            for turn in n.. {
                let cost = if turn % 3 == 0 { Cost::Write } else { Cost::Read };
                let charge = charge("key:k1", cost, LIMIT_TENTHS);
                let admitted = audit.admit(Some(call("t")), Some(charge)).await.unwrap();
                match admitted.verdict.unwrap() {
                    Verdict::Granted(_) => passed += cost.tenths(),
                    Verdict::Refused { standing, .. } => {
                        assert!(standing.remaining_tenths < cost.tenths());
                        assert_eq!(standing.resets_at, NOW.plus_ms(HOUR_MS));
                        denied[usize::from(cost == Cost::Read)] = true;
                    }
                }
                if denied == [true, true] {
                    break;
                }
            }
            passed
        }));
    }
    let mut passed = 0;
    for client in clients {
        passed += client.await.unwrap();
    }
    assert_eq!(passed, LIMIT_TENTHS, "all of it, and not a tenth more");
    let (_, used, refused) = hour(&s.db, "key:k1").await.unwrap();
    assert_eq!(used, LIMIT_TENTHS);
    for audit in &daemons {
        audit.flush().await;
    }
    let stored = rows(&s.db).await;
    let limited = stored.iter().filter(|row| row.1 == "refused").count();
    assert_eq!((limited, refused > 64), (1, true), "a flood of refusals leaves one row");
}

async fn an_hour_goes_on_after_a_restart(s: Scratch) {
    let (s, clock) = ready(s).await;
    let first = audit(&s.db, &clock, "here").await;
    let pay = || Some(charge("k", Cost::Write, 20));
    first.admit(Some(call("t")), pay()).await.unwrap().open.unwrap();
    first.end().await;
    assert_eq!(first.admit(None, pay()).await.unwrap_err(), AuditError::Stopping);
    let again = Db::open(&s.url).await.unwrap();
    let second = audit(&again, &clock, "here").await;
    let left = |verdict: Verdict| verdict.standing().remaining_tenths;
    assert_eq!(left(second.admit(None, pay()).await.unwrap().verdict.unwrap()), 0);
    refused(second.admit(None, pay()).await.unwrap().verdict.unwrap());
}

async fn what_is_cut_at_any_statement_takes_and_records_nothing(s: Scratch) {
    let (s, clock) = ready(s).await;
    let mut reached = 0;
    for statements in 0.. {
        let (audit, writer) = start(&s.db, &clock, "here").await;
        let task = tokio::spawn(fault::after(statements, writer.run()));
        let pay = charge("k", Cost::Write, 1_000);
        let admitted = audit.admit(Some(call("t")), Some(pay)).await;
        let cut = match admitted {
            Ok(admitted) => {
                assert!(admitted.open.is_some());
                false
            }
            Err(AuditError::Db { said: why, .. }) => {
                assert!(why.contains("a test cut the connection"), "{why}");
                assert_eq!(hour(&s.db, "k").await, None, "after {statements} statements");
                assert_eq!(rows(&s.db).await, [], "after {statements} statements");
                true
            }
            Err(error) => panic!("{error}"),
        };
        audit.end().await;
        task.await.unwrap();
        if !cut {
            break;
        }
        reached += 1;
    }
    assert_eq!(reached, 4, "begin, spend, insert, commit");
    assert_eq!(hour(&s.db, "k").await, Some((NOW.0, 10, 0)));
}

async fn old_hours_are_forgotten_and_open_ones_are_not(s: Scratch) {
    let (s, _) = ready(s).await;
    for (user, at) in [("old", NOW.plus_ms(-2 * HOUR_MS)), ("new", NOW)] {
        granted(spend(&s.db, user, Cost::Read, 10, at).await);
    }
    assert_eq!(quota::forget(&s.db, NOW).await.unwrap(), 1);
    let left: Vec<(String,)> = s.db.all("SELECT user_id FROM quotas", args![]).await.unwrap();
    assert_eq!(left, [("new".to_owned(),)]);
}
