//! Runs the built `fcdm` in a folder of its own and looks at what it leaves there.
#![allow(clippy::unwrap_used, dead_code)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value as Json;

/// Where commands keep the model in the box: empty when the tests begin.
static CACHE: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cache-{}", env!("CARGO_CRATE_NAME")));
    let _ = std::fs::remove_dir_all(&path);
    path
});

/// A temporary folder, in which commands run.
pub struct Folder(tempfile::TempDir);

/// What a command said and how it ended; `code` is `None` if a signal ended it.
#[derive(Debug)]
pub struct Ran {
    pub command: String,
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Folder {
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// Copies what is in another folder into this one.
    pub fn copy(&self, from: &Path) {
        let mut folders = vec![(from.to_owned(), self.0.path().to_owned())];
        while let Some((from, to)) = folders.pop() {
            std::fs::create_dir_all(&to).unwrap();
            for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
                let (path, to) = (entry.path(), to.join(entry.file_name()));
                match path.is_dir() {
                    true => folders.push((path, to)),
                    // Not its permissions: the original may be read-only.
                    false => std::fs::write(to, std::fs::read(path).unwrap()).unwrap(),
                }
            }
        }
    }

    /// Every file below the folder, sorted, with `/` between the parts of its name.
    pub fn files(&self) -> Vec<String> {
        let (mut found, mut folders) = (Vec::new(), vec![self.0.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.push(path.strip_prefix(self.0.path()).unwrap().to_string_lossy().replace('\\', "/")),
                }
            }
        }
        found.sort();
        found
    }

    /// The command, its arguments split at spaces; `GOLDEN` stands for the folder of golden files. It runs on the instruction set
    /// that the tests' own environment asks for, if any: `.ci/run` goes through them.
    pub fn command(&self, line: &str) -> Command {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let argument = |a: &str| match a.strip_prefix("GOLDEN/") {
            Some(rest) => golden.join(rest).into_os_string(),
            None => OsString::from(a),
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_fcdm"));
        command.args(line.split_whitespace().map(argument)).current_dir(self.0.path()).stdin(Stdio::null());
        command.env("XDG_CACHE_HOME", &*CACHE);
        command
    }

    /// As [`Folder::command`], within a limit as the shell's `ulimit` takes it.
    #[cfg(unix)]
    pub fn limited(&self, line: &str, limit: &str) -> Command {
        let inner = self.command(line);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\"")]).arg(inner.get_program()).args(inner.get_args());
        command.current_dir(self.0.path()).stdin(Stdio::null()).env("XDG_CACHE_HOME", &*CACHE);
        command
    }

    pub fn run(&self, line: &str) -> Ran {
        finish(line, self.command(line))
    }

    /// Runs a command that has to succeed without a word of complaint, but that its size is not the one trained on, and returns its
    /// standard output: the golden networks are evaluated at sizes smaller than their trainer's arguments say.
    pub fn ok(&self, line: &str) -> String {
        let mut ran = self.run(line);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.err = ran.err.lines().filter(|l| !l.starts_with("warning: size: ")).collect();
        assert!(!ran.err.contains("error") && !ran.err.contains("warning"), "{ran:?}");
        ran.out
    }

    /// As [`Folder::ok`], with `--json`.
    pub fn json(&self, line: &str) -> Json {
        let out = self.ok(&format!("{line} --json"));
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{line}: {e}: {out}"))
    }

    /// Runs a command that has to fail: with this code, one line that begins with `error:`, nothing on the standard output, and
    /// no file made, changed or left behind. Returns the line.
    #[track_caller]
    pub fn fails(&self, code: i32, line: &str) -> String {
        self.fails_as(code, line, self.command(line))
    }

    #[track_caller]
    pub fn fails_as(&self, code: i32, line: &str, command: Command) -> String {
        let before = self.files();
        let ran = finish(line, command);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        let lines: Vec<&str> = ran.err.lines().filter(|l| !l.starts_with("warning: ") && !l.starts_with("note: ")).collect();
        assert!(lines.len() == 1 && lines[0].starts_with("error: ") && lines[0].len() < 1000, "{ran:?}");
        assert_eq!(ran.out, "", "{ran:?}");
        assert_eq!(self.files(), before, "{line}: files");
        lines[0].to_owned()
    }

    /// Runs a command that the command line's own grammar refuses, with a usage message.
    #[track_caller]
    pub fn misused(&self, line: &str) -> String {
        let before = self.files();
        let ran = self.run(line);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.starts_with("error: ") && ran.out.is_empty(), "{ran:?}");
        assert_eq!(self.files(), before, "{line}: files");
        ran.err
    }
}

pub fn finish(line: &str, mut command: Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { command: line.to_owned(), code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Tensors of a safetensors file to be written.
#[derive(Default)]
pub struct Tensors(Vec<(String, Dtype, Vec<usize>, Vec<u8>)>);

impl Tensors {
    pub fn f32(mut self, name: &str, shape: &[usize], values: &[f32]) -> Tensors {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.0.push((name.to_owned(), Dtype::F32, shape.to_vec(), bytes));
        self
    }

    pub fn i64(mut self, name: &str, shape: &[usize], values: &[i64]) -> Tensors {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.0.push((name.to_owned(), Dtype::I64, shape.to_vec(), bytes));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let views = self.0.iter().map(|(n, d, s, b)| (n.as_str(), TensorView::new(*d, s.clone(), b).unwrap()));
        safetensors::serialize(views, None).unwrap()
    }
}

/// The one tensor's shape and values in a file that a command wrote.
pub fn tensor(bytes: &[u8], name: &str) -> (Vec<usize>, Vec<f32>) {
    let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
    assert_eq!(file.names(), [name]);
    let view = file.tensor(name).unwrap();
    assert_eq!(view.dtype(), Dtype::F32);
    (view.shape().to_vec(), view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
}
