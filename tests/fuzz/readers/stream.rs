//! The lines of an agent's stream, as what it spent.

use adwd::runs::spend::{Account, Prices, Spent, settle};

use super::choice;

fn figures(spent: &Spent) -> [i64; 8] {
    [
        spent.agent_calls,
        spent.cut_calls,
        spent.input_tokens,
        spent.output_tokens,
        spent.cache_read_tokens,
        spent.cache_creation_tokens,
        spent.usd_micro,
        spent.estimated_micro,
    ]
}

/// What holds whatever the bytes are.
pub fn read(bytes: &[u8]) {
    let (choice, bytes) = choice(bytes);
    let prices = Prices { input: f64::from(choice), output: f64::from(choice) * 5.0 };
    let mut account = Account::default();
    let mut stored = Spent::default();
    for line in bytes.split(|b| *b == b'\n') {
        account.take(line);
        let seen = account.spent(choice & 1 == 1, &prices);
        // A year of a hundred thousand such calls can still be added up.
        assert!(figures(&seen).iter().all(|n| (0..i64::MAX / 1_000_000).contains(n)), "{seen:?}");
        assert!(seen.estimated_micro <= seen.usd_micro);
        // A look that is done twice counts once, and an agent's word is never taken back.
        let settled = settle(&stored, &stored, &seen);
        assert_eq!(settle(&settled, &settled, &seen), settled);
        assert!(settled.usd_micro >= stored.usd_micro - stored.estimated_micro);
        assert!(figures(&settled).iter().all(|n| *n >= 0), "{settled:?}");
        stored = settled;
    }
}
