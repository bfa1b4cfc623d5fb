//! `config.json` of diffusers' autoencoders, field by field. Each is used, or may only say what is built here anyway, or says
//! nothing of the network; any other is refused by name: who passes over a field computes another network than the file's.
//!
//! A field that is null is as good as left out, and one that is left out has diffusers' default.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

use super::PICTURE_CHANNELS;

/// The fields that nobody has asked for yet.
pub(crate) struct Fields(Map<String, Value>);

/// What is wrong with a field, in one line.
pub(crate) type Wrong = String;

/// Where it came from and what it was trained on; in which precision others run it.
const OF_NO_CONSEQUENCE: [&str; 2] = ["sample_size", "force_upcast"];

impl Fields {
    /// Reads the file's text. Fields that begin with `_` are the library's own, and are left out but for the class.
    pub fn parse(text: &str) -> Result<Fields, Wrong> {
        let map = serde_json::from_str(text).map_err(|e| format!("expected an autoencoder's description: {e}"))?;
        Ok(Fields::of(map))
    }

    /// The fields of a description that has been read, or made.
    pub fn of(mut map: Map<String, Value>) -> Fields {
        map.retain(|name, value| !value.is_null() && (!name.starts_with('_') || name == CLASS));
        Fields(map)
    }

    /// The class, which is one of `known`.
    pub fn class<T: Copy>(&mut self, known: &[(&str, T)]) -> Result<T, Wrong> {
        let found = self.0.remove(CLASS);
        let class = known.iter().find(|(name, _)| found.as_ref().is_some_and(|f| f == name));
        class.map(|&(_, class)| class).ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|&(name, _)| name).collect();
            format!("{CLASS}: expected {}, found {}", names.join(" or "), found.map_or("none".to_owned(), |f| format!("`{}`", shown(&f))))
        })
    }

    /// What autoencoders of all classes have.
    pub fn shared(&mut self) -> Result<(), Wrong> {
        self.0.retain(|name, _| !OF_NO_CONSEQUENCE.contains(&name.as_str()));
        self.fixed("in_channels", &json!(PICTURE_CHANNELS))?;
        self.fixed("out_channels", &json!(PICTURE_CHANNELS))
    }

    /// A field that may only say this.
    pub fn fixed(&mut self, name: &str, expected: &Value) -> Result<(), Wrong> {
        match self.0.remove(name) {
            Some(found) if !equal(&found, expected) => Err(wrong(name, &shown(expected), &found)),
            _ => Ok(()),
        }
    }

    /// A field whose values make no difference.
    pub fn passed_over(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// A count.
    pub fn count(&mut self, name: &str, default: usize, range: RangeInclusive<usize>) -> Result<usize, Wrong> {
        let Some(found) = self.0.remove(name) else { return Ok(default) };
        let expected = || format!("{} to {}", range.start(), range.end());
        whole(&found).filter(|n| range.contains(n)).ok_or_else(|| wrong(name, &expected(), &found))
    }

    /// Counts, which have to be there.
    pub fn counts(&mut self, name: &str) -> Result<Vec<usize>, Wrong> {
        let found = self.0.remove(name).unwrap_or(Value::Null);
        let counts = found.as_array().and_then(|list| list.iter().map(whole).collect());
        counts.ok_or_else(|| wrong(name, "a list of counts", &found))
    }

    /// A number.
    pub fn number(&mut self, name: &str, default: f64) -> Result<f64, Wrong> {
        let Some(found) = self.0.remove(name) else { return Ok(default) };
        found.as_f64().filter(|n| n.is_finite()).ok_or_else(|| wrong(name, "a number", &found))
    }

    /// A number for each of `count` channels, if the field is there.
    pub fn numbers(&mut self, name: &str, count: usize) -> Result<Option<Vec<f64>>, Wrong> {
        let Some(found) = self.0.remove(name) else { return Ok(None) };
        let numbers =
            found.as_array().and_then(|list| list.iter().map(|v| v.as_f64().filter(|n| n.is_finite())).collect::<Option<Vec<f64>>>());
        let numbers = numbers.filter(|list| list.len() == count);
        numbers.map(Some).ok_or_else(|| wrong(name, &format!("{count} numbers, one for each channel of the latents"), &found))
    }

    /// A yes or no.
    pub fn flag(&mut self, name: &str, default: bool) -> Result<bool, Wrong> {
        let Some(found) = self.0.remove(name) else { return Ok(default) };
        found.as_bool().ok_or_else(|| wrong(name, "true or false", &found))
    }

    /// Whether every field has been asked for.
    pub fn finish(self) -> Result<(), Wrong> {
        match self.0.iter().next() {
            Some((name, value)) => Err(format!("{}: expected no such field, found {}", short(name), shown(value))),
            None => Ok(()),
        }
    }
}

const CLASS: &str = "_class_name";

fn wrong(name: &str, expected: &str, found: &Value) -> Wrong {
    format!("{name}: expected {expected}, found {}", shown(found))
}

fn whole(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok())
}

/// Equal as values: 1 is 1.0.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        _ => a == b,
    }
}

fn shown(value: &Value) -> String {
    if let Value::String(text) = value { short(text) } else { short(&value.to_string()) }
}

/// At most a few words of a text, on one line.
fn short(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}
