//! Artifacts of a kilobyte, sound to the last checksum, that ask for more than they have any right to, or for what does not go
//! together: refused at load, by a line with what was expected and found, and before any of it is allocated. Commands run within a
//! limit of memory, so that one that is not refused fails and leaves the machine alone.

use std::path::Path;

use crate::process::{Folder, Tensors};
use fcdm_models::pictures::{Picture, write_png};
use fcdm_runtime::artifact::{ArtifactContents, AutoencoderInfo, ModelInfo, Prediction, Specialisation, TensorSource, write};
use fcdm_runtime::encoding::Encoding;
use fcdm_runtime::kernels::{Embedding, Fill};
use fcdm_runtime::plan::{Element, Entry, Form, Operand, Place, Plan, Port, Step, VERSION};
use fcdm_runtime::sampler::SamplerKind;

/// Kilobytes of addresses that a command may have: far more than any of these needs, far less than they ask for.
#[cfg(unix)]
const ENOUGH: u64 = 4_000_000;

fn port(name: &str, shape: &[usize]) -> Port {
    Port { name: name.into(), dtype: Element::F32, shape: shape.to_vec() }
}

fn entry(name: &str, rows: usize, inputs: &[Port], outputs: &[Port]) -> Entry {
    let (inputs, outputs) = (inputs.to_vec(), outputs.to_vec());
    Entry { name: name.into(), rows, inputs, outputs, state: vec![], arena_bytes: 0, arena_lower_bound: 0, steps: vec![] }
}

fn condition(rows: usize, width: usize) -> Entry {
    let labels = Port { dtype: Element::I32, ..port("y", &[rows]) };
    entry("condition", rows, &[port("t", &[rows]), labels], &[port("c", &[rows, width])])
}

fn denoise(rows: usize, [h, w, c]: [usize; 3], width: usize) -> Entry {
    entry("denoise", rows, &[port("x", &[rows, h, w, c]), port("c", &[rows, width])], &[port("out", &[rows, h, w, 2 * c])])
}

fn images(name: &str, from: (&str, [usize; 3]), to: (&str, [usize; 3])) -> Entry {
    let image = |(name, [h, w, c]): (&str, [usize; 3])| port(name, &[1, h, w, c]);
    entry(name, 1, &[image(from)], &[image(to)])
}

fn decode(name: &str, latent: [usize; 3], picture: [usize; 3]) -> Entry {
    images(name, ("latent", latent), ("picture", picture))
}

fn encode(picture: [usize; 3], latent: [usize; 3]) -> Entry {
    images("encode", ("picture", picture), ("mean", latent))
}

/// What an artifact has.
#[derive(Clone)]
struct Forged {
    model: Option<ModelInfo>,
    autoencoder: Option<AutoencoderInfo>,
    entries: Vec<Entry>,
    license: Option<String>,
}

impl Forged {
    /// A sound one, of a denoiser that computes nothing on states of 8x8x4, and an autoencoder that computes nothing for it.
    fn sound() -> Forged {
        let model = ModelInfo {
            prediction: Prediction::EpsVariance,
            in_channels: 4,
            out_channels: 8,
            num_classes: 10,
            null_class: true,
            class_names: vec![],
            hidden: 8,
            depths: vec![1, 1, 2, 1, 1],
            mlp_ratio: 3.0,
            height: 8,
            width: 8,
            sampling: None,
            specialisation: None,
        };
        let entries = vec![
            condition(1, 4),
            denoise(1, [8, 8, 4], 4),
            decode("decode", [8, 8, 4], [16, 16, 3]),
            decode("decode.4x4", [4, 4, 4], [8, 8, 3]),
            encode([16, 16, 3], [8, 8, 4]),
        ];
        let autoencoder = AutoencoderInfo { family: "forged".into(), latent_channels: 4, factor: 2 };
        Forged { model: Some(model), autoencoder: Some(autoencoder), entries, license: None }
    }

