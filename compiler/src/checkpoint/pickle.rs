//! A pickle as an inert tree. A pickle is a program for a stack machine that may call anything by name; this reader
//! runs the stack, calls nothing, and keeps every call as a record of what would have been called.
//!
//! # Policy on names
//! - `collections.OrderedDict` becomes a dict. A few names have a meaning to [`super::torch`], which looks only at the
//!   parts of the tree it needs: tensor constructors, storages, `argparse.Namespace`.
//! - Any other call stays an opaque [`Node::Call`], which can never become a tensor: a checkpoint whose optimiser state,
//!   scheduler or arguments hold foreign objects or functions is still readable.
//! - The first name from a module that acts on the world or runs code (`os`, `subprocess`, `builtins`, `importlib`, ...; the list
//!   is in [`policy`]) is remembered, for a note: another reader would call it.
//! - Extension codes, text persistent ids, out-of-band buffers and the text opcodes of protocol 0 are refused.
//!
//! # Shape of the tree
//! Objects live in flat tables and refer to each other by index, so sharing through the memo costs nothing, a cycle is
//! only an index, and dropping is not recursive. Text, bytes and wide numbers stay in the file: a [`Value`] holds the
//! offset of the opcode that pushed them. Walks over the tree are bounded in depth by their callers.

mod machine;
mod opcode;
pub(super) mod policy;
mod print;

pub(super) use machine::parse;
pub(super) use print::plain;

/// Anything on the stack or in a container; 8 bytes. Offsets are into the pickle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    /// `None`.
    None,
    /// `True` and `False`.
    Bool(bool),
    /// An integer of 32 bits.
    Int(i32),
    /// A LONG1 or LONG4 opcode: a two's complement integer of any length.
    Wide(u32),
    /// A BINFLOAT opcode.
    Float(u32),
    /// An opcode that pushes text, checked to be UTF-8.
    Text(u32),
    /// An opcode that pushes bytes.
    Bytes(u32),
    /// `()`.
    Unit,
    /// An object in the table of nodes.
    Node(u32),
}

/// Text between two offsets of the pickle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    start: u32,
    len: u32,
}

/// Contents of an object that grows: chunks in the order in which they were added.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    first: u32,
    last: u32,
}

/// The end of a chain.
const NIL: u32 = u32::MAX;

impl Chain {
    const EMPTY: Chain = Chain { first: NIL, last: NIL };
}

/// An object.
#[derive(Clone, Copy, Debug)]
pub(super) enum Node {
    /// A tuple: `len` items from `start` on.
    Tuple {
        /// Index of the first item.
        start: u32,
        /// Number of items.
        len: u32,
    },
    /// A list.
    List(Chain),
    /// A dict, or a `collections.OrderedDict`.
    Dict(Chain),
    /// A set.
    Set(Chain),
    /// A name: `module`, then the name in it.
    Global(Span, Span),
    /// What calling the [`Node::Global`] of that index with `args` (a tuple) would have given, and what was added to it.
    Call {
        /// Index of the callee.
        callee: u32,
        /// Its arguments.
        args: Value,
        /// Items, pairs and state added later.
        added: Chain,
    },
    /// A persistent id: torch's way to refer to a storage.
    Persistent(Value),
}

/// What the items of a chunk are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Added {
    Items,
    Pairs,
    State,
}

/// A run of items added to an object at once.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    kind: Added,
    start: u32,
    len: u32,
    next: u32,
}

/// A parsed pickle.
pub(super) struct Pickle<'a> {
    bytes: &'a [u8],
    nodes: Vec<Node>,
    items: Vec<Value>,
    chunks: Vec<Chunk>,
    root: Value,
    /// The first name that acts, and the offset of the opcode that brings it.
    acting: Option<(Span, Span, u32)>,
}

impl<'a> Pickle<'a> {
    /// What the pickle as a whole is.
    pub fn root(&self) -> Value {
        self.root
    }

    /// The first name mentioned of what acts on the world or runs code, fit for a message, and where.
    pub fn acting(&self) -> Option<(String, u32)> {
        self.acting.map(|(module, name, at)| (super::error::shown(format!("{}.{}", self.span(module), self.span(name)).as_bytes()), at))
    }

    /// The object behind a value, if it is one.
    pub fn node(&self, value: Value) -> Option<Node> {
        match value {
            Value::Node(i) => Some(self.nodes[i as usize]),
            _ => None,
        }
    }

