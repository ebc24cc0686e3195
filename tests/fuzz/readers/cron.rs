//! Cron expressions and their zones.

use adwd::clock::Millis;
use adwd::cron::Cron;

use super::{choice, text};

const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Berlin",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
];

/// What holds whatever the bytes are.
pub fn read(bytes: &[u8]) {
    let (choice, bytes) = choice(bytes);
    let Some((moment, bytes)) = bytes.split_first_chunk::<8>() else { return };
    let Some(text) = text(bytes) else { return };
    let zone = ZONES.get(usize::from(choice)).copied().unwrap_or("UTC");
    let zone = if choice == 255 { text } else { zone };
    let Ok(cron) = Cron::parse(text, zone) else { return };
    assert_eq!(Cron::parse(cron.text(), cron.zone_name()), Ok(cron.clone()));
    let any = i64::from_le_bytes(*moment);
    for at in [Millis(any), Millis(any.rem_euclid(4_102_444_800_000))] {
        let _ = cron.local(at);
        if let Some(next) = cron.next(at) {
            assert!(next > at || at.0 > 253_000_000_000_000 || at.0 < 0);
            // No moment lies between one and the next.
            assert_eq!(cron.last(next), Some(next));
            if (0..4_102_444_800_000).contains(&at.0) {
                assert!(cron.last(Millis(next.0 - 1)).is_none_or(|last| last <= at));
            }
        }
    }
}
