//! Hessians of layer-wise quantization: mean outer products of the inputs of each group of linear maps.
//!
//! The loss of rounding a row by `e` is `e H e'`, `H = X'X / T` (GPTQ, Frantar et al. 2022, [arXiv:2210.17323]). The sums
//! are collected in two halves by blocks of text, one for training and one held out, and written to a statistics file.
//!
//! [arXiv:2210.17323]: https://arxiv.org/abs/2210.17323

use std::collections::BTreeMap;

use kquant_formats::hessian::{Cut, GroupSums, Half, HessianWriter, packed};

use super::Importance;
use super::outer::add_outer;
use crate::model::{LinearGroup, ObserveError, Observer};

/// An observer that writes the outer products of every group, and the importance, to a statistics file.
#[derive(Debug)]
pub(super) struct Hessians<'a> {
    importance: Importance,
    /// Number of each group, by the name of its first tensor.
    numbers: BTreeMap<String, usize>,
    /// Sums that are not written yet, one for each matrix, by the number of the group.
    held: BTreeMap<usize, Vec<Outer>>,
    writer: &'a HessianWriter,
    cut: Cut,
    /// Number of the first block of text that is seen.
    first_block: u64,
    layer_by_layer: bool,
}

/// The sums of outer products of one matrix of a group.
#[derive(Debug)]
struct Outer {
    /// Packed upper triangles of both halves.
    sums: [Vec<f64>; 2],
    /// Number of tokens of each half.
    tokens: [u64; 2],
    /// Number of blocks of text seen.
    blocks: u64,
}

impl<'a> Hessians<'a> {
    /// Creates an observer without sums of `groups`, which are those of `writer`. The text at hand starts at block
    /// `first_block`.
    ///
    /// With `layer_by_layer` all of the text passes one layer at a time, so that the layer's sums are written right after
    /// it and not held.
    pub(super) fn new(
        groups: &[LinearGroup],
        writer: &'a HessianWriter,
        cut: Cut,
        first_block: u64,
        layer_by_layer: bool,
    ) -> Self {
        let named = groups.iter().enumerate().filter_map(|(i, g)| Some((g.tensors.first()?.clone(), i)));
        Self {
            importance: Importance::new(cut.context as usize, true),
            numbers: named.collect(),
            held: BTreeMap::new(),
            writer,
            cut,
            first_block,
            layer_by_layer,
        }
    }

    /// Writes the sums that are held.
    pub(super) fn finish(mut self) -> Result<(), ObserveError> {
        self.write_held()
    }

    fn write_held(&mut self) -> Result<(), ObserveError> {
        for (name, &number) in &self.numbers {
            let Some(all) = self.held.remove(&number) else { continue };
            let Some(sums) = self.importance.take(name) else { continue };
            let entry = sums.entry(name)?;
            let [high, low] = [&*sums.squares.high, &*sums.squares.low];
            let tokens: Vec<[u64; 2]> = all.iter().map(|outer| outer.tokens).collect();
            self.writer.write_sums(number, &GroupSums { entry: &entry, high, low, tokens: &tokens })?;
            for (matrix, outer) in all.iter().enumerate() {
                for half in Half::ALL {
                    self.writer.write_outer((number, matrix), half, &outer.sums[half as usize])?;
                }
            }
        }
        Ok(())
    }
}

impl Hessians<'_> {
    /// Adds the rows of `x`, which belong to one block of text or to several whole ones, to matrix `matrix` of
    /// `matrices`.
    fn add(
        &mut self,
        first: &str,
        (matrix, matrices): (usize, usize),
        x: &[f32],
        columns: usize,
    ) -> Result<(), ObserveError> {
        let Some(&number) = self.numbers.get(first) else { return Err(unexpected(first)) };
        let empty =
            || Outer { sums: [(); 2].map(|()| vec![0.0; packed(columns)]), tokens: [0; 2], blocks: 0 };
        let all = self.held.entry(number).or_insert_with(|| (0..matrices).map(|_| empty()).collect());
        let Some(outer) = all.get_mut(matrix) else { return Err(unexpected(first)) };
        let half = self.cut.half(self.first_block + outer.blocks) as usize;
        add_outer(&mut outer.sums[half], x, columns);
        outer.tokens[half] += (x.len() / columns) as u64;
        outer.blocks += 1;
        Ok(())
    }
}

impl Observer for Hessians<'_> {
    fn linear_input(&mut self, tensors: &[&str], x: &[f32], columns: usize) -> Result<(), ObserveError> {
        // The importance comes first, because it finds values that are not finite.
        self.importance.linear_input(tensors, x, columns)?;
        let first = tensors.first().copied().unwrap_or_default();
        let mut blocks = x.chunks(self.cut.block_tokens as usize * columns);
        blocks.try_for_each(|x| self.add(first, (0, 1), x, columns))
    }

    fn expert_input(
        &mut self,
        tensors: &[&str],
        expert: usize,
        experts: usize,
        x: &[f32],
        columns: usize,
    ) -> Result<(), ObserveError> {
        self.importance.expert_input(tensors, expert, experts, x, columns)?;
        self.add(tensors.first().copied().unwrap_or_default(), (expert, experts), x, columns)
    }

    fn end_of_layer(&mut self) -> Result<(), ObserveError> {
        if self.layer_by_layer { self.write_held() } else { Ok(()) }
    }

    fn end_of_chunks(&mut self, chunks: usize) {
        self.importance.end_of_chunks(chunks);
    }
}

fn unexpected(tensor: &str) -> ObserveError {
    let expected = "Hessians are collected of the linear maps that the architecture lists".to_owned();
    ObserveError::Shape { tensor: tensor.to_owned(), found: "comes".to_owned(), expected }
}
