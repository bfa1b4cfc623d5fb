//! `fcdm train`: what it leaves, that it goes on, what it refuses, and the whole way from pictures to pictures.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::oracle::read;
use crate::process::Folder;
use fcdm_models::pictures::{Picture, read_png, write_png};
use serde_json::Value as Json;

/// Classes of pictures: a colour each.
const COLOURS: [(&str, [u8; 3]); 4] =
    [("blue", [40, 60, 200]), ("green", [60, 180, 70]), ("red", [210, 50, 40]), ("white", [230, 230, 225])];

/// Pictures of a light or dark disc on a ground of the class's colour, `each` of every class, of `side` pixels.
fn pictures(f: &Folder, name: &str, each: usize, side: usize) {
    let mut state = 1u32;
    let mut random = |n: i32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as i32 % n
    };
    for (class, colour) in COLOURS {
        let folder = f.path(&format!("{name}/{class}"));
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..each {
            let (x0, y0, r) = (random(side as i32), random(side as i32), 2 + random(side as i32 / 4));
            let bright = random(2) * 80 - 40;
            let pixel = |at: usize| {
                let (x, y) = ((at % side) as i32, (at / side) as i32);
                let inside = (x - x0).pow(2) + (y - y0).pow(2) < r * r;
                colour.map(|c| (i32::from(c) + if inside { bright } else { 0 } + (x * 7 + y * 13) % 9 - 4).clamp(0, 255) as u8)
            };
            let pixels = (0..side * side).flat_map(pixel).collect();
            write_png(&folder.join(format!("{i:03}.png")), &Picture { width: side, height: side, channels: 3, pixels }, &[]).unwrap();
        }
    }
}

/// A small network, for little time.
const SMALL: &str = "--hidden 8 --depths 1,1,1,1,1 --batch-size 8 --samples 0 --checkpoint-minutes 0";

/// The mean colour of a picture.
fn mean(path: &Path) -> [f64; 3] {
    let p = read_png(path).unwrap();
    let n = (p.width * p.height) as f64;
    [0, 1, 2].map(|c| p.pixels.iter().skip(c).step_by(3).map(|&v| f64::from(v)).sum::<f64>() / n)
}

/// The class whose colour is nearest.
fn nearest(colour: [f64; 3]) -> usize {
    let distance = |c: &[u8; 3]| (0..3).map(|i| (f64::from(c[i]) - colour[i]).powi(2)).sum::<f64>();
    (0..4).min_by(|&a, &b| distance(&COLOURS[a].1).total_cmp(&distance(&COLOURS[b].1))).unwrap()
}

