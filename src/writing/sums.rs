//! Running sums: how a range of time is put together from slices, and what is read out of sums.

use std::collections::BTreeMap;

use super::metric;

/// Lengths of the slices of time of level 1 to 4: 30 days, a day, two hours, a quarter of an hour,
/// in ms. Each is a multiple of the next, and few of one make one of the longer.
pub const SLICES_MS: [i64; 4] = [30 * 86_400_000, 86_400_000, 7_200_000, 900_000];

/// The phase of sums that are not by phase.
pub const NO_PHASE: i64 = -2;

/// A moment before which and after which nothing is recorded: the end of an open range, epoch ms.
/// A multiple of the longest slice, so that an open range has no ragged end there.
pub const OPEN: i64 = SLICES_MS[0] * 100_000_000;

/// The beginning of the slice of that length that holds a moment.
#[must_use]
pub fn floor(at: i64, length: i64) -> i64 {
    at.div_euclid(length) * length
}

fn ceil(at: i64, length: i64) -> i64 {
    let below = floor(at, length);
    if below == at { at } else { below + length }
}

/// The phase under which a type is summed.
#[must_use]
pub fn sum_phase(metric_type: &str, phase: Option<i64>) -> i64 {
    let by_phase = metric::known(metric_type).is_some_and(|known| known.by_phase);
    phase.filter(|_| by_phase).unwrap_or(NO_PHASE)
}

/// Sums by type, book and phase.
pub type Sums = BTreeMap<(String, i64, i64), (i64, i64)>;

/// The level of the metrics themselves, below the slices.
pub const RAW: i64 = 5;

/// Splits `[from, to)` into ranges of whole slices, each with its level: the longest slices in the
/// middle, ends shorter than the smallest slice as [`RAW`].
#[must_use]
pub fn parts(from: i64, to: i64) -> Vec<(i64, (i64, i64))> {
    let mut parts = Vec::new();
    let (mut inner, mut levels) = ((from, to), Vec::new());
    // From the finest to the coarsest: what a level cannot cover is left to the finer one.
    for (level, length) in [4, 3, 2, 1].into_iter().zip(SLICES_MS.into_iter().rev()) {
        let whole = (ceil(inner.0, length), floor(inner.1, length));
        if whole.0 >= whole.1 {
            break;
        }
        levels.push((level, inner, whole));
        inner = whole;
    }
    let mut finer = RAW;
    for (level, outer, whole) in levels {
        parts.push((finer, (outer.0, whole.0)));
        parts.push((finer, (whole.1, outer.1)));
        finer = level;
    }
    parts.push((finer, inner));
    parts.retain(|(_, (from, to))| from < to);
    parts
}

/// The sum and the count of a type, over all books and phases.
#[must_use]
pub fn of_type(sums: &Sums, metric_type: &str) -> Option<(i64, i64)> {
    let mut found = None;
    for (_, (total, n)) in sums.iter().filter(|((name, ..), _)| name == metric_type) {
        let (t, m) = found.unwrap_or((0, 0));
        found = Some((t + total, m + n));
    }
    found
}

/// The sum of a type in a book.
#[must_use]
pub fn of_book(sums: &Sums, metric_type: &str, book: i64) -> Option<i64> {
    let mine = sums.iter().filter(|((name, b, _), _)| name == metric_type && *b == book);
    mine.map(|(_, (total, _))| *total).reduce(|a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_parts_of_a_range_cover_it_once(
            from in -10_000_000_000_i64..10_000_000_000, length in 0_i64..20_000_000_000,
        ) {
            let to = from + length;
            let mut parts = parts(from, to);
            for (level, (from, to)) in &parts {
                if *level != RAW {
                    let slice = SLICES_MS[usize::try_from(level - 1).unwrap()];
                    prop_assert!(from % slice == 0 && to % slice == 0);
                }
            }
            parts.sort_by_key(|(_, (from, _))| *from);
            let mut at = from;
            for (_, (start, end)) in &parts {
                prop_assert_eq!(*start, at);
                at = *end;
            }
            prop_assert!(at == to || length == 0);
            let raw: i64 = parts.iter().filter(|(l, _)| *l == RAW).map(|(_, (a, b))| b - a).sum();
            prop_assert!(raw < 2 * SLICES_MS[3], "{}", raw);
        }
    }
}
