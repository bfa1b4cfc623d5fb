//! An artifact's autoencoder: latents to pictures, whole or in tiles, and pictures to latents.
//!
//! Entry points, one row each: `decode(latent [1,h,w,C]) -> picture [1,fh,fw,P]` for latents of one size, and as
//! `decode.HxW` for tiles; `encode(picture) -> mean [1,h,w,C]`, and `std` where the posterior has one. Pictures are in [-1,1].
//! `preview` is a second, cheaper decoder.
//!
//! A tile sees nothing of what is around it, so neighbours overlap by a quarter and are blended linearly there. What looks at
//! the whole image (attention, the statistics of group norms) looks at a tile: results are close to those of the whole,
//! not equal.

use std::sync::Arc;

use crate::artifact::Artifact;
use crate::engine::{Device, Engine};
use crate::entry_name::DecoderKind;
use crate::entry_points::{DecoderEntry, EntryPoints, Image, checked, image};
use crate::executor::Input;
use crate::memory::{Need, bytes, f32s};
use crate::network::NetworkError;
use crate::plan::{Entry, Place};

/// Share of a tile by which it overlaps the next.
const OVERLAP: usize = 4;

/// Bytes that decoding latents of height and width `size` by an entry point takes on a device: values, scratch, its
/// weights, latents and picture, and for a tile its own latents and picture.
pub fn decoding_bytes(entry: &Entry, size: [usize; 2], device: &dyn Device) -> u64 {
    let (arena, scratch) = device.memory_of(entry);
    let mut weights: Vec<(&str, usize)> = Vec::new();
    for operand in entry.steps.iter().flat_map(|s| &s.inputs) {
        if let Place::Weight(name) = &operand.at {
            weights.push((name, operand.bytes()));
        }
    }
    weights.sort_unstable();
    weights.dedup();
    let weights: u64 = weights.iter().map(|&(_, bytes)| bytes as u64).sum();
    let ports = entry.inputs.iter().chain(&entry.outputs).filter_map(image);
    let own = ports.fold(0u64, |sum, image| sum.saturating_add(f32s(&image)));
    let whole = entry.inputs.first().and_then(image).map_or(0, |[h, w, _]| {
        // Latents and picture grow alike.
        let times = (size[0] as u64 * size[1] as u64).div_ceil((h as u64 * w as u64).max(1));
        if [h, w] == size { 0 } else { own.saturating_mul(times) }
    });
    [arena as u64, scratch as u64, weights, own, whole].into_iter().fold(0, u64::saturating_add)
}

/// A decoder, ready for latents of one size.
pub struct Decoder {
    engine: Box<dyn Engine>,
    /// Latents, of which a tile is a part.
    latent: Image,
    picture: Image,
    rows: Vec<Tile>,
    columns: Vec<Tile>,
    tile_latent: Vec<f32>,
    tile_picture: Vec<f32>,
    bytes: u64,
}

/// Where a tile lies along one axis, and how much of every pixel there comes from it.
struct Tile {
    /// First latent.
    start: usize,
    /// A share for every pixel; those of all tiles at a pixel sum to 1.
    shares: Vec<f32>,
}

impl Decoder {
    /// Chooses among an artifact's decoders of that kind the one for latents of height and width `size`: the
    /// one of that size, or the largest tile, that takes at most `max_memory` bytes.
    ///
    /// # Errors
    /// When there is none of that kind, none for that size, none in that memory, or one that is not sound.
    pub fn new(
        artifact: &Arc<Artifact>,
        kind: DecoderKind,
        size: [usize; 2],
        device: &dyn Device,
        max_memory: Option<u64>,
    ) -> Result<Decoder, NetworkError> {
        let file = artifact.path().display().to_string();
        let mut found = EntryPoints::of(artifact)?.decoders;
        found.retain(|decoder| decoder.kind == kind);
        if found.is_empty() {
            let expected = match kind {
                DecoderKind::Own => "a decoder",
                DecoderKind::Preview => "a decoder for previews",
            };
            return Err(NetworkError::Lacks { file, expected });
        }
        found.retain(|d| d.latent[..2] == size || d.latent[0] <= size[0] && d.latent[1] <= size[1]);
        if found.is_empty() {
            let message = format!("`{kind}`: expected latents of at least the smallest tile, found {}x{}", size[0], size[1]);
            return Err(NetworkError::Entries { file, message });
        }
        // The whole before tiles, large tiles before small ones.
        found.sort_by_key(|d| std::cmp::Reverse(d.latent[0] * d.latent[1]));
        let mut least = u64::MAX;
        for decoder in found {
            let entry = &artifact.plan().entries[decoder.place];
            // Checked before its memory is asked about.
            let plan = checked(artifact, vec![entry.clone()]).map_err(|source| NetworkError::Plan { file: file.clone(), source })?;
            let bytes = decoding_bytes(entry, size, device);
            least = least.min(bytes);
            if max_memory.is_none_or(|most| bytes <= most) {
                NetworkError::reserve(&file, &need(&decoder, size, device.memory_of(entry)))?;
                let engine = device.load(plan, artifact.clone()).map_err(|e| NetworkError::load(&file, e))?;
                return Ok(Decoder::tiled(engine, decoder.latent, decoder.picture, size, bytes));
            }
        }
        let size = format!("{}x{}", size[0], size[1]);
        Err(NetworkError::Memory { file, size, needed: least, allowed: max_memory.unwrap_or(u64::MAX) })
    }

