//! Metrics for TensorBoard: an event file, records of Protocol Buffers with checksums before and behind them (tensorflow/core/lib/io/record_writer and
//! tensorflow/core/util/event.proto, of which three fields are written).

use std::io::{self, Write};

/// Writes events one by one.
pub struct Events<W: Write>(W);

impl<W: Write> Events<W> {
    /// Begins a file, at so many seconds since 1970.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(to: W, seconds: f64) -> io::Result<Events<W>> {
        let mut events = Events(to);
        let mut event = time(seconds);
        bytes_field(&mut event, 3, b"brain.Event:2");
        events.record(&event)?;
        Ok(events)
    }

    /// Adds numbers with their names.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn add(&mut self, seconds: f64, step: u64, scalars: &[(&str, f64)]) -> io::Result<()> {
        let mut summary = Vec::new();
        for (name, value) in scalars {
            let mut one = Vec::new();
            bytes_field(&mut one, 1, name.as_bytes());
            one.push(2 << 3 | 5);
            one.extend((*value as f32).to_le_bytes());
            bytes_field(&mut summary, 1, &one);
        }
        let mut event = time(seconds);
        event.push(2 << 3);
        varint(&mut event, step);
        bytes_field(&mut event, 5, &summary);
        self.record(&event)
    }

    fn record(&mut self, data: &[u8]) -> io::Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        for part in [&length[..], &checksum(&length), data, &checksum(data)] {
            self.0.write_all(part)?;
        }
        self.0.flush()
    }
}

/// The field of the time, with which every event begins.
fn time(seconds: f64) -> Vec<u8> {
    [&[1 << 3 | 1][..], &seconds.to_le_bytes()].concat()
}

fn bytes_field(to: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    to.push(field << 3 | 2);
    varint(to, bytes.len() as u64);
    to.extend(bytes);
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// CRC-32C, rotated and moved, so that checksums of what holds checksums are no weaker.
fn checksum(data: &[u8]) -> [u8; 4] {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn records_are_tensorflow_s() {
        let mut file = Vec::new();
        Events::begin(&mut file, 1.5).unwrap();
        // Made by `tf.io.TFRecordWriter` of the same event.
        assert_eq!(file[..12], [24, 0, 0, 0, 0, 0, 0, 0, 163, 127, 75, 34]);
        assert_eq!(file.len(), 12 + 24 + 4);
        let mut file = Vec::new();
        Events(&mut file).add(2.0, 300, &[("loss", 0.5)]).unwrap();
        let event = [9, 0, 0, 0, 0, 0, 0, 0, 64, 16, 172, 2, 42, 13, 10, 11, 10, 4, b'l', b'o', b's', b's', 21, 0, 0, 0, 63];
        assert_eq!(file[12..file.len() - 4], event);
        assert_eq!(file[file.len() - 4..], checksum(&event));
    }
}
