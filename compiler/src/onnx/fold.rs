//! Constant folding: nodes all of whose operands are known, which in exported models is the arithmetic on shapes, and
//! weights moved about. Exact in i64; floats in f32, as every ONNX runtime computes them.

use super::constant::{Constant, Data, counted, gathered, strides};
use super::error::{Translated, form, wrong};
use super::node::{Node, axes, axis};
use super::shapes::{SliceOf, broadcast, flattened, reshape_dims, slices, squeezed, unsqueezed};

/// The result of a node of known operands; `None` if ops of this name are not computed here.
pub(super) fn fold(node: &Node<'_>, opset: i64, x: &[&Constant]) -> Translated<Option<Constant>> {
    let of_size = x.iter().any(|c| c.of_size);
    Ok(folded(node, opset, x)?.map(|c| Constant { of_size, ..c }))
}

fn folded(node: &Node<'_>, opset: i64, x: &[&Constant]) -> Translated<Option<Constant>> {
    let Some(&first) = x.first() else { return Ok(None) };
    let dims = |i: usize| x.get(i).and_then(|c| c.as_ints());
    let moved = |dims: Vec<usize>| Ok(Some(Constant { dims, ..first.clone() }));
    match node.op() {
        "Identity" => moved(first.dims.clone()),
        "Cast" => cast(node, first).map(Some),
        "Reshape" => match dims(1) {
            Some(shape) => moved(reshape_dims(&first.dims, shape, node.int_or("allowzero", 0) != 0)?),
            None => wrong("expected integers as the shape"),
        },
        "Flatten" => moved(flattened(node, &first.dims)?),
        "Squeeze" => moved(squeezed(&first.dims, node.ints("axes").or(dims(1)))?),
        "Unsqueeze" => moved(unsqueezed(&first.dims, node.ints("axes").or(dims(1)).unwrap_or(&[]))?),
        "Transpose" => {
            let rank = first.dims.len();
            let perm: Vec<i64> = node.ints("perm").map_or_else(|| (0..rank as i64).rev().collect(), <[i64]>::to_vec);
            axes(&perm, rank)?;
            let perm = perm.iter().map(|&p| axis(p, rank)).collect::<Translated<Vec<usize>>>()?;
            if perm.len() != rank { wrong("expected one number an axis in `perm`") } else { Ok(Some(first.permuted(&perm))) }
        }
        "Concat" => concat(x, axis(node.required_int("axis")?, first.dims.len())?).map(Some),
        "Gather" if x.len() == 2 => gather(first, x[1], axis(node.int_or("axis", 0), first.dims.len())?).map(Some),
        "Slice" => Ok(Some(slice(first, &slices(node, opset, &first.dims, &|i| dims(i))?))),
        "Expand" => match dims(1) {
            Some(shape) => expand(first, shape),
            None => wrong("expected integers as the shape"),
        },
        "ConstantOfShape" => Ok(None),
        "Range" => range(x).map(Some),
        "Where" if x.len() == 3 => choose(x).map(Some),
        "Mod" if x.len() == 2 && node.int_or("fmod", 0) != 0 => binary("Rem", first, x[1]),
        op if x.len() == 2 => binary(op, first, x[1]),
        op if x.len() == 1 => Ok(unary(op, first)),
        _ => Ok(None),
    }
}

/// ONNX's numbers of the types of integers, and what fits into them.
fn integers(to: i64) -> Option<std::ops::RangeInclusive<i64>> {
    Some(match to {
        2 => 0..=i64::from(u8::MAX),
        3 => i64::from(i8::MIN)..=i64::from(i8::MAX),
        4 => 0..=i64::from(u16::MAX),
        5 => i64::from(i16::MIN)..=i64::from(i16::MAX),
        6 => i64::from(i32::MIN)..=i64::from(i32::MAX),
        7 => i64::MIN..=i64::MAX,
        12 => 0..=i64::from(u32::MAX),
        13 => 0..=i64::MAX,
        _ => return None,
    })
}

fn cast(node: &Node<'_>, x: &Constant) -> Translated<Constant> {
    // They are about floats of 8 bits, which are refused.
    node.passed_over(&["saturate", "round_mode"]);
    // FLOAT, FLOAT16, DOUBLE and BFLOAT16; BOOL; the integers.
    let to = node.required_int("to")?;
    let data = match (to, &x.data) {
        (1 | 10 | 11 | 16, _) => Data::Float(x.as_floats()),
        (9, Data::Float(v)) => Data::Int(v.iter().map(|&v| i64::from(v != 0.0)).collect()),
        (9, Data::Int(v)) => Data::Int(v.iter().map(|&v| i64::from(v != 0)).collect()),
        _ => {
            let Some(range) = integers(to) else { return form(format!("attribute `to`: element type {to}")) };
            let values = match &x.data {
                Data::Float(v) => v.iter().map(|&v| v as i64).collect(),
                Data::Int(v) => v.clone(),
            };
            if let Some(beyond) = values.iter().find(|v| !range.contains(v)) {
                return form(format!("of {beyond} to element type {to}, which is too small for it"));
            }
            Data::Int(values)
        }
    };
    Ok(Constant { data, ..x.clone() })
}

