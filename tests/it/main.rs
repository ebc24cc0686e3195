//! The integration tests: one binary, because each one links the whole program again.

mod db;
mod support;
