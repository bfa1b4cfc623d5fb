//! Ctrl-C, a polite kill, an impolite one: the exit code, and what is left. Only where there are signals to send.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::{Folder, finish};
use fcdm_models::pictures::read_png;

fn send(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

fn interrupt(child: &Child) {
    send(child, "-INT");
}

/// Whether a command has a file in the folder open that has no name yet, or its temporary one.
fn is_writing(f: &Folder, id: u32) -> bool {
    let open = std::fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
    let mut paths = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    let folder = std::fs::canonicalize(f.path(".")).unwrap();
    paths.any(|p| p.starts_with(&folder) && p.to_string_lossy().ends_with("(deleted)")) || f.files().iter().any(|n| n.ends_with(".part"))
}

fn start(f: &Folder, line: &str) -> Child {
    f.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until `there` is, or the command has ended.
fn wait_for(child: &mut Child, there: impl Fn() -> bool) {
    let begun = Instant::now();
    while !there() && child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it takes too long");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn generate_keeps_finished_pictures() {
    let f = Folder::new();
    f.ok("compile GOLDEN/flow16/weights.safetensors -o a.fcdm --size 24x16");
    let line = "generate a.fcdm -c 1 -n 10000 --steps 25 -t 1 -o o --grid --npz p.npz --save-latents l.safetensors";
    let mut child = start(&f, line);
    wait_for(&mut child, || f.files().iter().any(|n| n.ends_with(".png")));
    interrupt(&child);
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130), "{out:?}");
    let pictures = f.files().len() - 1;
    let message = String::from_utf8(out.stderr).unwrap();
    assert_eq!(message.lines().last().unwrap(), format!("error: stopped; {pictures} of 10000 pictures are finished"));
    assert!((1..10_000).contains(&pictures));
    for name in f.files().iter().filter(|n| *n != "a.fcdm") {
        assert!(name.ends_with(".png"), "{name} is left");
        assert_eq!(read_png(&f.path(name)).unwrap().width, 16);
    }
}

/// Whichever comes first, the verdict on the weights or the signal, nothing that they made is written.
#[test]
fn generate_from_damaged_weights_leaves_nothing() {
    let f = Folder::new();
    f.ok("compile GOLDEN/flow16/weights.safetensors -o a.fcdm --size 24x16");
    let mut bytes = f.bytes("a.fcdm");
    let last = bytes.len() - 70;
    bytes[last] ^= 1;
    f.write("a.fcdm", bytes);
    let mut child = start(&f, "generate a.fcdm -c 1 -n 10000 --steps 25 -t 1 -o o");
    wait_for(&mut child, || f.path("o").exists());
    interrupt(&child);
    let out = child.wait_with_output().unwrap();
    assert!(matches!(out.status.code(), Some(4 | 130)), "{out:?}");
    assert_eq!(f.files(), ["a.fcdm"]);
    assert!(!f.path("o").exists());
}

#[test]
fn compile_leaves_no_part() {
    let f = Folder::new();
    f.ok("init FCDM-S -o s.safetensors");
    f.write("s.fcdm", "what was there");
    let mut child = start(&f, "compile s.safetensors -o s.fcdm --size 8x8");
    let id = child.id();
    wait_for(&mut child, || is_writing(&f, id));
    interrupt(&child);
    let code = child.wait_with_output().unwrap().status.code();
    assert_eq!(f.files(), ["s.fcdm", "s.safetensors"]);
    match code {
        Some(130) => assert_eq!(f.bytes("s.fcdm"), b"what was there"),
        Some(0) => drop(f.ok("inspect s.fcdm")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn init_leaves_no_part() {
    let f = Folder::new();
    let mut child = start(&f, "init FCDM-S -o s.safetensors");
    let id = child.id();
    wait_for(&mut child, || is_writing(&f, id));
    interrupt(&child);
    let code = child.wait_with_output().unwrap().status.code();
    match code {
        Some(130) => assert!(f.files().is_empty(), "{:?}", f.files()),
        Some(0) => assert_eq!(f.files(), ["s.safetensors"]),
        other => panic!("{other:?}"),
    }
}

/// Each signal has its own code, whether the command stops at a good place or at once.
#[test]
fn every_signal_has_its_code() {
    let f = Folder::new();
    f.ok("compile GOLDEN/flow16/weights.safetensors -o a.fcdm --size 24x16");
    for (signal, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        // Whoever started the tests may have ignored it, as `nohup` does, and then it stays ignored.
        if in_mask(std::process::id(), "SigIgn:", signal) == Some(true) {
            eprintln!("SKIPPED: {signal}: it is ignored here");
            continue;
        }
        let mut child = start(&f, "generate a.fcdm -c 1 -n 10000 --steps 25 -t 1 -o o");
        wait_for(&mut child, || f.path("o").exists());
        send(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(code), "{signal}");
        let _ = std::fs::remove_dir_all(f.path("o"));

        // It waits for its input, and has nothing to put in order.
        let mut child = f.command("opt -").stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        wait_for(&mut child, || handles(pid, signal));
        send(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(code), "{signal}");
    }
}

/// Whether a process has a handler for a signal; where the system does not say, one may be sent after a while.
fn handles(pid: u32, signal: &str) -> bool {
    in_mask(pid, "SigCgt:", signal).unwrap_or_else(|| {
        std::thread::sleep(Duration::from_millis(500));
        true
    })
}

/// Whether a signal is in one of a process's masks, where the system says so.
fn in_mask(pid: u32, mask: &str, signal: &str) -> Option<bool> {
    let number = match signal {
        "-HUP" => 1,
        "-INT" => 2,
        _ => 15,
    };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mask = status.lines().find_map(|l| u64::from_str_radix(l.strip_prefix(mask)?.trim(), 16).ok())?;
    Some(mask >> (number - 1) & 1 == 1)
}

/// Where there is no terminal a line says now and then how far a command is; with `--quiet` none does.
#[test]
fn logs_say_how_far_it_is() {
    let f = Folder::new();
    f.ok("compile GOLDEN/flow16/weights.safetensors -o a.fcdm --size 24x16");
    let line = "generate a.fcdm -c 1 -n 10000 --steps 100 -t 1 -o o";
    let mut child = start(&f, line);
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(said.starts_with("progress: picture ") && said.contains(" of 1000000, ") && said.ends_with(" s left\n"), "{said}");

    let mut child = start(&f, &format!("{line} -q"));
    std::thread::sleep(Duration::from_millis(1500));
    interrupt(&child);
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(said.starts_with("error: stopped; ") && said.lines().count() == 1, "{said}");
}

/// `nohup` holds.
#[test]
fn a_signal_that_is_ignored_stays_ignored() {
    let f = Folder::new();
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; \"$0\" opt - & p=$!; sleep 1; kill -HUP $p; wait $p", env!("CARGO_BIN_EXE_fcdm")]);
    let ran = finish("opt -", {
        command.current_dir(f.path(".")).stdin(Stdio::null());
        command
    });
    assert!(ran.code.is_some_and(|code| code != 129), "{ran:?}");
}

/// Killed again and again while it writes, a command leaves nothing that a later run does not put away.
#[test]
fn killed_compiles_leave_nothing_for_good() {
    let f = Folder::new();
    f.ok("init FCDM-S -o s.safetensors");
    for _ in 0..3 {
        let mut child = start(&f, "compile s.safetensors -o s.fcdm --size 8x8");
        let id = child.id();
        wait_for(&mut child, || is_writing(&f, id));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(f.files().iter().filter(|n| n.ends_with(".part")).count() <= 1, "{:?}", f.files());
    }
    f.ok("compile s.safetensors -o s.fcdm --size 8x8");
    assert_eq!(f.files(), ["s.fcdm", "s.safetensors"]);
}

/// What is compiled for one run is nowhere afterwards.
#[test]
fn killed_decoders_leave_nothing_among_temporary_files() {
    let f = Folder::new();
    f.write("l", crate::process::Tensors::default().f32("latents", &[400, 32, 16, 16], &vec![0.0; 400 * 32 * 256]).bytes());
    std::fs::create_dir(f.path("tmp")).unwrap();
    let mut child = f.command("decode l -o o").env("TMPDIR", f.path("tmp")).spawn().unwrap();
    wait_for(&mut child, || f.files().iter().any(|n| n.ends_with(".png")));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!f.files().iter().any(|n| n.starts_with("tmp/")), "{:?}", f.files());
}

