//! Recursive-descent parsing without recursion: the form nests three deep and no deeper. Memory is linear in the text.

use std::collections::HashMap;

use super::lexer::{Kind, Lexer, Token};
use super::{Lines, ParseError};
use crate::function::{Def, Function, Inst, Module, Value, ValueData};
use crate::ops::{Attr, Op};
use crate::types::{DType, Type};

/// A weight's type is copied into every function that mentions it; a bound on its size keeps memory linear in the text.
const MAX_RANK: usize = 8;

/// As its type is, so is the name of a weight's encoding.
const MAX_ENCODING: usize = 16;
/// More numbers than any list has.
const MAX_WORDS: usize = 32;

type Result<T> = std::result::Result<T, ParseError>;

pub(super) struct Parser<'a> {
    file: &'a str,
    text: &'a str,
    lexer: Lexer<'a>,
    /// The token after the last one taken.
    ahead: Token<'a>,
    /// Types of weights, and how they are stored.
    weights: HashMap<&'a str, (Type, Option<&'a str>)>,
}

/// A function while its text is read.
struct Scope<'a> {
    f: Function,
    locals: HashMap<&'a str, Value>,
    globals: HashMap<&'a str, Value>,
    /// Values used but not yet defined, with the place of their first use.
    pending: HashMap<Value, Token<'a>>,
}

impl Scope<'_> {
    fn push(&mut self, name: &str, ty: Type, def: Def) -> Value {
        let v = Value(self.f.values.len() as u32);
        self.f.values.push(ValueData { name: name.to_owned(), ty, def, stored: None });
        v
    }
}

