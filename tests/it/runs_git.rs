//! git and worktrees, with real repositories and every git that is installed.

mod questions;
mod removing;
mod repo;
mod worktrees;
