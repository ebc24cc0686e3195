//! What is there for a caller, and what of it a connection is shown.
//!
//! Two questions that must not be mixed. What *exists* follows from who asks: step workflows and
//! series of books belong to no project, so for a caller that is bound to projects they do not. What
//! is *shown* is a choice, the connection's or else the daemon's: it keeps lists short and is no
//! protection, because whoever may choose may choose otherwise.

use crate::auth::Principal;
use crate::config::{Toolset, Toolsets};

/// Name of the parameter of the endpoint's address.
const PARAMETER: &str = "toolsets";
/// How a bridge begins its first line; no JSON does.
pub const HELLO: &str = "adwd-hello ";
/// Who writes such a line.
const STDIO: &str = "stdio";

/// What a connection said of itself before the first message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The sets it wants to be shown, where it chose.
    pub toolsets: Option<Toolsets>,
    /// Whether `adwd stdio` carries it: a client of somebody's, never the command line itself.
    pub bridged: bool,
}

impl Hello {
    /// What `adwd stdio` says.
    #[must_use]
    pub fn of_bridge(toolsets: Option<Toolsets>) -> Hello {
        Hello { toolsets, bridged: true }
    }

    /// The line, with its end. A daemon that does not know it passes it over, as it does with
    /// every line that is no message.
    #[must_use]
    pub fn line(&self) -> String {
        match &self.toolsets {
            Some(sets) => format!("{HELLO}{STDIO} {PARAMETER}={sets}\n"),
            None => format!("{HELLO}{STDIO}\n"),
        }
    }

    /// Reads the line, without its end.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn parse(line: &str) -> Result<Hello, String> {
        let wrong = || format!("expected \"{HELLO}{STDIO}\" with \"{PARAMETER}=…\" or without");
        let mut words = line.strip_prefix(HELLO).ok_or_else(wrong)?.split_ascii_whitespace();
        if words.next() != Some(STDIO) {
            return Err(wrong());
        }
        let toolsets = match words.next() {
            Some(word) => {
                let (name, value) = word.split_once('=').ok_or_else(wrong)?;
                if name != PARAMETER {
                    return Err(wrong());
                }
                Some(Toolsets::parse(value)?)
            }
            None => None,
        };
        if words.next().is_some() {
            return Err(wrong());
        }
        Ok(Hello::of_bridge(toolsets))
    }

    /// What the query of an address says, as in `/mcp?toolsets=adw,steps`. Other parameters are
    /// somebody else's.
    ///
    /// # Errors
    /// Which set is unknown, and which are known.
    pub fn of_query(query: Option<&str>) -> Result<Hello, String> {
        let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let values: Vec<&str> =
            pairs.filter(|(name, _)| *name == PARAMETER).map(|(_, value)| value).collect();
        if values.is_empty() {
            return Ok(Hello::default());
        }
        // The words are plain letters, so the comma is the only thing that clients escape.
        let list = values.join(",").replace("%2C", ",").replace("%2c", ",");
        Ok(Hello { toolsets: Some(Toolsets::parse(&list)?), bridged: false })
    }
}

/// What a connection has before it.
#[derive(Clone, Debug)]
pub struct Shown {
    sets: Toolsets,
    chosen: bool,
    bound: bool,
    bridged: bool,
}

impl Shown {
    /// What `principal` is shown: what it chose, else what the daemon shows.
    #[must_use]
    pub fn of(principal: &Principal, hello: Hello, daemon: &Toolsets) -> Shown {
        Shown {
            chosen: hello.toolsets.is_some(),
            sets: hello.toolsets.unwrap_or_else(|| daemon.clone()),
            bound: principal.scope.bound_to().is_some(),
            bridged: hello.bridged,
        }
    }

    /// Whether there is such a thing for the caller at all.
    #[must_use]
    pub fn exists(&self, set: Toolset) -> bool {
        !self.bound || !matches!(set, Toolset::Steps | Toolset::Writing)
    }