/// Elements of `x` by an index space of their own.
fn taken(x: &Constant, dims: Vec<usize>, steps: &[isize], offset: usize) -> Constant {
    let data = match &x.data {
        Data::Float(v) => Data::Float(gathered(v, &dims, steps, offset)),
        Data::Int(v) => Data::Int(gathered(v, &dims, steps, offset)),
    };
    Constant { dims, data, ..x.clone() }
}

fn slice(x: &Constant, parts: &[SliceOf]) -> Constant {
    let mut steps: Vec<isize> = strides(&x.dims).iter().map(|&s| s as isize).collect();
    let (mut dims, mut offset) = (x.dims.clone(), 0);
    for p in parts {
        offset += p.start * steps[p.axis] as usize;
        steps[p.axis] *= p.step;
        dims[p.axis] = p.len;
    }
    taken(x, dims, &steps, offset)
}

/// The most values that a constant is repeated to; more are repeated by the network.
const MOST_REPEATED: usize = 1 << 24;

fn expand(x: &Constant, shape: &[i64]) -> Translated<Option<Constant>> {
    let shape: Option<Vec<usize>> = shape.iter().map(|&d| usize::try_from(d).ok()).collect();
    let Some(shape) = shape else { return wrong("expected extents, found a negative number") };
    let dims = broadcast(&x.dims, &shape)?;
    if dims.iter().product::<usize>() > MOST_REPEATED.max(x.count()) {
        return Ok(None);
    }
    // One number, wherever it is from, is part of the formula when it is repeated: not a tensor to be stored.
    let trained = x.trained && x.count() != 1;
    Ok(Some(Constant { trained, ..spread(x, &dims) }))
}

/// Repeated to extents that it broadcasts to.
pub(super) fn spread(x: &Constant, dims: &[usize]) -> Constant {
    let (own, lead) = (strides(&x.dims), dims.len() - x.dims.len());
    let steps: Vec<isize> = (0..dims.len()).map(|a| if a < lead || x.dims[a - lead] == 1 { 0 } else { own[a - lead] as isize }).collect();
    taken(x, dims.to_vec(), &steps, 0)
}

fn concat(x: &[&Constant], at: usize) -> Translated<Constant> {
    let first = x[0];
    let alike = |c: &Constant| {
        let same = |(a, (p, q)): (usize, (&usize, &usize))| a == at || p == q;
        c.dims.len() == first.dims.len() && c.dims.iter().zip(&first.dims).enumerate().all(same)
    };
    if !x.iter().all(|c| alike(c)) {
        return wrong("operands differ beside the axis");
    }
    let outer: usize = first.dims[..at].iter().product();
    let mut dims = first.dims.clone();
    dims[at] = x.iter().map(|c| c.dims[at]).sum();
    fn joined<T: Copy>(parts: &[&[T]], outer: usize) -> Vec<T> {
        let chunk = |p: &[T], o: usize| p[p.len() / outer * o..p.len() / outer * (o + 1)].to_vec();
        (0..outer).flat_map(|o| parts.iter().flat_map(move |p| chunk(p, o))).collect()
    }
    let outer = outer.max(1);
    let ints: Option<Vec<&[i64]>> = x.iter().map(|c| c.as_ints()).collect();
    let data = match ints {
        Some(parts) => Data::Int(joined(&parts, outer)),
        None => {
            let parts: Vec<Vec<f32>> = x.iter().map(|c| c.as_floats()).collect();
            Data::Float(joined(&parts.iter().map(|p| &p[..]).collect::<Vec<_>>(), outer))
        }
    };
    Ok(Constant { dims, data, ..first.clone() })
}

fn gather(x: &Constant, indices: &Constant, at: usize) -> Translated<Constant> {
    let Some(list) = indices.as_ints() else { return wrong("expected integers as indices") };
    let parts = list.iter().map(|&i| {
        let index = axis(i, x.dims[at])?;
        Ok(slice(x, &[SliceOf { axis: at, start: index, len: 1, step: 1 }]))
    });
    let parts = parts.collect::<Translated<Vec<Constant>>>()?;
    if parts.is_empty() {
        return form("no indices");
    }
    let joined = concat(&parts.iter().collect::<Vec<_>>(), at)?;
    let dims = [&x.dims[..at], &indices.dims, &x.dims[at + 1..]].concat();
    Ok(Constant { dims, ..joined })
}

fn range(x: &[&Constant]) -> Translated<Constant> {
    let one = |i: usize| x.get(i).and_then(|c| c.as_ints()).and_then(|v| v.first().copied());
    let (Some(start), Some(limit), Some(step)) = (one(0), one(1), one(2)) else { return form("of floats") };
    if step == 0 {
        return wrong("a step of 0");
    }
    let count = (i128::from(limit) - i128::from(start)).div_euclid(i128::from(step)).max(0);
    let exact = i128::from(start) + count * i128::from(step) == i128::from(limit);
    let count = usize::try_from(count + i128::from(!exact && count >= 0)).unwrap_or(usize::MAX);
    if counted(&[count]).is_none() || count > 1 << 20 {
        return wrong(format!("a range of {count} numbers"));
    }
    Ok(Constant::ints("range", vec![count], (0..count as i64).map(|i| start + i * step).collect()))
}

