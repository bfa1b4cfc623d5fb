//! Options that cannot be, alone or with the model.

use crate::process::Folder;

fn diffusion() -> Folder {
    let f = Folder::new();
    f.ok("compile GOLDEN/eps8/0000003.pt -o a.fcdm --size 4x4 --batch 1");
    f
}

fn flow() -> Folder {
    let f = Folder::new();
    f.ok("compile GOLDEN/flow16/weights.safetensors -o a.fcdm --size 4x4 --batch 1");
    f
}

#[test]
fn sizes_and_batches() {
    let f = Folder::new();
    let compile = |o: &str| format!("compile GOLDEN/eps8/0000003.pt -o a.fcdm {o}");
    for size in ["30x32", "32x31", "0x32", "32x0", "16388x4", "18446744073709551612x4", "4x4294967296"] {
        let line = f.fails(2, &compile(&format!("--size {size}")));
        assert!(line.contains("must be a multiple of 4 up to 16384, found "), "{line}");
    }
    for size in ["", "x", "axb", "-4x4", "4x4x4", "99999999999999999999x4"] {
        assert!(f.misused(&compile(&format!("--size={size}"))).contains("expected HEIGHTxWIDTH, such as 32x32"));
    }
    for batch in ["0", "1,0", "1025", "18446744073709551615"] {
        assert!(f.fails(2, &compile(&format!("--batch {batch}"))).contains("expected sizes of 1 to 1024"));
    }
    for option in ["--batch=x", "--batch=-1", "--batch=", "-O2", "--no-such-option"] {
        f.misused(&compile(option));
    }
    assert_eq!(f.run("").code, Some(2), "help, on the error output");
    f.misused("compile");
    f.misused("nonsense");
}

/// What no machine could hold is refused, and takes no memory to refuse.
#[test]
fn sizes_beyond_all_memory() {
    let f = Folder::new();
    let line = f.fails(2, "compile GOLDEN/eps8/0000003.pt -o a.fcdm --size 16384x16384 --batch 1024");
    assert!(line.contains("size") && line.contains("batch"), "{line}");
}

#[test]
fn class_names() {
    let f = Folder::new();
    let compile = "compile GOLDEN/eps8/0000003.pt -o a.fcdm --class-names names";
    f.write("names", "a\nb\nc\n");
    assert!(f.fails(2, compile).ends_with("class names: the checkpoint has 10 classes, found 3 names"));
    f.write("names", "");
    assert!(f.fails(2, compile).ends_with("class names: the checkpoint has 10 classes, found 0 names"));
    for (wrong, found) in [("a\na\n", "line 2: "), ("a\n\nb", "line 2: "), ("a,b", "line 1: "), ("7", "line 1: "), ("null", "line 1: ")] {
        f.write("names", wrong);
        assert!(f.fails(2, compile).contains(found));
    }
    f.write("names", b"\xff\xfe\x00");
    assert!(f.fails(1, compile).starts_with("error: names: "));
}

#[test]
fn classes() {
    let f = diffusion();
    for (labels, found) in [
        ("10", "expected 0 to 9, found 10"),
        ("18446744073709551615", "found 18446744073709551615"),
        ("shirt", "no class names"),
        ("1,,2", "found ``"),
    ] {
        let line = f.fails(2, &format!("generate a.fcdm -c {labels} --steps 1"));
        assert!(line.contains(found), "{line}");
    }
    f.fails(2, "generate a.fcdm --class-labels=-1");
}

#[test]
fn without_a_null_class() {
    let f = Folder::new();
    f.ok("compile GOLDEN/eps8/0000003.pt -o a.fcdm --size 4x4 --batch 1 --no-null-class");
    let line = f.fails(2, "generate a.fcdm -c 1 --cfg-scale 4 --steps 1 -o o");
    assert!(line.contains("guidance: expected scale 1, for the model has no null class, found "), "{line}");
    assert!(!f.path("o").exists());
    assert!(f.fails(2, "generate a.fcdm -c null --cfg-scale 1 --steps 1").contains("expected 0 to 10, found `null`"));
    f.ok("generate a.fcdm -c 10 --steps 1 -o o");
}

