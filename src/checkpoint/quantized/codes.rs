//! Small integers packed into the words of a file's tensor: the place of each, and the reading of a rectangle of them.

use std::ops::Range;

use kquant_formats::safetensors::SafeTensors;
use kquant_formats::source::Extent;

use super::super::ReadError;

/// Number of bytes of a word.
const WORD: u64 = 4;
/// Number of bits of a word.
const WORD_BITS: u64 = 32;
/// Number of bytes up to which whole lines are read at once.
const CHUNK: u64 = 64 << 10;

/// The order of codes in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Codes follow each other from the lowest bit on, also across the ends of words.
    Stream,
    /// A word of 32 bits holds as many whole codes as fit, from its lowest bit on.
    Words,
    /// A word holds eight codes, first those with even numbers, then the others (AWQ).
    EvenFirst,
}

/// The direction in which words run through the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// A word holds codes of one row.
    Across,
    /// A word holds codes of one column.
    Down,
}

/// A packed matrix of codes `[rows][columns]`.
#[derive(Debug, Clone)]
pub(super) struct Codes {
    /// Index of the file's tensor.
    pub(super) stored: usize,
    pub(super) rows: u64,
    pub(super) columns: u64,
    /// Number of bits of a code, up to 8.
    pub(super) bits: u64,
    pub(super) order: Order,
    pub(super) direction: Direction,
}

/// Returns the number of words of `count` codes of `bits` bits.
pub(super) fn words(count: u64, bits: u64, order: Order) -> u64 {
    match order {
        Order::Stream => (count * bits).div_ceil(WORD_BITS),
        Order::Words | Order::EvenFirst => count.div_ceil(WORD_BITS / bits),
    }
}

impl Codes {
    /// Returns the first bit of code `number` of a row or column, counted from the lowest bit of its first word.
    fn bit(&self, number: u64) -> u64 {
        /// Place in its word of each code of eight.
        const PLACE: [u64; 8] = [0, 4, 1, 5, 2, 6, 3, 7];
        let per_word = WORD_BITS / self.bits;
        match self.order {
            Order::Stream => number * self.bits,
            Order::Words => number / per_word * WORD_BITS + number % per_word * self.bits,
            Order::EvenFirst => number / 8 * WORD_BITS + PLACE[(number % 8) as usize] * self.bits,
        }
    }

    /// Calls `put(row, column, code)` for each code of rows `rows` and columns `columns`, with row and column counted
    /// from the start of these ranges.
    ///
    /// # Errors
    /// Fails when the file cannot be read.
    pub(super) fn read(
        &self,
        file: &SafeTensors,
        rows: Range<u64>,
        columns: Range<u64>,
        put: impl FnMut(usize, usize, u8),
    ) -> Result<(), ReadError> {
        let extent = file.extent(self.stored)?;
        match self.direction {
            Direction::Across => self.read_across(&extent, rows, columns, put),
            Direction::Down => self.read_down(&extent, rows, columns, put),
        }
    }

    fn read_across(
        &self,
        extent: &Extent,
        rows: Range<u64>,
        columns: Range<u64>,
        mut put: impl FnMut(usize, usize, u8),
    ) -> Result<(), ReadError> {
        let line = extent.bytes() / self.rows.max(1);
        let part = match self.order {
            Order::Stream => columns.start * self.bits / 8..(columns.end * self.bits).div_ceil(8),
            Order::Words | Order::EvenFirst => {
                let per_word = WORD_BITS / self.bits;
                columns.start / per_word * WORD..columns.end.div_ceil(per_word) * WORD
            }
        };
        let mask = (1u16 << self.bits) - 1;
        let places: Vec<(usize, u64)> = columns
            .map(|column| self.bit(column) - part.start * 8)
            .map(|bit| ((bit / 8) as usize, bit % 8))
            .collect();
        let spans = self.bits > 1 && 8 % self.bits != 0;
        read_lines(extent, line, rows.clone(), part, |row, bytes| {
            for (column, &(byte, shift)) in places.iter().enumerate() {
                let low = u16::from(bytes[byte]);
                let high = if spans { bytes.get(byte + 1).map_or(0, |&b| u16::from(b)) } else { 0 };
                put((row - rows.start) as usize, column, (((high << 8 | low) >> shift) & mask) as u8);
            }
        })
    }

    fn read_down(
        &self,
        extent: &Extent,
        rows: Range<u64>,
        columns: Range<u64>,
        mut put: impl FnMut(usize, usize, u8),
    ) -> Result<(), ReadError> {
        // A block is the smallest number of lines that share no code with other lines.
        let crossing = self.order == Order::Stream && !WORD_BITS.is_multiple_of(self.bits);
        let (lines, per_block) = if crossing { (self.bits, WORD_BITS) } else { (1, WORD_BITS / self.bits) };
        let width = (columns.end - columns.start) as usize;
        let part = columns.start * WORD..columns.end * WORD;
        let mask = (1u32 << self.bits) - 1;
        let mut block = vec![0u32; lines as usize * width];
        let wanted = rows.start / per_block * lines..rows.end.div_ceil(per_block) * lines;
        // The last block of a matrix may have fewer lines than others.
        let last = words(self.rows, self.bits, self.order);
        read_lines(extent, self.columns * WORD, wanted.start..wanted.end.min(last), part, |line, bytes| {
            let within = (line % lines) as usize;
            for (word, bytes) in block[within * width..].iter_mut().zip(bytes.chunks_exact(WORD as usize)) {
                *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            if within + 1 < lines as usize && line + 1 < last {
                return;
            }
            let first = line / lines * per_block;
            for row in first.max(rows.start)..(first + per_block).min(rows.end) {
                let bit = self.bit(row - first);
                let (at, shift) = ((bit / WORD_BITS) as usize, bit % WORD_BITS);
                let crosses = shift + self.bits > WORD_BITS;
                for column in 0..width {
                    let mut code = block[at * width + column] >> shift;
                    if crosses {
                        code |= block[(at + 1) * width + column] << (WORD_BITS - shift);
                    }
                    put((row - rows.start) as usize, column, (code & mask) as u8);
                }
            }
        })
    }
}

/// Calls `each` with the bytes `part` of each of `lines`, which are `line` bytes long.
pub(super) fn read_lines(
    extent: &Extent,
    line: u64,
    lines: Range<u64>,
    part: Range<u64>,
    mut each: impl FnMut(u64, &[u8]),
) -> Result<(), ReadError> {
    let length = (part.end - part.start) as usize;
    if length == 0 {
        return Ok(());
    }
    let together = if part == (0..line) { (CHUNK / line).max(1) } else { 1 };
    let mut buffer = Vec::new();
    let mut first = lines.start;
    while first < lines.end {
        let end = lines.end.min(first + together);
        let window = extent.window(first * line + part.start..(end - 1) * line + part.end, &mut buffer)?;
        (first..end).zip(window.chunks_exact(length)).for_each(|(number, bytes)| each(number, bytes));
        first = end;
    }
    Ok(())
}
