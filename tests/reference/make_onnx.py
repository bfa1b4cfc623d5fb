"""make_onnx.py OUT: small ONNX models, one or a few for every op that is imported, with inputs and what ONNX Runtime makes of
them: OUT/NAME.onnx and OUT/expected.safetensors, whose tensors are NAME/in/INPUT and NAME/out/OUTPUT. Needs onnx, onnxruntime,
numpy and safetensors; seeded, so that a second run writes the same numbers."""
import os, sys
import numpy as np, onnx, onnx.reference, onnxruntime as ort
from onnx import TensorProto as T, helper as h, numpy_helper as nh
from safetensors.numpy import save_file

OUT = sys.argv[1]
os.makedirs(OUT, exist_ok=True)
rng = np.random.default_rng(7)
tensors = {}

def values(*shape):
    return rng.uniform(-1.5, 1.5, shape).astype(np.float32)

def model(name, nodes, inputs, consts=(), outputs=("y",), opset=18, by_reference=False):
    """nodes: (op, inputs, outputs, attributes); inputs: name -> array; consts: name -> array. `by_reference`: ONNX's own reference
    evaluator, for what ONNX Runtime has not got yet."""
    nodes = [h.make_node(op, i.split(), o.split(), name=f"{name}_{k}", **a) for k, (op, i, o, a) in enumerate(nodes)]
    ins = [h.make_tensor_value_info(n, h.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in inputs.items()]
    outs = [h.make_tensor_value_info(n, T.FLOAT, None) for n in outputs]
    g = h.make_graph(nodes, name, ins, outs, [nh.from_array(np.asarray(v), n) for n, v in dict(consts).items()])
    m = h.make_model(g, opset_imports=[h.make_opsetid("", opset)], ir_version=8, producer_name="fcdm")
    path = f"{OUT}/{name}.onnx"
    onnx.save(m, path)
    if by_reference:
        got = onnx.reference.ReferenceEvaluator(m).run(list(outputs), inputs)
    else:
        got = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(list(outputs), inputs)
    for n, v in inputs.items():
        tensors[f"{name}/in/{n}"] = np.ascontiguousarray(v.astype(np.int64) if v.dtype.kind == "i" else v)
    for n, v in zip(outputs, got):
        tensors[f"{name}/out/{n}"] = np.ascontiguousarray(v.astype(np.float32))

def one(name, op, x, consts=(), opset=18, extra="", by_reference=False, **attributes):
    """One node of x and constants."""
    consts = dict(consts)
    model(name, [(op, " ".join(["x", *consts]) + extra, "y", attributes)], {"x": x}, consts, opset=opset, by_reference=by_reference)

i64 = lambda *v: np.array(v, np.int64)
f32 = lambda *v: np.array(v, np.float32)
img = values(2, 4, 6, 5)

# --- convolutions
w, b = values(6, 4, 3, 3), values(6)
one("conv", "Conv", img, {"w": w, "b": b}, pads=[1, 1, 1, 1])
one("conv_1x1", "Conv", img, {"w": values(3, 4, 1, 1)})
one("conv_strided", "Conv", img, {"w": w, "b": b}, pads=[0, 1, 2, 0], strides=[2, 2])
one("conv_same_upper", "Conv", img, {"w": values(3, 4, 2, 2)}, auto_pad="SAME_UPPER")
one("conv_same_lower", "Conv", img, {"w": values(3, 4, 4, 3)}, auto_pad="SAME_LOWER", strides=[2, 2])
one("conv_grouped", "Conv", img, {"w": values(6, 2, 3, 3), "b": b}, group=2, pads=[1, 1, 1, 1])
one("conv_depthwise", "Conv", img, {"w": values(4, 1, 3, 3), "b": values(4)}, group=4, pads=[1, 1, 1, 1])
one("conv_depthwise_strided", "Conv", img, {"w": values(8, 1, 3, 3), "b": values(8)}, group=4, pads=[1, 1, 1, 1], strides=[2, 2])
one("conv_transpose", "ConvTranspose", img, {"w": values(4, 3, 2, 2), "b": values(3)}, strides=[2, 2])
one("conv_transpose_padded", "ConvTranspose", img, {"w": values(4, 3, 3, 3)}, strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])
bn = lambda c: {"gamma": values(c), "beta": values(c), "mean": values(c), "var": np.abs(values(c)) + np.float32(0.1)}
one("batch_norm", "BatchNormalization", img, bn(4))
model("batch_norm_of_conv", [("Conv", "x w b", "c", {}), ("BatchNormalization", "c gamma beta mean var", "y", {"epsilon": 1e-3})],
      {"x": img}, {"w": w, "b": b, **bn(6)})