#[test]
fn samplers() {
    let f = diffusion();
    let wrong = |o: &str| f.fails(2, &format!("generate a.fcdm -c 1 -o o {o}"));
    for steps in ["0", "1001", "18446744073709551615"] {
        assert!(wrong(&format!("--steps {steps}")).contains("steps: expected 1 to 1000, found"));
    }
    assert!(wrong("--steps ddim999").contains("no whole stride keeps exactly 999"));
    assert!(wrong("--steps ddim0").contains("steps: expected"));
    for steps in ["abc", "ddim", "ddimx", "logsnr", "even5.0", "+5", "99999999999999999999999", "5.0"] {
        assert!(wrong(&format!("--steps {steps}")).contains("steps: expected a number"));
    }
    for sampler in ["euler", "heun", "sde"] {
        assert!(
            wrong(&format!("--sampler {sampler}"))
                .contains("sampler: expected ddim, ddpm, dpm++2m or unipc, for this is a diffusion model, found ")
        );
    }
    for (options, expected) in [
        ("--eta 0.5 --ddpm", "eta: expected the sampler ddim with it, found ddpm"),
        ("--eta 0 --sampler unipc", "eta: expected the sampler ddim with it, found unipc"),
        ("--sde-solver heun", "sde-solver: expected the sampler sde with it, found ddim"),
        ("--last-step none", "last-step: expected the sampler sde with it, found ddim"),
    ] {
        assert!(wrong(options).ends_with(expected), "{options}");
    }
    for eta in ["1.5", "-0.1", "NaN", "inf"] {
        assert!(wrong(&format!("--eta={eta}")).contains("eta"));
    }
    for scale in ["NaN", "inf"] {
        assert!(wrong(&format!("--cfg-scale {scale}")).contains("scale"));
    }
    for interval in ["0.9,0.1", "-1,1", "0,1.5", "NaN,1"] {
        assert!(wrong(&format!("--cfg-interval={interval}")).contains("interval"));
    }
    for option in [
        "--cfg-interval 5",
        "--cfg-channels 4",
        "--ddpm --sampler ddim",
        "--sampler best",
        "-b 0",
        "-b 5000",
        "-t 0",
        "-n 0",
        "-n -1",
        "--seed -2",
        "--seed x",
        "-n 2 --seeds 1",
        "--grid x",
    ] {
        f.misused(&format!("generate a.fcdm -c 1 -o o {option}"));
    }
    assert!(!f.path("o").exists());
}

#[test]
fn flow_samplers() {
    let f = flow();
    let wrong = |o: &str| f.fails(2, &format!("generate a.fcdm -c 1 -o o {o}"));
    for (options, expected) in [
        ("--eta 0", "eta: expected the sampler ddim with it, found euler"),
        ("--last-step-size 0.1 --sampler heun", "last-step-size: expected the sampler sde with it, found heun"),
        ("--diffusion-norm 1", "diffusion-norm: expected the sampler sde with it, found euler"),
    ] {
        assert!(wrong(options).ends_with(expected), "{options}");
    }
    for sampler in ["--sampler ddim", "--sampler ddpm", "--ddpm", "--sampler dpm++2m", "--sampler unipc"] {
        assert!(wrong(sampler).contains("sampler: expected euler, heun or sde, for this is a flow model, found "));
    }
    for steps in ["0", "10001", "ddim10", "logsnr10", "x", "18446744073709551615"] {
        assert!(wrong(&format!("--steps {steps}")).contains("steps"));
    }
    for option in
        ["--steps 1", "--diffusion-norm -1", "--diffusion-norm NaN", "--last-step-size 0", "--last-step-size 1.5", "--last-step-size NaN"]
    {
        wrong(&format!("--sampler sde {}", option.replacen(' ', "=", 1)));
    }
    assert!(wrong("--sampler sde --sde-solver heun --last-step none --diffusion-form constant").contains("Heun without a last step"));
    for option in ["--diffusion-form round", "--last-step never", "--sde-solver rk4"] {
        f.misused(&format!("generate a.fcdm -c 1 -o o {option}"));
    }
    assert!(!f.path("o").exists());
}

