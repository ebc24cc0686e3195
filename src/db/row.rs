//! Rows as plain structs: the [`crate::row!`] macro and the conversions of single columns.

use std::error::Error as StdError;

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{ColumnIndex, Decode, FromRow, Type};

use crate::clock::Millis;
use crate::ids::{IssueNumber, PhaseName, ProjectName, RunId};

/// What a query can return: anything that both engines can read.
///
/// Implemented for tuples of `String`, `i64`, `f64`, `bool` and their options, and for structs
/// declared with [`crate::row!`].
pub trait Row: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

impl<T> Row for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{}

/// Why a stored value is not a value of its Rust type.
pub type ColumnError = Box<dyn StdError + Send + Sync>;

/// A type that a column of a [`crate::row!`] struct can have.
///
/// Implement it for an enum of a slice with `Raw = String` to have it read from its text.
pub trait Column: Sized {
    /// What the engines read: `String`, `i64`, `f64`, `bool` or an option of one.
    type Raw;
    /// Checks and converts the stored value.
    fn from_raw(raw: Self::Raw) -> Result<Self, ColumnError>;
}

macro_rules! plain {
    ($($type:ty),*) => {$(
        impl Column for $type {
            type Raw = $type;
            fn from_raw(raw: $type) -> Result<$type, ColumnError> {
                Ok(raw)
            }
        }
    )*};
}

macro_rules! parsed {
    ($($type:ty),*) => {$(
        impl Column for $type {
            type Raw = String;
            fn from_raw(raw: String) -> Result<$type, ColumnError> {
                Ok(raw.parse::<$type>()?)
            }
        }
    )*};
}

macro_rules! narrowed {
    ($($type:ty),*) => {$(
        impl Column for $type {
            type Raw = i64;
            fn from_raw(raw: i64) -> Result<$type, ColumnError> {
                Ok(<$type>::try_from(raw)?)
            }
        }
    )*};
}

plain!(String, i64, f64, bool);
parsed!(RunId, IssueNumber, PhaseName, ProjectName);
narrowed!(i32, u8, u16, u32, u64, usize);

impl Column for Millis {
    type Raw = i64;
    fn from_raw(raw: i64) -> Result<Millis, ColumnError> {
        Ok(Millis(raw))
    }
}

impl<T: Column> Column for Option<T> {
    type Raw = Option<T::Raw>;
    fn from_raw(raw: Option<T::Raw>) -> Result<Option<T>, ColumnError> {
        raw.map(T::from_raw).transpose()
    }
}

/// Reads one column of a row. For [`crate::row!`].
#[doc(hidden)]
pub fn read<'r, R, T>(row: &'r R, column: &'static str) -> Result<T, sqlx::Error>
where
    R: sqlx::Row,
    T: Column,
    T::Raw: Decode<'r, R::Database> + Type<R::Database>,
    &'static str: ColumnIndex<R>,
{
    let raw: T::Raw = row.try_get(column)?;
    T::from_raw(raw)
        .map_err(|source| sqlx::Error::ColumnDecode { index: column.to_owned(), source })
}

/// Declares structs that a query can return; the fields are read from the columns of their names.
///
/// ```
/// adwd::row! {
///     /// A counter.
///     #[derive(Debug, Clone)]
///     pub struct Counter {
///         /// Its name.
///         pub name: String,
///         /// Its last value.
///         pub value: i64,
///     }
/// }
/// ```
#[macro_export]
macro_rules! row {
    ($(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident : $type:ty),* $(,)?
        }
    )+) => {$(
        $(#[$meta])*
        $vis struct $name {
            $($(#[$field_meta])* $field_vis $field: $type),*
        }

        impl<'r> $crate::db::__row::FromRow<'r, $crate::db::__row::SqliteRow> for $name {
            fn from_row(
                row: &'r $crate::db::__row::SqliteRow,
            ) -> ::std::result::Result<Self, $crate::db::__row::Error> {
                Ok(Self { $($field: $crate::db::__row::read(row, stringify!($field))?),* })
            }
        }

        impl<'r> $crate::db::__row::FromRow<'r, $crate::db::__row::PgRow> for $name {
            fn from_row(
                row: &'r $crate::db::__row::PgRow,
            ) -> ::std::result::Result<Self, $crate::db::__row::Error> {
                Ok(Self { $($field: $crate::db::__row::read(row, stringify!($field))?),* })
            }
        }
    )+};
}
