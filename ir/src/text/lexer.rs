//! Tokens of the text form.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// A name, a number, a keyword.
    Word(&'a str),
    /// `%name`.
    Value(&'a str),
    /// `@name`.
    Global(&'a str),
    /// One of `{}()[],:=`.
    Punct(char),
    /// Any other character.
    Unknown(char),
    /// The end of the text.
    End,
}

/// A token and where it starts, from 1; columns in characters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) line: usize,
    pub(super) col: usize,
}

/// True for the characters of names and numbers.
pub(crate) fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.$-".contains(c)
}

/// Reads token by token: none is kept, so that a text costs no more memory than what it says.
pub(super) struct Lexer<'a> {
    /// What follows in the current line.
    rest: &'a str,
    /// The lines after it.
    lines: std::str::Split<'a, char>,
    line: usize,
    col: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let mut lines = text.split('\n');
        Lexer { rest: lines.next().unwrap_or(""), lines, line: 1, col: 1 }
    }

    /// The next token; `End` for ever when there is none.
    pub(super) fn next(&mut self) -> Token<'a> {
        loop {
            let (line, col) = (self.line, self.col);
            let Some(c) = self.rest.chars().next().filter(|&c| c != ';') else {
                // A comment is skipped with its line, save that the last line's end is where the text ends.
                let Some(next) = self.lines.next() else {
                    let col = col + self.rest.chars().count();
                    return Token { kind: Kind::End, line, col };
                };
                (self.rest, self.line, self.col) = (next, line + 1, 1);
                continue;
            };
            let (kind, len) = first(self.rest, c);
            self.col += self.rest[..len].chars().count();
            self.rest = &self.rest[len..];
            if let Some(kind) = kind {
                return Token { kind, line, col };
            }
        }
    }
}

/// The token at the start of `rest`, whose first character is `c`, and its length in bytes; no token for white space.
fn first(rest: &str, c: char) -> (Option<Kind<'_>>, usize) {
    let name = |from: &str| from.find(|c| !is_name_char(c)).unwrap_or(from.len());
    match c {
        '%' | '@' => {
            let len = 1 + name(&rest[1..]);
            (Some(if c == '%' { Kind::Value(&rest[1..len]) } else { Kind::Global(&rest[1..len]) }), len)
        }
        _ if is_name_char(c) => {
            let len = name(rest);
            (Some(Kind::Word(&rest[..len])), len)
        }
        '{' | '}' | '(' | ')' | '[' | ']' | ',' | ':' | '=' => (Some(Kind::Punct(c)), 1),
        _ if c.is_whitespace() => (None, c.len_utf8()),
        _ => (Some(Kind::Unknown(c)), c.len_utf8()),
    }
}

impl std::fmt::Display for Kind<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kind::Word(w) => write!(f, "`{w}`"),
            Kind::Value(n) => write!(f, "`%{n}`"),
            Kind::Global(n) => write!(f, "`@{n}`"),
            Kind::Punct(c) | Kind::Unknown(c) => write!(f, "{c:?}"),
            Kind::End => f.write_str("the end of the text"),
        }
    }
}
