//! `fcdm quantize-report`: what is in its two files, and that browsers show the page.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::Value as Json;

use crate::process::Folder;

const FLOW: &str = "GOLDEN/flow16/weights.safetensors --size 8x8";

fn numbers(f: &Folder, folder: &str) -> Json {
    serde_json::from_slice(&f.bytes(&format!("{folder}/report.json"))).unwrap()
}

fn page(f: &Folder, folder: &str) -> String {
    String::from_utf8(f.bytes(&format!("{folder}/report.html"))).unwrap()
}

/// Nothing that a browser would have to ask for, and nothing that it would run.
#[track_caller]
fn is_by_itself(page: &str) {
    for what in ["http:", "https:", "<script", "<link", "url(", "@import", "<iframe", " onload"] {
        assert!(!page.contains(what), "{what}");
    }
    for source in page.split("src=\"").skip(1) {
        assert!(source.starts_with("data:image/png;base64,"), "{}", &source[..40]);
    }
}

#[test]
fn numbers_and_pictures_of_every_type() {
    let f = Folder::new();
    let said = f.ok(&format!("quantize-report {FLOW} -o r --types f16,i8,w8a8,i4 -n 3 -c 1,2 --steps 5 --quiet"));
    assert!(said.lines().any(|l| l.starts_with("w8a8 ")) && said.ends_with("wrote r/report.html\n"), "{said}");
    assert_eq!(f.files(), ["r/report.html", "r/report.json"]);
    let report = numbers(&f, "r");
    assert_eq!(report["kind"], "fcdm quantize-report 1");
    assert_eq!(report["classes"], serde_json::json!(["class 1", "class 2", "class 1"]));
    let types = report["types"].as_array().unwrap();
    let names: Vec<&str> = types.iter().map(|t| t["type"].as_str().unwrap()).collect();
    assert_eq!(names, ["f32", "f16", "i8", "w8a8", "i4"]);
    // What is equal in every bit has no number.
    let floats = &types[0];
    assert!(floats["psnr_db"]["mean"].is_null() && floats["snr_db"]["worst"].is_null() && floats["ssim"]["worst"] == 1.0, "{floats}");
    for ty in &types[1..] {
        let of = |key: &str| ty[key]["mean"].as_f64().unwrap_or(f64::INFINITY);
        assert!(ty["snr_db"]["worst"].as_f64().unwrap() <= of("snr_db") && of("ssim") <= 1.0, "{ty}");
        let steps = ty["step_snr_db"].as_array().unwrap();
        assert_eq!(steps.len(), 5);
        assert!(ty["file_bytes"].as_u64() < floats["file_bytes"].as_u64() && ty["memory_bytes"].as_u64() > ty["file_bytes"].as_u64());
        assert!(ty["step_ms"].as_f64().unwrap() > 0.0 && ty["picture_ms"].as_f64() > ty["step_ms"].as_f64());
        let layers = ty["weight_snr_db"].as_object().unwrap();
        assert!(layers.len() > 20 && layers["latent.0.pwconv1.weight"].as_f64().is_none_or(|db| db > 10.0), "{layers:?}");
    }
    let snr = |i: usize| types[i]["snr_db"]["mean"].as_f64().unwrap();
    assert!(snr(1) > snr(2) && snr(2) > snr(4), "{names:?}");
    let page = page(&f, "r");
    is_by_itself(&page);
    assert_eq!(page.matches("<img ").count(), 5);
    assert!(page.contains("<td>w8a8</td>") && page.matches("<svg ").count() == 2 && page.contains("class 1, class 2, class 1"));
    // A report makes way for another, and for nothing else.
    f.ok(&format!("quantize-report {FLOW} -o r --types i8 -n 1 --steps 2 --calibrate --quiet"));
    assert_eq!(numbers(&f, "r")["types"].as_array().unwrap().len(), 2);
    f.write("r/report.json", "{}");
    let e = f.fails(2, &format!("quantize-report {FLOW} -o r --types i8 -n 1 --steps 2"));
    assert!(e.starts_with("error: output: r/report.html is no report of this kind; --force overwrites it"), "{e}");
    f.ok(&format!("quantize-report {FLOW} -o r --types i8 -n 1 --steps 2 --force --quiet"));
}

#[test]
fn latents_have_pictures_with_an_autoencoder() {
    let f = Folder::new();
    let line = "quantize-report GOLDEN/eps8/0000003.pt --size 8x8 --types i8 -n 2 --steps 3 --quiet";
    f.ok(&format!("{line} -o a"));
    assert!(page(&f, "a").contains("give one with --vae") && numbers(&f, "a")["types"][1]["psnr_db"].is_null());
    f.ok(&format!("{line} --vae GOLDEN/kl8 -o b"));
    assert_eq!(page(&f, "b").matches("<img ").count(), 2);
    assert!(numbers(&f, "b")["types"][1]["psnr_db"]["mean"].as_f64().unwrap() > 10.0);
}

#[test]
fn beside_a_compilation() {
    let f = Folder::new();
    f.ok(&format!("compile {FLOW} --quantize auto --min-psnr 30 --steps 4 --classes 1,3 --quantize-report r -o a.fcdm --quiet"));
    let report = numbers(&f, "r");
    assert_eq!(
        (&report["types"][1]["type"], &report["types"][1]["file_bytes"]),
        (&Json::from("auto"), &Json::from(f.bytes("a.fcdm").len()))
    );
    assert_eq!(report["types"][1]["step_snr_db"].as_array().unwrap().len(), 4);
    assert_eq!(report["classes"][1], "class 3");
    assert!(f.misused("compile --vae GOLDEN/kl8 --quantize-report r -o b.fcdm").contains("required"));
    let refused = f.misused(&format!("quantize-report {FLOW} --types i3"));
    assert!(refused.contains("expected a type (f32, f16, bf16, i8, i6, i4, w8a8, w6a8, w4a8), found `i3`"), "{refused}");
}

/// In a browser without a screen: all pictures are there, and nothing was complained of.
#[test]
fn browsers_show_it() {
    let Some(browser) =
        ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|b| Command::new(b).arg("--version").output().is_ok())
    else {
        assert!(std::env::var_os("FCDM_NEEDS_BROWSER").is_none(), "there is no chromium to show the page in");
        eprintln!("skipped: there is no chromium to show the page in");
        return;
    };
    let f = Folder::new();
    f.ok(&format!("quantize-report {FLOW} -o r --types i8,i4 -n 2 --steps 3 --quiet"));
    // A copy of the page says what has become of it.
    let script = "<script>window.onerror = e => document.title = 'wrong: ' + e; window.onload = () => { const all = [...document.images]; \
                  document.title = `pictures ${all.filter(i => i.complete && i.naturalWidth > 10).length} of ${all.length}, charts \
                  ${[...document.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().height > 100).length}, wide \
                  ${document.documentElement.scrollWidth > innerWidth}`; };</script></head>";
    f.write("r/told.html", page(&f, "r").replacen("</head>", script, 1));
    let profile = tempfile::tempdir().unwrap();
    let out = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"])
        .args(["--disable-component-update", "--disable-sync", "--window-size=500,800", "--enable-logging=stderr", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}", f.path("r/told.html").display()))
        .output()
        .unwrap();
    let (dom, said) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(dom.contains("<title>pictures 3 of 3, charts 2, wide false</title>"), "{:?} {said}", dom.get(..2000));
    assert!(!said.contains("CONSOLE"), "{said}");
}