#[test]
fn from_pictures_to_pictures() {
    let f = Folder::new();
    pictures(&f, "photos", 24, 32);
    f.ok("encode photos --size 32 -o latents");
    let line = "train latents --objective flow --hidden 24 --depths 1,1,1,1,1 --batch-size 16 --lr 2e-3 --lr-schedule wsd --warmup_steps 20 \
                --max_grad_norm=1 --ema-warmup --flip --validation 0.1 --steps 300 --ckpt-every 150 --samples 4 --sample-steps 8 \
                --cfg-scale 1.5 --micro-batch 8 --log-every 50 --seed 3";
    let said = f.json(line);
    assert_eq!((&said["steps"], &said["folder"]), (&Json::from(300), &Json::from("results/000-FCDM-S")));
    let run = "results/000-FCDM-S";
    let own = |n: &String| n.starts_with("results/") && !n.contains("/events.out.tfevents.");
    let left: Vec<String> = f.files().into_iter().filter(own).collect();
    assert_eq!(f.files().iter().filter(|n| n.contains("/events.out.tfevents.")).count(), 1);
    let expected = [
        "checkpoints/0000150.safetensors",
        "checkpoints/0000300.safetensors",
        "config.toml",
        "lock",
        "log.txt",
        "loss.svg",
        "metrics.jsonl",
        "samples/0000150.png",
        "samples/0000300.png",
    ];
    assert_eq!(left, expected.map(|n| format!("{run}/{n}")));
    let text = String::from_utf8(f.bytes(&format!("{run}/metrics.jsonl"))).unwrap();
    let metrics: Vec<Json> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let of = |name: &str| metrics.iter().filter_map(|m| m[name].as_f64()).collect::<Vec<f64>>();
    let (loss, held_out) = (of("loss"), of("validation_ema"));
    assert_eq!((loss.len(), held_out.len()), (6, 2));
    assert!(loss[5] < 0.8 * loss[0] && held_out[1] < loss[0], "{loss:?} {held_out:?}");
    let checkpoint = format!("{run}/checkpoints/0000300.safetensors");
    // As the deployer does it, with weights in 8 bits.
    f.ok(&format!("compile {checkpoint} --vae taef2 -o m.fcdm --quantize i8"));
    f.ok("generate m.fcdm -c blue,green,red,white -n 6 --steps 12 --cfg-scale 1.5 -o out");
    let made: Vec<String> = f.files().into_iter().filter(|n| n.starts_with("out/") && n.ends_with(".png")).collect();
    assert_eq!(made.len(), 24);
    let right = made.iter().enumerate().filter(|(i, name)| nearest(mean(&f.path(name))) == i / 6).count();
    assert!(right >= 18, "{right} of 24 pictures have their class's colour, by chance it would be 6");
    // Finished is finished.
    assert_eq!(f.json(line)["steps"], 300);
}

fn tensors(f: &Folder, name: &str) -> Vec<(String, Vec<u64>)> {
    let all = read(&f.path(name));
    all.into_iter().map(|(name, t)| (name, t.values.iter().map(|v| v.to_bits()).collect())).collect()
}