#[test]
fn seeds_and_numbers_of_pictures() {
    let f = flow();
    for seeds in ["x", "1-", "-1", "5-3", "1,,2", "0-18446744073709551615", "18446744073709551616", "0-9999999,0-9999999"] {
        assert!(f.fails(2, &format!("generate a.fcdm -c 1 --seeds={seeds}")).contains("seeds: expected"), "{seeds}");
    }
    assert!(f.fails(2, "generate a.fcdm -n 1000001").contains("number of pictures: expected at most 10000000, found 10000010"));
    // Ten million of each of ten classes: refused before there is a list of them.
    assert!(f.fails(2, "generate a.fcdm --seeds 0-9999998").contains("number of pictures: expected at most 10000000, found "));
    assert!(f.fails(2, "generate a.fcdm -n 4294967295").contains("number of pictures: expected at most 10000000, found "));
}

/// Memory that is not there is an error, no crash.
#[test]
fn more_states_than_memory() {
    let f = Folder::new();
    f.ok("compile GOLDEN/eps8/0000003.pt -o a.fcdm --size 1024x1024 --batch 1");
    // 10 million states of 16 MB; and 4096 at a time.
    let line = f.fails(1, "generate a.fcdm -c 1 -n 10000000 --steps 1 -o o");
    assert!(line.contains("memory"), "{line}");
    assert!(!f.path("o").exists());
}

#[test]
fn instruction_sets() {
    let f = diffusion();
    for isa in ["nonsense", "avx1024", "\u{1b}[31m"] {
        let mut command = f.command("generate a.fcdm -c 1 --steps 1");
        command.env("FCDM_ISA", isa);
        let line = f.fails_as(1, "FCDM_ISA", command);
        assert!(line.contains("FCDM_ISA") && !line.contains('\u{1b}'), "{line}");
    }
}

#[test]
fn sizes_of_init() {
    let f = Folder::new();
    for line in [
        "init FCDM-M -o a",
        "init FCDM-S",
        "init FCDM-S -o a --num-classes 0",
        "init FCDM-S -o a --in-channels 0",
        "init FCDM-S -o a --seed x",
    ] {
        f.misused(line);
    }
    for line in ["inspect FCDM-S --ir", "inspect FCDM-S --plan", "inspect FCDM-S --dot"] {
        assert!(f.fails(2, line).contains("are for artifacts"));
    }
    f.misused("inspect FCDM-S --ir --plan");
}

#[test]
fn what_cannot_be_specialised_to() {
    let f = Folder::new();
    let diffusion = |o: &str| f.fails(2, &format!("compile GOLDEN/eps8/0000003.pt -o a.fcdm --size 4x4 {o}"));
    let flow = |o: &str| f.fails(2, &format!("compile GOLDEN/flow16/weights.safetensors -o a.fcdm --size 4x4 {o}"));
    assert!(diffusion("--steps 0 --classes 1").ends_with("steps: expected 1 to 1000, found 0"));
    assert!(diffusion("--steps ddim999 --classes 1").contains("no whole stride keeps exactly 999"));
    assert!(diffusion("--steps some --classes 1").contains("steps: expected a number"));
    assert!(
        diffusion("--steps 4 --sampler heun --classes 1")
            .contains("sampler: expected ddim, ddpm, dpm++2m or unipc, for this is a diffusion")
    );
    assert!(
        flow("--steps 4 --sampler ddim --classes 1").contains("sampler: expected euler, heun or sde, for this is a flow model, found ddim")
    );
    assert!(flow("--steps 10001 --classes 1").ends_with("steps: expected 1 to 10000, found 10001"));
    assert!(diffusion("--steps 4 --classes 10").ends_with("class labels: expected 0 to 9, found 10"));
    assert!(diffusion("--steps 4 --classes 3-10").contains("class labels: expected a range within 0 to 9, found `3-10`"));
    assert!(
        diffusion("--steps 4 --classes shirt").contains("class labels: expected 0 to 9, found `shirt`; the artifact has no class names")
    );
    let line = f.fails(2, "compile --vae GOLDEN/kl8 -o a.fcdm --steps 4 --classes 1");
    assert!(line.ends_with("steps: expected a checkpoint, found an autoencoder alone"), "{line}");
    for incomplete in ["--steps 4", "--classes 1", "--sampler ddim", "--classes 1 --sampler ddim", "--steps 4 --classes 1 --sampler best"] {
        f.misused(&format!("compile GOLDEN/eps8/0000003.pt -o a.fcdm {incomplete}"));
    }
}

