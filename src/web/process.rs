//! What the kernel says of this process.

use crate::metrics::ProcessFacts;

/// Asks now. What the kernel does not say (no `/proc`) is absent.
pub(super) fn facts() -> ProcessFacts {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let stat = read("/proc/self/stat").unwrap_or_default();
    let boot = read("/proc/stat").unwrap_or_default();
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    let mut facts = of(&stat, &boot, ticks.unwrap_or(100), page.unwrap_or(4_096));
    let fds = std::fs::read_dir("/proc/self/fd").ok();
    // The look itself holds one.
    facts.open_fds = fds.map(|fds| u64::try_from(fds.count().saturating_sub(1)).unwrap_or(0));
    facts
}

/// Reads `/proc/PID/stat` (proc(5)) and the line `btime` of `/proc/stat`.
fn of(stat: &str, boot: &str, ticks_per_s: i64, page_bytes: i64) -> ProcessFacts {
    // The name is in parentheses and may hold anything, parentheses too.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let fields: Vec<&str> = after.split_whitespace().collect();
    // Counted from 1, the first after the name is the third.
    let field = |n: usize| fields.get(n - 3).and_then(|text| text.parse::<i64>().ok());
    let seconds = |ticks: i64| {
        let ms = ticks.saturating_mul(1_000) / ticks_per_s.max(1);
        std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0)).as_secs_f64()
    };
    let booted = boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    let booted = booted.map(|s: u64| std::time::Duration::from_secs(s).as_secs_f64());
    ProcessFacts {
        resident_bytes: field(24)
            .and_then(|pages| u64::try_from(pages.saturating_mul(page_bytes)).ok()),
        open_fds: None,
        started_s: booted.and_then(|booted| Some(booted + seconds(field(22)?))),
        cpu_s: field(14).and_then(|user| Some(seconds(user + field(15)?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read_whatever_the_process_is_called() {
        let stat = "7 (a) (b c) S 1 7 7 0 -1 4194304 9 0 0 0 150 50 0 0 20 0 4 0 1000 9999 25 18";
        let facts = of(stat, "cpu 1\nbtime 1700000000\n", 100, 4_096);
        assert_eq!(facts.resident_bytes, Some(25 * 4_096));
        assert_eq!(facts.cpu_s, Some(2.0));
        assert_eq!(facts.started_s, Some(1_700_000_010.0));
        assert_eq!(of("", "", 100, 4_096), ProcessFacts::default());
    }

    #[test]
    fn this_process_is_there() {
        let facts = facts();
        assert!(facts.resident_bytes.unwrap() > 1 << 20, "{facts:?}");
        assert!(facts.open_fds.unwrap() >= 3 && facts.started_s.unwrap() > 1.7e9, "{facts:?}");
    }
}
