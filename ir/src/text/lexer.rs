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

/// All tokens, `End` last.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut out = Vec::new();
    let mut lines = 0;
    for line in text.split('\n') {
        lines += 1;
        let mut rest = line;
        let mut col = 1;
        while let Some(c) = rest.chars().next().filter(|&c| c != ';') {
            let (kind, len) = first(rest, c);
            if let Some(kind) = kind {
                out.push(Token { kind, line: lines, col });
            }
            col += rest[..len].chars().count();
            rest = &rest[len..];
        }
    }
    let col = text.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    out.push(Token { kind: Kind::End, line: lines, col });
    out
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
