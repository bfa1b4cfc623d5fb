//! How a command ends when it fails: what the crates behind it find, as one line and an exit code.

pub mod mistaken;

use fcdm_command::failure;
pub use fcdm_command::failure::{ARTIFACT, CHECKPOINT, EXIT_CODES, IR, PICTURE, USAGE};
use fcdm_compiler::checkpoint::CheckpointError;
use fcdm_compiler::compiled::BuildError;
use fcdm_models::compile::CompileError;
use fcdm_models::latents::saved::LatentsError;
use fcdm_models::options::OptionError;
use fcdm_models::pictures::PictureError;
use fcdm_models::tensors::TensorsError;
use fcdm_models::train::config::ConfigError;
use fcdm_models::train::examples::ExamplesError;
use fcdm_models::train::folder::FolderError;
use fcdm_models::train::trainer::TrainError;
use fcdm_runtime::artifact::ArtifactError;
use fcdm_runtime::bench::BenchError;
use fcdm_runtime::executor::ExecutorError;
use fcdm_runtime::file::FileError;
use fcdm_runtime::generate::GenerateError;
use fcdm_runtime::memory::NoMemory;
use fcdm_runtime::network::NetworkError;
use fcdm_runtime::picture::files::FilesError;
use fcdm_runtime::request::RequestError;

/// A failed command.
pub struct Failure(pub failure::Failure);

impl Failure {
    pub fn new(code: i32, message: impl ToString) -> Failure {
        Failure(failure::Failure::new(code, message))
    }

    /// Of a text: the first line says what is wrong, the others show where.
    pub fn in_text(code: i32, message: impl ToString) -> Failure {
        Failure(failure::Failure::in_text(code, message))
    }

    pub fn code(&self) -> i32 {
        self.0.code
    }

    pub fn usage(message: impl ToString) -> Failure {
        Failure::new(USAGE, message)
    }

    pub fn cancelled(message: impl ToString) -> Failure {
        Failure(failure::Failure::cancelled(message))
    }
}

/// What the runtime finds has its code already.
macro_rules! known {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Failure {
            fn from(e: $error) -> Failure {
                Failure(e.into())
            }
        }
    )*};
}

known!(failure::Failure, FileError, FilesError, NoMemory, ExecutorError, ArtifactError, RequestError, NetworkError, GenerateError,);

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

impl From<ConfigError> for Failure {
    fn from(e: ConfigError) -> Failure {
        Failure::usage(e)
    }
}

impl From<ExamplesError> for Failure {
    fn from(e: ExamplesError) -> Failure {
        match e {
            ExamplesError::Latents(e) => e.into(),
            ExamplesError::Picture(e) => e.into(),
            ExamplesError::NoMemory(e) => e.into(),
            ExamplesError::Field { .. } => Failure::new(PICTURE, e),
            ExamplesError::Read { .. } => Failure::new(1, e),
        }
    }
}

impl From<TrainError> for Failure {
    fn from(e: TrainError) -> Failure {
        match e {
            TrainError::Config(e) => e.into(),
            TrainError::Examples(e) => e.into(),
            TrainError::Folder(FolderError::File(e)) | TrainError::File(e) => e.into(),
            TrainError::Folder(e) => Failure::usage(e),
            TrainError::Resume(_) | TrainError::Checkpoint(_) | TrainError::Import(_) => Failure::new(CHECKPOINT, e),
            TrainError::Machine(e) => e.into(),
            TrainError::Step(_) | TrainError::Threads(_) | TrainError::NotFinite { .. } => Failure::new(1, e),
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

impl From<OptionError> for Failure {
    fn from(e: OptionError) -> Failure {
        Failure::usage(e)
    }
}

impl From<CompileError> for Failure {
    fn from(e: CompileError) -> Failure {
        let code = match e {
            CompileError::Import(_) => CHECKPOINT,
            CompileError::Build(e) => return e.into(),
            CompileError::Artifact(e) => return e.into(),
            CompileError::Option(_) => USAGE,
            CompileError::Cancelled => crate::signals::code(),
            CompileError::Load(_) | CompileError::Write(_) => 1,
        };
        Failure::new(code, e)
    }
}
