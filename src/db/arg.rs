//! Values bound to the `$1` placeholders of a statement.

use sqlx::Arguments;
use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;

use crate::clock::Millis;
use crate::ids::{IssueNumber, PhaseName, ProjectName, RunId};

/// A value for a placeholder. `None` is NULL of that type: PostgreSQL wants to know which.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// TEXT.
    Text(Option<String>),
    /// BIGINT.
    Int(Option<i64>),
    /// DOUBLE PRECISION.
    Real(Option<f64>),
    /// BOOLEAN.
    Bool(Option<bool>),
}

/// The arguments of a statement, in order: `args![run_id, "queued", now]`.
///
/// Every value is turned into an [`crate::db::Arg`] with `From`; `&value` works as well.
#[macro_export]
macro_rules! args {
    () => { ::std::vec::Vec::<$crate::db::Arg>::new() };
    ($($value:expr),+ $(,)?) => { ::std::vec![$($crate::db::Arg::from($value)),+] };
}

/// `From` for a type, its reference and its options, by way of one conversion.
macro_rules! from {
    ($($type:ty => $variant:ident($convert:expr)),* $(,)?) => {$(
        impl From<$type> for Arg {
            fn from(value: $type) -> Arg {
                let convert: fn(&$type) -> _ = $convert;
                Arg::$variant(Some(convert(&value)))
            }
        }
        impl From<&$type> for Arg {
            fn from(value: &$type) -> Arg {
                let convert: fn(&$type) -> _ = $convert;
                Arg::$variant(Some(convert(value)))
            }
        }
        impl From<Option<$type>> for Arg {
            fn from(value: Option<$type>) -> Arg {
                let convert: fn(&$type) -> _ = $convert;
                Arg::$variant(value.as_ref().map(convert))
            }
        }
        impl From<&Option<$type>> for Arg {
            fn from(value: &Option<$type>) -> Arg {
                let convert: fn(&$type) -> _ = $convert;
                Arg::$variant(value.as_ref().map(convert))
            }
        }
        impl From<Option<&$type>> for Arg {
            fn from(value: Option<&$type>) -> Arg {
                let convert: fn(&$type) -> _ = $convert;
                Arg::$variant(value.map(convert))
            }
        }
    )*};
}

from! {
    String => Text(|v| v.clone()),
    RunId => Text(|v| v.as_str().to_owned()),
    IssueNumber => Text(|v| v.as_str().to_owned()),
    PhaseName => Text(|v| v.as_str().to_owned()),
    ProjectName => Text(|v| v.as_str().to_owned()),
    Millis => Int(|v| v.0),
    i64 => Int(|v| *v),
    i32 => Int(|v| i64::from(*v)),
    u32 => Int(|v| i64::from(*v)),
    u16 => Int(|v| i64::from(*v)),
    u8 => Int(|v| i64::from(*v)),
    f64 => Real(|v| *v),
    bool => Bool(|v| *v),
}

impl From<&str> for Arg {
    fn from(value: &str) -> Arg {
        Arg::Text(Some(value.to_owned()))
    }
}

impl From<Option<&str>> for Arg {
    fn from(value: Option<&str>) -> Arg {
        Arg::Text(value.map(str::to_owned))
    }
}

/// The text without NUL, which PostgreSQL refuses and SQLite takes for the end in places. It comes
/// from files that others write; the rest of what they say is not lost for it.
fn storable(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

macro_rules! bind_all {
    ($args:expr, $into:ty) => {{
        let mut bound = <$into>::default();
        let mut result = Ok(());
        for arg in $args {
            result = match arg {
                Arg::Text(value) => bound.add(value.map(storable)),
                Arg::Int(value) => bound.add(value),
                Arg::Real(value) => bound.add(value),
                Arg::Bool(value) => bound.add(value),
            };
            if result.is_err() {
                break;
            }
        }
        result.map(|()| bound).map_err(sqlx::Error::Encode)
    }};
}

pub(super) fn for_sqlite(args: Vec<Arg>) -> Result<SqliteArguments, sqlx::Error> {
    bind_all!(args, SqliteArguments)
}

pub(super) fn for_postgres(args: Vec<Arg>) -> Result<PgArguments, sqlx::Error> {
    bind_all!(args, PgArguments)
}

/// The highest `$N` in a statement.
///
/// Checked against the arguments before every call, because SQLite silently reads NULL for a
/// placeholder without a value. Text in quotes is not looked into.
pub(super) fn placeholders(sql: &str) -> usize {
    let (mut highest, mut quoted) = (0, false);
    let mut chars = sql.bytes().peekable();
    while let Some(byte) = chars.next() {
        if byte == b'\'' {
            quoted = !quoted;
        }
        if byte != b'$' || quoted {
            continue;
        }
        let mut number = 0_usize;
        while let Some(digit) = chars.next_if(u8::is_ascii_digit) {
            number = number.saturating_mul(10).saturating_add(usize::from(digit - b'0'));
        }
        highest = highest.max(number);
    }
    highest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_a_slice_has_can_be_bound() {
        let id = RunId::parse("abc").unwrap();
        let args = args![&id, id.clone(), Some(&id), None::<i64>, "t", Millis(7), 1_u32, 0.5, true];
        assert_eq!(args.len(), 9);
        assert_eq!(args[0], Arg::Text(Some("abc".to_owned())));
        assert_eq!(args[3], Arg::Int(None));
        assert_eq!(args[5], Arg::Int(Some(7)));
        assert_eq!(args![], Vec::new());
    }

    #[test]
    fn placeholders_are_counted_outside_of_quotes() {
        assert_eq!(placeholders("SELECT 1"), 0);
        assert_eq!(placeholders("SELECT $2, $1, $2"), 2);
        assert_eq!(placeholders("SELECT '$9', $1, 'it''s $8'"), 1);
        assert_eq!(placeholders("… WHERE x = $12"), 12);
    }
}
