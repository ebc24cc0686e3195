//! What `cargo bench --bench runs` has for `uv`, and so for a phase: a program that does nothing
//! but say when it began. Compiled by the benchmark itself with `rustc`, so that what is measured
//! is how a phase is started and not what it loads.
//!
//! `uv run … SCRIPT.py ISSUE …` writes the time into the file `ISSUE` of the folder `BENCH_MARKS`,
//! and what SCRIPT says is done next: `noop` nothing, `rest` sleeps, `hold` waits for a file
//! `ISSUE.go`. These two write `ISSUE.exit` as the last thing they do.

use std::path::Path;
use std::time::{Duration, SystemTime};

fn nanoseconds() -> String {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos().to_string()
}

/// Readers see all of it or nothing.
fn write(path: &Path, text: &str) {
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, text).unwrap();
    std::fs::rename(temporary, path).unwrap();
}

fn main() {
    let began = nanoseconds();
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "--version") {
        return println!("uv 0.13.8 (no uv, but a stand-in for benchmarks)");
    }
    let at = words.iter().position(|word| word.ends_with(".py")).expect("a script is named");
    let issue = &words[at + 1];
    let marks = std::env::var("BENCH_MARKS").expect("BENCH_MARKS names a folder");
    let marks = Path::new(&marks);
    write(&marks.join(issue), &began);
    let script = Path::new(&words[at]).file_stem().unwrap().to_str().unwrap();
    match script {
        "rest" => std::thread::sleep(Duration::from_millis(600)),
        "hold" => {
            while !marks.join(format!("{issue}.go")).exists() {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        _ => return,
    }
    write(&marks.join(format!("{issue}.exit")), &nanoseconds());
}
