//! The program: parses, runs, answers an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if let [_, word, dir] = args.as_slice() {
        if word == "__monitor" {
            let code = adwd::runs::monitor::monitor_main(std::path::Path::new(dir));
            return ExitCode::from(u8::try_from(code).unwrap_or(1));
        }
    }
    ExitCode::FAILURE
}