#[test]
fn a_run_that_is_killed_goes_on_to_the_same_bits() {
    let f = Folder::new();
    pictures(&f, "photos", 6, 16);
    let line = format!("train photos --image-size 16 {SMALL} --flip --steps 40 --checkpoint-every 4 --micro-batch 4 --max-grad-norm 1 -q");
    f.ok(&format!("{line} -o whole -t 2"));
    let checkpoints = |f: &Folder| f.files().iter().filter(|n| n.starts_with("killed/") && n.ends_with(".safetensors")).count();
    for round in 0..6 {
        let before = checkpoints(&f);
        let threads = 1 + round % 3;
        let mut child = f.command(&format!("{line} -o killed -t {threads}")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        // The first before there is any, the others at some time behind the next.
        while child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(60) {
            if round == 0 && f.path("killed/000-FCDM-S/config.toml").exists() || checkpoints(&f) > before {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(round * 7 % 30));
        let _ = child.kill();
        child.wait().unwrap();
    }
    f.ok(&format!("{line} -o killed"));
    let of = |output: &str| tensors(&f, &format!("{output}/000-FCDM-S/checkpoints/0000040.safetensors"));
    let (whole, killed) = (of("whole"), of("killed"));
    assert_eq!(whole.len(), killed.len());
    for (a, b) in whole.iter().zip(&killed) {
        assert!(a == b, "{} differs", a.0);
    }
    let steps = |output: &str| {
        let text = String::from_utf8(f.bytes(&format!("{output}/000-FCDM-S/metrics.jsonl"))).unwrap();
        text.lines().map(|l| serde_json::from_str::<Json>(l).unwrap()["step"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(steps("killed").last(), steps("whole").last());
    assert!(steps("killed").is_sorted());
}

#[test]
fn what_is_asked_to_stop_writes_a_checkpoint() {
    for (signal, code) in [("-TERM", 143), ("-USR1", 138)] {
        let f = Folder::new();
        pictures(&f, "photos", 4, 16);
        let line = format!("train photos --image-size 16 {SMALL} --steps 100000 --log-every 1");
        let mut child = f.command(&line).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        let metrics = f.path("results/000-FCDM-S/metrics.jsonl");
        while std::fs::metadata(&metrics).map_or(0, |m| m.len()) == 0 && child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(120), "it does not begin");
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(code), "{out:?}");
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(said.contains("the same command goes on from results/000-FCDM-S"), "{said}");
        assert_eq!(f.files().iter().filter(|n| n.ends_with(".safetensors")).count(), 1, "{:?}", f.files());
    }
}

/// Whoever refuses says why, and leaves nothing.
#[test]
fn what_cannot_be_trained_is_refused() {
    let f = Folder::new();
    pictures(&f, "photos", 2, 16);
    std::fs::create_dir(f.path("empty")).unwrap();
    f.write("run.toml", "learning_rat = 1e-3\n");
    f.write("broken.toml", "steps = \n");
    f.ok("encode photos --size 32 --no-flip -o latents");
    let before = f.files();
    for (line, code, said) in [
        ("train", 2, "data: expected latents or a folder of pictures, found nothing"),
        ("train photos --image-size 16", 2, "steps: expected --steps, --epochs or --max-hours"),
        ("train photos --steps 5", 6, "photos: image-size: expected the side that pictures are trained at, found none"),
        ("train photos --image-size 18 --steps 5", 2, "image-size: expected height and width that 4 divides, found 18 x 18"),
        ("train empty --steps 5", 6, "empty: folder: expected latents, or pictures"),
        ("train nowhere --steps 5", 3, "nowhere: cannot read"),
        ("train latents --steps 5 --flip", 6, "latents: flip: expected latents of mirrored pictures beside the others"),
        ("train latents --steps 5 --num-classes 2", 2, "num-classes: expected labels from 0 to 1, found 3, of example"),
        ("train latents --steps 5 --model FCDM-T", 2, "model: expected FCDM-S, FCDM-B, FCDM-L or FCDM-XL, found FCDM-T"),
        ("train latents --steps 5 --micro-batch 3", 2, "micro-batch: expected a number that divides the batch size 256, found 3"),
        ("train latents --steps 5 --depths 1,1,1", 2, "depths: expected"),
        ("train latents --steps 5 --objective gan", 2, "objective: expected"),
        ("train latents --config run.toml --steps 5", 2, "run.toml: there is no option `learning-rat`; did you mean `learning-rate`?"),
        ("train latents --config broken.toml --steps 5", 2, "broken.toml: "),
        ("train latents --config nothing.toml --steps 5", 1, "nothing.toml: cannot read"),
    ] {
        let ran = f.run(line);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        let last = ran.err.lines().last().unwrap_or_default();
        assert!(last.starts_with(&format!("error: {said}")), "{line}: {last}");
        assert_eq!(f.files(), before, "{line}");
    }
}

#[test]
fn a_run_goes_on_with_its_own_options_only() {
    let f = Folder::new();
    pictures(&f, "photos", 3, 16);
    let line = format!("train photos --image-size 16 {SMALL} --steps 4 -q");
    f.ok(&line);
    // Longer is the same run, faster or slower too.
    f.ok(&format!("{line} --steps 6 --threads 1").replace("--steps 4", ""));
    let ran = f.run(&format!("{line} --lr 3e-4 --seed 2"));
    let expected = "error: results/000-FCDM-S: it was begun with other options: learning-rate was 0.0001 and is 0.0003, seed was 0 and is 2; \
                    give those, or --new for another run";
    assert_eq!((ran.code, ran.err.lines().last()), (Some(2), Some(expected)), "{ran:?}");
    f.ok(&format!("{line} --lr 3e-4 --seed 2 --new"));
    assert!(f.path("results/001-FCDM-S/checkpoints/0000004.safetensors").exists());
    // Two at once.
    let busy = "train photos --image-size 16 --hidden 8 --depths 1,1,1,1,1 --batch-size 8 --samples 0 --steps 100000 -o busy -q";
    let mut first = f.command(busy).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !f.path("busy/000-FCDM-S/metrics.jsonl").exists() && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(2));
    }
    let ran = f.run(busy);
    let _ = first.kill();
    first.wait().unwrap();
    let expected = "error: busy/000-FCDM-S: another process is training in it; wait for that, or --new for another run";
    assert_eq!((ran.code, ran.err.lines().last()), (Some(2), Some(expected)), "{ran:?}");
}

/// From a checkpoint: its network, classes by their names, frozen parts as they were; the average begins there too.
#[test]
fn training_goes_on_from_any_checkpoint() {
    let f = Folder::new();
    pictures(&f, "photos", 3, 16);
    let line = format!("{SMALL} --image-size 16 --steps 3 -q");
    f.ok(&format!("train photos {line} -o first"));
    let first = "first/000-FCDM-S/checkpoints/0000003.safetensors";
    // Another class before the others, and one less.
    std::fs::rename(f.path("photos/blue"), f.path("photos/amber")).unwrap();
    std::fs::remove_dir_all(f.path("photos/red")).unwrap();
    let tuned = format!(
        "train photos --init {first} --freeze ^encoder_level|^latent --batch-size 8 --image-size 16 --samples 0 --seed 5 -q -o tuned"
    );
    f.ok(&format!("{tuned} --steps 2"));
    let (before, after) = (read(&f.path(first)), read(&f.path("tuned/000-FCDM/checkpoints/0000002.safetensors")));
    for (name, values) in &after {
        let Some(weight) = name.strip_prefix("model.") else { continue };
        let (old, average) = (&before[&format!("ema.{weight}")], &after[&format!("ema.{weight}")]);
        let frozen = weight.starts_with("encoder_level") || weight.starts_with("latent");
        assert_eq!(after.contains_key(&format!("optimizer.exp_avg.{weight}")), !frozen, "{weight}");
        if weight.contains("embedding_table") {
            let width = old.shape[1];
            let row = |t: &crate::oracle::Golden, i: usize| t.values[i * width..(i + 1) * width].to_vec();
            let near = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-3);
            // amber is new; green, white and none have moved up.
            assert_eq!(values.shape, [4, width]);
            assert!(!near(row(values, 0), row(old, 0)), "{weight}");
            assert!(
                near(row(values, 1), row(old, 1)) && near(row(values, 2), row(old, 3)) && near(row(values, 3), row(old, 4)),
                "{weight}"
            );
        } else if frozen {
            assert!(values.values == old.values && average.values == old.values, "{weight}");
        } else {
            assert!(values.values.iter().zip(&old.values).all(|(a, b)| (a - b).abs() < 1e-3), "{weight}");
        }
    }
    // The same command goes on, longer.
    f.ok(&format!("{tuned} --steps 4"));
    assert!(f.path("tuned/000-FCDM/checkpoints/0000004.safetensors").exists());
    f.ok("compile tuned/000-FCDM/checkpoints/0000004.safetensors -o m.fcdm");
    let ran = f.run("train photos --init GOLDEN/eps8/weights.safetensors --image-size 16 --steps 1 -o other");
    let expected = "error: init: expected a network of 3 channels, as the data have, found one of 4";
    assert_eq!((ran.code, ran.err.lines().last()), (Some(2), Some(expected)), "{ran:?}");
}