    fn changed(change: impl FnOnce(&mut Forged)) -> Forged {
        let mut forged = Forged::sound();
        change(&mut forged);
        forged
    }

    fn model(&mut self) -> &mut ModelInfo {
        self.model.as_mut().unwrap()
    }

    fn write(&self, to: &Path) {
        let plan = Plan { version: VERSION, reproducible: false, entries: self.entries.clone() };
        let contents = ArtifactContents {
            autoencoder: self.autoencoder.clone(),
            license: self.license.clone(),
            ..ArtifactContents::new(plan, self.model.clone())
        };
        let tensor = |name: &str| TensorSource::f32(name, vec![16], vec![0.0; 16]);
        // What is allowed grows with the tensors that are there.
        let read =
            |name: &str| self.entries.iter().flat_map(|e| &e.steps).flat_map(|s| &s.inputs).any(|o| o.at == Place::Weight(name.into()));
        let tensors = read("t").then(|| tensor("t.panels")).into_iter().chain([tensor("w")]).collect();
        write(to, &contents, tensors, &|| false, &mut |_, _| {}).unwrap();
    }
}

fn folder() -> Folder {
    let f = Folder::new();
    let x = Tensors::default().f32("x", &[1, 4, 8, 8], &[0.0; 256]).f32("t", &[1], &[0.0]).f32("y", &[1], &[0.0]);
    f.write("in", x.bytes());
    f.write("l.safetensors", Tensors::default().f32("latents", &[1, 4, 8, 8], &[0.0; 256]).bytes());
    std::fs::create_dir(f.path("pictures")).unwrap();
    let picture = Picture { width: 16, height: 16, channels: 3, pixels: vec![7; 768] };
    write_png(&f.path("pictures/a.png"), &picture, &[]).unwrap();
    f
}

const GENERATE: &str = "generate m.fcdm -c 1 --steps 1 -t 1 -o o";
const RUN: &str = "run m.fcdm --inputs in --outputs out -t 1";
const DECODE: &str = "decode l.safetensors --vae m.fcdm -t 1 -o o";
const ENCODE: &str = "encode pictures --vae m.fcdm --size 16 -t 1 -o o";
const INIT: &str = "generate m.fcdm -c 1 --steps 2 --init-image pictures/a.png -t 1 -o i";

/// Commands that have to fail with a code; the last line that one of them said.
#[track_caller]
fn fails(code: i32, forged: &Forged, lines: &[&str]) -> String {
    let f = folder();
    forged.write(&f.path("m.fcdm"));
    let fail = |line: &&str| f.fails_as(code, line, limited(&f, line));
    let said = lines.iter().map(fail).next_back().unwrap();
    // To look at it is how one finds out what is wrong with it.
    f.ok("inspect m.fcdm");
    f.ok("inspect m.fcdm --plan");
    said
}

#[cfg(unix)]
fn limited(f: &Folder, line: &str) -> std::process::Command {
    f.limited(line, &format!("-v {ENOUGH}"))
}

#[cfg(not(unix))]
fn limited(f: &Folder, line: &str) -> std::process::Command {
    f.command(line)
}