model("pad_then_conv", [("Pad", "x pads", "p", {}), ("Conv", "p w b", "y", {})], {"x": img}, {"pads": i64(0, 0, 1, 2, 0, 0, 0, 1), "w": w, "b": b})
one("pad", "Pad", img, {"pads": i64(0, 1, 1, 0, 0, 0, 2, -1), "value": f32(0.5)[0]})

# --- images
one("average_pool", "AveragePool", values(1, 3, 4, 6), kernel_shape=[2, 2], strides=[2, 2])
one("average_pool_cut", "AveragePool", img, kernel_shape=[2, 2], strides=[2, 2])
one("max_pool", "MaxPool", img, kernel_shape=[2, 2], strides=[2, 2])
one("global_average_pool", "GlobalAveragePool", img)
for mode, factor, extra in [("nearest", 2, dict(coordinate_transformation_mode="asymmetric", nearest_mode="floor")),
                            ("nearest", 3, dict(coordinate_transformation_mode="half_pixel")),
                            ("linear", 2, dict(coordinate_transformation_mode="pytorch_half_pixel", cubic_coeff_a=-0.75)),
                            ("linear", 3, dict(coordinate_transformation_mode="half_pixel"))]:
    model(f"resize_{mode}_{factor}", [("Resize", "x  s".replace("  ", " r "), "y", dict(mode=mode, **extra))], {"x": img},
          {"r": np.zeros(0, np.float32), "s": f32(1, 1, factor, factor)})
one("resize_one_row", "Resize", values(1, 2, 1, 3), {"r": np.zeros(0, np.float32), "s": f32(1, 1, 4, 4)}, mode="linear")
one("upsample", "Upsample", img, {"s": f32(1, 1, 2, 2)}, opset=9, mode="nearest")
deep = values(1, 8, 3, 2)
one("depth_to_space_crd", "DepthToSpace", deep, blocksize=2, mode="CRD")
one("depth_to_space_dcr", "DepthToSpace", deep, blocksize=2, mode="DCR")
one("space_to_depth", "SpaceToDepth", values(2, 3, 4, 6), blocksize=2)
model("pixel_unshuffle", [("Reshape", "x a", "p", {}), ("Transpose", "p", "q", dict(perm=[0, 1, 3, 5, 2, 4])), ("Reshape", "q b", "y", {})],
      {"x": values(2, 3, 4, 6)}, {"a": i64(-1, 3, 2, 2, 3, 2), "b": i64(-1, 12, 2, 3)})
model("pixel_shuffle", [("Reshape", "x a", "p", {}), ("Transpose", "p", "q", dict(perm=[0, 1, 4, 2, 5, 3])), ("Reshape", "q b", "y", {})],
      {"x": deep}, {"a": i64(1, 2, 2, 2, 3, 2), "b": i64(1, 2, 6, 4)})

# --- normalisations and reductions
model("layer_norm_channels_last", [("Transpose", "x", "p", dict(perm=[0, 2, 3, 1])), ("LayerNormalization", "p g b", "q", dict(axis=-1, epsilon=1e-6)),
      ("Transpose", "q", "y", dict(perm=[0, 3, 1, 2]))], {"x": img}, {"g": values(4), "b": values(4)})
one("layer_norm_last_axis", "LayerNormalization", img, {"g": values(5)})
one("instance_norm", "InstanceNormalization", img, {"g": values(4), "b": values(4)})
one("group_norm", "GroupNormalization", img, {"g": values(2), "b": values(2)}, num_groups=2)
model("group_norm_by_instances", [("Reshape", "x a", "p", {}), ("InstanceNormalization", "p g b", "q", {}), ("Shape", "x", "s", {}),
      ("Reshape", "q s", "r", {}), ("Mul", "r w", "m", {}), ("Add", "m v", "y", {})], {"x": img},
      {"a": i64(0, 2, -1), "g": f32(1, 1), "b": f32(0, 0), "w": values(4, 1, 1), "v": values(4, 1, 1)})