fn choose(x: &[&Constant]) -> Translated<Constant> {
    let dims = broadcast(&broadcast(&x[0].dims, &x[1].dims)?, &x[2].dims)?;
    let [c, a, b] = [0, 1, 2].map(|i| spread(x[i], &dims));
    let Some(condition) = c.as_ints() else { return wrong("expected booleans as the condition") };
    let data = match (&a.data, &b.data) {
        (Data::Int(a), Data::Int(b)) => {
            Data::Int(condition.iter().zip(a.iter().zip(b)).map(|(&c, (&a, &b))| if c != 0 { a } else { b }).collect())
        }
        _ => {
            let (a, b) = (a.as_floats(), b.as_floats());
            Data::Float(condition.iter().zip(a.iter().zip(&b)).map(|(&c, (&a, &b))| if c != 0 { a } else { b }).collect())
        }
    };
    Ok(Constant { name: x[1].name.clone(), trained: false, of_size: false, dims, data })
}

fn binary(op: &str, a: &Constant, b: &Constant) -> Translated<Option<Constant>> {
    let known = ["Add", "Sub", "Mul", "Div", "Mod", "Rem", "Min", "Max", "Equal", "Greater", "Less", "And", "Or", "Pow"];
    if !known.contains(&op) {
        return Ok(None);
    }
    let dims = broadcast(&a.dims, &b.dims)?;
    let trained = a.trained || b.trained;
    let name = if b.trained && !a.trained { b.name.clone() } else { a.name.clone() };
    let (a, b) = (spread(a, &dims), spread(b, &dims));
    let data = match (&a.data, &b.data) {
        (Data::Int(x), Data::Int(y)) => {
            let values: Option<Vec<i64>> = x.iter().zip(y).map(|(&x, &y)| on_ints(op, x, y)).collect();
            let Some(values) = values else { return wrong("integers out of range, or divided by 0") };
            Data::Int(values)
        }
        _ => {
            let (x, y) = (a.as_floats(), b.as_floats());
            let Some(values) = x.iter().zip(&y).map(|(&x, &y)| on_floats(op, x, y)).collect() else { return Ok(None) };
            Data::Float(values)
        }
    };
    Ok(Some(Constant { name, trained, of_size: false, dims, data }))
}

fn on_ints(op: &str, x: i64, y: i64) -> Option<i64> {
    match op {
        "Add" => x.checked_add(y),
        "Sub" => x.checked_sub(y),
        "Mul" => x.checked_mul(y),
        "Div" => x.checked_div(y),
        // Of the divisor's sign, and of the dividend's.
        "Mod" => x.checked_rem(y).map(|r| if r != 0 && (r < 0) != (y < 0) { r + y } else { r }),
        "Rem" => x.checked_rem(y),
        "Min" => Some(x.min(y)),
        "Max" => Some(x.max(y)),
        "Equal" => Some(i64::from(x == y)),
        "Greater" => Some(i64::from(x > y)),
        "Less" => Some(i64::from(x < y)),
        "And" => Some(i64::from(x != 0 && y != 0)),
        "Or" => Some(i64::from(x != 0 || y != 0)),
        "Pow" => x.checked_pow(u32::try_from(y).ok()?),
        _ => None,
    }
}

fn on_floats(op: &str, x: f32, y: f32) -> Option<f32> {
    match op {
        "Add" => Some(x + y),
        "Sub" => Some(x - y),
        "Mul" => Some(x * y),
        "Div" => Some(x / y),
        "Min" => Some(x.min(y)),
        "Max" => Some(x.max(y)),
        "Pow" => Some(x.powf(y)),
        _ => None,
    }
}

fn unary(op: &str, x: &Constant) -> Option<Constant> {
    let f: fn(f32) -> f32 = match op {
        "Neg" => |v| -v,
        "Sqrt" => f32::sqrt,
        "Exp" => f32::exp,
        "Log" => f32::ln,
        "Reciprocal" => |v| 1.0 / v,
        "Floor" => f32::floor,
        "Ceil" => f32::ceil,
        "Abs" => f32::abs,
        "Not" => |v| if v == 0.0 { 1.0 } else { 0.0 },
        _ => return None,
    };
    let data = match &x.data {
        Data::Float(v) => Data::Float(v.iter().map(|&v| f(v)).collect()),
        Data::Int(v) if op == "Neg" => Data::Int(v.iter().map(|&v| v.wrapping_neg()).collect()),
        Data::Int(v) if op == "Not" => Data::Int(v.iter().map(|&v| i64::from(v == 0)).collect()),
        Data::Int(_) => return None,
    };
    Some(Constant { data, ..x.clone() })
}