/// What is not finite is not made a step of.
#[test]
fn what_is_not_finite_ends_training_before_the_weights_change() {
    let f = Folder::new();
    pictures(&f, "photos", 3, 16);
    let line = format!("train photos --image-size 16 {SMALL} --steps 50 --checkpoint-every 1");
    let ran = f.run(&format!("{line} --lr 1e30"));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let last = ran.err.lines().last().unwrap();
    let (expected, checkpoint) =
        ("error: update 2: the loss is not finite, first in `", "results/000-FCDM-S/checkpoints/0000001.safetensors");
    assert!(last.starts_with(expected) && last.ends_with(&format!("the last checkpoint is {checkpoint}")), "{last}");
    assert_eq!(f.files().iter().filter(|n| n.ends_with(".safetensors")).count(), 1);
}

/// A disk that is full leaves the last checkpoint as it was.
#[cfg(unix)]
#[test]
fn a_full_disk_keeps_the_last_checkpoint() {
    let f = Folder::new();
    pictures(&f, "photos", 3, 16);
    let line = format!("train photos --image-size 16 {SMALL} --checkpoint-every 2");
    f.ok(&format!("{line} --steps 2 -q"));
    let checkpoint = "results/000-FCDM-S/checkpoints/0000002.safetensors";
    let before = f.bytes(checkpoint);
    let limited = crate::process::finish(&line, f.limited(&format!("{line} --steps 6"), "-f 200"));
    assert_eq!(limited.code, Some(1), "{limited:?}");
    assert!(limited.err.lines().last().unwrap().contains("0000004.safetensors: cannot write"), "{limited:?}");
    assert_eq!(f.files().iter().filter(|n| n.contains("/checkpoints/")).collect::<Vec<_>>(), [checkpoint]);
    assert_eq!(f.bytes(checkpoint), before);
    // With room again it goes on.
    f.ok(&format!("{line} --steps 6 -q"));
}

