//! Text that others wrote, made fit for a terminal: what would move the cursor, change its colours or the order of letters is shown as
//! `\u{1b}`, and in what has to stay within a line its end is too.

use std::borrow::Cow;
use std::fmt::Write;

/// Characters that a terminal acts on: control characters, and those that reorder or hide others.
fn acts(c: char) -> bool {
    c.is_control() || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn escaped(text: &str, wrong: impl Fn(char) -> bool, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.contains(&wrong) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if wrong(c) { escape(c, &mut shown) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

fn as_rust(c: char, shown: &mut String) {
    shown.extend(c.escape_default());
}

/// A name or another text of a file, for a place within a line.
pub fn inline(text: &str) -> Cow<'_, str> {
    escaped(text, acts, as_rust)
}

/// Texts of a file within a line, separated by commas.
pub fn list<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    texts.into_iter().map(|text| inline(text.as_ref()).into_owned()).collect::<Vec<_>>().join(", ")
}

/// Whole lines, our own and those of a file's IR: their ends and tabs stay.
pub fn block(text: &str) -> Cow<'_, str> {
    escaped(text, |c| acts(c) && !matches!(c, '\n' | '\t'), as_rust)
}

/// Printed JSON, in whose strings alone such characters stand.
pub fn json_text(text: &str) -> Cow<'_, str> {
    let escape = |c: char, shown: &mut String| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(shown, "\\u{unit:04x}");
        }
    };
    escaped(text, |c| acts(c) && c != '\n', escape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts_on_a_terminal() {
        let hostile = "a\u{1b}]0;x\u{7}\r\nb\tc\u{9b}31m\u{7f}\u{202e}d\u{2066}e\u{2069}\u{200f} \u{e9}\u{1f600}";
        let line = inline(hostile);
        assert!(!line.chars().any(acts), "{line}");
        assert_eq!(line, "a\\u{1b}]0;x\\u{7}\\r\\nb\\tc\\u{9b}31m\\u{7f}\\u{202e}d\\u{2066}e\\u{2069}\\u{200f} \u{e9}\u{1f600}");
        assert!(block(hostile).contains("\\r\nb\tc\\u{9b}31m"), "{}", block(hostile));
        assert!(matches!(inline("plain, `quoted` \"text\""), Cow::Borrowed(_)));
        assert_eq!(list(["a", "b\n"]), "a, b\\n");
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({ "a\u{9b}": ["\u{1b}\u{7f}\u{202e}\u{feff}\n\t\u{e9}"] });
        let text = format!("{value:#}");
        let shown = json_text(&text);
        assert!(!shown.chars().any(|c| acts(c) && c != '\n'), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("it is JSON"), value);
    }
}