    fn tiled(engine: Box<dyn Engine>, tile: Image, tile_picture: Image, size: [usize; 2], bytes: u64) -> Decoder {
        let factor = tile_picture[0] / tile[0];
        let [rows, columns] = [0, 1].map(|axis| tiles(size[axis], tile[axis], factor));
        let buffer = |image: Image| vec![0.0; if rows.len() * columns.len() > 1 { image.iter().product() } else { 0 }];
        Decoder {
            tile_latent: buffer(tile),
            tile_picture: buffer(tile_picture),
            engine,
            latent: [size[0], size[1], tile[2]],
            picture: [size[0] * factor, size[1] * factor, tile_picture[2]],
            rows,
            columns,
            bytes,
        }
    }

    /// Height, width and channels of pictures.
    pub fn picture(&self) -> [usize; 3] {
        self.picture
    }

    /// Number of tiles that a picture is made of, 1 for the whole.
    pub fn tiles(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// Bytes that decoding takes, as [`decoding_bytes`] counts them.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that are held from load on.
    pub fn held_bytes(&self) -> u64 {
        let (values, scratch) = self.engine.memory();
        4 * (self.tile_latent.len() + self.tile_picture.len()) as u64 + values as u64 + scratch as u64
    }

    /// Decodes latents `[h,w,C]` into a picture `[H,W,P]` in [-1,1], nominally. Allocates nothing.
    ///
    /// # Panics
    /// If a length is another.
    pub fn decode(&mut self, latent: &[f32], picture: &mut [f32]) {
        assert_eq!(latent.len(), self.latent.iter().product::<usize>(), "values of the latents");
        assert_eq!(picture.len(), self.picture.iter().product::<usize>(), "values of the picture");
        if self.tiles() == 1 {
            self.engine.run(0, &[Input::F32(latent)], &mut [picture]);
            return;
        }
        picture.fill(0.0);
        for r in 0..self.rows.len() {
            for c in 0..self.columns.len() {
                self.take(latent, r, c);
                self.engine.run(0, &[Input::F32(&self.tile_latent)], &mut [&mut self.tile_picture]);
                self.blend(picture, r, c);
            }
        }
    }

    /// Latents of a tile into its buffer.
    fn take(&mut self, latent: &[f32], r: usize, c: usize) {
        let [_, w, channels] = self.latent;
        let factor = self.picture[0] / self.latent[0];
        let (top, left) = (self.rows[r].start, self.columns[c].start);
        let row = self.columns[c].shares.len() / factor * channels;
        for (y, to) in self.tile_latent.chunks_exact_mut(row).enumerate() {
            to.copy_from_slice(&latent[((top + y) * w + left) * channels..][..row]);
        }
    }

    /// Adds a tile's picture, each pixel by its share.
    fn blend(&self, picture: &mut [f32], r: usize, c: usize) {
        let [_, w, channels] = self.picture;
        let factor = self.picture[0] / self.latent[0];
        let (rows, columns) = (&self.rows[r], &self.columns[c]);
        let tile = self.tile_picture.chunks_exact(columns.shares.len() * channels);
        for ((y, share), from) in rows.shares.iter().enumerate().zip(tile) {
            let to = &mut picture[((rows.start * factor + y) * w + columns.start * factor) * channels..][..from.len()];
            for ((to, from), column) in to.chunks_exact_mut(channels).zip(from.chunks_exact(channels)).zip(&columns.shares) {
                to.iter_mut().zip(from).for_each(|(to, from)| *to += share * column * from);
            }
        }
    }
}

/// What decoding takes that is allocated: also what callers do, a picture's values and bytes.
fn need(decoder: &DecoderEntry, [h, w]: [usize; 2], (values, scratch): (usize, usize)) -> Need {
    let factor = decoder.picture[0] / decoder.latent[0];
    let picture = [factor, factor, h, w, decoder.picture[2]];
    let tile = if [h, w] == decoder.latent[..2] { 0 } else { f32s(&decoder.latent).saturating_add(f32s(&decoder.picture)) };
    Need::of(format!("decoding latents of {h}x{w}"))
        .with("decoder", (values as u64).saturating_add(scratch as u64))
        .with("tile", tile)
        .with("picture", bytes(&picture, 5))
}

/// Tiles of `tile` latents over `extent` of them, and the shares of their pixels, which fall linearly where tiles overlap.
fn tiles(extent: usize, tile: usize, factor: usize) -> Vec<Tile> {
    let step = tile - tile / OVERLAP;
    let last = extent - tile;
    let starts: Vec<usize> = (0..last.div_ceil(step)).map(|i| i * step).chain([last]).collect();
    let pixels = tile * factor;
    let ramp = (tile / OVERLAP * factor).max(1) as f32;
    // From 1 inside of the tile down towards its sides, but for those at the image's.
    let weight = |start: usize, pixel: usize| {
        let before = if start == 0 { ramp } else { pixel as f32 + 0.5 };
        let after = if start == last { ramp } else { (pixels - pixel) as f32 - 0.5 };
        (before.min(after) / ramp).min(1.0)
    };
    let mut sums = vec![0.0f32; extent * factor];
    for &start in &starts {
        (0..pixels).for_each(|pixel| sums[start * factor + pixel] += weight(start, pixel));
    }
    let shares = |start: usize| (0..pixels).map(|pixel| weight(start, pixel) / sums[start * factor + pixel]).collect();
    starts.iter().map(|&start| Tile { start, shares: shares(start) }).collect()
}

/// An encoder of pictures of one size.
pub struct Encoder {
    engine: Box<dyn Engine>,
    picture: Image,
    latent: Image,
    has_deviation: bool,
}

impl Encoder {
    /// The artifact's encoder.
    ///
    /// # Errors
    /// When there is none, or one that is not sound.
    pub fn new(artifact: &Arc<Artifact>, device: &dyn Device) -> Result<Encoder, NetworkError> {
        let file = artifact.path().display().to_string();
        let Some(encoder) = EntryPoints::of(artifact)?.encoder else {
            return Err(NetworkError::Lacks { file, expected: "an encoder (compile --encoder)" });
        };
        let entry = artifact.plan().entries[encoder.place].clone();
        let plan = checked(artifact, vec![entry.clone()]).map_err(|source| NetworkError::Plan { file: file.clone(), source })?;
        let (picture, latent, has_deviation) = (encoder.picture, encoder.latent, encoder.has_deviation);
        let (values, scratch) = device.memory_of(&entry);
        // Callers hold a picture's bytes twice, where one is mirrored, and mean and deviation of both in two orders.
        let need = Need::of(format!("encoding pictures of {}x{}", picture[0], picture[1]))
            .with("encoder", (values as u64).saturating_add(scratch as u64))
            .with("picture", bytes(&picture, 6))
            .with("latents", bytes(&latent, 4 * 8));
        NetworkError::reserve(&file, &need)?;
        let engine = device.load(plan, artifact.clone()).map_err(|e| NetworkError::load(&file, e))?;
        Ok(Encoder { engine, picture, latent, has_deviation })
    }

