//! How a command ends when it fails: one line and an exit code; of IR text also the places.

pub mod mistaken;

use fcdm_compiler::checkpoint::CheckpointError;
use fcdm_compiler::compiled::BuildError;
use fcdm_models::compile::CompileError;
use fcdm_models::latents::saved::LatentsError;
use fcdm_models::pictures::{PictureError, PicturesError};
use fcdm_models::tensors::TensorsError;
use fcdm_runtime::artifact::ArtifactError;
use fcdm_runtime::bench::BenchError;
use fcdm_runtime::executor::ExecutorError;
use fcdm_runtime::file::FileError;
use fcdm_runtime::generate::GenerateError;
use fcdm_runtime::memory::NoMemory;
use fcdm_runtime::network::NetworkError;

/// Shown at the end of `fcdm --help`.
pub const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed (the line says why), 2 wrong usage, 3 bad checkpoint, ONNX model or tensor file, \
     4 bad artifact, 5 bad IR text, 6 bad picture; stopped by Ctrl-C 130, SIGTERM 143, SIGHUP 129; 141 the output's reader went away";

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
    pub fn new(code: i32, message: impl ToString) -> Failure {
        Failure { code, message: message.to_string(), places: Vec::new() }
    }

    /// Of a text: the first line says what is wrong, the others show where.
    pub fn in_text(code: i32, message: impl ToString) -> Failure {
        let message = message.to_string();
        let mut lines = message.lines().map(str::to_owned);
        Failure { code, message: lines.next().unwrap_or_default(), places: lines.collect() }
    }

    pub fn usage(message: impl ToString) -> Failure {
        Failure::new(USAGE, message)
    }

    pub fn cancelled(message: impl ToString) -> Failure {
        Failure::new(crate::signals::code(), message)
    }
}

impl From<FileError> for Failure {
    fn from(e: FileError) -> Failure {
        Failure::new(1, e)
    }
}

impl From<PicturesError> for Failure {
    fn from(e: PicturesError) -> Failure {
        Failure::new(1, e)
    }
}

impl From<CheckpointError> for Failure {
    fn from(e: CheckpointError) -> Failure {
        Failure::new(CHECKPOINT, e)
    }
}

impl From<PictureError> for Failure {
    fn from(e: PictureError) -> Failure {
        Failure::new(PICTURE, e)
    }
}

impl From<NoMemory> for Failure {
    fn from(e: NoMemory) -> Failure {
        Failure::new(1, e)
    }
}

impl From<TensorsError> for Failure {
    fn from(e: TensorsError) -> Failure {
        let code = if matches!(e, TensorsError::NoMemory { .. }) { 1 } else { CHECKPOINT };
        Failure::new(code, e)
    }
}

impl From<LatentsError> for Failure {
    fn from(e: LatentsError) -> Failure {
        let code = if matches!(e, LatentsError::NoMemory { .. }) { 1 } else { CHECKPOINT };
        Failure::new(code, e)
    }
}

impl From<ArtifactError> for Failure {
    fn from(e: ArtifactError) -> Failure {
        Failure::new(ARTIFACT, e)
    }
}

impl From<ExecutorError> for Failure {
    fn from(e: ExecutorError) -> Failure {
        Failure::new(1, e)
    }
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
            GenerateError::Request(line) => Failure::usage(line),
            GenerateError::Artifact(e) => e.into(),
            GenerateError::NoMemory(e) => e.into(),
        }
    }
}

impl From<BenchError> for Failure {
    fn from(e: BenchError) -> Failure {
        match e {
            BenchError::Batch { .. } | BenchError::Entry { .. } => Failure::usage(e),
            BenchError::Artifact(e) => e.into(),
            BenchError::Network(e) => e.into(),
        }
    }
}

impl From<BuildError> for Failure {
    fn from(e: BuildError) -> Failure {
        let code = match e {
            BuildError::Weight(_) => CHECKPOINT,
            BuildError::Pass(_) | BuildError::Assemble(_) => 1,
        };
        Failure::new(code, e)
    }
}

impl From<CompileError> for Failure {
    fn from(e: CompileError) -> Failure {
        let code = match e {
            CompileError::Import(_) => CHECKPOINT,
            CompileError::Build(e) => return e.into(),
            CompileError::Option(_) => USAGE,
            CompileError::Cancelled => crate::signals::code(),
            CompileError::Write(_) => 1,
        };
        Failure::new(code, e)
    }
}