    /// The bytes of a text value, known to be UTF-8.
    pub fn text(&self, value: Value) -> Option<&'a [u8]> {
        match value {
            Value::Text(at) => Some(self.payload(at)),
            _ => None,
        }
    }

    /// True if `value` is exactly this text.
    pub fn is_text(&self, value: Value, text: &str) -> bool {
        self.text(value) == Some(text.as_bytes())
    }

    /// An integer of at most 64 bits.
    pub fn int(&self, value: Value) -> Option<i64> {
        match value {
            Value::Int(i) => Some(i.into()),
            Value::Wide(at) => {
                let bytes = self.payload(at);
                let sign = if bytes.last().is_some_and(|&b| b >= 0x80) { -1 } else { 0 };
                (bytes.len() <= 8).then(|| bytes.iter().rev().fold(sign, |n: i64, &b| n << 8 | i64::from(b)))
            }
            _ => None,
        }
    }

    /// A float, or an integer as a float.
    pub fn number(&self, value: Value) -> Option<f64> {
        match value {
            Value::Float(at) => Some(f64::from_be_bytes(self.payload(at).try_into().expect("BINFLOAT is 8 bytes, checked when read"))),
            other => self.int(other).map(|i| i as f64),
        }
    }

    /// The items of a tuple.
    pub fn tuple(&self, value: Value) -> Option<&[Value]> {
        match (value, self.node(value)) {
            (Value::Unit, _) => Some(&[]),
            (_, Some(Node::Tuple { start, len })) => Some(&self.items[start as usize..][..len as usize]),
            _ => None,
        }
    }

    /// The items of a list or set.
    pub fn list(&self, value: Value) -> Option<impl Iterator<Item = Value>> {
        match self.node(value)? {
            Node::List(chain) | Node::Set(chain) => Some(self.chunks(chain, Added::Items).flatten().copied()),
            _ => None,
        }
    }

    /// The pairs of a dict, in the order written; a key may repeat.
    pub fn dict(&self, value: Value) -> Option<impl Iterator<Item = (Value, Value)>> {
        match self.node(value)? {
            Node::Dict(chain) => Some(self.chunks(chain, Added::Pairs).flat_map(|c| c.chunks_exact(2)).map(|p| (p[0], p[1]))),
            _ => None,
        }
    }

    /// The value of a text key in a dict; of several, the last, as in Python.
    pub fn get(&self, dict: Value, key: &str) -> Option<Value> {
        self.dict(dict)?.filter(|&(k, _)| self.is_text(k, key)).map(|(_, v)| v).last()
    }

    /// Module and name of a global.
    pub fn global(&self, value: Value) -> Option<(&'a str, &'a str)> {
        match self.node(value)? {
            Node::Global(module, name) => Some((self.span(module), self.span(name))),
            _ => None,
        }
    }

    /// Module, name and arguments of a call that was not made.
    pub fn call(&self, value: Value) -> Option<(&'a str, &'a str, &[Value])> {
        match self.node(value)? {
            Node::Call { callee, args, .. } => {
                let (module, name) = self.global(Value::Node(callee))?;
                Some((module, name, self.tuple(args)?))
            }
            _ => None,
        }
    }

    /// The last state that a BUILD opcode gave to an object.
    pub fn state(&self, value: Value) -> Option<Value> {
        match self.node(value)? {
            Node::Call { added, .. } => self.chunks(added, Added::State).flatten().copied().last(),
            _ => None,
        }
    }

    /// What a value is, in words for a message.
    pub fn kind(&self, value: Value) -> String {
        match value {
            Value::None => "None".into(),
            Value::Bool(_) => "a bool".into(),
            Value::Int(_) | Value::Wide(_) => self.int(value).map_or("a wide integer".into(), |i| format!("the integer {i}")),
            Value::Float(_) => "a float".into(),
            Value::Text(_) => "a string".into(),
            Value::Bytes(_) => "bytes".into(),
            Value::Unit => "a tuple".into(),
            Value::Node(i) => match self.nodes[i as usize] {
                Node::Tuple { .. } => "a tuple".into(),
                Node::List(_) => "a list".into(),
                Node::Dict(_) => "a dict".into(),
                Node::Set(_) => "a set".into(),
                Node::Global(module, name) => format!("the name `{}.{}`", self.shown(module), self.shown(name)),
                Node::Call { callee, .. } => match self.nodes[callee as usize] {
                    Node::Global(module, name) => format!("an object of `{}.{}`", self.shown(module), self.shown(name)),
                    _ => "an object".into(),
                },
                Node::Persistent(_) => "a storage".into(),
            },
        }
    }

    fn chunks(&self, chain: Chain, kind: Added) -> impl Iterator<Item = &[Value]> {
        let chunk = |i: u32| self.chunks.get(i as usize);
        let run = std::iter::successors(chunk(chain.first), move |c| chunk(c.next));
        run.filter(move |c| c.kind == kind).map(|c| &self.items[c.start as usize..][..c.len as usize])
    }

    fn span(&self, span: Span) -> &'a str {
        let bytes = &self.bytes[span.start as usize..][..span.len as usize];
        std::str::from_utf8(bytes).expect("checked when the global was read")
    }

    fn shown(&self, span: Span) -> String {
        super::error::shown(self.span(span).as_bytes())
    }

    /// The bytes that the opcode at `at` carries; its bounds were checked when it was read.
    fn payload(&self, at: u32) -> &'a [u8] {
        let range = opcode::payload(self.bytes, at as usize).expect("bounds were checked when the opcode was read");
        &self.bytes[range]
    }
}