/// A model that was specialised says what it can be asked for, before anything is made.
#[test]
fn what_a_model_was_not_specialised_to() {
    let f = Folder::new();
    let names: Vec<String> = (0..10).map(|i| format!("garment{i}")).collect();
    f.write("names", names.join("\n"));
    f.ok("compile GOLDEN/eps8/0000003.pt -o a.fcdm --size 4x4 --batch 1 --class-names names --steps 4 --classes garment3,1");
    let held = "this model was compiled for 4 steps of ddim and the classes garment1, garment3, null; found";
    for (options, option, found) in [
        ("--steps 50", "steps", "50 steps of ddim"),
        ("--steps 3", "steps", "3 steps of ddim"),
        ("--steps ddim4", "steps", "ddim4 steps of ddim"),
        ("--steps 5 --eta 0.5", "steps", "5 steps of ddim eta 0.5"),
        ("--sampler dpm++2m --steps 4", "steps", "4 steps of dpm++2m"),
        ("--sampler unipc --steps even5", "steps", "even5 steps of unipc"),
        ("--ddpm --steps 1000", "steps", "1000 steps of ddpm"),
        ("-c 2", "class labels", "garment2"),
        ("-c garment3,GARMENT9", "class labels", "garment9"),
        ("-c 1-3", "class labels", "garment2"),
        ("-c 1,0 --interpolate 2", "class labels", "garment0"),
    ] {
        let line = f.fails(2, &format!("generate a.fcdm -o o {options}"));
        assert_eq!(line, format!("error: {option}: {held} {found}"), "{options}");
    }
    assert!(f.fails(2, "generate a.fcdm -o o -c 10").ends_with("class labels: expected 0 to 9, found 10"));
    assert!(f.fails(2, "generate a.fcdm -o o -c hat").contains("class labels: expected one of garment0, "));
    let inputs = |t: f32, y: f32| {
        f.write(
            "in",
            crate::process::Tensors::default().f32("x", &[1, 4, 4, 4], &[0.0; 64]).f32("t", &[1], &[t]).f32("y", &[1], &[y]).bytes(),
        );
        f.fails(2, "run a.fcdm --inputs in --outputs out")
    };
    assert!(inputs(0.5, 1.0).ends_with(&format!("t: {held} 0.5")));
    assert!(inputs(f32::NAN, 1.0).ends_with(&format!("t: {held} NaN")));
    assert!(inputs(333.0, 2.0).ends_with(&format!("class labels: {held} garment2")));

    f.ok("compile GOLDEN/flow16/weights.safetensors -o b.fcdm --size 4x4 --batch 1 --steps 4 --sampler sde --classes 0-1");
    let held = "this model was compiled for 4 steps of sde and the classes 0, 1, null; found";
    let refused = |o: &str| f.fails(2, &format!("generate b.fcdm -c 0 -o o {o}"));
    assert!(refused("--last-step none").starts_with(&format!("error: steps: {held} 4 steps of sde euler ")));
    assert!(refused("--last-step-size 0.1").contains(held));
    assert!(refused("--sde-solver heun --last-step none").contains(held));
    assert!(refused("--sampler euler").ends_with(&format!("{held} 4 steps of euler")));
    assert!(refused("-c 5").ends_with(&format!("{held} 5")));
    // What begins in the middle is asked for what is left.
    f.ok("compile GOLDEN/flow16/weights.safetensors -o c.fcdm --size 4x4 --batch 1 --steps 4 --classes 0-1");
    f.ok("generate c.fcdm -c 0 -o p.png");
    let line = f.fails(2, "generate c.fcdm -c 0 -o o --steps 8 --init-image p.png --strength 0.3");
    assert!(line.contains("4 steps of euler") && line.ends_with("found 8 steps of euler"), "{line}");
    f.ok("generate c.fcdm -c 0 -o o --steps 2 --init-image p.png --strength 0.5");
}