one("reduce_mean", "ReduceMean", img, {"a": i64(2, 3)})
one("reduce_mean_attribute", "ReduceMean", img, opset=13, axes=[1], keepdims=0)
one("reduce_sum", "ReduceSum", img, {"a": i64(-1)}, keepdims=0)
one("reduce_l2", "ReduceL2", img, {"a": i64(2, 3)})
one("reduce_sum_square", "ReduceSumSquare", img, {"a": i64(1)})
one("softmax", "Softmax", img)
one("softmax_channels", "Softmax", img, axis=1)

# --- functions
for op in ["Relu", "Sigmoid", "Tanh", "Erf", "Exp", "Neg", "Cos", "Sin", "Reciprocal", "Softplus", "HardSwish", "Abs"]:
    one(op.lower(), op, img)
one("log", "Log", np.abs(img) + np.float32(0.1))
one("sqrt", "Sqrt", np.abs(img))
one("leaky_relu", "LeakyRelu", img, alpha=0.2)
one("hard_sigmoid", "HardSigmoid", img, alpha=0.3)
one("prelu", "PRelu", img, {"s": values(4, 1, 1)})
one("prelu_scalar", "PRelu", img, {"s": f32(0.25)})
one("clip", "Clip", img, {"lo": f32(-0.5)[0], "hi": f32(0.75)[0]})
one("clip_old", "Clip", img, opset=9, min=0.0)
one("gelu", "Gelu", img, opset=20)
one("gelu_tanh", "Gelu", img, opset=20, approximate="tanh")
for e in [2.0, 0.5, 3.0, -1.0]:
    one(f"pow_{e}".replace("-", "minus"), "Pow", np.abs(img) + np.float32(0.2), {"e": f32(e)[0]})

# --- two operands
for op in ["Add", "Sub", "Mul", "Div"]:
    one(op.lower() + "_scalar", op, img, {"c": f32(1.5)[0]})
    one(op.lower() + "_channels", op, img, {"c": values(4, 1, 1) + np.float32(2.5)})
    model(op.lower() + "_left", [(op, "c x", "y", {})], {"x": np.abs(img) + np.float32(0.5)}, {"c": f32(0.75)})
model("add_broadcast", [("Unsqueeze", "b a", "c", {}), ("Add", "x c", "y", {})], {"x": img, "b": values(2, 4)}, {"a": i64(2, 3)})
model("add_last_axis", [("Add", "x b", "y", {})], {"x": img, "b": values(6, 1)})
model("mul_outer", [("Mul", "x b", "y", {})], {"x": values(3, 1), "b": values(1, 4)})

# --- products
model("matmul_weight", [("MatMul", "x w", "y", {})], {"x": values(2, 3, 5)}, {"w": values(5, 4)})
model("matmul_batched", [("MatMul", "x w", "y", {})], {"x": values(2, 3, 4, 5), "w": values(3, 5, 2)})
model("attention", [("Reshape", "x a", "p", {}), ("Transpose", "p", "q", dict(perm=[0, 2, 1])), ("MatMul", "q w", "r", {}), ("Add", "r b", "s", {}),
      ("Transpose", "s", "t", dict(perm=[0, 2, 1])), ("MatMul", "s t", "u", {}), ("Softmax", "u", "v", {}), ("MatMul", "v q", "z", {}),
      ("Transpose", "z", "m", dict(perm=[0, 2, 1])), ("Shape", "x", "n", {}), ("Reshape", "m n", "y", {})],
      {"x": img}, {"a": i64(0, 0, -1), "w": values(4, 4), "b": values(4)})
one("gemm", "Gemm", values(2, 5), {"w": values(4, 5), "b": values(4)}, transB=1)
one("gemm_scaled", "Gemm", values(5, 2), {"w": values(5, 4), "b": values(2, 4)}, transA=1, alpha=0.5, beta=2.0)