    /// Height, width and channels of pictures.
    pub fn picture(&self) -> [usize; 3] {
        self.picture
    }

    /// Height, width and channels of latents.
    pub fn latent(&self) -> [usize; 3] {
        self.latent
    }

    /// Whether the posterior has a standard deviation; else it is a point.
    pub fn has_deviation(&self) -> bool {
        self.has_deviation
    }

    /// Encodes a picture `[H,W,P]` in [-1,1]: mean and standard deviation of the latents `[h,w,C]`. Allocates nothing. A posterior
    /// that is a point has deviation 0.
    ///
    /// # Panics
    /// If a length is another.
    pub fn encode(&mut self, picture: &[f32], mean: &mut [f32], deviation: &mut [f32]) {
        if self.has_deviation {
            self.engine.run(0, &[Input::F32(picture)], &mut [mean, deviation]);
        } else {
            deviation.fill(0.0);
            self.engine.run(0, &[Input::F32(picture)], &mut [mean]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_and_their_shares_are_whole() {
        for (extent, tile, factor) in [(16, 16, 8), (17, 16, 8), (64, 32, 8), (100, 16, 2), (5, 1, 4), (7, 3, 1)] {
            let tiles = tiles(extent, tile, factor);
            let mut sums = vec![0.0f32; extent * factor];
            for t in &tiles {
                assert_eq!(t.shares.len(), tile * factor);
                t.shares.iter().enumerate().for_each(|(i, s)| sums[t.start * factor + i] += s);
            }
            assert!(sums.iter().all(|s| (s - 1.0).abs() < 1e-6), "{extent} {tile} {factor}: {sums:?}");
            assert_eq!(tiles.len() == 1, extent == tile);
        }
    }

    /// Where one tile alone is far from the other's sides it alone counts; between, shares change by equal steps.
    #[test]
    fn shares_fall_linearly_over_the_overlap() {
        let tiles = tiles(28, 16, 1);
        assert_eq!(tiles.iter().map(|t| t.start).collect::<Vec<_>>(), [0, 12]);
        assert_eq!(tiles[0].shares[..12], [1.0; 12]);
        assert_eq!(tiles[0].shares[12..], [0.875, 0.625, 0.375, 0.125]);
        assert_eq!(tiles[1].shares[..4], [0.125, 0.375, 0.625, 0.875]);
    }
}
