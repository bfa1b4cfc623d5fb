//! The stack machine: one pass over the opcodes, every bound checked before it is used. See [`super`].

use super::super::budget::Budget;
use super::super::error::{CheckpointError, Place, shown};
use super::opcode as op;
use super::{Added, Chain, Chunk, NIL, Node, Pickle, Span, Value, policy};

/// Longest module and longest name of a global.
const NAME: usize = 256;

type Done = Result<(), CheckpointError>;

/// Parses the pickle `bytes`; `place` names it in errors.
pub(in super::super) fn parse<'a>(bytes: &'a [u8], place: Place, budget: &mut Budget) -> Result<Pickle<'a>, CheckpointError> {
    // Offsets are 32 bits; the pickle of the largest checkpoints is a few MB.
    if bytes.len() >= NIL as usize {
        return Err(place.expected("a pickle of less than 4 GiB", format!("{} bytes", bytes.len())));
    }
    let tree = Pickle { bytes, nodes: Vec::new(), items: Vec::new(), chunks: Vec::new(), root: Value::None, acting: None };
    let mut machine = Machine { tree, at: 0, next: 0, stack: Vec::new(), marks: Vec::new(), memo: Vec::new(), place, budget };
    match bytes {
        [op::PROTO, 2..=5, ..] => {}
        [op::PROTO, version, ..] => return Err(machine.wrong("pickle protocol 2 to 5", format!("protocol {version}"))),
        _ => return Err(machine.wrong("a pickle of protocol 2 to 5", "none")),
    }
    while !machine.step()? {}
    Ok(machine.tree)
}

struct Machine<'a, 'p, 'b, 'c> {
    tree: Pickle<'a>,
    /// Offset of the opcode in progress, and of what follows what was read of it.
    at: usize,
    next: usize,
    stack: Vec<Value>,
    /// Heights of the stack at each open mark.
    marks: Vec<u32>,
    memo: Vec<Option<Value>>,
    place: Place<'p>,
    budget: &'b mut Budget<'c>,
}