    /// Whether lists show it.
    #[must_use]
    pub fn lists(&self, set: Toolset) -> bool {
        self.exists(set) && self.sets.has(set)
    }

    /// Whether it answers when it is called by name. Who did not choose may know names that are
    /// not listed, as the command line does.
    #[must_use]
    pub fn answers(&self, set: Toolset) -> bool {
        self.exists(set) && (!self.chosen || self.sets.has(set))
    }

    /// The sets, for people.
    #[must_use]
    pub fn sets(&self) -> &Toolsets {
        &self.sets
    }

    /// Whether somebody else's client is at the other end of `adwd stdio`.
    #[must_use]
    pub fn is_bridged(&self) -> bool {
        self.bridged
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::auth::Scope;

    fn sets(text: &str) -> Toolsets {
        Toolsets::parse(text).unwrap()
    }

    #[test]
    fn an_address_chooses_and_an_unknown_word_is_told_with_the_known_ones() {
        let of = |query: &str| Hello::of_query(Some(query)).unwrap().toolsets;
        assert_eq!(Hello::of_query(None), Ok(Hello::default()));
        assert_eq!(of("a=b&x"), None);
        assert_eq!(of("toolsets=adw,steps"), Some(sets("adw,steps")));
        assert_eq!(of("x=1&toolsets=adw%2Csteps"), Some(sets("adw,steps")));
        assert_eq!(of("toolsets=adw&toolsets=writing"), Some(sets("adw,writing")));
        let error = Hello::of_query(Some("toolsets=adw,book")).unwrap_err();
        assert_eq!(error, "unknown toolset \"book\"; known: adw, steps, writing, admin");
        assert!(Hello::of_query(Some("toolsets=")).unwrap_err().contains("at least one"));
    }

    #[test]
    fn a_line_that_is_no_hello_is_refused_with_what_would_be_right() {
        for bad in [
            "",
            "adwd-hello",
            "adwd-hello x",
            "adwd-hello stdio x",
            "adwd-hello stdio a=b",
            "adwd-hello stdio toolsets=adw x",
            "adwd-hello stdio toolsets=books",
        ] {
            assert!(Hello::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Hello::parse("adwd-hello stdio\r").unwrap(), Hello::of_bridge(None));
    }

    #[test]
    fn what_is_shown_is_chosen_and_what_exists_is_not() {
        let owner = Principal::unix(1);
        let default = Toolsets::default();
        let unchosen = Shown::of(&owner, Hello::default(), &default);
        assert!(!unchosen.lists(Toolset::Admin) && unchosen.answers(Toolset::Admin));
        let chosen = Shown::of(&owner, Hello::of_bridge(Some(sets("adw,admin"))), &default);
        assert!(chosen.lists(Toolset::Admin) && !chosen.answers(Toolset::Steps));
        let scope = Scope::Projects(Arc::new(BTreeSet::from(["shop".to_owned()])));
        let bound = Principal { scope, ..Principal::loopback(true) };
        let hello = Hello { toolsets: Some(sets("adw,steps")), bridged: false };
        let bound = Shown::of(&bound, hello, &default);
        assert!(bound.lists(Toolset::Adw) && !bound.lists(Toolset::Steps));
        assert!(!bound.answers(Toolset::Steps) && !bound.exists(Toolset::Writing));
    }

    proptest! {
        #[test]
        fn a_hello_is_read_as_it_was_written(chosen in proptest::collection::btree_set(0..4_usize, 0..4)) {
            let words: Vec<&str> = chosen.iter().map(|at| Toolset::ALL[*at].as_str()).collect();
            let hello = Hello::of_bridge(Toolsets::of(words).ok());
            let line = hello.line();
            prop_assert_eq!(Hello::parse(line.trim_end_matches('\n')), Ok(hello));
            prop_assert!(serde_json::from_str::<serde_json::Value>(&line).is_err());
        }
    }
}