/// The sheet of a checkpoint shows what compiling and generating give.
#[test]
fn a_sheet_shows_what_its_checkpoint_makes() {
    let f = Folder::new();
    pictures(&f, "photos", 4, 16);
    f.ok(
        "train photos --image-size 16 --hidden 8 --depths 1,1,1,1,1 --batch-size 8 --steps 3 --samples 8 --sample-steps 5 --cfg-scale 2 -q",
    );
    f.ok("compile results/000-FCDM-S/checkpoints/0000003.safetensors -o m.fcdm");
    f.ok("generate m.fcdm -n 2 -o out --steps 5 --cfg-scale 2 --cfg-channels all -c 0,1,2,3");
    let sheet = read_png(&f.path("results/000-FCDM-S/samples/0000003.png")).unwrap();
    let made: Vec<String> = f.files().into_iter().filter(|n| n.starts_with("out/")).collect();
    assert_eq!((made.len(), sheet.width), (8, 2 * 18 + 2));
    for (i, name) in made.iter().enumerate() {
        let picture = read_png(&f.path(name)).unwrap();
        let (x0, y0) = (2 + i % 2 * 18, 2 + i / 2 * 18);
        for y in 0..16 {
            let row = ((y0 + y) * sheet.width + x0) * 3;
            assert_eq!(sheet.pixels[row..row + 48], picture.pixels[y * 48..(y + 1) * 48], "{name}, row {y}");
        }
    }
}

/// Training for long takes no more memory than for a while.
#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow() {
    let f = Folder::new();
    pictures(&f, "photos", 8, 8);
    let line = "train photos --image-size 8 --hidden 4 --depths 1,1,1,1,1 --batch-size 4 --samples 0 --checkpoint-minutes 0 --steps 2600 \
                --log-every 50 --checkpoint-every 500 --keep 2 --validation 0.2 --micro-batch 2 -q";
    let mut child = f.command(line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let resident = |id: u32| -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
    };
    let step = || {
        let text = std::fs::read_to_string(f.path("results/000-FCDM-S/metrics.jsonl")).unwrap_or_default();
        text.lines().filter_map(|l| serde_json::from_str::<Json>(l).ok()?["step"].as_u64()).max().unwrap_or(0)
    };
    let begun = Instant::now();
    let (mut early, mut late) = (None, None);
    while child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(300), "it takes too long");
        match step() {
            0..550 => {}
            550.. if early.is_none() => early = resident(child.id()),
            _ => late = resident(child.id()).or(late),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(child.wait().unwrap().success());
    let (early, late) = (early.unwrap(), late.unwrap());
    assert!(late < early + 1024, "{early} kB at first, {late} kB behind 2,000 updates");
    assert_eq!(f.files().iter().filter(|n| n.contains("/checkpoints/")).count(), 2);
}
