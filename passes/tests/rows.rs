//! Which ops keep the rows of a condition apart, as `hoist_condition` judges: one line for every rule, and one for what
//! breaks it.
#![allow(clippy::unwrap_used)]

mod evaluation;

use evaluation::assert_same_values;
use fcdm_ir::text::parse_module;
use fcdm_ir::verify::verify_module;

/// Hoists a network whose image meets `%c` alone, which `lines` make of `%e [2,4]`, `%s [4,4]` (no rows), `%t`, `%y` and
/// weights.
fn check(lines: &str, hoisted: bool) {
    let text = format!(
        "weight @w : f32[4,4]\nweight @b : f32[4]\nweight @r : f32[2,4]\nweight @q : f32[2,2]\n
        fn @f(%x: f32[2,4], %t: f32[2], %y: i32[2], %s: f32[4,4]) {{
          %e = timestep_embedding %t {{dim=4}} : f32[2,4]
          {lines}
          %z = add %x, %c : f32[2,4]
          return %z
        }}"
    );
    let (m, _) = parse_module("rows", &text).unwrap_or_else(|e| panic!("{e}"));
    verify_module(&m).unwrap_or_else(|e| panic!("{lines}: {e:?}"));
    let after = fcdm_passes::find("hoist_condition").unwrap().apply(&m, &fcdm_passes::Settings::default());
    verify_module(&after).unwrap_or_else(|e| panic!("{lines}: {e:?}"));
    assert_eq!(after.function("condition").is_some(), hoisted, "{lines}");
    assert_same_values(lines, &m, &after);
}

#[test]
fn ops_on_every_row_alike_are_hoisted() {
    for lines in [
        "%c = linear %e, @w, @b : f32[2,4]",
        "%n = neg @w : f32[4,4] %c = linear %e, %n : f32[2,4]",
        "%c = embedding @w, %y : f32[2,4]",
        "%c = one_hot %y {depth=4} : f32[2,4]",
        "%c = silu %e : f32[2,4]",
        "%c = layer_norm %e {eps=0.1} : f32[2,4]",
        "%c = softmax %e : f32[2,4]",
        "%k = fill {value=2.0, dtype=f32, shape=[2,4]} : f32[2,4] %c = div %e, %k : f32[2,4]",
        "%c = modulate %e, %e, %e : f32[2,4]",
        "%r = reshape %t {shape=[2,1]} : f32[2,1] %c = broadcast %r {shape=[2,4]} : f32[2,4]",
        "%r = reshape %e {shape=[2,2,2]} : f32[2,2,2] %p = transpose %r {perm=[0,2,1]} : f32[2,2,2] %c = reshape %p {shape=[2,4]} : f32[2,4]",
        "%p, %q = split %e {axis=1, parts=2} : f32[2,2], f32[2,2] %c = concat %q, %p {axis=1} : f32[2,4]",
        "%p = slice %e {axis=1, start=1, len=2} : f32[2,2] %c = concat %p, %p {axis=1} : f32[2,4]",
        "%p = sum %e {axes=[1]} : f32[2,1] %c = broadcast %p {shape=[2,4]} : f32[2,4]",
        "%c = flip %e {axes=[1]} : f32[2,4]",
    ] {
        check(lines, true);
    }
}

#[test]
fn what_mixes_rows_or_tells_them_apart_is_not_hoisted() {
    for lines in [
        // Computed from an input without rows.
        "%c = linear %e, %s : f32[2,4]",
        "%c = embedding %s, %y : f32[2,4]",
        "%c = slice %s {axis=0, start=0, len=2} : f32[2,4]",
        "%p = reshape %s {shape=[2,8]} : f32[2,8] %c = slice %p {axis=1, start=0, len=4} : f32[2,4]",
        // A weight with rows of its own.
        "%c = add %e, @r : f32[2,4]",
        "%c = modulate %e, @r, %e : f32[2,4]",
        "%p = slice %e {axis=1, start=0, len=2} : f32[2,2] %q = slice @r {axis=1, start=0, len=2} : f32[2,2] %c = concat %p, %q {axis=1} : f32[2,4]",
        // The rows are the channels.
        "%p = softmax %t : f32[2] %r = reshape %p {shape=[2,1]} : f32[2,1] %c = broadcast %r {shape=[2,4]} : f32[2,4]",
        "%p = layer_norm %t {eps=0.1} : f32[2] %r = reshape %p {shape=[2,1]} : f32[2,1] %c = broadcast %r {shape=[2,4]} : f32[2,4]",
        "%p = linear %t, @q : f32[2] %r = reshape %p {shape=[2,1]} : f32[2,1] %c = broadcast %r {shape=[2,4]} : f32[2,4]",
        // Rows change places, or meet.
        "%p = reshape %e {shape=[1,8]} : f32[1,8] %q = flip %p {axes=[1]} : f32[1,8] %c = reshape %q {shape=[2,4]} : f32[2,4]",
        "%c = flip %e {axes=[0]} : f32[2,4]",
        "%p, %q = split %e {axis=0, parts=2} : f32[1,4], f32[1,4] %c = concat %q, %p {axis=0} : f32[2,4]",
        "%p = slice %e {axis=0, start=1, len=1} : f32[1,4] %c = broadcast %p {shape=[2,4]} : f32[2,4]",
        "%p = sum %e {axes=[0]} : f32[1,4] %c = broadcast %p {shape=[2,4]} : f32[2,4]",
        "%p = reshape %e {shape=[4,2]} : f32[4,2] %q = transpose %p {perm=[1,0]} : f32[2,4] %c = neg %q : f32[2,4]",
        "%p = transpose %e {perm=[1,0]} : f32[4,2] %c = reshape %p {shape=[2,4]} : f32[2,4]",
        "%p = transpose %e {perm=[1,0]} : f32[4,2] %q = matmul %e, %p : f32[2,2] %c = concat %q, %q {axis=1} : f32[2,4]",
    ] {
        check(lines, false);
    }
}