# --- shapes
one("flatten", "Flatten", img)
one("reshape_apart", "Reshape", img, {"s": i64(2, 2, 60)})
one("transpose", "Transpose", img, perm=[3, 1, 0, 2])
one("squeeze", "Squeeze", values(1, 4, 1, 5), {"a": i64(0, 2)})
one("unsqueeze", "Unsqueeze", values(4, 5), {"a": i64(0, -1)})
one("expand", "Expand", values(4, 1, 5), {"s": i64(2, 1, 3, 1)})
model("concat", [("Concat", "x b c", "y", dict(axis=1))], {"x": img, "b": values(2, 3, 6, 5)}, {"c": values(2, 1, 6, 5)})
model("split", [("Split", "x", "a y", dict(axis=1, num_outputs=2))], {"x": img}, outputs=("a", "y"))
model("split_uneven", [("Split", "x s", "a y", dict(axis=-1))], {"x": img}, {"s": i64(2, 3)}, outputs=("a", "y"))
one("slice", "Slice", img, {"s": i64(1, -3), "e": i64(4, 2**40), "a": i64(1, 2)})
one("slice_backwards", "Slice", img, {"s": i64(-1), "e": i64(-2**62), "a": i64(3), "d": i64(-1)})
one("slice_every_second", "Slice", img, {"s": i64(1), "e": i64(99), "a": i64(2), "d": i64(2)})
one("slice_old", "Slice", img, opset=9, starts=[1], ends=[3], axes=[1])
one("gather_known", "Gather", img, {"i": i64(2, 3, 0)}, axis=1)
one("gather_one", "Gather", img, {"i": np.array(-1, np.int64)}, axis=2)
model("gather_labels", [("Gather", "w x", "y", {})], {"x": i64(3, 0, 3)}, {"w": values(5, 2)})
model("cast_numbers", [("Cast", "x", "f", dict(to=T.FLOAT)), ("Exp", "f", "y", {})], {"x": i64(-1, 2)})
half = 8
freq = np.exp(np.arange(half, dtype=np.float32) * np.float32(-np.log(10000.0) / half))
for name, order in [("timestep_embedding", "c s"), ("timestep_sines_first", "s c")]:
    model(name, [("Cast", "x", "f", dict(to=T.FLOAT)), ("Unsqueeze", "f a", "u", {}), ("Mul", "u q", "p", {}), ("Cos", "p", "c", {}), ("Sin", "p", "s", {}),
          ("Concat", order, "y", dict(axis=1))], {"x": i64(7, 999)}, {"a": i64(1), "q": freq})
model("shape_arithmetic", [("Shape", "x", "s", {}), ("Gather", "s i", "n", dict(axis=0)), ("Div", "n two", "m", {}),
      ("ConstantOfShape", "m", "o", dict(value=nh.from_array(f32(2.0)))), ("Unsqueeze", "o one", "w", {}), ("Equal", "m three", "q", {}),
      ("Where", "q m n", "l", {}), ("Range", "z five k", "r", {}), ("Cast", "r", "g", dict(to=T.FLOAT)), ("Slice", "x z1 l two", "p", {}),
      ("Add", "p w", "v", {}), ("Mul", "v g", "y", {})], {"x": img},
      {"i": i64(2), "two": i64(2), "three": i64(3), "one": i64(1), "z": np.array(0, np.int64), "k": np.array(1, np.int64),
       "five": np.array(5, np.int64), "z1": i64(0)})
model("where_known", [("Where", "c x b", "y", {})], {"x": img, "b": values(2, 4, 6, 5)}, {"c": np.array([True])})
model("dropout_identity", [("Identity", "x", "i", {}), ("Dropout", "i", "y", {})], {"x": img})
model("two_outputs_of_one", [("Relu", "x", "a", {}), ("Identity", "a", "y", {})], {"x": img}, outputs=("a", "y"))

# --- what other operator sets say
for mode in ["nearest", "linear"]:
    one(f"resize10_{mode}", "Resize", img, {"s": f32(1, 1, 2, 2)}, opset=10, mode=mode)
    one(f"upsample7_{mode}", "Upsample", img, opset=7, mode=mode, scales=[1.0, 1.0, 3.0, 3.0])
    one(f"upsample9_{mode}", "Upsample", img, {"s": f32(1, 1, 2, 2)}, opset=9, mode=mode)
one("resize10_one_row", "Resize", values(1, 2, 1, 3), {"s": f32(1, 1, 2, 4)}, opset=10, mode="linear")
asymmetric = dict(coordinate_transformation_mode="asymmetric", mode="linear")
model("resize_asymmetric", [("Resize", "x r s", "y", asymmetric)], {"x": img}, {"r": f32(), "s": f32(1, 1, 2, 3)}, opset=13)
model("resize_axes", [("Resize", "x r r n", "y", dict(mode="linear", axes=[2, -1], nearest_mode="floor", antialias=0))], {"x": img},
      {"r": f32(), "n": i64(12, 15)}, opset=19)
