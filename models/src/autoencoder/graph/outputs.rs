//! What the outputs of an ONNX half are. A decoder's are a picture, or the maps of a pyramid. An encoder's are latents, or the
//! posterior over them, and nothing in the file says which: 8 channels may be latents of 8 channels, or means and log-variances of
//! 4. It is decided by what is known for certain, in this order, and refused where nothing is:
//!
//! 1. two outputs of the same shape: their names (`mean` and `logvar` or `std`);
//! 2. the decoder given beside it takes C channels: C are latents, 2C are moments;
//! 3. the output's name: `parameters` (as Optimum has it), `moments`, `posterior`; or `mean`, `mode`, `sample`;
//! 4. the graph: half of the channels of a wider value are its means;
//! 5. an odd number of channels cannot be moments, and 4 are not those of latents of 2 channels, which no autoencoder has.

use fcdm_ir::{Def, Function, Op, Value};

use super::super::PICTURE_CHANNELS;

/// What an encoder gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Posterior {
    /// Latents, or their means: an output.
    Mean(usize),
    /// Means and log-variances, one after the other: an output.
    Moments(usize),
    /// Means and log-variances: two outputs.
    MeanAndLogVariance(usize, usize),
    /// Means and deviations: two outputs.
    MeanAndDeviation(usize, usize),
}

/// An image that a function gives: its output's name, height, width and channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub name: String,
    pub size: [usize; 2],
    pub channels: usize,
}

/// The outputs as images; `None` if one is none.
pub(super) fn images(f: &Function, names: &[&str]) -> Option<Vec<Image>> {
    let one = |((_, v), name): (&(String, Value), &&str)| {
        let &[_, h, w, c] = &f.ty(*v).shape[..] else { return None };
        Some(Image { name: (*name).to_owned(), size: [h, w], channels: c })
    };
    f.results().iter().zip(names).map(one).collect()
}

/// Along both axes, how many times `small` goes into `large`, if it is the same number.
fn times(large: [usize; 2], small: [usize; 2]) -> Option<usize> {
    let factor = large[0].checked_div(small[0])?;
    (factor > 0 && [0, 1].iter().all(|&a| small[a].checked_mul(factor) == Some(large[a]))).then_some(factor)
}

/// How many times larger than latents of that size the picture of a decoder is: the largest of its outputs, into which all go.
pub(super) fn decoded(images: &[Image], latents: [usize; 2]) -> Option<usize> {
    let largest = images.iter().map(|i| i.size).max()?;
    let fits = |i: &Image| i.channels == PICTURE_CHANNELS && times(largest, i.size).is_some();
    times(largest, latents).filter(|_| images.iter().all(fits))
}

/// How many times smaller than a picture of that size the latents of an encoder are: all outputs, which are of one size.
pub(super) fn encoded(images: &[Image], picture: [usize; 2]) -> Option<usize> {
    let size = images.first()?.size;
    times(picture, size).filter(|_| images.iter().all(|i| i.size == size))
}

/// What names say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Mean,
    Moments,
    LogVariance,
    Deviation,
    Nothing,
}

fn said(name: &str) -> Said {
    let lower = name.to_ascii_lowercase();
    let together: String = lower.chars().filter(char::is_ascii_alphanumeric).collect();
    // Whole words: `model_output` says nothing of a mode.
    let words: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let has = |list: &[&str]| words.iter().any(|w| list.contains(w));
    match (
        ["logvar", "logsigma2"].iter().any(|w| together.contains(w)),
        has(&["std", "stddev", "sigma", "deviation"]),
        has(&["parameters", "moments", "posterior"]),
        has(&["mean", "means", "mode", "sample", "mu"]),
    ) {
        (true, _, false, false) => Said::LogVariance,
        (false, true, false, false) => Said::Deviation,
        (false, false, true, false) => Said::Moments,
        (false, false, false, true) => Said::Mean,
        _ => Said::Nothing,
    }
}

/// What an encoder's outputs are, and why that is certain, in a few words; or what is not, in one line. `latents` are the channels that a
/// decoder beside it takes.
pub(super) fn posterior(images: &[Image], f: &Function, latents: Option<usize>) -> Result<(Posterior, String), String> {
    match images {
        [one] => of_one(one, f, latents).map(|(moments, why)| (if moments { Posterior::Moments(0) } else { Posterior::Mean(0) }, why)),
        [a, b] => of_two([a, b], latents),
        _ => Err(format!("expected one output, or two, found {}", images.len())),
    }
}

