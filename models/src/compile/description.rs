//! What an artifact says of how it was made: provenance and report.

use fcdm_ir::Function;
use fcdm_passes::Report;
use serde_json::{Value, json};

use super::{Condition, Networks};
use crate::autoencoder::Half;
use crate::fcdm;
use crate::fcdm::cost::{macs_by_stage, parameters_by_part};
use crate::import::Survey;
use crate::options::Options;

/// Where it comes from.
pub(super) fn provenance(networks: Networks<'_>, options: &Options, surveys: &[(&'static str, Survey)]) -> Value {
    let mut p = json!({ "compiler": format!("fcdm {}", env!("CARGO_PKG_VERSION")) });
    for (name, survey) in surveys {
        p[*name] = json!(format!("{:016x}", survey.fingerprint));
    }
    if let Some(source) = &options.source {
        p["source"] = json!(source);
        if let Some(import) = networks.fcdm {
            p["arguments"] = json!(import.arguments());
        }
    }
    p
}

/// The passes as they ran: name, whether anything changed, instructions before and after.
pub fn passes_json(report: &Report) -> serde_json::Value {
    report.runs.iter().map(|r| json!({ "pass": r.pass, "fired": r.fired, "before": r.before, "after": r.after })).collect()
}

/// What its networks have and cost, the passes as they ran, how it was specialised and which types were chosen, if that was asked for.
pub(super) fn report(
    networks: Networks<'_>,
    options: &Options,
    condition: Option<&Condition>,
    passes: &Report,
    quantised: Option<&Value>,
) -> Value {
    let list = |pairs: Vec<(String, u64)>| pairs.into_iter().map(|(k, v)| json!([k, v])).collect::<Vec<_>>();
    let (mut parameters, mut macs) = (Vec::new(), Vec::new());
    if let Some(import) = networks.fcdm {
        let size = fcdm::Size { batch: 1, height: options.height, width: options.width };
        parameters.extend(parameters_by_part(import.config()).into_iter().map(|(k, v)| (k.to_owned(), v)));
        macs.extend(macs_by_stage(&fcdm::network(import.config(), size)));
    }
    if let Some(a) = networks.autoencoder {
        parameters.push(("autoencoder".to_owned(), a.count()));
        let cost = |f: Function| fcdm_ir::graph::cost(&f).macs;
        let decode = options.decoder.then(|| a.decode(options.height, options.width).ok()).flatten();
        macs.extend(decode.map(|f| (Half::Decoder.entry_name().to_string(), cost(f))));
    }
    let mut report = json!({
        "precision": options.types.name(),
        "parameters": list(parameters),
        "macs": list(macs),
        "passes": passes_json(passes),
    });
    if let Some(condition) = condition {
        report["condition"] = condition.to_json();
    }
    if let Some(quantised) = quantised {
        report["quantisation"] = quantised.clone();
    }
    report
}
