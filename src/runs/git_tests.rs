//! What of the git command line can be told without a repository.

use super::*;

#[test]
fn the_line_that_names_the_cause_is_shown() {
    let advice = "fatal: Could not read from remote repository.\n\nPlease make sure you have the \
                  correct access rights\nand the repository exists.\n";
    let absent = "fatal: '/x' does not appear to be a git repository";
    assert_eq!(cause(&format!("{absent}\n{advice}")), absent);
    let ssh = "ssh: connect to host x port 22: Connection refused";
    assert_eq!(cause(&format!("{ssh}\n{advice}")), ssh);
    assert_eq!(cause(advice), "fatal: Could not read from remote repository.");
    let added = "Preparing worktree (detached HEAD 1)\nfatal: 'x' already exists\nhint: use -f\n";
    assert_eq!(cause(added), "fatal: 'x' already exists");
    assert_eq!((cause(""), cause("well\n\n")), (String::new(), "well".to_owned()));
}

#[test]
fn gits_words_are_told_apart() {
    assert_eq!(
        kind_of("fatal: failed to read .git/worktrees/x/commondir: Success"),
        Kind::Poisoned
    );
    // What a head of zeros, of an add that was cut off, makes of a fetch.
    assert_eq!(kind_of("fatal: bad object worktrees/adw-8/HEAD"), Kind::Poisoned);
    assert_eq!(
        kind_of("fatal: unable to access 'https://x/': Could not resolve host: x"),
        Kind::Network
    );
    assert_eq!(kind_of("fatal: a branch named 'x' already exists"), Kind::Refused);
    assert_eq!(kind_of("fatal: '/x' does not appear to be a git repository"), Kind::Missing);
}
