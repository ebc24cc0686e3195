//! The words of `adwd schedule` and `adwd hook`.

use clap::Subcommand;

/// `schedule`.
#[derive(Clone, Debug, Subcommand)]
pub enum Schedule {
    /// List the schedules with their next times; needs no daemon
    List {
        /// How many times of each, 1 to 100
        #[arg(long, short = 'n', value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
        times: u8,
    },
}

/// `hook`.
#[derive(Clone, Debug, Subcommand)]
pub enum Hook {
    /// List the hooks, and how many notices of each were delivered
    List,
    /// List the notices that were given up, with why
    Dead,
    /// Give a notice that was given up all its attempts again
    Retry {
        /// Id of the notice
        id: String,
    },
    /// Send a hook a notice of no run, now; exit code 1 where it is not taken
    Test {
        /// Name of the hook
        name: String,
    },
}