deeper = values(2, 3, 4, 6)
one("space_to_depth_28_crd", "SpaceToDepth", deeper, opset=28, by_reference=True, blocksize=2, mode="CRD")
one("space_to_depth_28_dcr", "SpaceToDepth", deeper, opset=28, by_reference=True, blocksize=2, mode="DCR")
one("depth_to_space_old", "DepthToSpace", deep, opset=10, blocksize=2)
one("conv_23", "Conv", img, {"w": w, "b": b}, opset=23, pads=[1, 1, 1, 1], kernel_shape=[3, 3], auto_pad="NOTSET", group=1)
one("group_norm_21", "GroupNormalization", img, {"g": values(4), "b": values(4)}, opset=21, num_groups=2, stash_type=1)
one("swish", "Swish", img, opset=24, by_reference=True, alpha=0.5)
one("batch_norm_7", "BatchNormalization", img, bn(4), opset=7, momentum=0.5)
one("dropout_in_evaluation", "Dropout", img, {"r": f32(0.3)[0], "t": np.array(False)}, opset=13, seed=3)
one("conv_transpose_to_extents", "ConvTranspose", img, {"w": values(4, 3, 4, 4)}, strides=[2, 2], output_shape=[12, 10])
qkv = {n: values(1, 2, 6, 4) for n in "xkv"}
model("attention_23", [("Attention", "x k v", "y", {})], qkv, opset=23)
model("attention_23_scaled", [("Attention", "x k v", "y", dict(scale=0.25))], qkv, opset=23)
model("attention_23_flat", [("Attention", "x k v", "y", dict(q_num_heads=2, kv_num_heads=2))], {n: values(1, 6, 8) for n in "xkv"}, opset=23)
for fmod in [0, 1]:
    model(f"mod_{fmod}", [("Mod", "a b", "m", dict(fmod=fmod)), ("Cast", "m", "f", dict(to=T.FLOAT)), ("Add", "x f", "y", {})],
          {"x": values(2, 4)}, {"a": i64(-7, 7, -7, 7), "b": i64(3, -3, -3, 3)})
for op in ["Add", "Div"]:
    model(f"{op.lower()}_repeated", [("Expand", "c s", "e", {}), (op, "x e", "y", {})], {"x": values(3, 1)}, {"c": f32(1.5)[0], "s": i64(1, 4)})
save_file(tensors, f"{OUT}/expected.safetensors")
print(len(os.listdir(OUT)), "files")

# --- what is refused
BAD = f"{OUT}/../bad"
os.makedirs(BAD, exist_ok=True)

def bad(name, nodes, x=(T.FLOAT, [2, 3]), consts=(), opset=18, edit=lambda m: None, out="y"):
    g = h.make_graph(nodes, name, [h.make_tensor_value_info("x", *x)], [h.make_tensor_value_info(out, T.FLOAT, None)], list(consts))
    m = h.make_model(g, opset_imports=[h.make_opsetid("", opset)], ir_version=8, producer_name="fcdm")
    edit(m)
    with open(f"{BAD}/{name}.onnx", "wb") as f:
        f.write(m.SerializeToString())

node = h.make_node
weight = lambda *shape: nh.from_array(np.ones(shape, np.float32), "w")
image = (T.FLOAT, [1, 2, 4, 4])

def external(location):
    t = onnx.TensorProto(name="w", dims=[2, 3], data_type=T.FLOAT, data_location=onnx.TensorProto.EXTERNAL)
    t.external_data.add(key="location", value=location)
    return t