/// Whether the one output holds moments.
fn of_one(image: &Image, f: &Function, latents: Option<usize>) -> Result<(bool, String), String> {
    let (name, n) = (&image.name, image.channels);
    let even = n.is_multiple_of(2);
    match (latents, said(name)) {
        (Some(c), _) if n == c => return Ok((false, format!("the decoder takes {c}"))),
        (Some(c), _) if n == 2 * c => return Ok((true, format!("the decoder takes {c}"))),
        (Some(c), _) => return Err(format!("output `{name}`: expected {c} channels, as the decoder takes, or {}, found {n}", 2 * c)),
        (None, Said::Moments) if !even => {
            return Err(format!("output `{name}`: expected moments in an even number of channels, found {n}"));
        }
        (None, Said::Moments) => return Ok((true, "so it is called".to_owned())),
        (None, Said::Mean) => return Ok((false, "so it is called".to_owned())),
        (None, _) => {}
    }
    match (is_first_half(f), even) {
        (true, _) => Ok((false, format!("they are the first half of {}", 2 * n))),
        (_, false) => Ok((false, "their number is odd".to_owned())),
        _ if n == 4 => Ok((false, "there are no latents of 2 channels".to_owned())),
        _ => Err(format!(
            "output `{name}`: {n} channels may be latents, or means and log-variances of {}: give the decoder with it (ENCODER.onnx,DECODER.onnx), \
             or export it as `latent_mean` or `latent_parameters`",
            n / 2
        )),
    }
}

fn of_two([a, b]: [&Image; 2], latents: Option<usize>) -> Result<(Posterior, String), String> {
    let why = "so they are called".to_owned();
    let wrong = || {
        let shown = [a, b].map(|i| format!("`{}` of {} channels", i.name, i.channels)).join(" and ");
        let expected = latents.map_or(String::new(), |c| format!(" of {c} channels"));
        format!("expected outputs that are a mean and a logvar or a std{expected}, by their names, or moments, found {shown}")
    };
    let (first, second) = (said(&a.name), said(&b.name));
    if a.channels == b.channels && latents.is_none_or(|c| c == a.channels) {
        match (first, second) {
            (Said::Mean, Said::LogVariance) => return Ok((Posterior::MeanAndLogVariance(0, 1), why)),
            (Said::LogVariance, Said::Mean) => return Ok((Posterior::MeanAndLogVariance(1, 0), why)),
            (Said::Mean, Said::Deviation) => return Ok((Posterior::MeanAndDeviation(0, 1), why)),
            (Said::Deviation, Said::Mean) => return Ok((Posterior::MeanAndDeviation(1, 0), why)),
            _ => {}
        }
    }
    // Moments, and beside them what follows from them.
    for (i, (moments, other)) in [(a, b), (b, a)].into_iter().enumerate() {
        let both = moments.channels == 2 * other.channels && latents.is_none_or(|c| c == other.channels);
        if both && said(&moments.name) == Said::Moments {
            return Ok((Posterior::Moments(i), why));
        }
    }
    Err(wrong())
}

/// Whether the one result is, but for factors and offsets, the first half of the channels of a value.
fn is_first_half(f: &Function) -> bool {
    let [(_, result)] = f.results() else { return false };
    let mut v = *result;
    loop {
        let Def::Result { inst, index } = f.value(v).def else { return false };
        let inst = &f.insts()[inst];
        match &inst.op {
            Op::Scale(_) | Op::Offset(_) => v = inst.operands[0],
            Op::Split(split) => return split.axis == 3 && split.parts == 2 && index == 0,
            Op::Slice(slice) => {
                return slice.axis == 3 && slice.start == 0 && f.ty(inst.operands[0]).shape.get(3) == Some(&(2 * slice.len));
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Said, said};

    #[test]
    fn names_say_what_their_words_say() {
        for (name, expected) in [
            ("latent_parameters", Said::Moments),
            ("moments", Said::Moments),
            ("latent_sample", Said::Mean),
            ("mean", Said::Mean),
            ("log_var", Said::LogVariance),
            ("logvar", Said::LogVariance),
            ("latent_std", Said::Deviation),
        ] {
            assert!(said(name) == expected, "{name}");
        }
        for name in ["model_output", "output", "resampled", "standard_out", "mean_logvar", "posterior_mean", "mural"] {
            assert!(said(name) == Said::Nothing, "{name}");
        }
    }
}
