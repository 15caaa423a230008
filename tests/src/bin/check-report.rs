//! `check-report DIR`: whether a demo's output folder holds what was promised. Reads only; exit status 1 names what is
//! wrong, 2 means that it was called wrongly.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use tacit_tests::report::check;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let mut stderr = std::io::stderr().lock();
    // If nobody listens to standard error any more, the exit status still says it.
    let [folder] = arguments.as_slice() else {
        let _ = writeln!(stderr, "usage: check-report DIR");
        return ExitCode::from(2);
    };
    match check(Path::new(folder)) {
        Ok(words) => match writeln!(std::io::stdout(), "{words}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(wrong) => {
            for sentence in wrong {
                let _ = writeln!(stderr, "check-report: {sentence}");
            }
            ExitCode::FAILURE
        }
    }
}