bad("unknown_op", [node("NonZero", ["x"], ["y"], name="strange")])
bad("other_domain", [node("Conv", ["x"], ["y"], name="own", domain="com.example", group=1)])
bad("dilated", [node("Conv", ["x", "w"], ["y"], name="wide", dilations=[2, 2])], image, [weight(1, 2, 2, 2)])
bad("dynamic", [node("Relu", ["x"], ["y"], name="n")], (T.FLOAT, ["batch", 3]))
bad("external", [node("Add", ["x", "w"], ["y"], name="n")], consts=[external("weights.bin")])
bad("outside", [node("Add", ["x", "w"], ["y"], name="n")], consts=[external("../weights.bin")])
bad("short_tensor", [node("Add", ["x", "w"], ["y"], name="n")], consts=[onnx.TensorProto(name="w", dims=[2, 3], data_type=T.FLOAT, float_data=[1.0] * 5)])
bad("huge_tensor", [node("Add", ["x", "w"], ["y"], name="n")], consts=[onnx.TensorProto(name="w", dims=[2**32, 2**32], data_type=T.FLOAT, float_data=[1.0])])
bad("channels", [node("Conv", ["x", "w"], ["y"], name="n")], image, [weight(1, 3, 1, 1)])
bad("broadcast", [node("Add", ["x", "w"], ["y"], name="n")], consts=[weight(2, 4)])
bad("undefined", [node("Relu", ["z"], ["y"], name="n")])
bad("constant_output", [node("Relu", ["x"], ["z"], name="n"), node("Identity", ["w"], ["y"], name="i")], consts=[weight(2)])
bad("label_and_number", [node("Cast", ["x"], ["f"], name="c", to=T.FLOAT), node("Gather", ["w", "x"], ["e"], name="g"), node("Add", ["e", "f"], ["y"], name="n")],
    (T.INT64, [2]), [weight(4, 2)])
bad("opset", [node("Relu", ["x"], ["y"], name="n")], opset=3)
bad("opset_newer", [node("Relu", ["x"], ["y"], name="n")], opset=29)
bad("op_newer", [node("Gelu", ["x"], ["y"], name="n")], opset=18)
bad("attribute_newer", [node("SpaceToDepth", ["x"], ["y"], name="n", blocksize=2, mode="CRD")], image)
bad("attribute_newer_too", [node("DepthToSpace", ["x"], ["y"], name="n", blocksize=1, mode="CRD")], image, opset=10)
bad("attribute_older", [node("Upsample", ["x", "s"], ["y"], name="n", scales=[1.0, 1.0, 2.0, 2.0])], image, [nh.from_array(f32(1, 1, 2, 2), "s")], opset=9)
bad("attribute_unknown", [node("Relu", ["x"], ["y"], name="n", strange=[1, 2])])
bad("attribute_of_another_kind", [node("Concat", ["x", "x"], ["y"], name="n", axis=1.0)])
bad("attribute_not_used", [node("Resize", ["x", "", "s"], ["y"], name="n", mode="linear", exclude_outside=1)], image, [nh.from_array(f32(1, 1, 2, 2), "s")])
bad("attribute_without_default", [node("RandomNormalLike", ["x"], ["y"], name="n", seed=1.0)])
bad("attribute_that_contradicts", [node("Conv", ["x", "w"], ["y"], name="n", kernel_shape=[3, 3])], image, [weight(1, 2, 2, 2)])
bad("attribute_value", [node("Gelu", ["x"], ["y"], name="n", approximate="erf")], opset=20)
bad("attention_is_causal", [node("Attention", ["x", "x", "x"], ["y"], name="n", is_causal=1)], image, opset=23)
bad("operands", [node("ReduceMean", ["x", "a"], ["y"], name="n")], consts=[nh.from_array(i64(1), "a")], opset=13)
bad("axis_missing", [node("Concat", ["x", "x"], ["y"], name="n")])
bad("results", [node("BatchNormalization", ["x", "w", "w", "w", "w"], ["y", "m"], name="n")], consts=[weight(3)], opset=9)
bad("dropout", [node("Dropout", ["x", "", "t"], ["y"], name="n")], consts=[nh.from_array(np.array(True), "t")])
bad("resize_cubic", [node("Resize", ["x", "", "s"], ["y"], name="n", mode="cubic")], image, [nh.from_array(f32(1, 1, 2, 2), "s")])
bad("element_type", [node("Add", ["x", "w"], ["y"], name="n")], consts=[onnx.TensorProto(name="w", dims=[3], data_type=T.FLOAT8E8M0, raw_data=b"abc")], opset=25)
bad("element_type_of_input", [node("Cast", ["x"], ["y"], name="n", to=T.FLOAT)], (T.FLOAT8E8M0, [2, 3]), opset=25)
bad("element_type_of_cast", [node("Cast", ["x"], ["y"], name="n", to=T.FLOAT8E8M0)], opset=25)
bad("no_graph", [], edit=lambda m: m.ClearField("graph"))
