"""make_onnx_schemas.py OUT: what ONNX's operator sets define, from the `onnx` package's own schemas, as the importer reads it
(`compiler/src/onnx/schemas.txt`): every op of the default domain that exists in sets FIRST to LAST, with its operands and
attributes, by the sets that have them.

    Resize 10- 2@10,4@11 mode:s:10-:nearest .. axes:is:18-

A range of sets is `10-` (to the last one known) or `7-12`; operands are `most@since`, `*` for any number; an attribute is
name:kind:range, and `:default` where ONNX gives one. Kinds: i f s t g are int, float, string, tensor, graph; is fs ss lists;
anything else is `x`."""
import sys
from collections import defaultdict
import onnx.defs as D

FIRST, LAST = 7, 28
assert D.onnx_opset_version() >= LAST, "a newer `onnx` package, please"
A = D.OpSchema.AttrType
KIND = {A.INT: "i", A.FLOAT: "f", A.STRING: "s", A.TENSOR: "t", A.GRAPH: "g", A.INTS: "is", A.FLOATS: "fs", A.STRINGS: "ss"}

def default(a):
    v = a.default_value
    if not v.name:
        return ""
    return {A.INT: lambda: str(v.i), A.FLOAT: lambda: repr(v.f), A.STRING: lambda: v.s.decode()}.get(a.type, lambda: "")()

def spans(by_opset):
    """Runs of sets with one and the same thing: (thing, first, last)."""
    out = []
    for opset in range(FIRST, LAST + 1):
        thing = by_opset.get(opset)
        if thing is None:
            continue
        if out and out[-1][0] == thing and out[-1][2] == opset - 1:
            out[-1][2] = opset
        else:
            out.append([thing, opset, opset])
    return out

show = lambda first, last: f"{first}-{'' if last == LAST else last}"
history = defaultdict(list)
for s in D.get_all_schemas_with_history():
    if s.domain == "":
        history[s.name].append(s)
with open(sys.argv[1], "w") as f:
    for name in sorted(history):
        versions = sorted(history[name], key=lambda s: s.since_version)
        at = {}
        for opset in range(FIRST, LAST + 1):
            known = [s for s in versions if s.since_version <= opset]
            # GroupNormalization 18 is deprecated as a mistaken definition, and has no other in its sets.
            if known and not (known[-1].deprecated and name != "GroupNormalization"):
                at[opset] = known[-1]
        if not at:
            continue
        most = {o: "*" if s.max_input > 1000 else str(s.max_input) for o, s in at.items()}
        row = [name, show(min(at), max(at)), ",".join(f"{n}@{first}" for n, first, _ in spans(most))]
        for attribute in sorted({a for s in at.values() for a in s.attributes}):
            have = {o: s.attributes[attribute] for o, s in at.items() if attribute in s.attributes}
            for (kind, value), first, last in spans({o: (KIND.get(a.type, "x"), default(a)) for o, a in have.items()}):
                row.append(f"{attribute}:{kind}:{show(first, last)}" + (f":{value}" if value else ""))
        f.write(" ".join(row) + "\n")
