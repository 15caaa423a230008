//! Why a command ended without an answer, and the exit code that says so. Must never end with code 0.

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind;

use crate::cli::Arguments;
use crate::step::StepError;

/// Why a command ended without an answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The question was asked wrongly: exit code 2.
    Usage(String),
    /// The question has no answer, or an input is refused: exit code 1.
    Refused(anyhow::Error),
}

impl Failure {
    /// Parameters on the command line that are missing or mean nothing are wrong usage; wrong values are refused.
    pub(crate) fn of_step(error: StepError) -> Self {
        match error {
            StepError::Missing { .. } | StepError::Foreign { .. } => Self::Usage(error.to_string()),
            _ => Self::Refused(error.into()),
        }
    }

    /// Prints the reason to standard error.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Usage(message) => {
                let error = Arguments::command().error(ErrorKind::MissingRequiredArgument, message);
                // If standard error is closed there is nobody left to tell; the exit code still says it.
                let _ = error.print();
                ExitCode::from(2)
            }
            Self::Refused(error) => {
                let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
                let _ = writeln!(std::io::stderr().lock(), "error: {}", causes.join("\n  because: "));
                ExitCode::FAILURE
            }
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}
