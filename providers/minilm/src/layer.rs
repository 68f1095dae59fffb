//! [`Layer`]: attention and feed forward, each added to what came in and brought to its norm.

use crate::{
    Error, HEAD_WIDTH, INNER, WIDTH,
    curve::gelu,
    kernel::{COLUMNS, Cpu},
    linear::Linear,
    norm::Norm,
    onnx::Tensors,
    pass::{BLOCK, Scratch},
};

pub(crate) struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    mix: Linear,
    mix_norm: Norm,
    up: Linear,
    /// What the GELU's outputs are multiplied by: a few would else coarsen the rounding of all.
    smooth: Vec<f32>,
    down: Linear,
    down_norm: Norm,
}

impl Layer {
    pub(crate) fn read(tensors: &Tensors<'_>, number: usize) -> Result<Self, Error> {
        let name = |part: &str| format!("encoder.layer.{number}.{part}");
        let linear = |part: &str, shape: [usize; 2], bias: Option<&str>| {
            let bias = bias
                .map(|bias| tensors.floats(&name(bias), &shape[1..]))
                .transpose()?;
            Linear::read(tensors, &name(part), shape, &bias.unwrap_or_default())
        };
        Ok(Self {
            query: linear("q", [WIDTH, WIDTH], Some("q.bias"))?,
            key: linear("k", [WIDTH, WIDTH], None)?,
            value: linear("v", [WIDTH, WIDTH], None)?,
            mix: linear("o", [WIDTH, WIDTH], Some("attention.output.LayerNorm.skip"))?,
            mix_norm: Norm::read(tensors, &name("attention.output.LayerNorm"))?,
            up: linear("up", [WIDTH, INNER], Some("up.bias"))?,
            smooth: tensors.floats(&name("smooth"), &[INNER])?,
            down: linear("down", [INNER, WIDTH], Some("output.LayerNorm.skip"))?,
            down_norm: Norm::read(tensors, &name("output.LayerNorm"))?,
        })
    }

    /// What each token takes from the others of its text, into `scratch.context`. `ends` says where texts end.
    #[inline(always)]
    pub(crate) fn attend<C: Cpu>(&self, cpu: C, scratch: &mut Scratch, ends: &[usize]) {
        let Scratch {
            input,
            heads,
            context,
            ..
        } = scratch;
        // A panel of queries, keys and values at a time: that is two heads, and little enough to stay near.
        for panel in self.query.panels() {
            let mut start = 0;
            for &end in ends {
                let rows = start..end;
                let only = panel..panel + 1;
                self.query
                    .multiply(cpu, input, rows.clone(), only.clone(), |row, _, values| {
                        for (head, part) in heads.iter_mut().zip(values.as_chunks().0) {
                            head.set_query(row - start, part);
                        }
                    });
                self.key
                    .multiply(cpu, input, rows.clone(), only.clone(), |row, _, values| {
                        for (head, part) in heads.iter_mut().zip(values.as_chunks().0) {
                            head.set_key(row - start, part);
                        }
                    });
                self.value.multiply(cpu, input, rows, only, |row, _, values| {
                    for (head, part) in heads.iter_mut().zip(values.as_chunks().0) {
                        head.set_value(row - start, part);
                    }
                });
                for (number, head) in heads.iter_mut().enumerate() {
                    let first = panel * COLUMNS + number * HEAD_WIDTH;
                    head.attend(cpu, end - start, |row, values| {
                        context[(start + row) * WIDTH + first..][..HEAD_WIDTH].copy_from_slice(values);
                    });
                }
                start = end;
            }
        }
    }

    /// The rest of the layer, [`BLOCK`] rows at a time: that fits the processor's near memory.
    #[inline(always)]
    pub(crate) fn feed<C: Cpu>(&self, cpu: C, scratch: &mut Scratch, count: usize) {
        let Scratch {
            states,
            input,
            context,
            inner,
            inner_codes,
            ..
        } = scratch;
        for first in (0..count).step_by(BLOCK) {
            let rows = first..count.min(first + BLOCK);
            for row in rows.clone() {
                input.quantise(cpu, row, &context[row * WIDTH..][..WIDTH]);
            }
            self.mix.multiply(
                cpu,
                input,
                rows.clone(),
                self.mix.panels(),
                |row, column, values| {
                    add(&mut states[row * WIDTH + column..], values);
                },
            );
            for row in rows.clone() {
                let state = &mut states[row * WIDTH..][..WIDTH];
                self.mix_norm.apply(cpu, state);
                input.quantise(cpu, row, state);
            }
            self.up.multiply(
                cpu,
                input,
                rows.clone(),
                self.up.panels(),
                |row, column, values| {
                    let out = &mut inner[(row - first) * INNER + column..][..COLUMNS];
                    let smooth = &self.smooth[column..][..COLUMNS];
                    for lane in 0..COLUMNS {
                        out[lane] = gelu(cpu, values[lane]) * smooth[lane];
                    }
                },
            );
            for row in 0..rows.len() {
                inner_codes.quantise(cpu, row, &inner[row * INNER..][..INNER]);
            }
            self.down.multiply(
                cpu,
                inner_codes,
                0..rows.len(),
                self.down.panels(),
                |row, column, values| {
                    add(&mut states[(first + row) * WIDTH + column..], values);
                },
            );
            for row in rows {
                let state = &mut states[row * WIDTH..][..WIDTH];
                self.down_norm.apply(cpu, state);
                input.quantise(cpu, row, state);
            }
        }
    }
}

#[inline(always)]
fn add(state: &mut [f32], values: &[f32; COLUMNS]) {
    for (state, value) in state.iter_mut().zip(values) {
        *state += value;
    }
}
