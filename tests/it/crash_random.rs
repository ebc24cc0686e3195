//! A campaign: several runs, the daemon killed at random moments and started again until all have
//! ended. Whatever the moments were, nothing was done twice and nothing is left.
//!
//! `ADWD_TEST_SEED` and `ADWD_TEST_KILLS` make another and a longer one.

use std::time::Duration;

use crate::crash_support::{
    CALLS_ONCE, assert_one_at_a_time, calls, counts, nothing_is_left, trigger_issue,
};
use crate::world::{World, state, wait_ended, wait_removed};

const RUNS: u32 = 5;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

crate::in_worlds_on_both_engines!(killed_at_random_moments_all_runs_end_well);

async fn killed_at_random_moments_all_runs_end_well(world: World) {
    let seed = number("ADWD_TEST_SEED", 20_260_221);
    eprintln!("ADWD_TEST_SEED={seed}");
    let mut dice = Dice(seed);
    world.set("limits.max_running", "3");
    let repo = world.repo("shop");
    (1..=RUNS).for_each(|n| repo.issue(n));
    world.serve(&repo, "");
    let mut daemon = world.daemon().await;
    let mut ids = vec![];
    let mut kills = 0;
    while ids.len() < RUNS as usize || kills < number("ADWD_TEST_KILLS", 8) {
        let client = daemon.client().await;
        if ids.len() < RUNS as usize {
            ids.push(trigger_issue(&client, u32::try_from(ids.len()).unwrap() + 1).await);
        }
        // The moment is the test's only input, so it is waited for, not polled.
        tokio::time::sleep(Duration::from_millis(dice.below(1_500))).await;
        daemon.kill9().await;
        kills += 1;
        tokio::time::sleep(Duration::from_millis(dice.below(300))).await;
        daemon.start().await;
    }
    let client = daemon.client().await;
    for id in &ids {
        let run = wait_ended(&client, id).await;
        assert_eq!(run["status"], "completed", "{run:#}");
        let run = wait_removed(&client, id).await;
        assert_eq!(counts(&run), [1, 1, 1], "{run:#}");
        assert_one_at_a_time(&repo, id);
        assert_eq!(calls(&repo, id), CALLS_ONCE);
        let n = run["issue_number"].as_str().unwrap();
        assert_eq!(
            repo.file_on(run["branch"].as_str().unwrap(), &format!("notes/{n}.txt")),
            format!("note {n}")
        );
    }
    assert_eq!(repo.pulls().len(), ids.len());
    assert_eq!(repo.remote_branches().len(), ids.len());
    nothing_is_left(&world, &repo).await;
    // Nor does the database hold anything open.
    for id in &ids {
        assert!(state(&client, id).await["queue_position"].is_null());
    }
}
