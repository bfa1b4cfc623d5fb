//! The example: eight ops become four.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../examples/fuse.rs"]
mod fuse;

#[test]
fn a_block_in_four_kernels() {
    let text = fuse::fused().unwrap().to_string();
    for op in ["fused.dwconv_norm_modulate", "fused.linear_gelu_sumsq", "grn_scale", "fused.scale_linear_gated_add"] {
        assert_eq!(text.matches(&format!("= {op} ")).count(), 1, "{op} in\n{text}");
    }
    assert!(!text.contains("= layer_norm ") && !text.contains("= grn %"), "{text}");
}
