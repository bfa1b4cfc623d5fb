//! Pickles that want to run, to loop, or to have memory.

use crate::assemble::*;
use crate::{open, refusal};

/// Nothing is called, so what acts does no harm; it is no weight either, and the reader is told of it.
#[test]
fn calls_that_act_are_passed_over() {
    let marker = std::env::temp_dir().join(format!("fcdm-pickle-ran-{}", std::process::id()));
    let command = text(&format!("touch {}", marker.display()));
    let message = refusal(pt(&pickle(&call("os", "system", std::slice::from_ref(&command)))));
    assert_eq!(message, "evil.pt: data.pkl: expected a dict of tensors, found an object of `os.system`");
    let weights = dict(&[("w", view(0, &[1], &[1]))]);
    // Called, merely mentioned, and in the other ways to name and call.
    let stack_global = [&b"\x8c\x02os\x8c\x06system\x93"[..], &command, b"\x85R"].concat();
    let inst = [b"(", &command[..], b"ios\nsystem\n"].concat();
    let object = [b"(", &global("os", "system")[..], &command, b"o"].concat();
    for (evil, name) in [
        (call("posix", "system", std::slice::from_ref(&command)), "posix.system"),
        (global("subprocess", "Popen"), "subprocess.Popen"),
        (global("builtins", "eval"), "builtins.eval"),
        (call("torch.storage", "_load_from_bytes", &[b"C\x00".to_vec()]), "torch.storage._load_from_bytes"),
        (stack_global, "os.system"),
        (inst, "os.system"),
        (object, "os.system"),
    ] {
        let beside = open(pt(&pickle(&dict(&[("model", weights.clone()), ("opt", evil.clone())])))).unwrap();
        assert_eq!(beside.read_f32("w").unwrap(), [0.]);
        let notes: Vec<&str> = beside.notes().collect();
        assert!(notes.len() == 1 && notes[0].starts_with(&format!("the pickle mentions `{name}` (byte ")), "{notes:?}");
        // In place of a weight it is none.
        let instead = open(pt(&pickle(&dict(&[("w", view(0, &[1], &[1])), ("evil", evil)])))).unwrap();
        assert!(instead.tensor("evil").is_none() && instead.other("evil").is_some());
    }
    // The result of a call is no callee.
    let chained = [&call("some.module", "factory", &[])[..], b")R"].concat();
    assert!(refusal(one(chained)).contains("expected a call by name, found a call of an object of `some.module.factory`"));
    assert!(!marker.exists());
}

#[test]
fn deep_nesting_overflows_nothing() {
    // Each level of `[` costs memory for its object: refused by the budget, not by a crash.
    let deep = |levels: usize| [vec![b']'; levels], vec![b'a'; levels - 1]].concat();
    assert!(refusal(pt(&pickle(&deep(1_000_000)))).contains("that can be listed in"));
    let tuples = [b"N".to_vec(), vec![0x85; 1_000_000]].concat();
    assert!(refusal(pt(&pickle(&tuples))).contains("that can be listed in"));
    let args = dict(&[("deep", deep(3000))]);
    let file = pt(&pickle(&dict(&[("model", dict(&[("w", view(0, &[1], &[1]))])), ("args", args)])));
    assert_eq!(open(file).unwrap().checkpoint().arguments()["deep"], "[[[[[[[[…]]]]]]]]");
}

#[test]
fn cycles_and_shared_trees_end() {
    let weights = dict(&[("w", view(0, &[1], &[1]))]);
    let with_args = |args: &[u8]| pt(&pickle(&dict(&[("model", weights.clone()), ("args", args.to_vec())])));
    // A list that holds itself, in a dict.
    let file = with_args(&dict(&[("self", b"]q\x00h\x00a".to_vec())]));
    assert_eq!(open(file).unwrap().checkpoint().arguments()["self"], "[[[[[[[[…]]]]]]]]");
    // Each tuple holds the previous one twice, 40 times over: 2^40 leaves.
    let mut billion = b"K\x01q\x00".to_vec();
    for i in 0..40u8 {
        billion.extend([b'0', b'h', i, b'h', i, 0x86, b'q', i + 1]);
    }
    let text = open(with_args(&dict(&[("laughs", billion)]))).unwrap().checkpoint().arguments()["laughs"].clone();
    assert!(text.len() < 5000 && text.starts_with("[[[[[[[["), "{text}");
    // A parameter of itself.
    let circular = [&global("torch._utils", "_rebuild_parameter")[..], b"]q\x00tR"].concat();
    assert!(open(one([b"(", &circular[..]].concat())).is_err());
}