#[test]
fn the_sound_one_works() {
    let f = folder();
    Forged::sound().write(&f.path("m.fcdm"));
    for line in [
        GENERATE,
        INIT,
        RUN,
        DECODE,
        ENCODE,
        "bench m.fcdm --runs 1 --seconds 0 -t 1",
        "generate m.fcdm --preview -c 2 --steps 2 -t 1 -o p",
    ] {
        let ran = crate::process::finish(line, limited(&f, line));
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
}

#[test]
fn encoders_of_other_pictures_and_latents() {
    for channels in [1, 2, 4, 1 << 10] {
        let m = Forged::changed(|m| m.entries[4] = encode([16, 16, channels], [8, 8, 4]));
        let line = fails(4, &m, &[ENCODE, INIT, GENERATE]);
        assert!(line.contains("`encode`: expected a picture of 3 channels") && line.contains(&format!("[16, 16, {channels}]")), "{line}");
    }
    for latent in [[2, 2, 4], [16, 16, 4]] {
        let m = Forged::changed(|m| m.entries[4] = encode([2 * latent[0], 2 * latent[1], 3], latent));
        assert!(fails(4, &m, &[INIT, GENERATE]).contains("`encode`: expected latents of [8, 8, 4], as the denoiser has, found"));
    }
    for (picture, latent) in [([16, 16, 3], [8, 8, 5]), ([16, 8, 3], [8, 8, 4]), ([8, 8, 3], [8, 8, 4])] {
        let m = Forged::changed(|m| m.entries[4] = encode(picture, latent));
        assert!(fails(4, &m, &[ENCODE, INIT]).contains("`encode`: expected a picture of 3 channels and latents of 4, 2 times smaller"));
    }
    let m = Forged::changed(|m| m.entries[4].outputs.push(port("std", &[1, 8, 8, 8])));
    fails(4, &m, &[ENCODE, INIT]);
}

#[test]
fn decoders_of_other_pictures_and_latents() {
    for channels in [2, 4, 5, 1 << 10] {
        let m = Forged::changed(|m| m.entries[2] = decode("decode", [8, 8, 4], [16, 16, channels]));
        assert!(fails(4, &m, &[GENERATE, DECODE]).contains("`decode`: expected a picture of 1 or 3 channels, found"));
    }
    for (name, latent) in [("decode", [4, 4, 4]), ("decode", [16, 16, 4]), ("decode.4x4", [2, 8, 4]), ("preview", [4, 8, 4])] {
        let m = Forged::changed(|m| m.entries.push(decode(name, latent, [2 * latent[0], 2 * latent[1], 3])));
        let m = Forged { entries: m.entries.into_iter().rev().collect(), ..m };
        let m = Forged { entries: dedup(m.entries), ..m };
        assert!(fails(4, &m, &[GENERATE, DECODE]).contains(&format!("`{name}`: expected latents of ")));
    }
    let m = Forged::changed(|m| m.entries[2] = decode("decode", [8, 8, 4], [16, 16, 1]));
    assert!(fails(4, &m, &[GENERATE, DECODE]).contains("`decode`: expected a picture of 3 channels, as `encode` takes, found"));
    let m = Forged::changed(|m| m.autoencoder.as_mut().unwrap().factor = 256);
    assert!(fails(4, &m, &[GENERATE, DECODE]).contains("a picture 256 times as large"));
    let m = Forged::changed(|m| m.autoencoder.as_mut().unwrap().latent_channels = 4);
    let m = Forged { entries: m.entries.into_iter().filter(|e| !e.name.starts_with("decode")).collect(), ..m };
    assert!(fails(2, &m, &[GENERATE, DECODE]).contains("expected an artifact with a decoder"));
}

/// Every name once, the first of each.
fn dedup(entries: Vec<Entry>) -> Vec<Entry> {
    let mut kept: Vec<Entry> = Vec::new();
    for e in entries {
        if !kept.iter().any(|k| k.name == e.name) {
            kept.push(e);
        }
    }
    kept
}

/// Ports are as large as arena and tensors give reason for.
#[test]
fn ports_without_a_reason() {
    let asked = "expected ports of at most ";
    for rows in [1 << 20, 1 << 25, 1 << 36] {
        let m = Forged::changed(|m| m.entries[0] = condition(rows, 16));
        assert!(fails(4, &m, &[RUN, GENERATE]).contains(asked));
        let m = Forged::changed(|m| m.entries[1] = denoise(rows, [8, 8, 4], 4));
        assert!(fails(4, &m, &[RUN, GENERATE, "bench m.fcdm --runs 1 --seconds 0"]).contains(asked));
    }
    // A row that is kept for every step.
    let m = Forged::changed(|m| (m.entries[0], m.entries[1]) = (condition(1, 1 << 20), denoise(1, [8, 8, 4], 1 << 20)));
    assert!(fails(4, &m, &[RUN, GENERATE]).contains("`condition`: expected outputs of at most 65600 bytes a row"));
    // Several that are small alone.
    let m = Forged::changed(|m| {
        m.entries[0].outputs.extend((0..64).map(|i| port(&format!("c{i}"), &[1, 1 << 12])));
    });
    assert!(fails(4, &m, &[RUN, GENERATE]).contains("`condition`: expected outputs of at most 65600 bytes a row"));
    let m = Forged::changed(|m| {
        (m.model().height, m.model().width, m.model().in_channels, m.model().out_channels) = (1 << 14, 1 << 14, 256, 512);
        m.autoencoder = None;
        m.entries = vec![condition(1, 4), denoise(1, [1 << 14, 1 << 14, 256], 4)];
    });
    assert!(fails(4, &m, &["generate m.fcdm -c 1 --steps 1 -o o"]).contains(asked));
    let m = Forged::changed(|m| m.entries[1].state.push(port("s", &[1 << 30])));
    assert!(fails(4, &m, &[RUN, GENERATE]).contains(asked));
    let m = Forged::changed(|m| m.entries.push(entry("foo", 1, &[port("x", &[1 << 36])], &[])));
    assert!(fails(4, &m, &["bench m.fcdm --entry foo --runs 1 --seconds 0"]).contains(asked));
    let m = Forged::changed(|m| {
        (m.model().height, m.model().width) = (64, 64);
        m.autoencoder.as_mut().unwrap().factor = 256;
        let large = |name| decode(name, [64, 64, 4], [1 << 14, 1 << 14, 3]);
        m.entries = vec![condition(1, 4), denoise(1, [64, 64, 4], 4), large("decode"), large("preview")];
    });
    assert!(fails(4, &m, &[GENERATE, "generate m.fcdm -c 1 --preview --steps 1 -o o"]).contains(asked));
}

/// What an artifact declares honestly is asked of the machine.
#[cfg(unix)]
#[test]
fn more_than_the_machine_has() {
    let m = Forged::changed(|m| m.entries[1].arena_bytes = 1 << 36);
    let line = fails(1, &m, &[RUN, GENERATE]);
    assert!(line.ends_with("there is no memory of 68.7 GB for running the plan: values 68.7 GB"), "{line}");
    let m = Forged::changed(|m| m.entries[4].arena_bytes = 1 << 35);
    assert!(fails(1, &m, &[ENCODE, INIT]).contains("there is no memory of 34.4 GB for encoding pictures of 16x16: encoder 34.4 GB"));
    // A decoder of small tiles of a large picture.
    let m = Forged::changed(|m| {
        (m.model().height, m.model().width) = (1 << 10, 1 << 10);
        m.autoencoder.as_mut().unwrap().factor = 16;
        m.entries = vec![condition(1, 4), denoise(1, [1 << 10, 1 << 10, 4], 4), decode("decode.4x4", [4, 4, 4], [64, 64, 3])];
    });
    assert!(fails(4, &m, &[GENERATE]).contains("`decode`: expected pictures of at most 67109120 bytes beside an arena of 0"));
    let m = Forged { entries: m.entries.into_iter().map(|e| Entry { arena_bytes: 1 << 30, ..e }).collect(), ..m };
    let line = fails(1, &m, &[GENERATE]);
    assert!(
        line.contains("there is no memory of 5.1 GB for decoding latents of 1024x1024: ") && line.ends_with("picture 4.0 GB"),
        "{line}"
    );
    let m = Forged::changed(|m| {
        (m.model().height, m.model().width) = (1 << 14, 1 << 14);
        m.autoencoder.as_mut().unwrap().factor = 256;
        m.entries[1] = denoise(1, [1 << 14, 1 << 14, 4], 4);
    });
    let f = folder();
    let plan = Plan { version: VERSION, reproducible: false, entries: m.entries };
    let contents = ArtifactContents { autoencoder: m.autoencoder, ..ArtifactContents::new(plan, m.model) };
    let refused = write(&f.path("m.fcdm"), &contents, vec![], &|| false, &mut |_, _| {}).unwrap_err().to_string();
    assert!(refused.contains("fcdm.autoencoder.factor: expected pictures of at most 16384 pixels aside, found 256"), "{refused}");
}

/// Latents in a file with holes, as large as one likes. Many small ones take no memory: they are read one by one.
#[cfg(unix)]
#[test]
fn latents_that_are_mostly_holes() {
    let f = folder();
    Forged::changed(|m| m.model = None).write(&f.path("m.fcdm"));
    let side = 8192;
    let bytes = 4 * side * side * 4;
    let header = format!(r#"{{"latents":{{"dtype":"F32","shape":[1,4,{side},{side}],"data_offsets":[0,{bytes}]}}}}"#);
    let header = format!("{header:<0$}", header.len().next_multiple_of(8));
    f.write("holes", [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat());
    let file = std::fs::OpenOptions::new().write(true).open(f.path("holes")).unwrap();
    file.set_len(8 + header.len() as u64 + bytes).unwrap();
    let line = "decode holes --vae m.fcdm -t 1 -o o";
    let said = f.fails_as(1, line, limited(&f, line));
    assert!(said.contains("there is no memory of "), "{said}");
}

/// Entries, ports and states by the thousand are looked at once each.
#[test]
fn many_entries_and_ports() {
    let f = folder();
    let many = 15_000;
    Forged::changed(|m| {
        let named = |i: usize| port(&format!("p{i}"), &[1, 1]);
        m.entries[0].outputs.extend((0..many).map(named));
        m.entries[1].inputs.extend((0..many).rev().map(named));
        m.entries[1].state.extend((0..many).map(|i| port(&format!("s{i}"), &[1])));
        let fill = |i: usize| Step {
            label: "f".into(),
            kernel: Fill { value: 0.0 }.into(),
            inputs: vec![],
            outputs: vec![Operand { at: Place::State(i), form: Form::F32, shape: vec![1] }],
        };
        m.entries[1].steps = (0..many).map(fill).collect();
        m.entries.extend((0..100_000).map(|i| entry(&format!("other{i}"), 1, &[], &[])));
    })
    .write(&f.path("m.fcdm"));
    f.ok(RUN);
    f.ok("bench m.fcdm --runs 1 --warmup 0 --seconds 0 -t 1");
    let line = f.fails(2, "bench m.fcdm --entry nosuch");
    assert!(line.contains(" more, found `nosuch`") && line.len() < 500, "{line}");
}

/// Names and licences are shown, and move no cursor.
#[test]
fn text_that_a_terminal_would_act_on() {
    let hostile = "\u{0}\u{1b}]0;pwned\u{7}\u{1b}[31m\r\nfake line\u{9b}1m\u{7f}\u{202e}\u{2066}";
    let f = folder();
    Forged::changed(|m| {
        m.model().class_names = (0..10).map(|i| format!("{hostile}{i}")).collect();
        m.autoencoder.as_mut().unwrap().family = hostile.into();
        m.license = Some(hostile.into());
        m.entries.push(entry(hostile, 1, &[], &[]));
    })
    .write(&f.path("m.fcdm"));
    for line in [
        "inspect m.fcdm",
        "inspect m.fcdm --plan",
        "inspect m.fcdm --json",
        "generate m.fcdm -c nope -o o",
        "bench m.fcdm --entry nope",
        GENERATE,
    ] {
        let ran = f.run(line);
        for text in [&ran.out, &ran.err] {
            let acts = |c: char| c.is_control() && c != '\n' || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            assert!(!text.contains(acts) && !text.lines().any(|l| l.starts_with("fake line")), "{ran:?}");
        }
        if line == GENERATE {
            assert_eq!(ran.code, Some(0), "{ran:?}");
        }
        if line.ends_with("--json") {
            let about: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
            assert_eq!(about["license"], hostile);
        }
    }
    // Nor does a name make one that no file can have.
    Forged::changed(|m| m.model().class_names = (0..10).map(|i| format!("{i}{}", "\u{1f600}x\u{4e2d}".repeat(100_000))).collect())
        .write(&f.path("long"));
    f.ok("generate long -c 1,2 --interpolate 2 --steps 1 -t 1 -o o");
    assert!(f.fails(2, "generate m.fcdm -c nope -o o").contains("class labels: expected one of \\0\\u{1b}]0;pwned"));
}

/// The sound one, specialised to a step and three classes: its condition looks four rows up in what the tensor is a panel of.
fn specialised(change: impl FnOnce(&mut Specialisation, &mut Entry)) -> Forged {
    Forged::changed(|m| {
        let mut held = Specialisation { sampler: SamplerKind::Ddim, steps: "even1".into(), times: vec![0.0], classes: vec![1, 2, 7, 10] };
        let table = Operand { at: Place::Weight("t".into()), form: Form::Encoded(Encoding::F32), shape: vec![4, 1, 1] };
        let rows = Operand { at: Place::Input(0), form: Form::Dense(Element::I32), shape: vec![1] };
        let result = Operand { at: Place::Output(0), form: Form::F32, shape: vec![1, 1] };
        let look_up = Step { label: "c".into(), kernel: Embedding {}.into(), inputs: vec![table, rows], outputs: vec![result] };
        let row = Port { dtype: Element::I32, ..port("row", &[1]) };
        let mut condition = Entry { steps: vec![look_up], ..entry("condition", 1, &[row], &[port("c", &[1, 1])]) };
        change(&mut held, &mut condition);
        m.model().specialisation = Some(held);
        (m.entries[0], m.entries[1]) = (condition, denoise(1, [8, 8, 4], 1));
    })
}

#[test]
fn specialised_to_what_there_is_not() {
    let f = folder();
    specialised(|_, _| {}).write(&f.path("m.fcdm"));
    for line in [GENERATE, RUN, "generate m.fcdm -t 1 -o o2", "bench m.fcdm --runs 1 --seconds 0 -t 1"] {
        let ran = crate::process::finish(line, limited(&f, line));
        let refused = line == RUN;
        // Class 1 at time 0 is there, class 0 is not.
        assert_eq!(ran.code, Some(if refused { 2 } else { 0 }), "{ran:?}");
    }
    // What does not go together with the plan.
    let line = fails(4, &specialised(|held, _| held.times = vec![0.0, 1.0]), &[RUN, GENERATE, "bench m.fcdm --runs 1 --seconds 0"]);
    assert!(line.ends_with("`condition`: expected 8 rows for 2 times and 4 classes, found 4"), "{line}");
    let line = fails(4, &specialised(|held, _| held.classes = vec![1, 10]), &[GENERATE]);
    assert!(line.ends_with("`condition`: expected 2 rows for 1 times and 2 classes, found 4"), "{line}");
    let line = fails(4, &specialised(|_, e| *e = condition(1, 1)), &[GENERATE]);
    assert!(line.contains("`condition`: expected the input row: i32[1], found [(\"t\""), "{line}");
    let m = specialised(|_, _| {});
    let m = Forged { model: m.model.map(|model| ModelInfo { specialisation: None, ..model }), ..m };
    assert!(fails(4, &m, &[GENERATE]).contains("`condition`: expected inputs t: f32[1], y: i32[1], found [(\"row\""));
    let line = fails(4, &specialised(|_, e| e.steps[0].inputs[0].shape = vec![1 << 40, 1, 1]), &[GENERATE]);
    assert!(line.contains("m.fcdm: "), "{line}");
}

/// A description that contradicts itself is neither written nor read.
#[test]
fn descriptions_of_what_cannot_be() {
    type Change = fn(&mut Specialisation);
    let wrong: [(Change, &str); 14] = [
        (|h| h.sampler = SamplerKind::Euler, "sampler: expected one of the model's prediction, found euler"),
        (|h| h.steps = "0".into(), "steps: expected steps of the sampler, found \"0\""),
        (|h| h.steps = "\u{1b}[31m".into(), "steps: expected steps of the sampler, found \"\\u{1b}[31m\""),
        (|h| h.steps = "9".repeat(1 << 20), "steps: expected steps of the sampler, found \"9999999999999999999999999999999999999999\""),
        (|h| h.times = vec![], "times: expected 1 to 20000, found 0"),
        (|h| h.times = (0..30_000).map(|t| t as f32).collect(), "times: expected 1 to 20000, found 30000"),
        (|h| h.times = vec![1.0, f32::INFINITY], "times: expected finite numbers, each once, found inf"),
        (|h| h.times = vec![0.0, 1.0, -0.0], "times: expected finite numbers, each once, found -0"),
        (|h| h.classes = vec![], "classes: expected at least one, found none"),
        (|h| h.classes = vec![2, 1, 10], "classes: expected ascending numbers, found 2 before 1"),
        (|h| h.classes = vec![1, 1, 10], "classes: expected ascending numbers, found 1 before 1"),
        (|h| h.classes = vec![1, 11], "classes: expected 0 to 10, found 11"),
        (|h| h.classes = vec![1, usize::MAX], "classes: expected 0 to 10, found 18446744073709551615"),
        (|h| h.classes = vec![1, 2], "classes: expected the null class 10 among them, found 2"),
    ];
    let f = folder();
    specialised(|_, _| {}).write(&f.path("m.fcdm"));
    let sound = f.bytes("m.fcdm");
    for (change, expected) in wrong {
        let m = specialised(|held, _| change(held));
        let plan = Plan { version: VERSION, reproducible: false, entries: m.entries };
        let refused =
            write(&f.path("x"), &ArtifactContents::new(plan, m.model), vec![], &|| false, &mut |_, _| {}).unwrap_err().to_string();
        assert!(refused.ends_with(&format!("fcdm.model.specialisation.{expected}")), "{refused}");
    }
    // The same length, so that nothing else of the file changes; the reader itself says what the checksum should have been.
    for (from, to, expected) in [
        (r#"\"times\":[0.0]"#, r#"\"times\":[NaN]"#, "fcdm.model: expected a model's description, found "),
        (r#"\"times\":[0.0]"#, r#"\"times\":[1e9]"#, ""),
        (r#"\"even1\""#, r#"\"even0\""#, r#"fcdm.model.specialisation.steps: expected steps of the sampler, found "even0""#),
        ("[1,2,7,10]", "[1,7,2,10]", "fcdm.model.specialisation.classes: expected ascending numbers, found 7 before 2"),
    ] {
        let at = sound.windows(from.len()).position(|w| w == from.as_bytes()).unwrap_or_else(|| panic!("{from}"));
        let mut forged = sound.clone();
        forged[at..at + to.len()].copy_from_slice(to.as_bytes());
        f.write("m.fcdm", &forged);
        let line = f.fails(4, GENERATE);
        let (right, found) = line.split_once("fcdm.checksum: expected ").unwrap().1.split_once(", found `").unwrap();
        let at = forged.windows(16).position(|w| w == &found.as_bytes()[..16]).unwrap();
        forged[at..at + 16].copy_from_slice(right.as_bytes());
        f.write("m.fcdm", &forged);
        match expected {
            "" => assert!(
                f.fails(2, GENERATE)
                    .contains("steps: this model was compiled for 1 steps of ddim and the classes 1, 2, 7, null; found 1 steps")
            ),
            _ => assert!(f.fails(4, GENERATE).contains(expected)),
        }
    }
}