impl<'a> Parser<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        let mut lexer = Lexer::new(text);
        let ahead = lexer.next();
        Parser { file, text, lexer, ahead, weights: HashMap::new() }
    }

    pub(super) fn module(mut self) -> Result<(Module, Vec<Lines>)> {
        let (mut module, mut lines) = (Module::default(), Vec::new());
        loop {
            let token = self.next();
            match token.kind {
                Kind::Word("weight") => {
                    let name = self.global()?;
                    self.punct(':')?;
                    let ty = self.ty()?;
                    let stored = self.stored()?;
                    self.weights.insert(name, (ty, stored));
                }
                Kind::Word("fn") => {
                    let (f, at) = self.function(token.line)?;
                    module.functions.push(f);
                    lines.push(at);
                }
                Kind::End => return Ok((module, lines)),
                _ => return self.expected("`weight` or `fn`", token),
            }
        }
    }

    /// How a weight is stored, if that is said.
    fn stored(&mut self) -> Result<Option<&'a str>> {
        if self.peek().kind != Kind::Word("as") {
            return Ok(None);
        }
        self.next();
        let token = self.next();
        match token.kind {
            Kind::Word(name) if name.len() <= MAX_ENCODING => Ok(Some(name)),
            _ => self.expected(&format!("the name of an encoding, of at most {MAX_ENCODING} characters"), token),
        }
    }

    fn function(&mut self, header: usize) -> Result<(Function, Lines)> {
        let f = Function { name: self.global()?.to_owned(), values: vec![], inputs: vec![], insts: vec![], results: vec![] };
        let mut scope = Scope { f, locals: HashMap::new(), globals: HashMap::new(), pending: HashMap::new() };
        let mut insts = Vec::new();
        self.inputs(&mut scope)?;
        self.punct('{')?;
        loop {
            let token = self.next();
            match token.kind {
                Kind::Value(name) => {
                    insts.push(token.line);
                    self.instruction(&mut scope, name)?;
                }
                Kind::Word("return") => {
                    self.results(&mut scope)?;
                    self.punct('}')?;
                    if let Some(first) = scope.pending.values().min_by_key(|t| (t.line, t.col)) {
                        return self.error(*first, format!("{} is not defined", first.kind));
                    }
                    return Ok((scope.f, Lines { header, insts, results: token.line }));
                }
                _ => return self.expected("an instruction or `return`", token),
            }
        }
    }

    fn inputs(&mut self, scope: &mut Scope<'a>) -> Result<()> {
        self.punct('(')?;
        while !self.eat(')') {
            if !scope.f.inputs.is_empty() {
                self.punct(',')?;
            }
            let token = self.next();
            let Kind::Value(name) = token.kind else { return self.expected("`%name`", token) };
            self.punct(':')?;
            let ty = self.ty()?;
            let v = scope.push(name, ty, Def::Input(scope.f.inputs.len()));
            scope.f.inputs.push(v);
            scope.locals.insert(name, v);
        }
        Ok(())
    }

    /// The rest of an instruction whose first result has been read.
    fn instruction(&mut self, scope: &mut Scope<'a>, first: &'a str) -> Result<()> {
        let mut names = vec![first];
        while self.eat(',') {
            let token = self.next();
            let Kind::Value(name) = token.kind else { return self.expected("`%name`", token) };
            names.push(name);
        }
        self.punct('=')?;
        let place = self.next();
        let Kind::Word(op) = place.kind else { return self.expected("the name of an op", place) };
        let mut operands = Vec::new();
        if matches!(self.peek().kind, Kind::Value(_) | Kind::Global(_)) {
            operands.push(self.value(scope)?);
            while self.eat(',') {
                operands.push(self.value(scope)?);
            }
        }
        let op = self.attributes(place, op)?;
        self.punct(':')?;
        let mut types = vec![self.ty()?];
        while self.eat(',') {
            types.push(self.ty()?);
        }
        if types.len() != names.len() {
            return self.error(place, format!("{} results with {} types", names.len(), types.len()));
        }
        let inst = scope.f.insts.len();
        let results = names.into_iter().zip(types).enumerate().map(|(index, (name, ty))| define(scope, name, ty, inst, index)).collect();
        scope.f.insts.push(Inst { op, operands, results });
        Ok(())
    }

    fn attributes(&mut self, place: Token<'a>, op: &str) -> Result<Op> {
        let mut found: Vec<(&str, String, Token)> = Vec::new();
        if self.eat('{') && !self.eat('}') {
            loop {
                let token = self.next();
                let Kind::Word(name) = token.kind else { return self.expected("the name of an attribute", token) };
                if found.iter().any(|(n, ..)| *n == name) {
                    return self.error(token, format!("the attribute `{name}` is given twice"));
                }
                if found.len() == 16 {
                    // More than any op has; bounds the search above.
                    return self.error(token, "too many attributes".to_owned());
                }
                self.punct('=')?;
                let text = self.attribute()?;
                found.push((name, text, token));
                if self.eat('}') {
                    break;
                }
                self.punct(',')?;
            }
        }
        let mut asked = Vec::new();
        let parsed = Op::parse(op, &mut |name| {
            asked.push(name.to_owned());
            found.iter().find(|(n, ..)| *n == name).map(|(_, text, _)| text.clone())
        });
        let parsed = parsed.or_else(|message| self.error(place, message))?;
        match found.iter().find(|(n, ..)| !asked.iter().any(|a| a == n)) {
            Some((name, _, token)) => self.error(*token, format!("`{op}` has no attribute `{name}`")),
            None => Ok(parsed),
        }
    }

    fn attribute(&mut self) -> Result<String> {
        let token = self.next();
        match token.kind {
            Kind::Word(w) => Ok(w.to_owned()),
            Kind::Punct('[') => Ok(format!("[{}]", self.words()?.into_iter().map(|(w, _)| w).collect::<Vec<_>>().join(","))),
            _ => self.expected("a value", token),
        }
    }

    /// Words between `[`, which has been read, and `]`.
    fn words(&mut self) -> Result<Vec<(&'a str, Token<'a>)>> {
        let mut words = Vec::new();
        while !self.eat(']') {
            if !words.is_empty() {
                self.punct(',')?;
            }
            let token = self.next();
            let Kind::Word(word) = token.kind else { return self.expected("a number", token) };
            if words.len() == MAX_WORDS {
                return self.error(token, format!("more than {MAX_WORDS} numbers"));
            }
            words.push((word, token));
        }
        Ok(words)
    }

    fn ty(&mut self) -> Result<Type> {
        let token = self.next();
        let Kind::Word(name) = token.kind else { return self.expected("a type", token) };
        let Some(dtype) = DType::from_name(name) else { return self.error(token, format!("there is no element type `{name}`")) };
        self.punct('[')?;
        let mut shape = Vec::new();
        let words = self.words()?;
        if words.len() > MAX_RANK {
            return self.error(token, format!("{} axes, at most {MAX_RANK} are possible", words.len()));
        }
        for (word, token) in words {
            let Some(extent) = <usize as Attr>::parse(word) else { return self.error(token, format!("`{word}` is not {}", usize::WHAT)) };
            shape.push(extent);
        }
        Ok(Type::new(dtype, shape))
    }

    fn results(&mut self, scope: &mut Scope<'a>) -> Result<()> {
        if self.peek().kind == Kind::Punct('}') {
            return Ok(());
        }
        loop {
            let given = match self.peek().kind {
                Kind::Word(name) => {
                    self.next();
                    self.punct('=')?;
                    Some(name)
                }
                _ => None,
            };
            let v = self.value(scope)?;
            let name = given.map_or_else(|| scope.f.value(v).name.clone(), str::to_owned);
            scope.f.results.push((name, v));
            if !self.eat(',') {
                return Ok(());
            }
        }
    }

    fn value(&mut self, scope: &mut Scope<'a>) -> Result<Value> {
        let token = self.next();
        match token.kind {
            Kind::Value(name) => Ok(scope.locals.get(name).copied().unwrap_or_else(|| {
                // Defined further down, or nowhere: type and origin follow.
                let v = scope.push(name, Type::f32([]), Def::Result { inst: usize::MAX, index: 0 });
                scope.pending.insert(v, token);
                scope.locals.insert(name, v);
                v
            })),
            Kind::Global(name) => {
                if let Some(&v) = scope.globals.get(name) {
                    return Ok(v);
                }
                let Some((ty, stored)) = self.weights.get(name).cloned() else {
                    return self.error(token, format!("there is no line `weight @{name}` before this function"));
                };
                let v = scope.push(name, ty, Def::Weight);
                scope.f.values[v.index()].stored = stored.map(str::to_owned);
                scope.globals.insert(name, v);
                Ok(v)
            }
            _ => self.expected("`%name` or `@name`", token),
        }
    }

    fn global(&mut self) -> Result<&'a str> {
        let token = self.next();
        let Kind::Global(name) = token.kind else { return self.expected("`@name`", token) };
        Ok(name)
    }

    fn peek(&self) -> Token<'a> {
        self.ahead
    }

    fn next(&mut self) -> Token<'a> {
        std::mem::replace(&mut self.ahead, self.lexer.next())
    }

    fn eat(&mut self, c: char) -> bool {
        let there = self.peek().kind == Kind::Punct(c);
        if there {
            self.next();
        }
        there
    }

    fn punct(&mut self, c: char) -> Result<()> {
        let token = self.next();
        if token.kind == Kind::Punct(c) { Ok(()) } else { self.expected(&format!("{c:?}"), token) }
    }

    fn expected<T>(&self, what: &str, token: Token<'_>) -> Result<T> {
        self.error(token, format!("expected {what}, found {}", token.kind))
    }

    fn error<T>(&self, token: Token<'_>, message: String) -> Result<T> {
        let source_line = self.text.split('\n').nth(token.line - 1).unwrap_or("").trim_end_matches('\r').to_owned();
        Err(ParseError { file: self.file.to_owned(), line: token.line, col: token.col, message, source_line })
    }
}

fn define<'a>(scope: &mut Scope<'a>, name: &'a str, ty: Type, inst: usize, index: usize) -> Value {
    let def = Def::Result { inst, index };
    if let Some(&v) = scope.locals.get(name).filter(|v| scope.pending.contains_key(v)) {
        scope.pending.remove(&v);
        let data = &mut scope.f.values[v.index()];
        (data.ty, data.def) = (ty, def);
        return v;
    }
    let v = scope.push(name, ty, def);
    scope.locals.insert(name, v);
    v
}
