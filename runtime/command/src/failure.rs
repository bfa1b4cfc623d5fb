//! How a command ends when it fails: one line and an exit code; of IR text also the places.

use fcdm_runtime::artifact::ArtifactError;
use fcdm_runtime::executor::ExecutorError;
use fcdm_runtime::file::FileError;
use fcdm_runtime::generate::GenerateError;
use fcdm_runtime::memory::NoMemory;
use fcdm_runtime::network::NetworkError;
use fcdm_runtime::picture::files::FilesError;
use fcdm_runtime::request::RequestError;

/// Shown at the end of `fcdm --help`.
pub const EXIT_CODES: &str = "\
\x1b[1m\x1b[32mExit codes:\x1b[0m
  0    done
  1    failed; the line says why
  2    wrong usage
  3    bad checkpoint, ONNX model or tensor file
  4    bad .fcdm file
  5    bad IR text
  6    bad picture
  130  stopped by Ctrl-C; 143 by SIGTERM, 129 by SIGHUP
  141  nobody reads the output any more";

/// Something that an option asks for and that cannot be.
pub const USAGE: i32 = 2;
/// A checkpoint, an ONNX model, or another file of tensors, that cannot be used.
pub const CHECKPOINT: i32 = 3;
/// An artifact that cannot be used.
pub const ARTIFACT: i32 = 4;
/// A picture that cannot be read or has another size.
pub const PICTURE: i32 = 6;
/// IR text that does not parse or verify.
pub const IR: i32 = 5;
/// Stopped by Ctrl-C; [`crate::signals::code`] knows what it was.
pub const CANCELLED: i32 = 130;

/// A failed command.
pub struct Failure {
    /// Its exit code.
    pub code: i32,
    /// One line.
    pub message: String,
    /// Lines that show where.
    pub places: Vec<String>,
}

impl Failure {
    /// With a code of the table.
    pub fn new(code: i32, message: impl ToString) -> Failure {
        Failure { code, message: message.to_string(), places: Vec::new() }
    }

    /// Of a text: the first line says what is wrong, the others show where.
    pub fn in_text(code: i32, message: impl ToString) -> Failure {
        let message = message.to_string();
        let mut lines = message.lines().map(str::to_owned);
        Failure { code, message: lines.next().unwrap_or_default(), places: lines.collect() }
    }

    /// Something that an option asks for and that cannot be.
    pub fn usage(message: impl ToString) -> Failure {
        Failure::new(USAGE, message)
    }

    /// Because it was asked to stop.
    pub fn cancelled(message: impl ToString) -> Failure {
        Failure::new(crate::signals::code(), message)
    }
}

macro_rules! failures {
    ($($error:ty => $code:expr,)*) => {$(
        impl From<$error> for Failure {
            fn from(e: $error) -> Failure {
                Failure::new($code, e)
            }
        }
    )*};
}

failures! {
    FileError => 1,
    FilesError => 1,
    NoMemory => 1,
    ExecutorError => 1,
    ArtifactError => ARTIFACT,
    RequestError => USAGE,
}

impl From<NetworkError> for Failure {
    fn from(e: NetworkError) -> Failure {
        let code = match e {
            NetworkError::Executor(_) | NetworkError::NoMemory { .. } => 1,
            NetworkError::Lacks { .. } | NetworkError::Memory { .. } => USAGE,
            NetworkError::Plan { .. } | NetworkError::Entries { .. } => ARTIFACT,
        };
        Failure::new(code, e)
    }
}

impl From<GenerateError> for Failure {
    fn from(e: GenerateError) -> Failure {
        match e {
            GenerateError::Request(e) => e.into(),
            GenerateError::Artifact(e) => e.into(),
            GenerateError::Network(e) => e.into(),
            GenerateError::NoMemory(e) => e.into(),
            GenerateError::Stopped => Failure::cancelled(e),
        }
    }
}
