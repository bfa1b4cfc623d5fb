//! The opcodes of pickle protocols 2 to 5, by the names that `pickletools` gives them.

use std::ops::Range;

/// Declares each opcode as a constant, and a lookup of the names of those that are refused.
macro_rules! opcodes {
    ({ $($name:ident = $code:expr),* $(,)? } refused { $($refused:ident = $no:expr),* $(,)? }) => {
        $(pub(super) const $name: u8 = $code;)*
        /// The name of an opcode that means something to Python and is refused here.
        pub(super) fn refused(code: u8) -> Option<&'static str> {
            match code { $($no => Some(stringify!($refused)),)* _ => None }
        }
    };
}

opcodes! {
    {
        MARK = b'(', STOP = b'.', POP = b'0', POP_MARK = b'1', DUP = b'2',
        NONE = b'N', NEWTRUE = 0x88, NEWFALSE = 0x89, BININT = b'J', BININT1 = b'K', BININT2 = b'M',
        LONG1 = 0x8a, LONG4 = 0x8b, BINFLOAT = b'G',
        SHORT_BINSTRING = b'U', BINSTRING = b'T', BINUNICODE = b'X', SHORT_BINUNICODE = 0x8c, BINUNICODE8 = 0x8d,
        BINBYTES = b'B', SHORT_BINBYTES = b'C', BINBYTES8 = 0x8e, BYTEARRAY8 = 0x96,
        EMPTY_LIST = b']', LIST = b'l', APPEND = b'a', APPENDS = b'e',
        EMPTY_TUPLE = b')', TUPLE = b't', TUPLE1 = 0x85, TUPLE2 = 0x86, TUPLE3 = 0x87,
        EMPTY_DICT = b'}', DICT = b'd', SETITEM = b's', SETITEMS = b'u',
        EMPTY_SET = 0x8f, ADDITEMS = 0x90, FROZENSET = 0x91,
        GLOBAL = b'c', STACK_GLOBAL = 0x93, REDUCE = b'R', NEWOBJ = 0x81, NEWOBJ_EX = 0x92, BUILD = b'b', INST = b'i', OBJ = b'o',
        BINPERSID = b'Q',
        PUT = b'p', BINPUT = b'q', LONG_BINPUT = b'r', MEMOIZE = 0x94, GET = b'g', BINGET = b'h', LONG_BINGET = b'j',
        PROTO = 0x80, FRAME = 0x95,
    }
    refused {
        PERSID = b'P', EXT1 = 0x82, EXT2 = 0x83, EXT4 = 0x84, NEXT_BUFFER = 0x97, READONLY_BUFFER = 0x98,
        INT = b'I', LONG = b'L', FLOAT = b'F', STRING = b'S', UNICODE = b'V',
    }
}

/// How many bytes of length precede the payload of an opcode that carries text, bytes or a wide number.
fn length_bytes(code: u8) -> Option<usize> {
    match code {
        BINFLOAT => Some(0),
        LONG1 | SHORT_BINSTRING | SHORT_BINUNICODE | SHORT_BINBYTES => Some(1),
        LONG4 | BINSTRING | BINUNICODE | BINBYTES => Some(4),
        BINUNICODE8 | BINBYTES8 | BYTEARRAY8 => Some(8),
        _ => None,
    }
}

/// Where the payload of the opcode at `at` lies; the number of bytes it claims if the pickle ends before that.
pub(super) fn payload(bytes: &[u8], at: usize) -> Result<Range<usize>, u64> {
    // What a truncated length claims is unknown.
    let truncated = 0u64;
    let length = bytes.get(at).and_then(|&code| length_bytes(code)).ok_or(truncated)?;
    let start = at + 1 + length;
    let field = bytes.get(at + 1..start).ok_or(truncated)?;
    let claimed = if length == 0 { 8 } else { field.iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b)) };
    let end = usize::try_from(claimed).ok().and_then(|n| start.checked_add(n)).filter(|&end| end <= bytes.len());
    Ok(start..end.ok_or(claimed)?)
}