/// A limit on the size of files is an ordinary error.
#[test]
fn a_file_that_may_not_grow() {
    let f = Folder::new();
    let line = "compile GOLDEN/flow16/weights.safetensors -o u.fcdm --size 8x8";
    let said = f.fails_as(1, line, f.limited(line, "-f 100"));
    assert!(said.starts_with("error: u.fcdm: cannot write: File too large"), "{said}");
}

/// Stops a compilation that has more than so many records, by the folder of which it is to go on: how many are left.
fn interrupted_with_records(f: &Folder, line: &str, more_than: usize) -> usize {
    let mut child = start(f, &format!("{line} --calibration-folder cal -o a.fcdm"));
    let records = || f.files().iter().filter(|n| n.starts_with("cal/") && n.ends_with(".fcdmcal")).count();
    wait_for(&mut child, || records() > more_than);
    interrupt(&child);
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130), "{out:?}");
    let kept = records();
    assert_eq!(kept, f.files().len(), "records alone are left: {:?}", f.files());
    kept
}

/// What calibrating has done is kept where it was told to, and the file is that of a run that nobody stopped.
#[test]
fn calibration_goes_on_where_it_was() {
    let f = Folder::new();
    let line = "compile GOLDEN/flow16/weights.safetensors --size 16x16 --quantize i4 --calibrate";
    let kept = interrupted_with_records(&f, line, 2);
    // A damaged one is made anew.
    let damaged = f.files().swap_remove(0);
    let mut bytes = f.bytes(&damaged);
    *bytes.last_mut().unwrap() ^= 1;
    f.write(&damaged, bytes);
    let ran = f.run(&format!("{line} --calibration-folder cal -o a.fcdm"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains(&format!("calibration went on from {} pieces of work that were there", kept - 1)), "{ran:?}");
    f.ok(&format!("{line} -o whole.fcdm --quiet"));
    assert!(f.bytes("a.fcdm") == f.bytes("whole.fcdm"));
    // Other options are other work.
    let other = f.run(&format!("{line} --no-null-class --calibration-folder cal -o b.fcdm"));
    assert!(other.code == Some(0) && !other.err.contains("went on"), "{other:?}");
    assert!(
        f.misused("compile GOLDEN/eps8/0000003.pt --calibration-folder cal -o c.fcdm").contains("calibration-folder: expected --calibrate")
    );
}

/// So is what measuring layers has found out, before any is rounded for good.
#[test]
fn measuring_goes_on_where_it_was() {
    let f = Folder::new();
    let line = "compile GOLDEN/eps8/0000003.pt --size 8x8 --quantize auto --min-psnr 20";
    let kept = interrupted_with_records(&f, line, 4);
    let ran = f.run(&format!("{line} --calibration-folder cal -o a.fcdm"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains(&format!("calibration went on from {kept} pieces of work that were there")), "{ran:?}");
    f.ok(&format!("{line} -o whole.fcdm --quiet"));
    assert!(f.bytes("a.fcdm") == f.bytes("whole.fcdm"));
}
