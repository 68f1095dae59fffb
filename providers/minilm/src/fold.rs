//! [`fold`]: a row to one number, in an order that the compiler may turn into vector instructions.

const LANES: usize = 32;

/// What `part` makes of every 32nd value is put together with `with`, then the 32 results by halves. Values beyond a
/// multiple of 32 are not seen.
#[inline(always)]
pub(crate) fn fold(
    values: &[f32],
    start: f32,
    part: impl Fn(f32) -> f32,
    with: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut lanes = [start; LANES];
    for chunk in values.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            lanes[lane] = with(lanes[lane], part(chunk[lane]));
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = with(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// The sum of what `part` makes of the values.
#[inline(always)]
pub(crate) fn sum(values: &[f32], part: impl Fn(f32) -> f32) -> f32 {
    fold(values, 0.0, part, |a, b| a + b)
}

#[inline(always)]
pub(crate) fn least(values: &[f32], start: f32) -> f32 {
    // Spelled out, because `f32::min` minds what is no number, which takes three instructions.
    fold(values, start, |x| x, |a, b| if b < a { b } else { a })
}

#[inline(always)]
pub(crate) fn greatest(values: &[f32], start: f32) -> f32 {
    fold(values, start, |x| x, |a, b| if b > a { b } else { a })
}
