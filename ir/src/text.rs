//! The text form. Printing and parsing are inverse: `parse(print(m)) == m`, and `print(parse(s)) == s` for text that was printed.
//!
//! ```text
//! module   = { weight | function }
//! weight   = "weight" "@"name ":" type ["as" word] ; for the functions below it; printed first, once each; how it is stored
//! function = "fn" "@"name "(" ["%"name ":" type {"," ..}] ")" "{" {inst} "return" [result {"," result}] "}"
//! inst     = "%"name {"," "%"name} "=" op [value {"," value}] ["{" name "=" attr {"," ..} "}"] ":" type {"," type}
//! result   = [name "="] value                     ; without a name: that of the value
//! value    = "%"name | "@"name
//! attr     = word | "[" [word {"," word}] "]"
//! type     = dtype "[" [extent {"," extent}] "]"   ; at most 8 extents
//! name     = one or more of A-Z a-z 0-9 _ . $ -
//! ```
//! White space separates; `;` starts a comment that ends with the line. The parser keeps what it can represent, right or wrong
//! (declared types, redefined names, uses before definition); [`crate::verify`] judges it.

mod lexer;
mod parser;
mod printer;

use std::fmt;

use crate::function::{Function, Module};

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Name of the file, as given by the caller.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub col: usize,
    /// What is wrong.
    pub message: String,
    /// The line itself.
    pub source_line: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Tabs stay, so that the caret stands right however wide they are.
        let indent: String = self.source_line.chars().take(self.col - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        write!(f, "{}:{}:{}: {}\n  {}\n  {indent}^", self.file, self.line, self.col, self.message, self.source_line)
    }
}

impl std::error::Error for ParseError {}

/// Lines of a function's parts in its text, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// Of the function's header.
    pub header: usize,
    /// Of every instruction.
    pub insts: Vec<usize>,
    /// Of `return`.
    pub results: usize,
}

/// Parses a module; with it, where its functions stand. `file` is for the messages.
///
/// # Errors
/// The first place that is not of the form above, or names a value that is defined nowhere.
pub fn parse_module(file: &str, text: &str) -> Result<(Module, Vec<Lines>), ParseError> {
    parser::Parser::new(file, text).module()
}

/// Parses one function with the weights before it.
///
/// # Errors
/// As [`parse_module`]; and if there is not exactly one function.
pub fn parse_function(text: &str) -> Result<Function, ParseError> {
    let (mut module, lines) = parse_module("<text>", text)?;
    if module.functions.len() == 1 {
        return Ok(module.functions.remove(0));
    }
    let line = lines.get(1).map_or(1, |l| l.header);
    let source_line = text.lines().nth(line - 1).unwrap_or("").to_owned();
    let message = format!("expected one function, found {}", module.functions.len());
    Err(ParseError { file: "<text>".to_owned(), line, col: 1, message, source_line })
}

/// True for a name that the text form can hold.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(lexer::is_name_char)
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        printer::functions(f, &self.functions.iter().collect::<Vec<_>>())
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        printer::functions(f, &[self])
    }
}