#[test]
fn lengths_beyond_the_file_are_refused() {
    for (opcode, length) in [
        (&b"\x8b"[..], &[0xff, 0xff, 0xff, 0x7f][..]),
        (b"\x8b", &[0xff; 4]),
        (b"\x8d", &[0, 0, 0, 0, 0, 0, 0, 0x80]),
        (b"\x8d", &[0xff; 8]),
        (b"\x8e", &[0xff; 8]),
        (b"\x96", &[0xff; 8]),
        (b"X", &[0xff; 4]),
        (b"B", &[0xff; 4]),
        (b"\x95", &[0xff; 8]),
    ] {
        let message = refusal(pt(&pickle(&[opcode, length].concat())));
        assert!(message.contains("data.pkl byte 2: expected") && message.contains("bytes"), "{message}");
    }
}

#[test]
fn broken_programs_are_refused() {
    for (program, expected) in [
        (&b"}]Ns"[..], "expected a plain value as a dict's key, found a list"),
        (b"}(Nu", "expected a value for every key, found 1 keys and values"),
        (b"t", "expected a mark on the stack, found none"),
        (b"(0", "expected 1 values on the stack, found 0"),
        (b"K\x01N(Na", "expected an object to add to, found nothing"),
        (b"NNa", "expected an object to add to, found None"),
        (b"h\x05", "expected a memo slot that was filled, found slot 5, which was not"),
        (b"Nr\xff\xff\xff\xff", "that can be listed in"),
        (b"\x82\x01", "found the opcode EXT1"),
        (b"Pid\n", "found the opcode PERSID"),
        (b"I1\n", "found the opcode INT"),
        (b"\xff", "expected a pickle opcode, found the byte 0xff"),
        (b"X\x01\0\0\0\xff", "expected UTF-8 text, found other bytes"),
        (b"NN\x85R", "expected a call by name, found a call of None"),
        (b"\x8c\x01a\x8c\x01b\x93NR", "expected a tuple of arguments, found None"),
        (b"]", "expected a dict of tensors, found a list"),
        (b"}", "expected tensors, found none"),
    ] {
        let message = refusal(pt(&pickle(program)));
        assert!(message.contains(expected), "{:?}: {message}", String::from_utf8_lossy(program));
    }
    assert!(refusal(pt(b"\x80\x09N.")).contains("expected pickle protocol 2 to 5, found protocol 9"));
    assert!(refusal(pt(b"")).contains("expected a pickle of protocol 2 to 5, found none"));
    assert!(refusal(pt(&[b"c", &[b'a'; 9999][..]].concat())).contains("expected a pickle of protocol 2 to 5"));
    assert!(refusal(pt(&pickle(&[b"c", &[b'a'; 9999][..]].concat()))).contains("expected a line of at most 256 bytes"));
}

#[test]
fn tensors_beyond_their_storage_are_refused() {
    let (max, min) = (i64::MAX, i64::MIN);
    for (offset, shape, strides) in [
        (16, &[1][..], &[1][..]),
        (1, &[16], &[1]),
        (max, &[1], &[1]),
        (max, &[2], &[max]),
        (0, &[2], &[max]),
        (0, &[2, 2], &[max, max]),
        (0, &[1 << 32, 1 << 32], &[1, 1]),
        (0, &[max, max, max], &[1, 1, 1]),
        (0, &[17], &[0]),
        (0, &[1 << 40], &[0]),
        (-1, &[1], &[1]),
        (0, &[-1], &[1]),
        (0, &[2], &[-1]),
        (0, &[min], &[min]),
        (0, &[2], &[]),
        (0, &[1; 9], &[1; 9]),
    ] {
        let message = refusal(one(view(offset, shape, strides)));
        assert!(message.starts_with("evil.pt: tensor `w`: expected "), "{message}");
    }
}

#[test]
fn storages_are_looked_up_by_plain_keys_only() {
    for (key, elements, expected) in [
        ("../data.pkl", 1, "expected a storage's key of letters and digits, found `../data.pkl`"),
        ("", 1, "expected a storage's key of letters and digits, found ``"),
        ("9", 1, "expected an entry `a/data/9` in the ZIP, found none"),
        ("0", 17, "expected a storage of at most the 64 bytes of `a/data/0`, found the integer 17 times 4 bytes"),
        ("0", -1, "found the integer -1 times 4 bytes"),
        ("0", i64::MAX, "times 4 bytes"),
    ] {
        let message = refusal(one(tensor(storage("FloatStorage", key, elements), 0, &[1], &[1])));
        assert!(message.contains(expected), "{message}");
    }
    assert!(refusal(one(tensor([b")Q".to_vec()].concat(), 0, &[1], &[1]))).contains("expected a storage, found a storage"));
}

#[test]
fn hostile_names_cannot_break_the_line() {
    let name = "\n\x1b[2Jok\u{202e}".repeat(9);
    let message = refusal(pt(&pickle(&dict(&[(&name, call("torch._utils", "_rebuild_nothing\u{7}", &[]))]))));
    assert!(message.contains("\\n\\u{1b}[2Jok"), "{message}");
    assert!(refusal(pt(&pickle(&dict(&[(&"n".repeat(300), view(0, &[1], &[1]))])))).contains("at most 256 bytes, found 257 bytes or more"));
}