impl<'a> Machine<'a, '_, '_, '_> {
    /// One opcode; true at the end.
    fn step(&mut self) -> Result<bool, CheckpointError> {
        self.at = self.next;
        let code = self.take::<1>()?[0];
        match code {
            op::STOP => {
                self.tree.root = self.pop()?;
                return Ok(true);
            }
            op::PROTO => drop(self.take::<1>()?),
            op::FRAME => self.frame()?,
            op::MARK => {
                let height = index(self.stack.len());
                self.budget.push(&mut self.marks, height)?;
            }
            op::POP if self.marks.last() == Some(&index(self.stack.len())) => drop(self.marks.pop()),
            op::POP => drop(self.pop()?),
            op::POP_MARK => {
                let from = self.mark()?;
                self.stack.truncate(from);
            }
            op::DUP => self.top().and_then(|top| self.push(top))?,
            op::NONE => self.push(Value::None)?,
            op::NEWTRUE | op::NEWFALSE => self.push(Value::Bool(code == op::NEWTRUE))?,
            op::BININT => self.take().map(i32::from_le_bytes).and_then(|i| self.push(Value::Int(i)))?,
            op::BININT1 => self.take::<1>().and_then(|[i]| self.push(Value::Int(i.into())))?,
            op::BININT2 => self.take().map(u16::from_le_bytes).and_then(|i| self.push(Value::Int(i.into())))?,
            op::LONG1 | op::LONG4 => self.payload(Value::Wide)?,
            op::BINFLOAT => self.payload(Value::Float)?,
            op::BINUNICODE | op::SHORT_BINUNICODE | op::BINUNICODE8 => self.text()?,
            // Python 2's strings: text if they can be, else bytes.
            op::SHORT_BINSTRING | op::BINSTRING => self.text().or_else(|_| self.payload(Value::Bytes))?,
            op::BINBYTES | op::SHORT_BINBYTES | op::BINBYTES8 | op::BYTEARRAY8 => self.payload(Value::Bytes)?,
            op::EMPTY_TUPLE => self.push(Value::Unit)?,
            op::TUPLE => self.mark().and_then(|from| self.tuple(from))?,
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => self.below(usize::from(code - op::TUPLE1) + 1).and_then(|from| self.tuple(from))?,
            op::EMPTY_LIST => self.object(Node::List(Chain::EMPTY))?,
            op::EMPTY_DICT => self.object(Node::Dict(Chain::EMPTY))?,
            op::EMPTY_SET => self.object(Node::Set(Chain::EMPTY))?,
            op::LIST => self.collect(Node::List(Chain::EMPTY), Added::Items)?,
            op::DICT => self.collect(Node::Dict(Chain::EMPTY), Added::Pairs)?,
            op::FROZENSET => self.collect(Node::Set(Chain::EMPTY), Added::Items)?,
            op::APPEND => self.below(1).and_then(|from| self.add(from, Added::Items))?,
            op::SETITEM => self.below(2).and_then(|from| self.add(from, Added::Pairs))?,
            op::BUILD => self.below(1).and_then(|from| self.add(from, Added::State))?,
            op::APPENDS | op::ADDITEMS => self.mark().and_then(|from| self.add(from, Added::Items))?,
            op::SETITEMS => self.mark().and_then(|from| self.add(from, Added::Pairs))?,
            op::BINPUT => self.take::<1>().and_then(|[i]| self.put(i.into()))?,
            op::LONG_BINPUT => self.take().map(u32::from_le_bytes).and_then(|i| self.put(i as usize))?,
            op::MEMOIZE => self.put(self.memo.len())?,
            op::PUT => self.decimal().and_then(|i| self.put(i))?,
            op::BINGET => self.take::<1>().and_then(|[i]| self.get(i.into()))?,
            op::LONG_BINGET => self.take().map(u32::from_le_bytes).and_then(|i| self.get(i as usize))?,
            op::GET => self.decimal().and_then(|i| self.get(i))?,
            op::BINPERSID => self.pop().and_then(|id| self.object(Node::Persistent(id)))?,
            _ => self.call(code)?,
        }
        Ok(false)
    }

    /// The opcodes that name or call something, and those that are refused.
    fn call(&mut self, code: u8) -> Done {
        match code {
            op::GLOBAL => {
                let (module, name) = (self.line()?, self.line()?);
                let node = self.global(module, name);
                self.object(node)
            }
            op::STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (module, name) = (self.name(module)?, self.name(name)?);
                let node = self.global(module, name);
                self.object(node)
            }
            op::REDUCE | op::NEWOBJ => {
                let (args, callee) = (self.pop()?, self.pop()?);
                self.made(callee, args)
            }
            op::NEWOBJ_EX => {
                // Keyword arguments mean nothing to anything that is understood here.
                let (_keywords, args, callee) = (self.pop()?, self.pop()?, self.pop()?);
                self.made(callee, args)
            }
            op::INST => {
                let (module, name) = (self.line()?, self.line()?);
                let callee = self.global(module, name);
                let callee = self.node(callee)?;
                let args = self.mark().and_then(|from| self.tuple_value(from))?;
                self.made(callee, args)
            }
            op::OBJ => {
                let from = self.mark()?;
                let callee = *self.stack.get(from).ok_or_else(|| self.wrong("a class after the mark", "nothing"))?;
                let args = self.tuple_value(from + 1)?;
                self.stack.truncate(from);
                self.made(callee, args)
            }
            _ => match op::refused(code) {
                Some(name) => Err(self.wrong("opcodes for tensors and plain data", format!("the opcode {name}"))),
                None => Err(self.wrong("a pickle opcode", format!("the byte {code:#04x}"))),
            },
        }
    }

    fn wrong(&self, expected: impl Into<String>, found: impl Into<String>) -> CheckpointError {
        self.place.expected_at(self.at, expected, found)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], CheckpointError> {
        let bytes = self.tree.bytes.get(self.next..).and_then(|rest| rest.first_chunk::<N>());
        let bytes = *bytes.ok_or_else(|| self.wrong("the rest of the pickle", "its end: it is truncated"))?;
        self.next += N;
        Ok(bytes)
    }

    fn frame(&mut self) -> Done {
        let (length, left) = (u64::from_le_bytes(self.take()?), self.tree.bytes.len() - self.next);
        match length <= left as u64 {
            true => Ok(()),
            false => Err(self.wrong(format!("a frame of at most {left} bytes"), format!("{length} bytes"))),
        }
    }

    /// Pushes the value that the opcode in progress carries, as `make` of its offset.
    fn payload(&mut self, make: fn(u32) -> Value) -> Done {
        let range = op::payload(self.tree.bytes, self.at);
        let left = self.tree.bytes.len() - self.next;
        let range = range.map_err(|claimed| self.wrong(format!("at most {left} bytes"), format!("a length of {claimed} bytes")))?;
        self.next = range.end;
        self.push(make(index(self.at)))
    }

    fn text(&mut self) -> Done {
        if let Ok(range) = op::payload(self.tree.bytes, self.at)
            && std::str::from_utf8(&self.tree.bytes[range]).is_err()
        {
            return Err(self.wrong("UTF-8 text", "other bytes"));
        }
        self.payload(Value::Text)
    }

    fn push(&mut self, value: Value) -> Done {
        self.budget.push(&mut self.stack, value)
    }

    /// The height of the stack below its topmost `count` values, none of which may lie below a mark.
    fn below(&self, count: usize) -> Result<usize, CheckpointError> {
        let floor = self.marks.last().map_or(0, |&m| m as usize);
        let from = self.stack.len().checked_sub(count).filter(|&from| from >= floor);
        from.ok_or_else(|| self.wrong(format!("{count} values on the stack"), format!("{}", self.stack.len() - floor)))
    }

    fn top(&self) -> Result<Value, CheckpointError> {
        self.below(1).map(|i| self.stack[i])
    }

    fn pop(&mut self) -> Result<Value, CheckpointError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn mark(&mut self) -> Result<usize, CheckpointError> {
        let from = self.marks.pop().ok_or_else(|| self.wrong("a mark on the stack", "none"))?;
        Ok(from as usize)
    }

    fn node(&mut self, node: Node) -> Result<Value, CheckpointError> {
        self.budget.push(&mut self.tree.nodes, node)?;
        Ok(Value::Node(index(self.tree.nodes.len() - 1)))
    }

    fn object(&mut self, node: Node) -> Done {
        self.node(node).and_then(|value| self.push(value))
    }

    /// Moves the stack from `from` on to the table of items; returns where they begin and how many they are.
    fn move_items(&mut self, from: usize) -> Result<(u32, u32), CheckpointError> {
        let start = self.tree.items.len();
        for i in from..self.stack.len() {
            self.budget.push(&mut self.tree.items, self.stack[i])?;
        }
        self.stack.truncate(from);
        Ok((index(start), index(self.tree.items.len() - start)))
    }

    fn tuple_value(&mut self, from: usize) -> Result<Value, CheckpointError> {
        match self.move_items(from)? {
            (_, 0) => Ok(Value::Unit),
            (start, len) => self.node(Node::Tuple { start, len }),
        }
    }

    fn tuple(&mut self, from: usize) -> Done {
        self.tuple_value(from).and_then(|value| self.push(value))
    }

    /// A container of everything above the mark.
    fn collect(&mut self, empty: Node, kind: Added) -> Done {
        let from = self.mark()?;
        let target = self.node(empty)?;
        self.extend(target, from, kind)?;
        self.push(target)
    }

    /// Adds the stack from `from` on to the object below it.
    fn add(&mut self, from: usize, kind: Added) -> Done {
        let floor = self.marks.last().map_or(0, |&m| m as usize);
        let target = from.checked_sub(1).filter(|&i| i >= floor).map(|i| self.stack[i]);
        let target = target.ok_or_else(|| self.wrong("an object to add to", "nothing"))?;
        self.extend(target, from, kind)
    }

    fn extend(&mut self, target: Value, from: usize, kind: Added) -> Done {
        if kind == Added::Pairs {
            self.keys(from)?;
        }
        let place = match target {
            Value::Node(i) => i as usize,
            _ => return Err(self.wrong("an object to add to", self.tree.kind(target))),
        };
        let fits = match (self.tree.nodes[place], kind) {
            (Node::List(_) | Node::Set(_), Added::Items) | (Node::Dict(_), Added::Pairs) => true,
            // Attributes of an `OrderedDict`, such as torch's `_metadata`, mean nothing here.
            (Node::Dict(_), Added::State) => {
                self.stack.truncate(from);
                return Ok(());
            }
            (Node::Call { .. }, _) => true,
            _ => false,
        };
        if !fits {
            return Err(self.wrong("an object to add to", self.tree.kind(target)));
        }
        let (start, len) = self.move_items(from)?;
        if len == 0 {
            return Ok(());
        }
        let new = index(self.tree.chunks.len());
        self.budget.push(&mut self.tree.chunks, Chunk { kind, start, len, next: NIL })?;
        if let Node::List(chain) | Node::Dict(chain) | Node::Set(chain) | Node::Call { added: chain, .. } = &mut self.tree.nodes[place] {
            match self.tree.chunks.get_mut(chain.last as usize) {
                Some(last) => last.next = new,
                None => chain.first = new,
            }
            chain.last = new;
        }
        Ok(())
    }

    /// Pairs from `from` on must be whole, and their keys hashable.
    fn keys(&self, from: usize) -> Done {
        let pairs = &self.stack[from..];
        if !pairs.len().is_multiple_of(2) {
            return Err(self.wrong("a value for every key", format!("{} keys and values", pairs.len())));
        }
        let mutable = |key: &&Value| matches!(self.tree.node(**key), Some(Node::List(_) | Node::Dict(_) | Node::Set(_)));
        match pairs.iter().step_by(2).find(mutable) {
            Some(&key) => Err(self.wrong("a plain value as a dict's key", self.tree.kind(key))),
            None => Ok(()),
        }
    }

    /// Every pickler hands out memo slots in order; slots that are skipped are paid for.
    fn put(&mut self, slot: usize) -> Done {
        let top = self.top()?;
        if slot >= self.memo.len() {
            let skipped = slot - self.memo.len();
            if skipped > 0 {
                self.budget.reserve(&mut self.memo, skipped)?;
                self.memo.resize(slot, None);
            }
            return self.budget.push(&mut self.memo, Some(top));
        }
        self.memo[slot] = Some(top);
        Ok(())
    }

    fn get(&mut self, slot: usize) -> Done {
        match self.memo.get(slot).copied().flatten() {
            Some(value) => self.push(value),
            None => Err(self.wrong("a memo slot that was filled", format!("slot {slot}, which was not"))),
        }
    }

    /// Text up to the next line feed, which ends it.
    fn line(&mut self) -> Result<Span, CheckpointError> {
        let rest = &self.tree.bytes[self.next..];
        let len = rest.iter().take(NAME + 1).position(|&b| b == b'\n');
        let len = len.ok_or_else(|| self.wrong(format!("a line of at most {NAME} bytes"), "a longer or truncated one"))?;
        let span = Span { start: index(self.next), len: index(len) };
        self.next += len + 1;
        match std::str::from_utf8(&rest[..len]) {
            Ok(_) => Ok(span),
            Err(_) => Err(self.wrong("UTF-8 text", "other bytes")),
        }
    }

    fn decimal(&mut self) -> Result<usize, CheckpointError> {
        let span = self.line()?;
        let text = self.tree.span(span);
        text.parse().map_err(|_| self.wrong("a decimal memo slot", format!("`{}`", shown(text.as_bytes()))))
    }

    /// A text value as one of the two parts of a global's name.
    fn name(&self, value: Value) -> Result<Span, CheckpointError> {
        match (value, self.tree.text(value)) {
            (Value::Text(at), Some(text)) if text.len() <= NAME => {
                let start = op::payload(self.tree.bytes, at as usize).expect("bounds were checked when the opcode was read").start;
                Ok(Span { start: index(start), len: index(text.len()) })
            }
            _ => Err(self.wrong(format!("a name of at most {NAME} bytes"), self.tree.kind(value))),
        }
    }

    fn global(&mut self, module: Span, name: Span) -> Node {
        if self.tree.acting.is_none() && policy::acts(self.tree.span(module), self.tree.span(name)) {
            self.tree.acting = Some((module, name, index(self.at)));
        }
        Node::Global(module, name)
    }

    /// What `callee(*args)` leaves on the stack: a record of it.
    fn made(&mut self, callee: Value, args: Value) -> Done {
        let (Value::Node(index), Some(name)) = (callee, self.tree.global(callee)) else {
            return Err(self.wrong("a call by name", format!("a call of {}", self.tree.kind(callee))));
        };
        if self.tree.tuple(args).is_none() {
            return Err(self.wrong("a tuple of arguments", self.tree.kind(args)));
        }
        match (name, args) {
            (("collections", "OrderedDict"), Value::Unit) => self.object(Node::Dict(Chain::EMPTY)),
            _ => self.object(Node::Call { callee: index, args, added: Chain::EMPTY }),
        }
    }
}

/// Every table has fewer items than the pickle has bytes, or is a memo within the budget.
fn index(i: usize) -> u32 {
    u32::try_from(i).expect("tables are no longer than the pickle, which is below 4 GiB")
}
