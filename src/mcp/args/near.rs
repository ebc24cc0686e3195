//! What was most likely meant, and what is safe to repeat.

/// The known name that was most likely meant.
#[must_use]
pub fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let given: String = given.chars().take(64).collect::<String>().to_lowercase().replace('-', "_");
    known
        .iter()
        .map(|name| {
            // A part of the name (`issue` for `issue_number`) is nearer than its length says.
            let part = given.len() >= 2 && (name.contains(&given) || given.contains(*name));
            let far = distance(&given.replace('_', ""), &name.replace('_', ""));
            (if part { far.min(2) } else { far }, *name)
        })
        .min()
        .filter(|(far, name)| *far <= 2.max(name.len() / 3))
        .map(|(_, name)| name)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let cost = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The beginning of something a caller sent, safe to repeat.
#[must_use]
pub fn clip(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String =
        text.chars().take(SHOWN).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}
