//! Names of the entry points that networks, autoencoders and imported graphs have. A plan may have others; what is looked for
//! by name is one of these. Text and value are inverse to each other: a name in a plan is this text, letter by letter.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::artifact::one_line;

/// The name of an entry point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryName {
    /// `condition`: what a denoiser takes of timestep and class.
    Condition,
    /// `denoise`: what comes once for each step of a sampler.
    Denoise,
    /// `network`: an imported graph as a whole.
    Network,
    /// `encode`: a picture to latents.
    Encode,
    /// `decode`, `preview`: latents to a picture; as `decode.HxW` the latents of a tile, by height and width.
    Decode(DecoderKind, Option<[usize; 2]>),
}

/// Decoders that an artifact may have at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecoderKind {
    /// The autoencoder's.
    Own,
    /// The cheaper one, for previews.
    Preview,
}

impl DecoderKind {
    /// All of them.
    pub const ALL: [DecoderKind; 2] = [DecoderKind::Own, DecoderKind::Preview];
}

impl fmt::Display for DecoderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DecoderKind::Own => "decode",
            DecoderKind::Preview => "preview",
        })
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EntryName::Condition => f.write_str("condition"),
            EntryName::Denoise => f.write_str("denoise"),
            EntryName::Network => f.write_str("network"),
            EntryName::Encode => f.write_str("encode"),
            EntryName::Decode(kind, None) => write!(f, "{kind}"),
            EntryName::Decode(kind, Some([h, w])) => write!(f, "{kind}.{h}x{w}"),
        }
    }
}

/// A text that is no such name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected condition, denoise, network, encode, decode, preview, decode.HxW or preview.HxW, found `{0}`")]
pub struct EntryNameError(String);

impl FromStr for EntryName {
    type Err = EntryNameError;

    fn from_str(text: &str) -> Result<EntryName, EntryNameError> {
        let tile = text.split_once('.').and_then(|(_, tile)| tile.split_once('x'));
        let tile = tile.and_then(|(h, w)| Some([h.parse().ok()?, w.parse().ok()?]));
        let plain = [EntryName::Condition, EntryName::Denoise, EntryName::Network, EntryName::Encode];
        let decoders = DecoderKind::ALL.into_iter().flat_map(|kind| [None, tile].map(|tile| EntryName::Decode(kind, tile)));
        // A number has several texts, a name has one.
        let found = plain.into_iter().chain(decoders).find(|name| name.to_string() == text);
        found.ok_or_else(|| EntryNameError(one_line(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_name_are_inverse() {
        let tiles = [None, Some([16, 32]), Some([0, usize::MAX])];
        let decoders = DecoderKind::ALL.into_iter().flat_map(|kind| tiles.map(|tile| EntryName::Decode(kind, tile)));
        let plain = [EntryName::Condition, EntryName::Denoise, EntryName::Network, EntryName::Encode];
        let names: Vec<EntryName> = plain.into_iter().chain(decoders).collect();
        for &name in &names {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        let texts: Vec<String> = names.iter().map(ToString::to_string).collect();
        // What plans in artifacts say.
        let expected = ["condition", "denoise", "network", "encode", "decode", "decode.16x32", "decode.0x18446744073709551615"];
        assert_eq!(texts[..7], expected);
        assert_eq!(texts[7..9], ["preview", "preview.16x32"]);
    }

    #[test]
    fn every_other_text_is_refused_in_one_line() {
        let hostile = ["\u{1b}[31m\n".to_owned(), "x".repeat(1 << 20)];
        let near = "|Decode|denoise.1|encode.16x16|decode.|decode.x|decode.16|decode.016x16|decode.+16x16|decode.16x16x16|\
                    decode.16x16.16x16|decode.-1x1|decode.16x99999999999999999999|preview .16x16";
        for text in near.split('|').map(str::to_owned).chain(hostile) {
            let line = text.parse::<EntryName>().expect_err("no such name").to_string();
            assert!(line.contains("expected condition, ") && !line.contains(char::is_control) && line.len() < 700, "{line}");
        }
    }
}
