//! Sums of products, packed triangles or diagonals, which are read piece by piece.

use crate::cursor::Number;
use crate::error::Result;
use crate::source::Extent;

/// Number of values that are read at a time.
const PIECE: usize = 1 << 16;

/// A value that no sum of products has.
pub(super) struct Impossible {
    /// Number of the value in its matrix.
    pub(super) at: usize,
    pub(super) value: f64,
    /// Number of the square on the diagonal that is negative; `None` where the value is not finite.
    pub(super) square: Option<usize>,
}

/// Adds the F64 values at `place` to `sums`, as many. The values numbered `squares`, in rising order, are squares, which must not
/// be negative. Returns the first value that is impossible; `sums` are of no use then.
pub(super) fn add(
    place: Extent,
    sums: &mut [f64],
    squares: impl Iterator<Item = usize>,
) -> Result<Option<Impossible>> {
    let mut squares = squares.enumerate().peekable();
    let (mut buffer, mut start) = (Vec::new(), 0);
    for sums in sums.chunks_mut(PIECE) {
        let end = start + sums.len();
        let range = start as u64 * f64::BYTES..end as u64 * f64::BYTES;
        let bytes = place.window(range, &mut buffer)?;
        let mut finite = true;
        for (bytes, sum) in bytes.as_chunks().0.iter().zip(sums.iter_mut()) {
            let value = f64::from_le_bytes(*bytes);
            finite &= value.is_finite();
            *sum += value;
        }
        let value = |at: usize| f64::first(bytes.get(at * f64::BYTES as usize..).unwrap_or_default());
        if !finite {
            let found = (0..).map_while(|at| Some((at, value(at)?))).find(|(_, value)| !value.is_finite());
            return Ok(found.map(|(at, value)| Impossible { at: start + at, value, square: None }));
        }
        while let Some((square, at)) = squares.next_if(|(_, at)| *at < end) {
            if let Some(value) = value(at - start).filter(|value| *value < 0.0) {
                return Ok(Some(Impossible { at, value, square: Some(square) }));
            }
        }
        start = end;
    }
    Ok(None)
}
